//! Field blocks (section 4.3, and RFC 7541 whole): what they may be, and what ends the connection, to the byte.

use super::*;
use Told::*;

fn with(behind: &[u8]) -> Vec<u8> {
    asks(1, &[GET, behind].concat())
}

fn behind(before: &[u8]) -> Vec<u8> {
    asks(1, &[before, GET].concat())
}

/// `x-a: 1`, and where a block of several has it: 36 bytes of a table each.
fn kept(name: u8) -> [u8; 7] {
    [0x40, 3, b'x', b'-', name, 1, b'1']
}

#[test]
fn a_block_that_cannot_be_decoded_is_a_compression_error() {
    let mut cases: Vec<Case> = [
        ("index 0", &b"\x80"[..]),
        ("index 62 of an empty table", b"\xbe"),
        ("index 127", b"\xff\x00"),
        ("an index of 2^28", b"\xff\x81\xff\xff\x7f"),
        ("index 2^32", b"\xff\x81\xff\xff\xff\x0f"),
        ("an index of many zeros", b"\xff\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
        ("a name at 62, to be kept", b"\x7e\x011"),
        ("a name at 62, not to be kept", b"\x0f\x2f\x011"),
        ("a name at 62, never to be kept", b"\x1f\x2f\x011"),
        ("an integer cut off", b"\xff\x80"),
        ("a name's index cut off", b"\x7f"),
        ("a literal without anything", b"\x40"),
        ("a literal without a value", b"\x00\x01x"),
        ("a name cut off", b"\x00\x03xy"),
        ("a value cut off", b"\x00\x01x\x03ab"),
        ("a value's length cut off", b"\x00\x01x\x7f"),
        ("a value of 2^31 bytes", b"\x00\x01x\x7f\x81\xff\xff\xff\x07"),
        ("a Huffman value cut off", b"\x00\x01x\x84\x1f"),
        ("a size behind a field", b"\x20"),
        ("the same size behind a field", b"\x3f\xe1\x1f"),
        ("Huffman: a byte of padding", b"\x00\x01x\x81\xff"),
        ("Huffman: a byte of padding behind a symbol", b"\x00\x01x\x82\x1f\xff"),
        ("Huffman: padding of zeros", b"\x00\x01x\x81\x18"),
        ("Huffman: padding of ones and a zero", b"\x00\x01x\x81\x1e"),
        ("Huffman: the end of a string", b"\x00\x01x\x84\xff\xff\xff\xff"),
        ("Huffman: the end of a string, padded", b"\x00\x01x\x84\xff\xff\xff\xfc"),
        ("Huffman: the end of a string within", b"\x00\x01x\x85\x1f\xff\xff\xff\xe3"),
        ("Huffman: in a name", b"\x00\x81\xff\x011"),
    ]
    .map(|(name, field)| (name, with(field), GoAway(COMPRESSION_ERROR, 0)))
    .into();
    cases.extend(
        [
            ("a table of 4097 bytes", &b"\x3f\xe2\x1f"[..]),
            ("a table of 2^32 bytes", b"\x3f\xe1\xff\xff\xff\x0f"),
            ("a table's size cut off", b"\x3f"),
            ("a table of many zeros", b"\x3f\x80\x80\x80\x80\x80\x80\x00"),
            // RFC 7541 section 4.2: two at most, the smallest and the last.
            ("three sizes", b"\x20\x20\x3f\xe1\x1f"),
        ]
        .map(|(name, size)| (name, behind(size), GoAway(COMPRESSION_ERROR, 0))),
    );
    play(&Stage::new(), cases);
}

#[test]
fn whatever_becomes_of_a_stream_its_blocks_are_decoded() {
    let stage = Stage::with("[limits]\nhttp2-streams = 1", "");
    let bad = b"\x80";
    play(
        &stage,
        vec![
            (
                "of a stream beyond the limit",
                all(&[asks(1, GET_WAIT), asks(3, bad)]),
                GoAway(COMPRESSION_ERROR, 1),
            ),
            ("trailers", all(&[begins(1, GET_WAIT), asks(1, bad)]), GoAway(COMPRESSION_ERROR, 1)),
            (
                "trailers that do not end",
                all(&[begins(1, GET_WAIT), begins(1, bad)]),
                GoAway(COMPRESSION_ERROR, 1),
            ),
            (
                "in a continuation",
                all(&[
                    frame(HEADERS, END_STREAM, 1, &GET[..4]),
                    frame(CONTINUATION, END_HEADERS, 1, [&GET[4..], bad].concat()),
                ]),
                GoAway(COMPRESSION_ERROR, 0),
            ),
            (
                "behind what is malformed",
                asks(1, &[&b"\x00\x01X\x011"[..], bad].concat()),
                GoAway(COMPRESSION_ERROR, 0),
            ),
        ],
    );
    assert!(!stage.server.gate().is_open());
    stage.server.open();
}

#[test]
fn a_table_holds_what_its_size_says_and_its_oldest_go_first() {
    let stage = Stage::new();
    let in_table = |size: &[u8], fields: &[u8], last: &[u8]| {
        all(&[asks(1, &[size, GET, fields].concat()), asks(3, &[GET, last].concat())])
    };
    let three = [kept(b'a'), kept(b'b'), kept(b'c')].concat();
    let gone = || GoAway(COMPRESSION_ERROR, 1);
    // Sizes of 108, 107, 36 and 35 bytes.
    let (three_fit, two_fit, one_fits, none_fits) = (b"\x3f\x4d", b"\x3f\x4c", b"\x3f\x05", b"\x3f\x04");
    play(
        &stage,
        vec![
            ("three fit: the oldest", in_table(three_fit, &three, b"\xc0"), Answer(3, 200)),
            ("three fit: a fourth", in_table(three_fit, &three, b"\xc1"), gone()),
            ("two fit: the oldest", in_table(two_fit, &three, b"\xbf"), Answer(3, 200)),
            ("two fit: a third", in_table(two_fit, &three, b"\xc0"), gone()),
            ("one fits: it", in_table(one_fits, &three, b"\xbe"), Answer(3, 200)),
            ("one fits: another", in_table(one_fits, &three, b"\xbf"), gone()),
            ("none fits", in_table(none_fits, &three, b"\xbe"), gone()),
            (
                "none fits, and it is read all the same",
                asks(1, &[none_fits, GET, &three].concat()),
                Answer(1, 200),
            ),
            (
                "made smaller",
                all(&[in_table(b"", &three, b""), asks(5, &[two_fit, GET, b"\xc0"].concat())]),
                GoAway(COMPRESSION_ERROR, 3),
            ),
            (
                "made smaller and larger",
                all(&[in_table(b"", &three, b""), asks(5, &[b"\x20\x3f\xe1\x1f", GET, b"\xbe"].concat())]),
                GoAway(COMPRESSION_ERROR, 3),
            ),
            (
                "said to be what it is",
                all(&[in_table(b"", &three, b""), asks(5, &[b"\x3f\xe1\x1f", GET, b"\xc0"].concat())]),
                Answer(5, 200),
            ),
            // RFC 7541 section 4.4.
            (
                "named after the one that it pushes out",
                in_table(one_fits, &[&kept(b'a')[..], b"\x7e\x012"].concat(), b"\xbe"),
                Answer(3, 200),
            ),
        ],
    );
}

#[test]
fn a_table_outlives_the_streams_that_filled_it() {
    let stage = Stage::new();
    let keeps = [GET, &kept(b'a')].concat();
    let uses = |stream| asks(stream, &[GET, b"\xbe"].concat());
    play(
        &stage,
        vec![
            ("reset by its client", all(&[asks(1, &keeps), rst(1), uses(3)]), Answer(3, 200)),
            ("malformed", all(&[asks(1, &[&kept(b'a')[..], GET].concat()), uses(3)]), Answer(3, 200)),
            ("by trailers", all(&[begins(1, POST), asks(1, &kept(b'a')), uses(3)]), Answer(3, 200)),
            (
                "by trailers of a stream that is closed",
                all(&[begins(1, b"\x83\x86\x01\x04test"), asks(1, &kept(b'a')), uses(3)]),
                Answer(3, 200),
            ),
            (
                "by trailers that are malformed",
                all(&[begins(1, POST), begins(1, &kept(b'a')), uses(3)]),
                Answer(3, 200),
            ),
        ],
    );
}

#[test]
fn a_block_may_be_cut_anywhere() {
    let stage = Stage::new();
    // Huffman, integers of two bytes, a size: each in two frames.
    let long: [u8; 130] = [b'a'; 130];
    let block = [
        &b"\x3f\xe1\x1f\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
        b"\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf\x0f\x2f\x7f\x03",
        &long,
    ]
    .concat();
    let cut = |place| {
        let (first, rest) = block.split_at(place);
        all(&[frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)])
    };
    let places = (0..50).chain([block.len() - 1, block.len()]);
    let names: Vec<String> = places.clone().map(|place| format!("at {place}")).collect();
    let cases = places.zip(&names).map(|(place, name)| (name.as_str(), cut(place), Answer(1, 200))).collect();
    play(&stage, cases);
    let pieces: Vec<_> = block.chunks(8).collect();
    let middle: Vec<u8> =
        pieces[1..pieces.len() - 1].iter().flat_map(|piece| frame(CONTINUATION, 0, 1, piece)).collect();
    let last = pieces[pieces.len() - 1];
    let all_of_them =
        all(&[frame(HEADERS, END_STREAM, 1, pieces[0]), middle, frame(CONTINUATION, END_HEADERS, 1, last)]);
    play(&stage, vec![("in many pieces", all_of_them, Answer(1, 200))]);
}

#[test]
fn literals_come_in_every_form() {
    let stage = Stage::new();
    // custom-key: custom-value in Huffman's code (RFC 7541 appendix C.4.3), and `user-agent` by its index, 58.
    let key = b"\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f";
    let value = b"\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
    let plain = b"\x0ccustom-value";
    let mut cases = Vec::new();
    for (kind, indexed) in [(0x40, &b"\x7a"[..]), (0x00, b"\x0f\x2b"), (0x10, b"\x1f\x2b")] {
        for text in [&value[..], plain] {
            cases.push(("a known name", with(&[indexed, text].concat()), Answer(1, 200)));
            cases.push((
                "a name in Huffman's code",
                with(&[&[kind][..], key, text].concat()),
                Answer(1, 200),
            ));
            cases.push(("a name", with(&[&[kind][..], b"\x0acustom-key", text].concat()), Answer(1, 200)));
        }
    }
    play(&stage, cases);
}

#[test]
fn numbers_are_read_where_they_grow_by_a_byte() {
    let stage = Stage::new();
    let value = |length: usize| {
        let mut field = b"\x00\x03x-a".to_vec();
        integer(&mut field, 0, 7, length);
        field.extend(vec![b'a'; length]);
        field
    };
    for length in [0, 1, 126, 127, 128, 254, 255, 256, 16_000] {
        stage.server.forget();
        let mut client = stage.client();
        client.send(with(&value(length)));
        assert_eq!(client.answer(1), 200, "{length}");
        assert_eq!(stage.server.only().field("x-a").map(str::len), Some(length));
    }
    // Index 127, where a byte is full: the 66th newest.
    let mut client = stage.client();
    let fields: Vec<u8> =
        (0..70u8).flat_map(|n| [0x40, 3, b'x', b'-', b'a', 2, b'0' + n / 10, b'0' + n % 10]).collect();
    client.send(asks(1, &[GET, &fields].concat()));
    assert_eq!(client.answer(1), 200);
    stage.server.forget();
    client.send(asks(3, &[GET, b"\xff\x00\xfe\xff\x01"].concat()));
    assert_eq!(client.answer(3), 200);
    assert_eq!(stage.server.only().all("x-a"), ["04", "05", "03"]);
}
