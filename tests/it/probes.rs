//! Active health checks: each kind of probe, what it asks, and what becomes of its answer.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::certs::Cert;
use crate::support::grpc::{Grpc, Reply};
use crate::support::{Gate, Origin, Proxy, Then, eventually, get, ok, one_route, reply, wire};

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
fn a_request_is_sent_as_the_operator_wrote_it() {
    let origin = Origin::start(|_| reply("204 No Content", "", ""));
    let health = "path = \"/ready?deep=1\", method = \"OPTIONS\", host = \"app.internal:81\", \
        headers = { Authorization = \"Bearer x\", User-Agent = \"mine\" }, expect = [204]";
    let proxy = probing("", origin.address(), health, "");

    assert_well(&proxy);
    let asked = origin.last();

    assert_eq!(asked.first, "OPTIONS /ready?deep=1 HTTP/1.1");
    assert_eq!(asked.all("host"), ["app.internal:81"]);
    assert_eq!(asked.all("authorization"), ["Bearer x"]);
    assert_eq!(asked.all("user-agent"), ["mine"]);
    assert_eq!(asked.all("connection"), ["close"]);
}

#[test]
fn a_request_of_which_only_the_path_is_written_is_a_plain_get() {
    let origin = Origin::saying("well");
    let proxy = probing("", origin.address(), "path = \"/healthz\"", "");

    assert_well(&proxy);
    let asked = origin.last();

    assert_eq!(asked.first, "GET /healthz HTTP/1.1");
    assert_eq!(asked.all("host"), [origin.address().to_string()]);
    assert_eq!(asked.all("user-agent"), ["tidegate-probe"]);
}

#[test]
fn the_answer_to_a_head_has_no_body_to_wait_for() {
    let origin = Origin::start(|request| {
        assert_eq!(request.method(), "HEAD");
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec()
    });
    let proxy = probing("", origin.address(), "path = \"/\", method = \"HEAD\"", "");

    assert_well(&proxy);
}

#[test]
fn a_status_that_is_not_expected_is_the_cause() {
    let origin = Origin::start(|_| reply("404 Not Found", "", ""));
    let proxy = probing("", origin.address(), "path = \"/\"", "");

    assert_eq!(cause(&proxy), "status 404");
}

#[test]
fn a_pattern_is_looked_for_in_a_body_however_it_is_sent() {
    let bodies: [(&[u8], bool); 5] = [
        (b"Content-Length: 16\r\n\r\n{\"status\": \"ok\"}", true),
        (b"Transfer-Encoding: chunked\r\n\r\n9\r\n{\"status\"\r\n7\r\n: \"ok\"}\r\n0\r\n\r\n", true),
        (b"Connection: close\r\n\r\n{\"status\": \"ok\"}", true),
        (b"Content-Length: 18\r\n\r\n{\"status\": \"down\"}", false),
        (b"Content-Length: 0\r\n\r\n", false),
    ];
    for (rest, is_well) in bodies {
        let origin = Origin::start(move |_| [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", rest].concat());
        let proxy = probing("", origin.address(), r#"path = "/", body = '"status":\s*"ok"'"#, "");

        match is_well {
            true => assert_well(&proxy),
            false => assert_eq!(cause(&proxy), "the pattern is not in the body"),
        }
    }
}

#[test]
fn a_body_that_breaks_off_before_the_pattern_is_the_cause() {
    let origin =
        Origin::start(|_| b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\nwe".to_vec());
    let proxy = probing("", origin.address(), "path = \"/\", body = \"well\"", "");

    assert!(cause(&proxy).starts_with("http: "), "{}", cause(&proxy));
}

#[test]
fn probes_may_have_a_port_of_their_own() {
    let (origin, probed) = (Origin::saying("served"), Origin::start(|_| reply("503 Unwell", "", "")));
    let port = probed.address().port();
    let proxy = probing("", origin.address(), &format!("path = \"/\", port = {port}"), "");

    assert_eq!(cause(&proxy), "status 503");
    assert_eq!(probed.last().field("host"), Some(format!("127.0.0.1:{port}").as_str()));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_tcp_probe_asks_for_no_tls_whatever_the_server_speaks() {
    let (cert, other) = (Cert::of(&["origin.test"]), Cert::of(&["other.test"]));
    let origin = Origin::start_tls(cert, |_| ok("under tls"));
    let tls = format!("tls = {{ ca = {:?} }}", other.pem_path);
    let proxy = probing("https://", origin.address(), "tcp = true", &tls);

    assert_well(&proxy);
}

#[test]
fn a_tls_probe_wants_the_certificate_that_requests_want() {
    let (cert, other) = (Cert::of(&["origin.test"]), Cert::of(&["origin.test"]));
    let tls = |cert: &Cert, name| format!("tls = {{ ca = {:?}, server-name = {name:?} }}", cert.pem_path);
    let cases = [
        (tls(&cert, "origin.test"), None),
        (tls(&cert, "other.test"), Some("certificate not valid for name \"other.test\"")),
        (tls(&other, "origin.test"), Some("BadSignature")),
    ];
    // The file must outlive the certificate's own directory, which moves into the origin.
    let origin = Origin::start_tls(cert, |_| ok("under tls"));
    for (tls, expected) in cases {
        let proxy = probing("https://", origin.address(), "tls = true", &tls);

        match expected {
            None => assert_well(&proxy),
            Some(words) => {
                let cause = cause(&proxy);
                assert!(cause.starts_with("tls handshake: invalid peer certificate: "), "{cause}");
                assert!(cause.contains(words), "{cause}");
            }
        }
    }
    assert_eq!(origin.count(), 0, "a handshake is no request");
}

#[test]
fn every_probe_sees_the_certificate_anew() {
    let cert = Cert::of(&["origin.test"]);
    let tls = format!("tls = {{ ca = {:?}, server-name = \"origin.test\" }}", cert.pem_path);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let seen = kinds.clone();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut conn = BufReader::new(cert.accept(tcp.unwrap()));
            if let Ok(Some(_)) = wire::read_head(&mut conn) {
                let _ = conn.get_mut().write_all(&ok("well"));
                seen.lock().unwrap().push(conn.get_ref().conn.handshake_kind());
            }
        }
    });
    let _proxy = probing("https://", address, "path = \"/\"", &tls);

    // A session that is resumed shows no certificate: one that has expired would go unnoticed.
    eventually("it is probed five times", || kinds.lock().unwrap().len() >= 5);

    let kinds = kinds.lock().unwrap();
    assert!(kinds.iter().all(|kind| *kind == Some(rustls::HandshakeKind::Full)), "{kinds:?}");
}

#[test]
fn a_grpc_probe_asks_for_its_service_as_grpc_asks() {
    let grpc = Grpc::start(None, Reply::status(1));
    let health = "grpc = \"shop.Orders\", host = \"orders.internal\", headers = { x-probe = \"1\" }";
    let proxy = probing("", grpc.address, health, "");

    assert_well(&proxy);
    let (head, message) = grpc.asked().remove(0);

    assert_eq!(head.method, "POST");
    assert_eq!(head.uri, "http://orders.internal/grpc.health.v1.Health/Check");
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["grpc-timeout"], "2000m");
    assert_eq!(head.headers["x-probe"], "1");
    assert_eq!(message, b"\x00\x00\x00\x00\x0d\x0a\x0bshop.Orders");
}

#[test]
fn only_a_grpc_server_that_says_serving_is_well() {
    let grpc = Grpc::start(None, Reply::status(1));
    let proxy = probing("", grpc.address, "grpc = \"\"", "");
    assert_well(&proxy);
    assert_eq!(grpc.asked()[0].1, [0; 5], "the server as a whole has no name");

    let well = Reply::status(1);
    let fields = |trailers| Reply { message: None, trailers, ..well.clone() };
    for (reply, expected) in [
        (Reply::status(2), "the service says NOT_SERVING"),
        (Reply::status(3), "the service says SERVICE_UNKNOWN"),
        (
            fields(&[("grpc-status", "12"), ("grpc-message", "unknown service")]),
            "grpc-status 12: unknown service",
        ),
        (Reply { trailers: &[("grpc-status", "14")], ..well.clone() }, "grpc-status 14"),
        (Reply { trailers: &[("x", "y")], ..well.clone() }, "the answer is not gRPC: it has no grpc-status"),
        (Reply { status: 503, ..well.clone() }, "status 503"),
        (
            Reply { kind: "text/html", ..well.clone() },
            "the answer is not gRPC: its content-type is \"text/html\"",
        ),
        (Reply { message: Some(vec![0; 5000]), ..well.clone() }, "the answer is not gRPC: it is too long"),
    ] {
        grpc.reply_from_now_on(reply);
        eventually(expected, || server(&proxy)["probe"]["cause"] == expected);
        assert_eq!(server(&proxy)["state"], "unhealthy");
    }

    grpc.reply_from_now_on(well);
    eventually("it is healthy again", || server(&proxy)["state"] == "healthy");
}

#[test]
fn a_grpc_probe_under_tls_agrees_on_http2_or_fails() {
    let cert = Cert::of(&["origin.test"]);
    let tls = |cert: &Cert| format!("tls = {{ ca = {:?}, server-name = \"origin.test\" }}", cert.pem_path);
    let trusted = tls(&cert);
    let grpc = Grpc::start(Some(cert), Reply::status(1));
    let proxy = probing("https://", grpc.address, "grpc = \"\"", &trusted);

    assert_well(&proxy);
    assert_eq!(grpc.asked()[0].0.uri.scheme_str(), Some("https"));

    let cert = Cert::of(&["origin.test"]);
    let trusted = tls(&cert);
    let old = Origin::start_tls(cert, |_| ok("HTTP/1.1 alone"));
    let proxy = probing("https://", old.address(), "grpc = \"\"", &trusted);

    assert_eq!(cause(&proxy), "tls handshake: the server does not offer h2 by ALPN");
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
fn a_probe_that_hangs_is_given_up() {
    let gate = Gate::default();
    let opened = gate.clone();
    let silent = Origin::raw(move |_, _| {
        opened.wait();
        Then::Close
    });
    for kind in ["path = \"/\"", "grpc = \"\""] {
        let health = format!("health = {{ {kind}, interval = \"20ms\", timeout = \"100ms\", fall = 1 }}");
        let proxy = Proxy::start(&one_route("", &health, &[&silent]));

        assert_eq!(cause(&proxy), "no answer within 100ms");
        // It is asked again, and what was given up is closed: a leak would run out of files.
        let connections = silent.connections();
        eventually("it is asked again", || silent.connections() > connections + 2);
    }
    gate.open();
}

/// Sends `first` and then `again` for as long as anyone reads.
fn endless(first: &'static [u8], again: &'static [u8]) -> Origin {
    Origin::raw(move |_, conn| {
        let piece = again.repeat(1024 / again.len() + 1);
        let mut sent = conn.get_mut().write_all(first);
        while sent.is_ok() {
            sent = conn.get_mut().write_all(&piece);
        }
        Then::Close
    })
}

#[test]
fn an_answer_that_is_nonsense_or_has_no_end_is_a_failure_with_its_cause() {
    const FRAMES: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678";
    let (http, grpc) = ("path = \"/\"", "grpc = \"\"");
    for (health, origin, expected) in [
        (http, Origin::start(|_| b"SSH-2.0-OpenSSH_9.7\r\n".to_vec()), "http: "),
        (http, Origin::start(|_| Vec::new()), "http: "),
        (http, endless(b"HTTP/1.1 200 OK\r\n", b"X-Field: x\r\n"), "http: "),
        (http, endless(b"HTTP/1.1 200 OK\r\nX-Field: ", b"x"), "http: "),
        (http, endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "longer than 256 KiB"),
        (grpc, Origin::start(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "http/2: "),
        (grpc, endless(b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"), "http/2: "),
        (grpc, endless(FRAMES, PING), "longer than 256 KiB"),
    ] {
        let proxy = probing("", origin.address(), health, "");

        let cause = cause(&proxy);
        assert!(cause.contains(expected), "{cause:?} is not {expected:?}");
        assert!(!cause.contains("no answer within"), "{cause}");
    }
}

#[test]
fn of_a_body_without_end_only_the_beginning_is_looked_at() {
    let body = endless(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwell ", b"x");
    for (pattern, is_well) in [("well", true), ("ill", false)] {
        let proxy = probing("", body.address(), &format!("path = \"/\", body = {pattern:?}"), "");

        match is_well {
            true => assert_well(&proxy),
            false => assert_eq!(cause(&proxy), "the pattern is not in the body"),
        }
    }
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
