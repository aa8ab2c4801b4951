//! Bodies and trailers: their framing for a server of HTTP/1.1 (RFC 9113 sections 8.1 and 8.1.1).

use crate::support::eventually;

use super::*;
use Then::*;

/// Played here before Tidegate alone, and in [`crate::pairs`] behind another proxy.
pub const TABLES: &[fn()] =
    &[a_length_that_is_none_is_an_error, trailers_end_a_stream_and_hold_no_pseudo_fields];

fn head(method: &str, further: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "test")];
    frame(HEADERS, END_HEADERS, 1, block(&[&fields, further].concat()))
}

fn data(flags: u8, bytes: &str) -> Vec<u8> {
    frame(DATA, flags, 1, bytes)
}

fn trailers(flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, 1, block(fields))
}

fn length(digits: &str) -> Vec<u8> {
    head("POST", &[("content-length", digits)])
}

#[test]
fn a_body_arrives_whole_whatever_the_method_and_the_framing() {
    let stage = Stage::new();
    for method in ["POST", "PUT", "PATCH", "GET", "DELETE", "OPTIONS", "BREW", "HEAD"] {
        for announced in [None, Some("content-length")] {
            stage.server.forget();
            let mut client = stage.client();
            let fields: Vec<_> = announced.map(|name| (name, "10")).into_iter().collect();
            client.send(all(&[
                head(method, &fields),
                data(0, "hello"),
                data(0, ""),
                data(END_STREAM, "world"),
            ]));
            let answer = client.until("an answer", |f| f.kind == HEADERS);
            assert_eq!(answer.status(), 200, "{method}");

            let seen = stage.server.only();
            assert_eq!(seen.method(), method);
            assert_eq!(seen.text(), "helloworld", "{method} {announced:?}: {seen:?}");
        }
    }
}

#[test]
fn a_request_without_a_body_has_none() {
    let stage = Stage::new();
    for (name, frames) in [
        ("GET", get(1, "/")),
        ("GET, ended by empty DATA", all(&[head("GET", &[]), data(END_STREAM, "")])),
        ("DELETE, ended by empty DATA", all(&[head("DELETE", &[]), data(0, ""), data(END_STREAM, "")])),
        (
            "POST",
            request(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")]),
        ),
        ("POST of length 0", all(&[length("0"), data(END_STREAM, "")])),
        ("POST, ended by trailers", all(&[head("POST", &[]), trailers(END_STREAM, &[("x", "1")])])),
    ] {
        stage.server.forget();
        let mut client = stage.client();
        client.send(frames);
        assert_eq!(client.answer(1), 200, "{name}");
        assert_eq!(stage.server.only().body, b"", "{name}");
        assert_eq!(client.get(3, "/next"), 200);
    }
}

#[test]
fn a_length_that_is_none_is_an_error() {
    let value = |value| all(&[length(value), data(END_STREAM, "hello")]);
    let wrong = || Either(&[400], &[PROTOCOL_ERROR]);
    check(vec![
        ("negative", value("-5"), wrong()),
        ("signed", value("+5"), wrong()),
        ("in hexadecimal", value("0x5"), wrong()),
        ("a fraction", value("5.0"), wrong()),
        ("a list", value("5, 5"), wrong()),
        ("a list that differs", value("5, 6"), wrong()),
        ("empty", value(""), wrong()),
        ("with a space", value("5 "), wrong()),
        ("with CR LF", value("5\r\nx: y"), Stream(&[PROTOCOL_ERROR])),
        ("beyond 64 bits", value("18446744073709551621"), wrong()),
        ("of words", value("five"), wrong()),
        (
            "twice, differing",
            all(&[
                head("POST", &[("content-length", "5"), ("content-length", "6")]),
                data(END_STREAM, "hello"),
            ]),
            wrong(),
        ),
        (
            "twice, alike",
            all(&[
                head("POST", &[("content-length", "5"), ("content-length", "5")]),
                data(END_STREAM, "hello"),
            ]),
            wrong(),
        ),
        ("with zeros before", value("0005"), Served),
    ]);
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_an_error_and_never_looks_whole() {
    let stage = Stage::new();
    stage.play(vec![
        (
            "none",
            request(&[
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "test"),
                ("content-length", "5"),
            ]),
            Stream(&[PROTOCOL_ERROR]),
        ),
        ("none, by empty DATA", all(&[length("5"), data(END_STREAM, "")]), Stream(&[PROTOCOL_ERROR])),
        (
            "none, by trailers",
            all(&[length("5"), trailers(END_STREAM, &[("x", "1")])]),
            Stream(&[PROTOCOL_ERROR]),
        ),
        ("too little", all(&[length("6"), data(END_STREAM, "hello")]), Stream(&[PROTOCOL_ERROR])),
        (
            "too little in pieces",
            all(&[length("11"), data(0, "hello"), data(END_STREAM, "world")]),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (
            "too little, then trailers",
            all(&[length("6"), data(0, "hello"), trailers(END_STREAM, &[("x", "1")])]),
            Stream(&[PROTOCOL_ERROR]),
        ),
        ("too much", all(&[length("4"), data(END_STREAM, "hello")]), Stream(&[PROTOCOL_ERROR])),
        ("too much, and not the end", all(&[length("4"), data(0, "hello")]), Stream(&[PROTOCOL_ERROR])),
        (
            "a request behind a length of 0",
            all(&[length("0"), data(END_STREAM, "GET /evil HTTP/1.1\r\nHost: evil\r\n\r\n")]),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (
            "GET, too much",
            all(&[head("GET", &[("content-length", "1")]), data(END_STREAM, "hello")]),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (
            "HEAD, too much",
            all(&[head("HEAD", &[("content-length", "1")]), data(END_STREAM, "hello")]),
            Stream(&[PROTOCOL_ERROR]),
        ),
    ]);
}

#[test]
fn too_much_in_a_second_piece_never_looks_whole() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(all(&[length("9"), data(0, "hello")]));
    client.ping();
    client.send(data(END_STREAM, "GET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"));

    let reset = first_word(&mut client).unwrap();
    assert_eq!((reset.kind, reset.code()), (RST_STREAM, PROTOCOL_ERROR));
    assert_eq!(goes_on(&mut client), Ok(()));
    // What had been passed on is not ended as if it were whole.
    let record = stage.server.record();
    assert!(record.whole.iter().all(|request| request.target() == "/next"), "{:?}", record.whole);
    assert_eq!(record.broken, Vec::<String>::new());
}

#[test]
fn a_body_whose_client_resets_it_never_looks_whole() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(all(&[head("POST", &[]), data(0, "hello")]));
    client.ping();
    client.send(frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes()));
    assert_eq!(goes_on(&mut client), Ok(()));

    let mut client = stage.client();
    client.send(all(&[head("POST", &[]), data(0, "hello")]));
    client.ping();
    drop(client);

    eventually("both are cut off, or were never begun", || {
        proxy_is_at_rest(&stage) && stage.server.record().whole.len() == 1
    });
    assert_eq!(stage.server.record().broken, Vec::<String>::new());
}

fn proxy_is_at_rest(stage: &Stage) -> bool {
    stage.proxy.status()["upstreams"][0]["servers"][0]["in_flight"] == 0
}

#[test]
fn what_looks_like_http_1_in_a_body_is_a_body() {
    let stage = Stage::new();
    let evil = "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil\r\nContent-Length: 0\r\n\r\n";
    for fields in [&[][..], &[("content-length", evil.len().to_string())]] {
        stage.server.forget();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut client = stage.client();
        client.send(all(&[head("GET", &fields), data(END_STREAM, evil)]));
        assert_eq!(client.answer(1), 200);
        assert_eq!(stage.server.only().text(), evil);
    }
}

#[test]
fn trailers_end_a_stream_and_hold_no_pseudo_fields() {
    let body = || all(&[head("POST", &[("trailer", "x")]), data(0, "hello")]);
    let after = |last: Vec<u8>| all(&[body(), last]);
    let huffman = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x00\x84\xb9\x58\xd3\x3f\x01/");
    check(vec![
        ("good ones", after(trailers(END_STREAM, &[("x", "1")])), Served),
        ("none in them", after(trailers(END_STREAM, &[])), Served),
        ("not the end", after(trailers(0, &[("x", "1")])), Stream(&[PROTOCOL_ERROR])),
        (
            "not the end, then DATA",
            after(all(&[trailers(0, &[("x", "1")]), data(END_STREAM, "more")])),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (
            "a second request",
            after(frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                block(&[(":method", "GET"), (":scheme", "http"), (":path", "/evil"), (":authority", "evil")]),
            )),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (":path", after(trailers(END_STREAM, &[(":path", "/evil")])), Stream(&[PROTOCOL_ERROR])),
        (
            ":method behind a field",
            after(trailers(END_STREAM, &[("x", "1"), (":method", "GET")])),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (":status", after(trailers(END_STREAM, &[(":status", "200")])), Stream(&[PROTOCOL_ERROR])),
        (
            ":status of the static table",
            after(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88")),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (
            ":path by the name's index",
            after(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x44\x01/")),
            Stream(&[PROTOCOL_ERROR]),
        ),
        (":path in Huffman's code", after(huffman), Stream(&[PROTOCOL_ERROR])),
        (
            ":path in a continuation",
            after(all(&[
                frame(HEADERS, END_STREAM, 1, b"\x00\x01x\x011"),
                frame(CONTINUATION, END_HEADERS, 1, b"\x84"),
            ])),
            Stream(&[PROTOCOL_ERROR]),
        ),
        ("an unknown one", after(trailers(END_STREAM, &[(":x", "1")])), Stream(&[PROTOCOL_ERROR])),
        ("upper case", after(trailers(END_STREAM, &[("X", "1")])), Stream(&[PROTOCOL_ERROR])),
        ("CR LF", after(trailers(END_STREAM, &[("x", "1\r\ny: 2")])), Stream(&[PROTOCOL_ERROR])),
        ("a blank before", after(trailers(END_STREAM, &[("x", " 1")])), Stream(&[PROTOCOL_ERROR])),
        ("a quote in a name", after(trailers(END_STREAM, &[("x\"y", "1")])), Stream(&[PROTOCOL_ERROR])),
        ("a tab behind", after(trailers(END_STREAM, &[("x", "1\t")])), Stream(&[PROTOCOL_ERROR])),
        ("connection", after(trailers(END_STREAM, &[("connection", "close")])), Stream(&[PROTOCOL_ERROR])),
    ]);
}

#[test]
fn trailers_say_nothing_that_belongs_into_a_head() {
    let stage = Stage::new();
    let names = [
        "host",
        "content-length",
        "authorization",
        "cookie",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-real-ip",
        "x-request-id",
        "forwarded",
        "x_forwarded_for",
        "proxy",
        "via",
        "expect",
        "trailer",
        "http2-settings",
        "x-sum",
    ];
    let fields = names.map(|name| (name, "5"));
    let announced = names.join(", ");
    let mut client = stage.client();
    client.send(all(&[
        head("POST", &[("trailer", &announced)]),
        data(0, "hello"),
        trailers(END_STREAM, &fields),
    ]));
    assert_eq!(client.answer(1), 200);

    let seen = stage.server.only();
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "5".to_owned())]);
    assert_eq!(seen.all("trailer"), ["x-sum"]);
}
