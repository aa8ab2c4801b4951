//! Active health checks: each kind of probe, what it asks, and what becomes of its answer.

mod asks;
mod changes;
mod hostile;

use std::net::SocketAddr;

use crate::support::{Proxy, eventually};

/// Quick, and quick to judge.
const QUICK: &str = "interval = \"20ms\", timeout = \"2s\", rise = 1, fall = 1";

/// A proxy before one server at `address`, probed as `health` says.
fn probing(scheme: &str, address: SocketAddr, health: &str, further: &str) -> Proxy {
    Proxy::start(&format!(
        "[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [\"{scheme}{address}\"]\n\
         health = {{ {health}, {QUICK} }}\neject = false\nretries = 0\n{further}\n"
    ))
}

/// What the status page says of the only server.
fn server(proxy: &Proxy) -> serde_json::Value {
    proxy.status()["upstreams"][0]["servers"][0].clone()
}

/// The cause of the last probe's failure, once it is unhealthy.
#[track_caller]
fn cause(proxy: &Proxy) -> String {
    eventually("the server is unhealthy", || server(proxy)["state"] == "unhealthy");
    server(proxy)["probe"]["cause"].as_str().unwrap_or_default().to_owned()
}

/// Waits until a probe has come back well, and says that the server is healthy.
#[track_caller]
fn assert_well(proxy: &Proxy) {
    eventually("a probe came back", || !server(proxy)["probe"].is_null());
    let server = server(proxy);
    assert_eq!(
        (&server["state"], &server["probe"]["outcome"]),
        (&"healthy".into(), &"ok".into()),
        "{server}"
    );
}
