//! When a server is probed, what its probes change, and who is told.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{assert_well, cause, probing, server};
use crate::support::{Gate, Origin, Proxy, Then, eventually, get, ok, one_route, reply};

/// The first event with this message, as JSON, once it is there.
#[track_caller]
fn event(proxy: &Proxy, message: &str) -> serde_json::Value {
    eventually(message, || !events(proxy, message).is_empty());
    events(proxy, message).remove(0)
}

/// Events with this message so far.
fn events(proxy: &Proxy, message: &str) -> Vec<serde_json::Value> {
    let events = proxy.events().into_iter().filter_map(|line| serde_json::from_str(&line).ok());
    events.filter(|event: &serde_json::Value| event["message"] == message).collect()
}

#[test]
fn a_server_that_begins_unhealthy_serves_after_its_first_good_probe_and_not_before() {
    let is_well = Arc::new(AtomicBool::new(false));
    let flag = is_well.clone();
    let origin = Origin::start(move |request| match request.target() {
        "/healthz" if !flag.load(Ordering::SeqCst) => reply("503 Starting", "", ""),
        _ => ok("served"),
    });
    // One success is enough for the first time, whatever rise says.
    let health =
        "health = { path = \"/healthz\", start = \"unhealthy\", interval = \"20ms\", rise = 100, fall = 1 }";
    let proxy = Proxy::start(&one_route("", health, &[&origin]));

    let refused = proxy.get("/");
    let ready = get(proxy.admin(), "/readyz");
    eventually("a probe has failed", || server(&proxy)["probe"]["cause"] == "status 503");
    assert_eq!((refused.status(), proxy.get("/").status()), (503, 503));
    assert_eq!((ready.status(), ready.text().as_str()), (503, "no server may serve: upstream app\n"));
    assert!(origin.requests().iter().all(|request| request.target() == "/healthz"));
    is_well.store(true, Ordering::SeqCst);
    eventually("it is healthy", || proxy.state_of(&origin) == "healthy");

    assert_eq!(proxy.get("/").text(), "served");
    assert_eq!(get(proxy.admin(), "/readyz").status(), 200);
    assert_eq!(event(&proxy, "server is not healthy yet")["cause"], "status 503");
    assert_eq!(events(&proxy, "server is not healthy yet").len(), 1);
    assert_eq!(event(&proxy, "server is healthy")["cause"], "its first good probe");
}

#[test]
fn a_server_that_begins_healthy_serves_before_its_first_probe_has_come_back() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::start(move |request| {
        if request.target() == "/healthz" {
            opened.wait();
        }
        ok("served")
    });
    let proxy = probing("", origin.address(), "path = \"/healthz\"", "");

    let answer = proxy.get("/");
    let probe = server(&proxy)["probe"].clone();
    gate.open();

    assert_eq!(answer.text(), "served");
    assert!(probe.is_null(), "{probe}");
}

#[test]
fn every_change_is_an_event_with_its_cause_a_number_and_on_the_status_page() {
    let is_well = Arc::new(AtomicBool::new(true));
    let flag = is_well.clone();
    let origin = Origin::start(move |_| match flag.load(Ordering::SeqCst) {
        true => ok("well"),
        false => reply("500 Unwell", "", ""),
    });
    let health = "health = { path = \"/\", interval = \"20ms\", rise = 3, fall = 2 }";
    let proxy = Proxy::start(&one_route("", health, &[&origin]));
    let name = format!("server=\"{}\"", origin.address());
    let changes = |to: &str| {
        let to = format!("to=\"{to}\"");
        proxy.metric("tidegate_server_health_changes_total", &["upstream=\"app\"", &name, &to])
    };
    let probes = |outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        proxy.metric("tidegate_probes_total", &["upstream=\"app\"", &name, &outcome])
    };

    assert_well(&proxy);
    assert_eq!((changes("healthy"), changes("unhealthy"), probes("failed")), (0.0, 0.0, 0.0));
    assert!(server(&proxy)["probe"]["cause"].is_null());
    assert!(server(&proxy)["probe"]["seconds_ago"].as_u64().is_some_and(|seconds| seconds < 60));

    is_well.store(false, Ordering::SeqCst);
    assert_eq!(cause(&proxy), "status 500");
    let fell = event(&proxy, "server is unhealthy");
    assert_eq!((&fell["level"], &fell["cause"]), (&"WARN".into(), &"status 500".into()), "{fell}");
    assert_eq!((&fell["upstream"], &fell["server"]), (&"app".into(), &origin.address().to_string().into()));
    assert_eq!((changes("healthy"), changes("unhealthy")), (0.0, 1.0));
    assert!(probes("failed") >= 2.0 && probes("ok") >= 1.0);

    is_well.store(true, Ordering::SeqCst);
    eventually("it is healthy again", || server(&proxy)["state"] == "healthy");
    let rose = event(&proxy, "server is healthy");
    assert_eq!(
        (&rose["level"], &rose["cause"]),
        (&"INFO".into(), &"good probes in a row: 3".into()),
        "{rose}"
    );
    assert_eq!((changes("healthy"), changes("unhealthy")), (1.0, 1.0));
}

#[test]
fn a_server_without_probes_has_neither_their_numbers_nor_a_last_one() {
    let origin = Origin::saying("x");
    let proxy = Proxy::before(&origin);

    assert!(server(&proxy)["probe"].is_null());
    assert!(!proxy.metrics().contains("tidegate_probes_total{"));
    assert!(!proxy.metrics().contains("tidegate_server_health_changes_total{"));
}

#[test]
fn there_is_one_prober_however_many_workers_there_are() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::start(move |request| {
        if request.target() == "/healthz" {
            opened.wait();
        }
        ok("served")
    });
    let health = "health = { path = \"/healthz\", interval = \"20ms\", timeout = \"1m\" }";
    let proxy = Proxy::start(&format!("[runtime]\nworkers = 4\n{}", one_route("", health, &[&origin])));
    let probes = || origin.requests().iter().filter(|request| request.target() == "/healthz").count();

    eventually("it is probed", || probes() == 1);
    // Every worker is at work by now: each takes the connection that the others have no more room for.
    let clients: Vec<_> = (0..32)
        .map(|_| {
            let mut client = proxy.client();
            assert_eq!(client.get("/").text(), "served");
            client
        })
        .collect();
    let during = probes();
    gate.open();
    drop(clients);

    assert_eq!(during, 1, "a probe that has not come back is the only one");
    eventually("it is probed again", || probes() >= 4);
}

#[test]
fn only_so_many_probes_are_under_way_at_once_and_all_have_their_turn() {
    let gate = Gate::default();
    let opened = gate.clone();
    let under_way = Arc::new(AtomicUsize::new(0));
    let count = under_way.clone();
    let origin = Origin::raw(move |_, conn| {
        count.fetch_add(1, Ordering::SeqCst);
        opened.wait();
        let _ = conn.get_mut().write_all(&ok("well"));
        Then::Close
    });
    // The same server in many upstreams is as many servers to the prober.
    let health = "health = { path = \"/\", interval = \"100ms\", timeout = \"1m\" }";
    let others: String =
        (0..299).map(|n| format!("[upstream.n{n}]\nservers = [{}]\n{health}\n", origin.toml())).collect();
    let proxy = Proxy::start(&format!("{}{others}", one_route("", health, &[&origin])));

    eventually("256 are under way", || under_way.load(Ordering::SeqCst) >= 256);
    for _ in 0..20 {
        proxy.status();
    }
    let at_once = under_way.load(Ordering::SeqCst);
    gate.open();

    assert_eq!(at_once, 256);
    let is_probed = |upstream: &serde_json::Value| !upstream["servers"][0]["probe"].is_null();
    eventually("all have been probed", || {
        proxy.status()["upstreams"].as_array().unwrap().iter().all(is_probed)
    });
}
