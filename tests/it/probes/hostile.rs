//! Servers that answer a probe with nonsense, without end or not at all.

use std::io::Write;

use super::{assert_well, cause, probing};
use crate::support::{Gate, Origin, Proxy, Then, eventually, one_route};

// Frames of HTTP/2.
const SETTINGS: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678";

#[test]
fn a_body_that_breaks_off_before_the_pattern_is_the_cause() {
    let origin =
        Origin::start(|_| b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\nwe".to_vec());
    let proxy = probing("", origin.address(), "path = \"/\", body = \"well\"", "");

    assert!(cause(&proxy).starts_with("http: "), "{}", cause(&proxy));
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
        let files = proxy.metric("process_open_fds", &[]);
        let connections = silent.connections();
        eventually("it is asked again", || silent.connections() >= connections + 10);
        // What was given up is closed, although the server still holds it open.
        assert!(proxy.metric("process_open_fds", &[]) < files + 5.0, "{kind}");
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
    let (http, grpc) = ("path = \"/\"", "grpc = \"\"");
    for (health, origin, expected) in [
        (http, Origin::start(|_| b"SSH-2.0-OpenSSH_9.7\r\n".to_vec()), "http: "),
        (http, Origin::start(|_| Vec::new()), "http: "),
        (http, endless(b"HTTP/1.1 200 OK\r\n", b"X-Field: x\r\n"), "http: message head is too large"),
        (http, endless(b"HTTP/1.1 200 OK\r\nX-Field: ", b"x"), "http: message head is too large"),
        (http, endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "longer than 256 KiB"),
        (grpc, Origin::start(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), "http/2: "),
        (grpc, endless(b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"), "http/2: "),
        (grpc, endless(SETTINGS, PING), "longer than 256 KiB"),
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
