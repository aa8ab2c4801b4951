//! Frames: sections 3.4, 4.1, 4.2, 5.5 and 6.

use super::*;
use Told::*;

/// The reserved bit of a stream's number.
const RESERVED: u32 = 1 << 31;
/// The payload that everybody takes (section 4.2).
const MOST: usize = 16_384;

#[test]
fn what_is_reserved_is_ignored_in_every_frame() {
    let (first, rest) = GET.split_at(3);
    play(
        &Stage::new(),
        vec![
            ("DATA", all(&[begins(1, POST), data(1 | RESERVED, END_STREAM, "x")]), Answer(1, 200)),
            ("HEADERS", asks(1 | RESERVED, GET), Answer(1, 200)),
            (
                "CONTINUATION",
                all(&[
                    frame(HEADERS, END_STREAM, 1, first),
                    frame(CONTINUATION, END_HEADERS, 1 | RESERVED, rest),
                ]),
                Answer(1, 200),
            ),
            ("PRIORITY", priority(1 | RESERVED), Nothing),
            ("RST_STREAM", all(&[begins(1, POST), rst(1 | RESERVED)]), Nothing),
            ("SETTINGS", frame(SETTINGS, 0, RESERVED, b""), Nothing),
            ("PING", frame(PING, 0, RESERVED, [0; 8]), Nothing),
            ("WINDOW_UPDATE", grant(RESERVED, 1), Nothing),
            ("an increment of nothing but that bit", grant(0, RESERVED), GoAway(PROTOCOL_ERROR, 0)),
            // Section 5.3.2: the first bit of a dependency is no part of it.
            ("a dependency", frame(PRIORITY, 0, 1, [0x80, 0, 0, 3, 1]), Nothing),
        ],
    );
}

#[test]
fn flags_that_a_frame_has_no_use_for_are_ignored() {
    play(
        &Stage::new(),
        vec![
            ("HEADERS", frame(HEADERS, 0xd2 | END_HEADERS | END_STREAM, 1, GET), Answer(1, 200)),
            ("PRIORITY", frame(PRIORITY, 0xff, 1, [0, 0, 0, 0, 1]), Nothing),
            ("RST_STREAM", all(&[begins(1, POST), frame(RST_STREAM, 0xff, 1, [0, 0, 0, 8])]), Nothing),
            ("PING", frame(PING, PADDED | END_HEADERS, 0, [0; 8]), Nothing),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0xff, 0, [0, 0, 0, 1]), Nothing),
            ("SETTINGS", frame(SETTINGS, PADDED | END_HEADERS, 0, setting(4, 70_000)), Nothing),
            // Neither ends its stream: only DATA and HEADERS can.
            (
                "CONTINUATION does not end a stream",
                all(&[
                    frame(HEADERS, 0, 1, &POST[..3]),
                    frame(CONTINUATION, END_HEADERS | END_STREAM, 1, &POST[3..]),
                    data(1, END_STREAM, "x"),
                ]),
                Answer(1, 200),
            ),
        ],
    );
}

#[test]
fn a_frame_is_as_large_as_may_be_and_no_larger() {
    let padded = |block: &[u8]| {
        let mut block = block.to_vec();
        let value = MOST - block.len() - 6;
        block.extend(b"\x00\x01x");
        integer(&mut block, 0, 7, value);
        block.extend(vec![b'a'; value]);
        assert_eq!(block.len(), MOST);
        block
    };
    let (begin, rest) = GET.split_at(3);
    let unknown: Vec<u8> = (0..MOST / 6).flat_map(|_| setting(0xff, 0)).collect();
    let large = |kind, stream| frame(kind, END_HEADERS, stream, [0; MOST + 1]);
    let stage = Stage::new();
    play(
        &stage,
        vec![
            ("DATA", all(&[begins(1, POST), data(1, END_STREAM, [b'x'; MOST])]), Answer(1, 200)),
            ("HEADERS", asks(1, &padded(GET)), Answer(1, 200)),
            (
                "CONTINUATION",
                all(&[
                    frame(HEADERS, END_STREAM, 1, begin),
                    frame(CONTINUATION, END_HEADERS, 1, padded(rest)),
                ]),
                Answer(1, 200),
            ),
            ("SETTINGS", frame(SETTINGS, 0, 0, unknown), Nothing),
            ("an unknown frame", frame(0xbb, 0, 0, [0; MOST]), Nothing),
            ("DATA, larger", all(&[begins(1, GET_WAIT), large(DATA, 1)]), GoAway(FRAME_SIZE_ERROR, 1)),
            ("HEADERS, larger", large(HEADERS, 1), GoAway(FRAME_SIZE_ERROR, 0)),
            ("trailers, larger", all(&[begins(1, GET_WAIT), large(HEADERS, 1)]), GoAway(FRAME_SIZE_ERROR, 1)),
            (
                "CONTINUATION, larger",
                all(&[frame(HEADERS, 0, 1, begin), large(CONTINUATION, 1)]),
                GoAway(FRAME_SIZE_ERROR, 0),
            ),
            ("PRIORITY, larger", large(PRIORITY, 1), GoAway(FRAME_SIZE_ERROR, 0)),
            (
                "RST_STREAM, larger",
                all(&[asks(1, GET_WAIT), large(RST_STREAM, 1)]),
                GoAway(FRAME_SIZE_ERROR, 1),
            ),
            ("SETTINGS, larger", large(SETTINGS, 0), GoAway(FRAME_SIZE_ERROR, 0)),
            ("PING, larger", large(PING, 0), GoAway(FRAME_SIZE_ERROR, 0)),
            ("GOAWAY, larger", large(GOAWAY, 0), GoAway(FRAME_SIZE_ERROR, 0)),
            ("WINDOW_UPDATE, larger", large(WINDOW_UPDATE, 0), GoAway(FRAME_SIZE_ERROR, 0)),
            ("an unknown frame, larger", large(0xbb, 0), GoAway(FRAME_SIZE_ERROR, 0)),
            // Nobody waits for what will not be taken.
            ("a header alone", framed(0xff_ffff, DATA, 0, 1, b""), GoAway(FRAME_SIZE_ERROR, 0)),
            ("the preface once more", PREFACE.to_vec(), GoAway(FRAME_SIZE_ERROR, 0)),
        ],
    );
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

#[test]
fn a_frame_has_the_size_of_its_kind() {
    let stage = Stage::new();
    let size = |last| GoAway(FRAME_SIZE_ERROR, last);
    let spoilt = |kind, bytes: usize| all(&[asks(1, GET_WAIT), frame(kind, 0, 1, vec![0; bytes])]);
    let mut cases = Vec::new();
    for bytes in [0, 1, 3, 5, 8, 256] {
        cases.push(("RST_STREAM", spoilt(RST_STREAM, bytes), size(1)));
        cases.push(("a stream's WINDOW_UPDATE", spoilt(WINDOW_UPDATE, bytes), size(1)));
        cases.push(("the connection's WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, vec![0; bytes]), size(0)));
    }
    for bytes in [0, 1, 7, 9, 16] {
        cases.push(("PING", frame(PING, 0, 0, vec![0; bytes]), size(0)));
        cases.push(("a pong", frame(PING, ACK, 0, vec![0; bytes]), size(0)));
    }
    for bytes in [1, 5, 7, 11, 13] {
        cases.push(("SETTINGS", frame(SETTINGS, 0, 0, vec![0; bytes]), size(0)));
    }
    for bytes in [1, 6, 12] {
        cases.push(("an acknowledgement", frame(SETTINGS, ACK, 0, vec![0; bytes]), size(0)));
    }
    for bytes in [0, 4, 7] {
        cases.push(("GOAWAY", frame(GOAWAY, 0, 0, vec![0; bytes]), size(0)));
    }
    // Section 6.3: of the stream, where there is one.
    for bytes in [0, 4, 6, 10] {
        cases.push(("PRIORITY", spoilt(PRIORITY, bytes), Reset(1, FRAME_SIZE_ERROR)));
    }
    play(&stage, cases);
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

#[test]
fn a_frame_of_the_connection_is_on_no_stream_and_one_of_a_stream_on_none_but_its_own() {
    let stage = Stage::new();
    let on = |stream, kind, flags, payload: &[u8]| {
        all(&[begins(1, GET_WAIT), frame(kind, flags, stream, payload)])
    };
    let wrong = || GoAway(PROTOCOL_ERROR, 1);
    play(
        &stage,
        vec![
            ("SETTINGS on an open stream", on(1, SETTINGS, 0, &setting(4, 1)), wrong()),
            ("an acknowledgement on an open stream", on(1, SETTINGS, ACK, b""), wrong()),
            ("PING on an open stream", on(1, PING, 0, &[0; 8]), wrong()),
            ("a pong on an open stream", on(1, PING, ACK, &[0; 8]), wrong()),
            ("GOAWAY on an open stream", on(1, GOAWAY, 0, &[0; 8]), wrong()),
            ("GOAWAY on an idle stream", on(3, GOAWAY, 0, &[0; 8]), wrong()),
            ("DATA on stream 0", on(0, DATA, 0, b"x"), wrong()),
            ("padded DATA on stream 0", on(0, DATA, PADDED, b"\0x"), wrong()),
            ("HEADERS on stream 0", on(0, HEADERS, END_HEADERS, GET), wrong()),
            ("PRIORITY on stream 0", on(0, PRIORITY, 0, &[0, 0, 0, 1, 1]), wrong()),
            ("RST_STREAM on stream 0", on(0, RST_STREAM, 0, &[0; 4]), wrong()),
            ("CONTINUATION on stream 0", on(0, CONTINUATION, END_HEADERS, b""), wrong()),
            ("PUSH_PROMISE on stream 0", on(0, PUSH_PROMISE, END_HEADERS, b"\0\0\0\x02\x82"), wrong()),
            ("PUSH_PROMISE on an open stream", on(1, PUSH_PROMISE, END_HEADERS, b"\0\0\0\x02\x82"), wrong()),
        ],
    );
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

#[test]
fn padding_leaves_room_for_what_a_frame_must_have() {
    let stage = Stage::new();
    let padded_priority = PADDED | PRIORITISED | END_HEADERS | END_STREAM;
    let body = |flags, bytes: &[u8]| all(&[begins(1, POST), data(1, flags | PADDED | END_STREAM, bytes)]);
    let head = |bytes: &[u8]| frame(HEADERS, padded_priority, 1, bytes);
    play(
        &stage,
        vec![
            ("DATA: all but its length", body(0, &[&[4][..], &[0; 4]].concat()), Answer(1, 200)),
            ("DATA: none", body(0, b"\0abc"), Answer(1, 200)),
            ("DATA: a length alone", body(0, b"\0"), Answer(1, 200)),
            ("DATA: a byte more than there is", body(0, b"\x04abc"), GoAway(PROTOCOL_ERROR, 1)),
            ("DATA: a length alone that is not 0", body(0, b"\x01"), GoAway(PROTOCOL_ERROR, 1)),
            ("DATA: no length", body(0, b""), GoAway(FRAME_SIZE_ERROR, 1)),
            ("HEADERS: into the priority", head(b"\x01\0\0\0\0\x01"), GoAway(PROTOCOL_ERROR, 0)),
            (
                "HEADERS: more than there is",
                head(&[&[255, 0, 0, 0, 0, 1], GET].concat()),
                GoAway(PROTOCOL_ERROR, 0),
            ),
            ("HEADERS: some", head(&[&[2, 0, 0, 0, 0, 1], GET, b"\0\0"].concat()), Answer(1, 200)),
            (
                "HEADERS: a byte of its block",
                frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, [b"\x01", GET].concat()),
                // What is left is a string that ends too early.
                GoAway(COMPRESSION_ERROR, 0),
            ),
            (
                "trailers: more than there is",
                all(&[begins(1, POST), frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, b"\x09x")]),
                GoAway(PROTOCOL_ERROR, 1),
            ),
        ],
    );
}

#[test]
fn frames_of_extensions_are_ignored_wherever_they_come() {
    let stage = Stage::new();
    let mut cases = Vec::new();
    // ALTSVC, ORIGIN, PRIORITY_UPDATE, and what is not known to anybody.
    for kind in [0x0a, 0x0c, 0x10, 0xf0, 0xff] {
        cases.extend([
            ("on stream 0", frame(kind, 0xff, 0, [0; 20]), Nothing),
            ("on an idle stream", frame(kind, 0xff, 3, [0; 20]), Nothing),
            ("on a stream of ours", frame(kind, 0xff, 2, [0; 20]), Nothing),
            (
                "in a body",
                all(&[begins(1, POST), frame(kind, 0xff, 1, [0; 20]), data(1, END_STREAM, "x")]),
                Answer(1, 200),
            ),
            (
                "on a stream that was reset",
                all(&[begins(1, POST), rst(1), frame(kind, 0xff, 1, [0; 20])]),
                Nothing,
            ),
            (
                "within a field block",
                all(&[
                    frame(HEADERS, END_STREAM, 1, &GET[..2]),
                    frame(kind, 0, 1, b""),
                    frame(CONTINUATION, END_HEADERS, 1, &GET[2..]),
                ]),
                GoAway(PROTOCOL_ERROR, 0),
            ),
        ]);
    }
    play(&stage, cases);
}

#[test]
fn a_server_says_hello_first_with_settings() {
    let stage = Stage::new();
    let mut client = FrameClient::dial(stage.proxy.public());
    client.send(PREFACE);

    let hello = client.next().unwrap();
    assert_eq!((hello.kind, hello.flags, hello.stream), (SETTINGS, 0, 0));
    assert_eq!(hello.payload.len() % 6, 0);
    // Nothing that only a client may say (section 6.5.2), nothing out of its range.
    for one in hello.payload.chunks(6) {
        let (id, value) =
            (u16::from_be_bytes([one[0], one[1]]), u32::from_be_bytes(*one.last_chunk().unwrap()));
        assert!(
            match id {
                2 => value == 0,
                4 => value < 1 << 31,
                5 => (1 << 14..1 << 24).contains(&value),
                _ => true,
            },
            "{id}: {value}"
        );
    }
}

#[test]
fn a_preface_with_one_byte_changed_is_none() {
    let stage = Stage::new();
    for place in 0..PREFACE.len() {
        let mut preface = PREFACE.to_vec();
        preface[place] ^= 0x20;
        let mut client = crate::support::Client::connect(stage.proxy.public());
        client.send([&preface, &frame(SETTINGS, 0, 0, b"")[..], &asks(1, GET)].concat());

        let said = client.rest();
        let is_refusal = said.starts_with(b"HTTP/1.1 4") || said.starts_with(b"HTTP/1.1 5");
        assert!(said.is_empty() || is_refusal, "{place}: {said:?}");
    }
    let record = stage.server.record();
    assert_eq!((record.whole.len(), record.broken.len()), (0, 0));
}

#[test]
fn what_is_no_protocol_of_ours_is_closed_without_a_word() {
    let stage = Stage::new();
    for bytes in [&b"INVALID CONNECTION PREFACE\r\n\r\n"[..], b"HELO mail example\r\n"] {
        let mut client = crate::support::Client::connect(stage.proxy.public());
        client.send(bytes);

        assert_eq!(client.rest(), b"", "{:?}", String::from_utf8_lossy(bytes));
    }
    let malformed = || stage.proxy.metric("tidegate_refusals_total", &["reason=\"malformed\""]);
    crate::support::eventually("both are counted", || malformed() == 2.0);
}

#[test]
fn whoever_was_promised_http_2_and_says_something_else_is_sent_away() {
    let cert = crate::support::certs::Cert::of(&["test"]);
    let listener = format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n[listener.tls]\ncertificates = [{}]\n",
        cert.toml()
    );
    let stage = Stage::with(&listener, "");
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
        b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec(),
        [&PREFACE[..23], b"X"].concat(),
        asks(1, GET),
    ] {
        let mut client = FrameClient::dial_tls(stage.proxy.public(), "test", &cert.trust());
        client.send(&bytes);

        // Section 3.4: GOAWAY may be left out. No frame but those of a server, and no answer.
        while let Some(frame) = client.next() {
            let is_fair = match frame.kind {
                GOAWAY => frame.code() == PROTOCOL_ERROR && last_of(&frame) == 0,
                kind => kind == SETTINGS || kind == WINDOW_UPDATE,
            };
            assert!(is_fair, "{frame:?}");
        }
    }
    assert_eq!(stage.server.record().whole.len(), 0);
}
