//! Frames: their sizes, flags, streams and order (RFC 9113 sections 3.4, 4 and 6).

use super::*;
use Then::*;

const HUGE: u32 = 16_385;

#[test]
fn a_frame_of_a_wrong_size_ends_the_connection() {
    let stage = Stage::new();
    let big = vec![b'x'; HUGE as usize];
    let wrong = || Connection(&[FRAME_SIZE_ERROR]);
    stage.play(vec![
        ("DATA too large", all(&[post(1, "/", &[]), frame(DATA, 0, 1, &big)]), wrong()),
        ("HEADERS too large", frame(HEADERS, END_HEADERS | END_STREAM, 1, &big), wrong()),
        ("SETTINGS too large", frame(SETTINGS, 0, 0, &big), wrong()),
        ("an unknown frame too large", frame(0xbb, 0, 0, &big), wrong()),
        ("PRIORITY of 4 bytes", frame(PRIORITY, 0, 1, [0; 4]), wrong()),
        ("PRIORITY of 6 bytes", frame(PRIORITY, 0, 1, [0; 6]), wrong()),
        // Section 6.3: where there is a stream, it alone is spoilt.
        (
            "PRIORITY of 4 bytes on an open stream",
            all(&[get(1, "/wait"), frame(PRIORITY, 0, 1, [0; 4])]),
            Reset(FRAME_SIZE_ERROR),
        ),
        ("RST_STREAM of 3", all(&[post(1, "/", &[]), frame(RST_STREAM, 0, 1, [0; 3])]), wrong()),
        ("RST_STREAM of 5", all(&[post(1, "/", &[]), frame(RST_STREAM, 0, 1, [0; 5])]), wrong()),
        ("SETTINGS of 3 bytes", frame(SETTINGS, 0, 0, [0; 3]), wrong()),
        ("SETTINGS of 7 bytes", frame(SETTINGS, 0, 0, [0; 7]), wrong()),
        ("SETTINGS acknowledged with a payload", frame(SETTINGS, ACK, 0, [0; 6]), wrong()),
        ("PING of 6 bytes", frame(PING, 0, 0, [0; 6]), wrong()),
        ("PING of 9 bytes", frame(PING, 0, 0, [0; 9]), wrong()),
        ("PING of none", frame(PING, 0, 0, b""), wrong()),
        ("GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, [0; 7]), wrong()),
        ("WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, [0; 3]), wrong()),
        ("WINDOW_UPDATE of 5 bytes", frame(WINDOW_UPDATE, 0, 0, [0; 5]), wrong()),
    ]);
}

#[test]
fn a_frame_on_the_wrong_stream_ends_the_connection() {
    let wrong = || Connection(&[PROTOCOL_ERROR]);
    Stage::new().play(vec![
        ("DATA on stream 0", frame(DATA, 0, 0, b"x"), wrong()),
        ("HEADERS on stream 0", frame(HEADERS, END_HEADERS | END_STREAM, 0, b"\x82\x86\x84"), wrong()),
        ("PRIORITY on stream 0", frame(PRIORITY, 0, 0, [0, 0, 0, 1, 1]), wrong()),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, [0, 0, 0, 8]), wrong()),
        ("SETTINGS on stream 1", frame(SETTINGS, 0, 1, b""), wrong()),
        ("PUSH_PROMISE on stream 0", frame(PUSH_PROMISE, END_HEADERS, 0, b"\0\0\0\x02\x82\x86\x84"), wrong()),
        ("PING on stream 1", frame(PING, 0, 1, [0; 8]), wrong()),
        ("GOAWAY on stream 1", frame(GOAWAY, 0, 1, [0; 8]), wrong()),
        ("CONTINUATION on stream 0", frame(CONTINUATION, END_HEADERS, 0, b"\x82"), wrong()),
    ]);
}

#[test]
fn settings_have_values_that_are_allowed() {
    let one = |id, value| frame(SETTINGS, 0, 0, setting(id, value));
    let wrong = || Connection(&[PROTOCOL_ERROR]);
    Stage::new().play(vec![
        ("ENABLE_PUSH of 2", one(2, 2), wrong()),
        ("INITIAL_WINDOW_SIZE of 2^31", one(4, 1 << 31), Connection(&[FLOW_CONTROL_ERROR])),
        ("INITIAL_WINDOW_SIZE of 2^32 - 1", one(4, u32::MAX), Connection(&[FLOW_CONTROL_ERROR])),
        ("MAX_FRAME_SIZE of 16383", one(5, 16_383), wrong()),
        ("MAX_FRAME_SIZE of 2^24", one(5, 1 << 24), wrong()),
        ("MAX_FRAME_SIZE of 0", one(5, 0), wrong()),
        ("ENABLE_CONNECT_PROTOCOL of 2", one(8, 2), wrong()),
        ("an unknown setting", one(0xff, 1), Nothing),
        ("setting 0", one(0, 1), Nothing),
        (
            "all that are allowed",
            all(&[one(1, 0), one(2, 0), one(3, 0), one(4, 1 << 20), one(5, 1 << 14), one(6, 1)]),
            Nothing,
        ),
        ("one of them twice", frame(SETTINGS, 0, 0, [setting(4, 1), setting(4, 1000)].concat()), Nothing),
        ("unknown flags", frame(SETTINGS, 0xfe, 0, b""), Nothing),
    ]);
}

#[test]
fn settings_are_acknowledged() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.until("the acknowledgement of the first", |f| f.kind == SETTINGS && f.flags & ACK != 0);
    client.send(frame(SETTINGS, 0, 0, setting(1, 0)));
    let ack = client.until("another", |f| f.kind == SETTINGS && f.flags & ACK != 0);
    assert!(ack.payload.is_empty() && ack.stream == 0);
}

#[test]
fn a_ping_is_answered_with_what_it_says_and_a_pong_is_not() {
    let stage = Stage::new();
    let mut client = stage.client();

    client.send(frame(PING, ACK, 0, b"unasked!"));
    client.send(frame(PING, 0xfe, 0, b"\x001234567"));

    let pong = client.until("a pong", |f| f.kind == PING);
    assert_eq!((pong.flags, &pong.payload[..]), (ACK, &b"\x001234567"[..]));
}

#[test]
fn padding_fits_into_its_frame() {
    let head = block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "test")]);
    let padded = |pad: u8, rest: &[u8]| [&[pad][..], rest].concat();
    let ended = END_HEADERS | END_STREAM | PADDED;
    let length = head.len() as u8;
    Stage::new().play(vec![
        (
            "DATA: more than there is",
            all(&[post(1, "/", &[]), frame(DATA, PADDED, 1, padded(6, b"hello"))]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "DATA: as much as the frame",
            all(&[post(1, "/", &[]), frame(DATA, PADDED, 1, padded(255, b"hello"))]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "DATA: no length",
            all(&[post(1, "/", &[]), frame(DATA, PADDED, 1, b"")]),
            Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        (
            "DATA: nothing but padding",
            all(&[post(1, "/", &[]), frame(DATA, PADDED | END_STREAM, 1, padded(5, b"hello"))]),
            Served,
        ),
        (
            "HEADERS: more than there is",
            frame(HEADERS, ended, 1, padded(length + 1, &head)),
            Connection(&[PROTOCOL_ERROR]),
        ),
        (
            "HEADERS: no length",
            frame(HEADERS, ended, 1, b""),
            Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        (
            "HEADERS: no priority",
            frame(HEADERS, ended | PRIORITISED, 1, b"\0\0\0"),
            Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        ("HEADERS: some", frame(HEADERS, ended, 1, [padded(3, &head), vec![0; 3]].concat()), Served),
        (
            "HEADERS: some, and priority",
            frame(HEADERS, ended | PRIORITISED, 1, [&[3, 0, 0, 0, 0, 9][..], &head, &[0; 3]].concat()),
            Served,
        ),
        (
            "HEADERS: that is not zero",
            frame(HEADERS, ended, 1, [padded(3, &head), vec![7; 3]].concat()),
            Served,
        ),
    ]);
}

#[test]
fn a_field_block_goes_on_in_continuations_and_nothing_else() {
    let head = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")]);
    let (first, rest) = head.split_at(9);
    let (second, third) = rest.split_at(5);
    let begins = |flags| frame(HEADERS, flags, 1, first);
    let goes_on = |bytes| frame(CONTINUATION, 0, 1, bytes);
    let ends = |bytes| frame(CONTINUATION, END_HEADERS, 1, bytes);
    let wrong = || Connection(&[PROTOCOL_ERROR]);
    let between = |other: Vec<u8>| all(&[begins(END_STREAM), other, ends(rest)]);
    Stage::new().play(vec![
        ("one", all(&[begins(END_STREAM), ends(rest)]), Served),
        ("two", all(&[begins(END_STREAM), goes_on(second), ends(third)]), Served),
        ("an empty one", all(&[begins(END_STREAM), goes_on(b""), ends(rest)]), Served),
        ("an empty one at the end", all(&[frame(HEADERS, END_STREAM, 1, &head), ends(b"")]), Served),
        ("nothing in HEADERS", all(&[frame(HEADERS, END_STREAM, 1, b""), ends(&head)]), Served),
        ("unknown flags", all(&[begins(END_STREAM), frame(CONTINUATION, 0xff, 1, rest)]), Served),
        ("DATA between", between(frame(DATA, 0, 1, b"x")), wrong()),
        ("HEADERS between", between(get(3, "/")), wrong()),
        ("PRIORITY between", between(frame(PRIORITY, 0, 1, [0, 0, 0, 3, 1])), wrong()),
        ("RST_STREAM between", between(frame(RST_STREAM, 0, 1, [0, 0, 0, 8])), wrong()),
        ("SETTINGS between", between(frame(SETTINGS, 0, 0, b"")), wrong()),
        ("PING between", between(frame(PING, 0, 0, [0; 8])), wrong()),
        ("GOAWAY between", between(frame(GOAWAY, 0, 0, [0; 8])), wrong()),
        ("WINDOW_UPDATE between", between(frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1])), wrong()),
        ("an unknown frame between", between(frame(0xbb, 0, 0, b"x")), wrong()),
        ("of another stream", all(&[begins(END_STREAM), frame(CONTINUATION, END_HEADERS, 3, rest)]), wrong()),
        ("without HEADERS", frame(CONTINUATION, END_HEADERS, 1, &head), wrong()),
        ("after the block's end", all(&[post(1, "/wait", &[]), ends(rest)]), wrong()),
        ("after a continuation that ended it", all(&[begins(0), ends(rest), ends(rest)]), wrong()),
        ("after DATA", all(&[post(1, "/wait", &[]), frame(DATA, 0, 1, b"x"), ends(rest)]), wrong()),
        (
            "without end",
            all(&[begins(0), vec![0u8; 0], frame(CONTINUATION, 0, 1, b"").repeat(2000)]),
            Connection(&[ENHANCE_YOUR_CALM]),
        ),
    ]);
}

#[test]
fn what_is_unknown_is_ignored() {
    Stage::new().play(vec![
        ("a frame on stream 0", frame(0xbb, 0xff, 0, b"whatever"), Nothing),
        ("a frame on an idle stream", frame(0xbb, 0xff, 7, b"whatever"), Nothing),
        ("an empty frame", frame(0xbb, 0, 0, b""), Nothing),
        (
            "a frame in a body",
            all(&[post(1, "/", &[]), frame(0xbb, 0, 1, b"x"), frame(DATA, END_STREAM, 1, b"x")]),
            Served,
        ),
        ("flags of DATA", all(&[post(1, "/", &[]), frame(DATA, 0xf6 | END_STREAM, 1, b"x")]), Served),
        ("flags of PING", frame(PING, 0xfe, 0, [0; 8]), Nothing),
        ("flags of WINDOW_UPDATE", frame(WINDOW_UPDATE, 0xff, 0, [0, 0, 0, 1]), Nothing),
        (
            "flags of RST_STREAM",
            all(&[post(1, "/wait", &[]), frame(RST_STREAM, 0xff, 1, [0, 0, 0, 8])]),
            Nothing,
        ),
        (
            "an error code of RST_STREAM",
            all(&[post(1, "/wait", &[]), frame(RST_STREAM, 0, 1, [0xff; 4])]),
            Nothing,
        ),
        (
            "the reserved bit of a stream",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1 | 1 << 31,
                block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")]),
            ),
            Served,
        ),
        ("the reserved bit of an increment", frame(WINDOW_UPDATE, 0, 0, [0x80, 0, 0, 1]), Nothing),
        ("the priority of an idle stream", frame(PRIORITY, 0, 5, [0, 0, 0, 3, 1]), Nothing),
        ("the priority of a stream of ours", frame(PRIORITY, 0, 2, [0x80, 0, 0, 0, 255]), Nothing),
        ("PRIORITY_UPDATE (RFC 9218)", frame(0x10, 0, 0, b"\0\0\0\x01u=1"), Nothing),
    ]);
}

#[test]
fn a_client_that_goes_away_is_let_go() {
    let stage = Stage::new();
    for code in [NO_ERROR, 0xff] {
        let mut client = stage.client();
        client.send(get(1, "/"));
        assert_eq!(client.answer(1), 200);
        client.send(frame(GOAWAY, 0, 0, [&[0; 4][..], &code.to_be_bytes(), b"bye"].concat()));
        while client.next().is_some() {}
    }
}

#[test]
fn a_connection_begins_with_its_preface() {
    let stage = Stage::new();
    let settings = frame(SETTINGS, 0, 0, b"");
    for (name, bytes) in [
        ("another magic", [&PREFACE[..20], b"XX\r\n", &settings].concat()),
        ("a frame in place of it", settings.clone()),
    ] {
        let mut client = crate::support::Client::connect(stage.proxy.public());
        client.send(bytes);
        let said = client.rest();
        let is_refused = |status: &str| said.starts_with(format!("HTTP/1.1 {status} ").as_bytes());
        assert!(said.is_empty() || is_refused("400") || is_refused("505"), "{name}: {said:?}");
    }
    for (name, bytes) in [
        ("a request before SETTINGS", get(1, "/")),
        ("a ping before SETTINGS", frame(PING, 0, 0, [0; 8])),
        ("an acknowledgement before SETTINGS", frame(SETTINGS, ACK, 0, b"")),
        ("an unknown frame before SETTINGS", frame(0xbb, 0, 0, b"")),
    ] {
        stage.server.forget();
        let mut client = FrameClient::dial(stage.proxy.public());
        client.send([PREFACE, &bytes].concat());
        assert_eq!(goes_away(&mut client, &[PROTOCOL_ERROR]), Ok(()), "{name}");
        assert_eq!(stage.server.record().whole.len(), 0, "{name}");
    }
}

#[test]
fn clients_that_break_a_rule_are_counted() {
    let stage = Stage::new();
    let cases = [
        // Ours to find, and h2's.
        frame(PING, 0, 0, [0; 7]),
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80"),
    ];
    for (count, bytes) in cases.into_iter().enumerate() {
        let mut client = stage.client();
        client.send(bytes);
        while client.next().is_some() {}
        drop(client);
        crate::support::eventually("it is counted", || {
            let malformed = stage.proxy.metric("tidegate_refusals_total", &["reason=\"malformed\""]);
            malformed == (count + 1) as f64
        });
    }
}

#[test]
fn a_preface_may_come_in_pieces() {
    let stage = Stage::new();
    let mut client = FrameClient::dial(stage.proxy.public());
    for byte in [PREFACE, &frame(SETTINGS, 0, 0, b""), &get(1, "/")].concat() {
        client.send([byte]);
    }
    assert_eq!(client.answer(1), 200);
}

#[test]
fn under_tls_the_same_rules_hold() {
    let cert = crate::support::certs::Cert::of(&["test"]);
    let listener = format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = [{}]\n",
        cert.toml()
    );
    let stage = Stage::with(&listener, "");
    let connect = || FrameClient::connect_tls(stage.proxy.public(), "test", &cert.trust());

    assert_eq!(connect().get(1, "/"), 200);
    for (bytes, code) in [
        (frame(PING, 0, 0, [0; 7]), FRAME_SIZE_ERROR),
        (frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        (all(&[get(1, "/wait"), frame(RST_STREAM, 0, 1, [0; 4]), frame(DATA, 0, 1, b"x")]), STREAM_CLOSED),
    ] {
        let mut client = connect();
        client.send(bytes);
        assert_eq!(goes_away(&mut client, &[code]), Ok(()));
    }
    let mut client = connect();
    client.send(request(&[(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "test")]));
    let reset = first_word(&mut client).unwrap();
    assert_eq!((reset.kind, reset.code()), (RST_STREAM, PROTOCOL_ERROR));
    assert_eq!(client.get(3, "/"), 200);
}
