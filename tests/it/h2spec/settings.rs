//! SETTINGS (sections 6.5.1 to 6.5.3), and what they change in what we send (RFC 7541 section 4.2).

use super::*;
use Told::*;

const HEADER_TABLE_SIZE: u16 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The settings of one frame.
type Pairs<'a> = &'a [(u16, u32)];

fn settings(pairs: Pairs) -> Vec<u8> {
    let pairs: Vec<u8> = pairs.iter().flat_map(|(id, value)| setting(*id, *value)).collect();
    frame(SETTINGS, 0, 0, pairs)
}

#[test]
fn each_settings_is_acknowledged_once_and_in_its_turn() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.until("the first acknowledgement", |f| f.kind == SETTINGS && f.flags & ACK != 0);
    client.ping();

    client.send(all(&[
        settings(&[(INITIAL_WINDOW_SIZE, 1)]),
        settings(&[]),
        frame(SETTINGS, ACK, 0, b""),
        settings(&[(0xff, 1)]),
        frame(PING, 0, 0, b"the last"),
    ]));
    let mut acknowledged = 0;
    loop {
        let frame = client.until("what was said", |f| f.kind == SETTINGS || f.kind == PING);
        if frame.kind == PING {
            assert_eq!((frame.flags, &frame.payload[..]), (ACK, &b"the last"[..]));
            break;
        }
        assert_eq!((frame.flags & ACK, frame.stream, frame.payload.len()), (ACK, 0, 0));
        acknowledged += 1;
    }
    assert_eq!(acknowledged, 3);
}

#[test]
fn pings_are_answered_in_their_order() {
    let stage = Stage::new();
    let mut client = stage.client();
    let said = |n: u64| n.wrapping_mul(0x0123_4567_89ab_cdef).to_be_bytes();
    let pings: Vec<u8> = (0..50).flat_map(|n| frame(PING, 0, 0, said(n))).collect();
    client.send(pings);

    for n in 0..50 {
        let pong = client.until("a pong", |f| f.kind == PING);
        assert_eq!((pong.flags, pong.stream, &pong.payload[..]), (ACK, 0, &said(n)[..]));
    }
}

#[test]
fn settings_hold_for_what_comes_behind_them_and_bad_ones_end_the_connection() {
    let stage = Stage::new();
    let after = |pairs: Pairs| all(&[asks(1, GET_WAIT), settings(pairs)]);
    let then = |pairs: Pairs| all(&[settings(pairs), asks(1, GET)]);
    play(
        &stage,
        vec![
            ("ENABLE_PUSH of 2", after(&[(2, 2)]), GoAway(PROTOCOL_ERROR, 1)),
            ("ENABLE_PUSH of 2^32 - 1", after(&[(2, u32::MAX)]), GoAway(PROTOCOL_ERROR, 1)),
            ("a bad one behind good ones", after(&[(1, 0), (4, 9), (2, 3)]), GoAway(PROTOCOL_ERROR, 1)),
            ("a bad one before a good one", after(&[(2, 3), (2, 0)]), GoAway(PROTOCOL_ERROR, 1)),
            ("a window of 2^31", after(&[(4, 1 << 31)]), GoAway(FLOW_CONTROL_ERROR, 1)),
            ("frames of 16383 bytes", after(&[(5, 16_383)]), GoAway(PROTOCOL_ERROR, 1)),
            ("frames of 2^24 bytes", after(&[(5, 1 << 24)]), GoAway(PROTOCOL_ERROR, 1)),
            ("frames of 2^24 - 1 bytes", then(&[(MAX_FRAME_SIZE, (1 << 24) - 1)]), Answer(1, 200)),
            ("the largest window", then(&[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]), Answer(1, 200)),
            ("no streams of ours", then(&[(MAX_CONCURRENT_STREAMS, 0)]), Answer(1, 200)),
            ("no fields at all, as an advice", then(&[(MAX_HEADER_LIST_SIZE, 0)]), Answer(1, 200)),
            ("push, which we never do", then(&[(2, 1)]), Answer(1, 200)),
            ("no table", then(&[(HEADER_TABLE_SIZE, 0)]), Answer(1, 200)),
            ("the largest table", then(&[(HEADER_TABLE_SIZE, u32::MAX)]), Answer(1, 200)),
        ],
    );
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

/// The bytes with which the block of the next response says the size of our table.
fn sizes_said(client: &mut FrameClient, stream: u32) -> Vec<u8> {
    client.send(asks(stream, GET));
    let head = client.until("an answer", |f| f.kind == HEADERS && f.stream == stream);
    let is_size = |byte: u8| byte & 0xe0 == 0x20;
    let mut said = Vec::new();
    let mut rest = &head.payload[..];
    while let [first, behind @ ..] = rest
        && is_size(*first)
    {
        let more =
            if first & 0x1f < 0x1f { 0 } else { 1 + behind.iter().take_while(|b| **b >= 0x80).count() };
        let (one, left) = rest.split_at(1 + more);
        said.extend(one);
        rest = left;
    }
    said
}

#[test]
fn the_size_of_our_table_is_said_when_the_client_has_changed_it() {
    let stage = Stage::new();
    let small = [0x3f, 100 - 31];
    let usual = [0x3f, 0xe1, 0x1f];
    // SETTINGS, frame by frame; what the block behind them begins with.
    let cases: [(&[Pairs], &[u8]); 7] = [
        (&[&[(HEADER_TABLE_SIZE, 4096)]], &[]),
        (&[&[(HEADER_TABLE_SIZE, 0)]], &[0x20]),
        (&[&[(HEADER_TABLE_SIZE, 100)]], &small),
        (&[&[(HEADER_TABLE_SIZE, 0)], &[(HEADER_TABLE_SIZE, 4096)]], &[0x20, 0x3f, 0xe1, 0x1f]),
        (&[&[(HEADER_TABLE_SIZE, 0), (HEADER_TABLE_SIZE, 4096)]], &[0x20, 0x3f, 0xe1, 0x1f]),
        (&[&[(HEADER_TABLE_SIZE, 100), (INITIAL_WINDOW_SIZE, 9), (HEADER_TABLE_SIZE, 0)]], &[0x20]),
        // RFC 9113 section 4.3.1: less than before must be said, also where we used less.
        (&[&[(HEADER_TABLE_SIZE, 65_536)], &[(HEADER_TABLE_SIZE, 4096)]], &usual),
    ];
    for (frames, expected) in cases {
        let mut client = stage.client();
        // There is something in the table.
        assert_eq!((sizes_said(&mut client, 1), sizes_said(&mut client, 3)), (vec![], vec![]));
        for pairs in frames {
            client.send(settings(pairs));
        }

        assert_eq!(sizes_said(&mut client, 5), expected, "{frames:?}");
        assert!(sizes_said(&mut client, 7).is_empty(), "{frames:?}: once is enough");
    }
}

#[test]
fn a_client_without_a_table_is_sent_nothing_that_needs_one() {
    let stage = Stage::new();
    let mut client = FrameClient::dial(stage.proxy.public()).greet(&setting(HEADER_TABLE_SIZE, 0));
    for stream in [1, 3, 5] {
        client.send(asks(stream, GET));
        let head = client.until("an answer", |f| f.kind == HEADERS && f.stream == stream);
        let block = head.payload.strip_prefix(b"\x20").unwrap_or(&head.payload);
        let mut rest = block;
        while let [first, behind @ ..] = rest {
            // An indexed field of the static table is one byte below 0x80 + 62; nothing else is kept or was.
            rest = match first {
                0x80.. => {
                    assert!((0x81..0x80 + 62).contains(first), "{head:?}");
                    behind
                }
                0x40..0x80 => panic!("kept in a table of no bytes: {head:?}"),
                _ => after_literal(rest),
            };
        }
    }
}

/// What is behind a literal whose name's index has four bits (RFC 7541 sections 6.2.2 and 6.2.3).
fn after_literal(block: &[u8]) -> &[u8] {
    let (mut index, mut rest) = (usize::from(block[0] & 0x0f), &block[1..]);
    if index == 15 {
        assert!(rest[0] < 0x80);
        (index, rest) = (15 + usize::from(rest[0]), &rest[1..]);
    }
    assert!(index < 62, "a name of a table of no bytes: {block:?}");
    for _ in 0..if index == 0 { 2 } else { 1 } {
        let length = usize::from(rest[0] & 0x7f);
        assert!(length < 127);
        rest = &rest[1 + length..];
    }
    rest
}
