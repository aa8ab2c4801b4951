//! Each stage has a limit of its own, a status, and a reason.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{alone, is_left_alone, proxy, reason, say, sized};
use crate::support::http2::{self, talk};
use crate::support::origin::reserve_port;
use crate::support::{Client, DEADLINE, Gate, Message, Origin, Proxy, Then, eventually, ok, one_route};

/// One route to a server that is no `Origin`.
fn before(address: &str, upstream: &str) -> Proxy {
    let route = "[[route]]\nupstream = \"app\"\n[upstream.app]\neject = false\nretries = 0";
    Proxy::start(&format!("{route}\nservers = [\"{address}\"]\n{upstream}\n"))
}

#[track_caller]
fn assert_504(answer: &Message, why: &str, error: &str) {
    assert_eq!((answer.status(), reason(answer)), (504, why));
    assert!(
        answer.field("proxy-status").unwrap().contains(&format!("error={error};")),
        "{:?}",
        answer.fields
    );
}

/// Says a head and a piece of a body, and then nothing until the gate opens.
fn stalling(head: &'static str) -> (Origin, Gate) {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::raw(move |_, conn| {
        say(conn, head.as_bytes());
        opened.wait();
        Then::Close
    });
    (origin, gate)
}

const IN_CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\npiece\r\n";
const OF_A_LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npiece";

#[test]
fn a_connection_that_does_not_come_about_is_answered_504() {
    // Nobody takes its connections, and its queue of them is full: the kernel answers no more.
    let (socket, address) = reserve_port();
    socket.listen(0).unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue is never full");
    }
    let proxy = before(&address.to_string(), "connect-timeout = \"300ms\"");

    assert_504(&proxy.get("/"), "connect-timed-out", "connection_timeout");
}

#[test]
fn a_handshake_with_a_silent_server_is_answered_504() {
    let (socket, address) = reserve_port();
    socket.listen(16).unwrap();
    let proxy = before(&format!("https://{address}"), "tls = { insecure = true }\ntls-timeout = \"300ms\"");

    assert_504(&proxy.get("/"), "tls-timed-out", "connection_timeout");
}

#[test]
fn a_head_that_does_not_come_is_answered_504() {
    let (origin, gate) = stalling("");
    let proxy = alone("eject = false\nfirst-byte-timeout = \"300ms\"", &[&origin]);

    let answer = proxy.get("/");

    assert!(!gate.is_open());
    gate.open();
    assert_504(&answer, "first-byte-timed-out", "http_response_timeout");
}

#[test]
fn a_request_s_body_that_stalls_is_the_client_s_fault() {
    let origin = Origin::saying("");
    let text =
        format!("[limits]\nbody-idle = \"300ms\"\n{}", one_route("", "try-timeout = \"10s\"", &[&origin]));
    let proxy = Proxy::start(&text);

    let mut bytes = sized("PUT", "/", b"whole");
    bytes.truncate(bytes.len() - 2);
    let answer = proxy.client().send(bytes).response();

    assert_eq!((answer.status(), reason(&answer)), (408, "body-too-slow"));
    assert_eq!(proxy.state_of(&origin), "healthy");
}

#[test]
fn a_slow_upload_does_not_eject_the_server_that_waits_for_it() {
    let (a, b) = (Origin::saying(""), Origin::saying(""));
    let proxy = alone("try-timeout = \"200ms\"\neject = { failures = 1, time = \"1h\" }", &[&a, &b]);
    let mut bytes = sized("POST", "/", b"whole");
    bytes.truncate(bytes.len() - 2);

    for _ in 0..4 {
        let answer = proxy.client().send(&bytes).response();
        assert_504(&answer, "try-timed-out", "http_response_timeout");
    }

    assert_eq!((proxy.state_of(&a), proxy.state_of(&b)), ("healthy".to_owned(), "healthy".to_owned()));
}

#[test]
fn an_attempt_as_a_whole_is_answered_504() {
    let (origin, gate) = stalling("");
    let proxy = alone("eject = false\ntry-timeout = \"300ms\"", &[&origin]);

    let answer = proxy.get("/");

    assert!(!gate.is_open());
    gate.open();
    assert_504(&answer, "try-timed-out", "http_response_timeout");
}

#[test]
fn a_request_as_a_whole_is_answered_504_however_many_servers_are_left() {
    let (a, gate_a) = stalling("");
    let (b, gate_b) = stalling("");
    let (c, gate_c) = stalling("");
    // The first attempt may not take all of the time; the second does.
    let rules = "eject = false\nretry-on = [\"timeout\"]\ntry-timeout = \"400ms\"\ntotal-timeout = \"600ms\"";
    let proxy = alone(rules, &[&a, &b, &c]);

    let answer = proxy.get("/");

    for gate in [gate_a, gate_b, gate_c] {
        assert!(!gate.is_open());
        gate.open();
    }
    assert_504(&answer, "total-timed-out", "http_response_timeout");
    assert_eq!(a.count() + b.count() + c.count(), 2);
}

/// What is left of a response that is cut: it must not look whole over HTTP/1.1, and must be a reset over HTTP/2.
#[track_caller]
fn assert_cut(rules: &str) {
    for head in [IN_CHUNKS, OF_A_LENGTH] {
        let (origin, gate) = stalling(head);
        let proxy = alone(&format!("eject = false\n{rules}"), &[&origin]);

        let mut client = proxy.client();
        let mut message = client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
        assert_eq!(message.status(), 200);
        assert!(client.body(&mut message).is_err(), "{rules}: it looks whole: {message:?}");
        assert_eq!(message.body, b"piece", "what there was is passed on");
        assert!(client.is_closed());

        talk(proxy.public(), 65_535, async |requests, _| {
            let mut answer = http2::get(&requests, "/").await.unwrap();
            assert_eq!(answer.status(), 200);
            let end = http2::rest(answer.body_mut()).await.expect_err("it looks whole");
            assert!(end.is_reset() && end.is_remote(), "{end:?}");
        });
        assert!(!gate.is_open(), "{rules}");
        gate.open();
        eventually("the server is free", || proxy.status()["upstreams"][0]["servers"][0]["in_flight"] == 0);
    }
}

#[test]
fn a_response_whose_body_stalls_is_cut() {
    assert_cut("body-idle = \"300ms\"");
}

#[test]
fn a_response_that_is_not_over_within_the_whole_request_s_time_is_cut() {
    assert_cut("total-timeout = \"500ms\"");
}

#[test]
fn a_response_that_never_stalls_is_cut_too_when_its_time_is_over() {
    let origin = Origin::raw(|_, conn| {
        say(conn, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        // As long as anyone takes it; whoever takes it for so long takes it whole.
        let began = Instant::now();
        while began.elapsed() < DEADLINE && say(conn, b"5\r\npiece\r\n") == Then::Keep {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        say(conn, b"0\r\n\r\n")
    });
    let proxy = alone("total-timeout = \"500ms\"", &[&origin]);

    let mut client = proxy.client();
    let mut message = client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    assert!(client.body(&mut message).is_err(), "it looks whole");

    assert!(message.body.len() > 5);
}

#[test]
fn a_silent_tunnel_is_closed_at_both_ends() {
    let closed = Gate::default();
    let tell = closed.clone();
    let origin = Origin::raw(move |_, conn| {
        say(conn, AGREED.as_bytes());
        if is_left_alone(conn) {
            tell.open();
        }
        Then::Close
    });
    let text = format!("[limits]\ntunnel-idle = \"300ms\"\n{}", one_route("", "", &[&origin]));
    let proxy = Proxy::start(&text);

    let mut client: Client = proxy.client();
    assert_eq!(client.send(WEBSOCKET).head().status(), 101);
    assert!(client.is_closed());

    eventually("the server's end is closed", || closed.is_open());
}

pub const WEBSOCKET: &str = "GET /held HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
pub const AGREED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn what_is_within_its_limits_is_not_cut() {
    let origin = Origin::start(|_| ok(vec![b'x'; 100_000]));
    let rules = "try-timeout = \"10s\"\ntotal-timeout = \"10s\"\nbody-idle = \"10s\"";
    let proxy = proxy(rules, &[&origin]);

    for _ in 0..10 {
        assert_eq!(proxy.get("/").body.len(), 100_000);
    }
}

#[test]
fn a_server_is_not_blamed_for_what_the_whole_request_has_no_time_for() {
    let gate = crate::support::Gate::default();
    let opened = gate.clone();
    let slow = Origin::start(move |_| {
        opened.wait();
        ok("late")
    });
    let quick = Origin::saying("quick");
    // Each worker has its own turns.
    let rules = "total-timeout = \"150ms\"\neject = { failures = 1 }";
    let proxy = Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", rules, &[&slow, &quick])));

    let statuses: Vec<_> = (0..2).map(|_| proxy.get("/").status()).collect();
    assert!(!gate.is_open());
    gate.open();

    assert!(statuses.contains(&504), "{statuses:?}");
    assert_eq!(proxy.metric("tidegate_ejections_total", &[]), 0.0);
}
