//! Whom the admin listener answers.

use std::net::SocketAddr;

use crate::support::{Client, Message, Origin, Proxy, one_route, reply};

const PURGE_ALL: &str = r#"{"all": true}"#;

/// A proxy whose cache holds `/a`, with an admin listener that may be asked under these names, as TOML.
fn caching(hosts: &str) -> (Origin, Proxy) {
    let origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=3600\r\n", "x"));
    let admin = format!("[admin]\nbind = \"127.0.0.1:0\"\n{hosts}\n");
    let proxy = Proxy::start(&(admin + &one_route("cache = true", "", &[&origin])));
    assert_eq!(proxy.get("/a").status(), 200);
    (origin, proxy)
}

#[track_caller]
fn ask(admin: SocketAddr, method: &str, target: &str, host: &str, body: &str) -> Message {
    let length = body.len();
    let fields = format!("Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    Client::connect(admin).send(format!("{method} {target} HTTP/1.1\r\n{fields}\r\n{body}")).response()
}

#[test]
fn under_a_name_of_others_nothing_is_told_and_nothing_done() {
    let (origin, proxy) = caching("");
    let port = proxy.admin().port();

    for host in [&format!("rebound.example:{port}"), "rebound.example", "127.0.0.1.rebound.example", "test"] {
        for path in ["/", "/metrics", "/livez", "/readyz", "/api/v1/status", "/nothing"] {
            let answer = ask(proxy.admin(), "GET", path, host, "");
            assert_eq!(answer.status(), 421, "{host} {path}");
            assert!(answer.text().contains("admin.hosts"), "it says what to do: {}", answer.text());
        }
        assert_eq!(ask(proxy.admin(), "POST", "/api/v1/cache/purge", host, PURGE_ALL).status(), 421);
        let drain = format!(r#"{{"upstream": "app", "server": "{}", "drain": true}}"#, origin.address());
        assert_eq!(ask(proxy.admin(), "POST", "/api/v1/drain", host, &drain).status(), 421);
    }
    let absolute = ask(proxy.admin(), "GET", "http://rebound.example/metrics", "localhost", "");
    assert_eq!(absolute.status(), 421);
    assert_eq!(Client::connect(proxy.admin()).send("GET /metrics HTTP/1.1\r\n\r\n").response().status(), 421);

    let stored = proxy.client().get_with("/a", "Cache-Control: only-if-cached\r\n");
    assert_eq!(stored.status(), 200);
    let status = ask(proxy.admin(), "GET", "/api/v1/status", "127.0.0.1", "").text();
    assert!(status.contains("\"healthy\"") && !status.contains("\"draining\""), "{status}");
}

#[test]
fn under_an_address_localhost_and_the_names_of_the_file_it_answers() {
    let (_origin, proxy) = caching("hosts = [\"metrics.internal\", \"*.ops.example\"]");
    let address = proxy.admin().to_string();

    for host in [&address, "[::1]:9900", "LOCALHOST:80", "Metrics.Internal", "a.b.ops.example:9900"] {
        assert_eq!(ask(proxy.admin(), "GET", "/livez", host, "").status(), 200, "{host}");
    }
    for host in ["ops.example", "x.metrics.internal"] {
        assert_eq!(ask(proxy.admin(), "GET", "/livez", host, "").status(), 421, "{host}");
    }
    let old = Client::connect(proxy.admin()).send("GET /livez HTTP/1.0\r\n\r\n").response();
    assert_eq!(old.status(), 200, "HTTP/1.0 needs no Host");
    let purged = ask(proxy.admin(), "POST", "/api/v1/cache/purge", "metrics.internal", PURGE_ALL);
    assert_eq!((purged.status(), purged.text().contains("\"purged\":1")), (200, true), "{}", purged.text());

    let (_origin, open) = caching("hosts = [\"*\"]");
    assert_eq!(ask(open.admin(), "GET", "/livez", "any.example", "").status(), 200);
}
