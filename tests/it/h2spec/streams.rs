//! Streams (sections 5.1, 5.1.1, 5.1.2, 5.4 and 6.8): what each frame means to one in each state, and which was the last.

use crate::support::eventually;

use super::*;
use Told::*;

#[test]
fn the_last_stream_of_a_goaway_is_the_highest_that_something_was_done_for() {
    let stage = Stage::new();
    let ping = || frame(PING, 0, 0, [0; 7]);
    let wait = |stream| asks(stream, GET_WAIT);
    play(
        &stage,
        vec![
            ("none", ping(), GoAway(FRAME_SIZE_ERROR, 0)),
            ("one that waits", all(&[wait(1), ping()]), GoAway(FRAME_SIZE_ERROR, 1)),
            ("several", all(&[wait(1), wait(3), wait(77), ping()]), GoAway(FRAME_SIZE_ERROR, 77)),
            ("one whose body is to come", all(&[begins(5, GET_WAIT), ping()]), GoAway(FRAME_SIZE_ERROR, 5)),
            (
                "one that its client has reset",
                all(&[wait(1), wait(3), rst(3), ping()]),
                GoAway(FRAME_SIZE_ERROR, 3),
            ),
            ("not an idle one", all(&[wait(1), data(9, 0, "x")]), GoAway(PROTOCOL_ERROR, 1)),
            ("not one of ours", all(&[wait(1), data(2, 0, "x")]), GoAway(PROTOCOL_ERROR, 1)),
            ("not one with an even number", all(&[wait(1), asks(4, GET)]), GoAway(PROTOCOL_ERROR, 1)),
            ("not a priority", all(&[wait(1), priority(99), ping()]), GoAway(FRAME_SIZE_ERROR, 1)),
            (
                "not one that cannot be decoded",
                all(&[wait(1), asks(3, b"\x80")]),
                GoAway(COMPRESSION_ERROR, 1),
            ),
            (
                "not half a head",
                all(&[wait(1), frame(HEADERS, END_STREAM, 3, &GET[..2]), frame(PING, 0, 0, [0; 8])]),
                GoAway(PROTOCOL_ERROR, 1),
            ),
            (
                "one whose trailers cannot be decoded",
                all(&[begins(1, GET_WAIT), asks(1, b"\x80")]),
                GoAway(COMPRESSION_ERROR, 1),
            ),
            ("the higher, if a lower one follows", all(&[wait(5), asks(3, GET)]), GoAway(PROTOCOL_ERROR, 5)),
            (
                "the highest there can be",
                all(&[wait(0x7fff_ffff), ping()]),
                GoAway(FRAME_SIZE_ERROR, 0x7fff_ffff),
            ),
        ],
    );
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

#[test]
fn a_new_stream_closes_all_idle_ones_below_it() {
    let stage = Stage::new();
    let skipped = |then: Vec<u8>| all(&[asks(5, GET_WAIT), then]);
    play(
        &stage,
        vec![
            ("HEADERS", skipped(asks(3, GET)), GoAway(PROTOCOL_ERROR, 5)),
            ("HEADERS, and a body to come", skipped(begins(1, POST)), GoAway(PROTOCOL_ERROR, 5)),
            ("DATA", skipped(data(3, 0, "x")), GoAway(STREAM_CLOSED, 5)),
            ("PRIORITY", skipped(priority(3)), Nothing),
            ("WINDOW_UPDATE", skipped(grant(3, 1)), Nothing),
            // A priority opens nothing (section 5.1).
            ("after a priority of a higher one", all(&[priority(7), asks(1, GET)]), Answer(1, 200)),
            // And it, all there are.
            (
                "behind the highest there can be",
                all(&[asks(0x7fff_ffff, GET_WAIT), asks(0x7fff_fffd, GET)]),
                GoAway(PROTOCOL_ERROR, 0x7fff_ffff),
            ),
        ],
    );
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

#[test]
fn a_stream_that_we_have_reset_is_let_end_in_peace() {
    let stage = Stage::new();
    // Without :path; the client may not know yet, and sends on.
    let spoilt: &[u8] = b"\x83\x86\x01\x04test";
    let after = |then: Vec<u8>| all(&[begins(1, spoilt), then]);
    let reset = || Reset(1, PROTOCOL_ERROR);
    play(
        &stage,
        vec![
            ("DATA", after(data(1, 0, "x")), reset()),
            ("a whole body", after(all(&[data(1, 0, "x"), data(1, END_STREAM, "y")])), reset()),
            ("trailers", after(all(&[data(1, 0, "x"), asks(1, b"\x00\x01x\x011")])), reset()),
            ("more than its window", after(data(1, 0, [0; 16_384]).repeat(17)), reset()),
            ("a length that is not kept", after(data(1, END_STREAM, "")), reset()),
            ("WINDOW_UPDATE", after(grant(1, 1)), reset()),
            ("WINDOW_UPDATE beyond all", after(grant(1, 0x7fff_ffff).repeat(3)), reset()),
            ("RST_STREAM", after(rst(1)), reset()),
            ("PRIORITY", after(priority(1)), reset()),
            // Even so the table is kept in step.
            (
                "trailers that leave something in the table",
                after(all(&[asks(1, b"\x40\x01x\x011"), asks(3, &[GET, b"\xbe"].concat())])),
                reset(),
            ),
        ],
    );
}

#[test]
fn a_stream_is_reset_once_however_much_follows() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(all(&[
        begins(1, b"\x83\x86\x01\x04test"),
        data(1, 0, "x").repeat(20),
        data(1, END_STREAM, "x"),
    ]));
    client.send(frame(PING, 0, 0, b"whatever"));

    let mut resets = 0;
    loop {
        let frame = client.until("a pong", |f| f.kind == PING || f.stream == 1);
        match frame.kind {
            PING => break,
            RST_STREAM => resets += 1,
            kind => panic!("{kind}: {frame:?}"),
        }
    }
    assert_eq!(resets, 1);
}

#[test]
fn an_answer_before_the_end_of_its_request_lets_the_client_stop() {
    let stage = Stage::new();
    for (name, asked) in [
        (
            "refused by us",
            block(&[(":method", "POST"), (":scheme", "http"), (":path", "/.."), (":authority", "test")]),
        ),
        (
            "by its host",
            block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a,b")]),
        ),
    ] {
        let mut client = stage.client();
        client.send(begins(1, &asked));

        assert_eq!(client.answer(1), 400, "{name}");
        // Section 8.1: a whole response, and then NO_ERROR.
        let reset = client.until("a reset", |f| f.stream == 1);
        assert_eq!((reset.kind, reset.code()), (RST_STREAM, NO_ERROR), "{name}");
        assert_eq!(goes_on(&mut client), Ok(()), "{name}");
    }
}

#[test]
fn a_stream_makes_room_for_another_when_it_has_ended_however_it_did() {
    let stage = Stage::with("[limits]\nhttp2-streams = 2", "");
    for (name, end) in [
        ("reset by its client", all(&[asks(3, GET_WAIT), rst(3)])),
        ("malformed", asks(3, b"\x82\x86\x01\x04test")),
        ("spoilt by its trailers", all(&[begins(3, GET_WAIT), begins(3, b"\x00\x01x\x011")])),
        ("spoilt by its window", all(&[asks(3, GET_WAIT), grant(3, 0)])),
        ("refused", asks(3, b"\x82\x86\x04\x03/..\x01\x04test")),
    ] {
        let mut client = stage.client();
        client.send(all(&[asks(1, GET_WAIT), end]));
        client.ping();

        assert_eq!(client.get(5, "/"), 200, "{name}");
        assert_eq!(client.get(7, "/"), 200, "{name}");
    }
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

#[test]
fn a_stream_beyond_the_limit_is_refused_and_not_opened_again() {
    let stage = Stage::with("[limits]\nhttp2-streams = 1", "");
    let full = |then: Vec<u8>| all(&[asks(1, GET_WAIT), then]);
    let refused = |then: Vec<u8>| {
        let mut client = stage.client();
        client.send(full(begins(3, POST)));
        let reset = client.until("a refusal", |f| f.kind == RST_STREAM);
        assert_eq!((reset.stream, reset.code()), (3, REFUSED_STREAM));
        client.send(then);
        client
    };
    // What was under way does no harm.
    for then in [
        data(3, 0, "x"),
        data(3, END_STREAM, "x"),
        asks(3, b"\x00\x01x\x011"),
        rst(3),
        grant(3, 1),
        priority(3),
    ] {
        let mut client = refused(then);
        client.ping();
        client.send(rst(1));
        assert_eq!(client.get(5, "/"), 200);
    }
    // Its number is used up.
    let mut client = refused(all(&[data(3, END_STREAM, ""), asks(3, GET)]));
    assert_eq!(goes_away(&mut client, STREAM_CLOSED, 3), Ok(()));
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

#[test]
fn a_client_that_leaves_is_served_to_the_end_of_what_it_asked() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(all(&[asks(1, GET_WAIT), begins(3, POST)]));
    client.send(frame(GOAWAY, 0, 0, [&[0; 8][..], b"bye"].concat()));
    client.send(data(3, END_STREAM, "x"));
    eventually("both have arrived", || stage.server.record().whole.len() == 2);
    assert!(!stage.server.gate().is_open());
    stage.server.open();

    let mut left = vec![1, 3];
    while let Some(frame) = client.next() {
        assert!(frame.kind != GOAWAY || frame.code() == NO_ERROR, "{frame:?}");
        if frame.kind < 2 && frame.flags & END_STREAM != 0 {
            left.retain(|stream| *stream != frame.stream);
        }
    }
    assert!(left.is_empty(), "the connection ended before {left:?} did");
}

#[test]
fn a_head_alone_answers_head() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(asks(1, b"\x02\x04HEAD\x86\x84\x01\x04test"));

    assert_eq!(client.body(1), (200, Vec::new()));
}
