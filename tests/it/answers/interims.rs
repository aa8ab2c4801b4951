//! Interim responses, and changes of the protocol, that nobody asked for.

use std::io::Write;
use std::sync::Arc;

use crate::support::wire;

use super::rig::{Case, Server, Then, examine, outcome_of, refused, whole};

fn before_well(interims: &str) -> String {
    format!("{interims}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}

#[test]
fn interim_responses_leave_the_final_one_as_it_is() {
    let interims = [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100\r\n\r\n",
        "HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 5, 7\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 199 Odd\r\n\r\n",
    ];
    let mut cases: Vec<_> =
        interims.iter().map(|i| Case::new(*i, before_well(i), whole("ok")).and_again()).collect();
    let sixteen = "HTTP/1.1 100 Continue\r\n\r\n".repeat(16);
    cases.push(Case::new("sixteen", before_well(&sixteen), whole("ok")).and_again());

    examine(cases);
}

#[test]
fn interim_responses_that_are_none_or_too_many_are_answered_502() {
    let malformed =
        |name: &str, interims: &str| Case::new(name, before_well(interims), refused("malformed-response"));
    let mut cases = vec![
        malformed("103 with a body", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello"),
        malformed(
            "103 with chunks",
            "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        malformed("an empty line behind it", "HTTP/1.1 100 Continue\r\n\r\n\r\n"),
        malformed("LF alone", "HTTP/1.1 103 Early Hints\nLink: <a>\n\n"),
        malformed("NUL in a value", "HTTP/1.1 103 Early Hints\r\nLink: \0\r\n\r\n"),
        malformed("a version", "HTTP/2.0 103 Early Hints\r\n\r\n"),
        malformed("too large", &format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "a".repeat(70_000))),
        malformed("too many fields", &format!("HTTP/1.1 103 Early Hints\r\n{}\r\n", "A: b\r\n".repeat(101))),
    ];
    for (count, then) in [(17, Then::Keep), (17, Then::Close), (2000, Then::Keep)] {
        let interims = "HTTP/1.1 100 Continue\r\n\r\n".repeat(count);
        let flood = refused("response-interim-flood");
        cases.push(Case::new(format!("{count} of them"), before_well(&interims), flood).then(then));
    }
    let alone = Case::new("nothing but one", "HTTP/1.1 103 Early Hints\r\n\r\n", refused("reset"));
    cases.push(alone.then(Then::Close));

    examine(cases);
}

#[test]
fn a_protocol_that_nobody_asked_for_is_answered_502() {
    let fields = [
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Connection: upgrade\r\n",
        "Content-Length: 2\r\n",
        "",
    ];
    let says = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
    let mut cases: Vec<_> =
        fields.iter().map(|f| Case::new(*f, before_well(&says(f)), refused("response-upgrade"))).collect();
    let late = before_well(&format!("HTTP/1.1 100 Continue\r\n\r\n{}", says("")));
    cases.push(Case::new("behind a 100", late, refused("response-upgrade")));

    examine(cases);
}

/// A handshake, and what comes of it until the connection ends.
fn shake_hands(says: &str) -> Vec<u8> {
    let says = Arc::new(says.to_owned());
    let server = Server::start(move |_, conn| {
        let _ = conn.get_mut().write_all(says.as_bytes());
        Then::Close
    });
    let proxy = server.proxy("", "eject = false");
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let head = client.head();
    let mut bytes = format!("{}\r\n", head.first).into_bytes();
    for (name, value) in &head.fields {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    if head.status() != 101 {
        client.finish();
    }
    bytes.extend(client.rest());
    bytes
}

#[test]
fn another_protocol_than_the_one_that_was_asked_for_is_answered_502() {
    let head = "HTTP/1.1 101 Switching Protocols\r\n";
    for fields in [
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket/13\r\n",
        "Connection: upgrade\r\nUpgrade: \r\n",
        "Connection: upgrade\r\n",
        "Connection: close\r\nUpgrade: websocket\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\nContent-Length: 5\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let found = shake_hands(&format!("{head}{fields}\r\nhello"));
        assert_eq!(outcome_of("GET", &found), refused("response-upgrade"), "{fields:?}");
    }
    let old =
        shake_hands("HTTP/1.0 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(outcome_of("GET", &old), refused("response-upgrade"));
}

#[test]
fn a_websocket_begins_with_a_101_and_with_nothing_else() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n";
    for fields in ["", "Content-Length: 0\r\n"] {
        let found = shake_hands(&format!("{head}{fields}\r\nhello"));
        let mut rest = &found[..];
        let agreed = wire::read_head(&mut rest).unwrap().unwrap();
        assert_eq!((agreed.status(), agreed.field("content-length"), rest), (101, None, &b"hello"[..]));
    }
    // 200 with all the rest of it is an ordinary answer.
    let fields = "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n";
    let found = shake_hands(&format!("HTTP/1.1 200 OK\r\n{fields}\r\nhello and more"));
    let text = String::from_utf8_lossy(&found).to_ascii_lowercase();
    assert_eq!(outcome_of("GET", &found), whole("hello"));
    assert!(!text.contains("upgrade"), "{text}");
}

#[test]
fn an_upgrade_that_is_offered_with_a_200_is_not_passed_on() {
    let says = "HTTP/1.1 200 OK\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok";
    examine(vec![Case::new("200", says, whole("ok")).and_again()]);
    let server = Server::start(move |_, conn| {
        let _ = conn.get_mut().write_all(says.as_bytes());
        Then::Keep
    });

    let answer = server.proxy("", "").get("/");

    assert_eq!((answer.status(), answer.field("upgrade")), (200, None));
}
