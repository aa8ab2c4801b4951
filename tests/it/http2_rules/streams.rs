//! Streams: their identifiers and states (RFC 9113 section 5).

use super::*;
use Then::*;

fn rst(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes())
}

fn grant(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

#[test]
fn an_idle_stream_takes_nothing_but_headers_and_priority() {
    let wrong = || Connection(&[PROTOCOL_ERROR]);
    Stage::new().play(vec![
        ("DATA", frame(DATA, END_STREAM, 1, b"x"), wrong()),
        ("DATA beyond what is open", all(&[get(1, "/wait"), frame(DATA, 0, 3, b"x")]), wrong()),
        ("RST_STREAM", rst(1), wrong()),
        ("WINDOW_UPDATE", grant(1, 100), wrong()),
        ("CONTINUATION", frame(CONTINUATION, END_HEADERS, 1, b"\x82"), wrong()),
        ("DATA on a stream of ours", frame(DATA, 0, 2, b"x"), wrong()),
        ("RST_STREAM on a stream of ours", rst(2), wrong()),
        ("WINDOW_UPDATE on a stream of ours", grant(2, 100), wrong()),
        ("PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1]), Nothing),
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x82\x86\x84"), wrong()),
        (
            "a push on an open one",
            all(&[post(1, "/wait", &[]), frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x82\x86\x84")]),
            wrong(),
        ),
        (
            "a push on a half-closed one",
            all(&[get(1, "/wait"), frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x82\x86\x84")]),
            wrong(),
        ),
    ]);
}

#[test]
fn new_streams_are_odd_and_grow() {
    let wrong = || Connection(&[PROTOCOL_ERROR]);
    Stage::new().play(vec![
        ("even", get(2, "/"), wrong()),
        ("smaller than the last", all(&[get(5, "/wait"), get(3, "/")]), Connection(&[PROTOCOL_ERROR])),
        ("some left out", all(&[get(1, "/"), get(9, "/"), get(77, "/")]), Served),
        ("the last there is", all(&[get(1, "/"), get(0x7fff_ffff - 2, "/")]), Served),
    ]);
}

#[test]
fn a_stream_that_its_client_has_ended_takes_no_more_from_it() {
    // RFC 9113 section 5.1: an error of the stream while its answer is to come, of the connection once a reset has told
    // that nothing more is awaited.
    let wrong = || Reset(STREAM_CLOSED);
    let trailers = || frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&[("x", "1")]));
    let answered = |then: Vec<u8>| all(&[get(1, "/wait"), then]);
    let stage = Stage::new();
    stage.play(vec![
        ("half-closed: DATA", answered(frame(DATA, 0, 1, b"x")), wrong()),
        ("half-closed: the end once more", answered(frame(DATA, END_STREAM, 1, b"")), wrong()),
        ("half-closed: HEADERS", answered(frame(HEADERS, END_HEADERS, 1, block(&[("x", "1")]))), wrong()),
        ("half-closed: trailers", answered(trailers()), wrong()),
        ("half-closed: the same request", answered(get(1, "/")), wrong()),
        (
            "half-closed: CONTINUATION",
            answered(frame(CONTINUATION, END_HEADERS, 1, b"\x82")),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "half-closed by DATA: DATA",
            all(&[post(1, "/wait", &[]), frame(DATA, END_STREAM, 1, b"x"), frame(DATA, 0, 1, b"x")]),
            wrong(),
        ),
        (
            "half-closed by trailers: DATA",
            all(&[post(1, "/wait", &[]), trailers(), frame(DATA, 0, 1, b"x")]),
            wrong(),
        ),
        ("half-closed by trailers: trailers", all(&[post(1, "/wait", &[]), trailers(), trailers()]), wrong()),
        ("half-closed: WINDOW_UPDATE", answered(grant(1, 9)), Nothing),
        ("half-closed: PRIORITY", answered(frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1])), Nothing),
        ("half-closed: RST_STREAM", answered(rst(1)), Nothing),
        (
            "reset by the client: DATA",
            all(&[post(1, "/wait", &[]), rst(1), frame(DATA, 0, 1, b"x")]),
            Reset(STREAM_CLOSED),
        ),
        (
            "reset by the client: HEADERS",
            all(&[post(1, "/wait", &[]), rst(1), trailers()]),
            Connection(&[STREAM_CLOSED]),
        ),
        (
            "ended and reset by the client: DATA",
            all(&[get(1, "/wait"), rst(1), frame(DATA, 0, 1, b"x")]),
            Connection(&[STREAM_CLOSED]),
        ),
        (
            "reset by the client: CONTINUATION",
            all(&[post(1, "/wait", &[]), rst(1), frame(CONTINUATION, END_HEADERS, 1, b"\x82")]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        ("reset by the client: reset again", all(&[post(1, "/wait", &[]), rst(1), rst(1)]), Nothing),
        (
            "reset by the client: PRIORITY",
            all(&[post(1, "/wait", &[]), rst(1), frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1])]),
            Nothing,
        ),
        ("reset by the client: WINDOW_UPDATE", all(&[post(1, "/wait", &[]), rst(1), grant(1, 9)]), Nothing),
    ]);
    assert!(!stage.server.gate().is_open(), "it was answered after all");
    stage.server.open();
}

#[test]
fn a_stream_that_was_answered_takes_no_more_from_its_client() {
    let stage = Stage::new();
    for (name, then, goes) in [
        ("DATA", frame(DATA, 0, 1, b"x"), Err(STREAM_CLOSED)),
        ("HEADERS", get(1, "/"), Err(STREAM_CLOSED)),
        ("WINDOW_UPDATE", grant(1, 9), Ok(())),
        ("PRIORITY", frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1]), Ok(())),
        ("RST_STREAM", rst(1), Ok(())),
    ] {
        let mut client = stage.client();
        assert_eq!(client.get(1, "/"), 200);
        client.send(then);
        match goes {
            Ok(()) => assert_eq!(goes_on(&mut client), Ok(()), "{name}"),
            Err(code) => assert_eq!(goes_away(&mut client, &[code]), Ok(()), "{name}"),
        }
    }
}

#[test]
fn what_was_under_way_when_a_stream_was_refused_does_no_harm() {
    let stage = Stage::new();
    let mut client = stage.client();

    // Its answer is there before its body is: the rest of that may be under way.
    client.send(post(1, "/..", &[]));
    let refusal = client.until("a refusal", |f| f.kind == HEADERS && f.stream == 1);
    assert_eq!(refusal.status(), 400);
    for _ in 0..20 {
        client.send(frame(DATA, 0, 1, [b'x'; 1000]));
    }
    client.send(frame(DATA, END_STREAM, 1, b"x"));

    assert_eq!(goes_on(&mut client), Ok(()));
}

#[test]
fn who_goes_on_with_a_request_that_was_answered_is_told_to_stop_and_not_with_the_answer() {
    let stage = Stage::new();
    let mut client = stage.client();

    client.send(post(1, "/..", &[]));
    client.until("the end of a refusal", |f| f.stream == 1 && f.flags & END_STREAM != 0);
    // A client that is told at once may lose the answer: curl 7.88 does.
    client.ping_without(RST_STREAM);
    let told = client.until("to be told", |f| f.kind == RST_STREAM);
    assert_eq!((told.stream, told.code()), (1, NO_ERROR));

    client.send(frame(DATA, END_STREAM, 1, b"x"));
    assert_eq!(goes_on(&mut client), Ok(()));
}

#[test]
fn a_stream_that_depends_on_itself_is_an_error() {
    let head = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")]);
    let flags = END_HEADERS | END_STREAM | PRIORITISED;
    Stage::new().play(vec![
        ("PRIORITY", all(&[get(1, "/wait"), frame(PRIORITY, 0, 1, [0, 0, 0, 1, 1])]), Reset(PROTOCOL_ERROR)),
        (
            "HEADERS",
            frame(HEADERS, flags, 1, [&[0, 0, 0, 1, 1][..], &head].concat()),
            Stream(&[PROTOCOL_ERROR]),
        ),
        ("HEADERS on another", frame(HEADERS, flags, 1, [&[0, 0, 0, 3, 1][..], &head].concat()), Served),
    ]);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_the_others_served() {
    let stage = Stage::with("[limits]\nhttp2-streams = 3", "");
    let mut client = stage.client();
    let told = client.until("settings", |f| f.kind == SETTINGS && f.flags & ACK == 0);
    assert!(told.payload.chunks(6).any(|one| one == setting(3, 3)), "{told:?}");

    for stream in [1, 3, 5, 7, 9] {
        client.send(get(stream, "/wait"));
    }
    for stream in [7, 9] {
        let refused = client.until("a refusal", |f| f.kind == RST_STREAM && f.stream == stream);
        assert_eq!(refused.code(), REFUSED_STREAM);
    }
    assert!(!stage.server.gate().is_open());
    stage.server.open();
    let mut left = vec![1, 3, 5];
    while !left.is_empty() {
        let end = client.until("an answer", |f| f.kind < 2 && f.flags & END_STREAM != 0);
        left.retain(|&stream| stream != end.stream);
    }

    assert_eq!(client.get(11, "/"), 200);
    assert_eq!(stage.server.record().whole.len(), 4);
}
