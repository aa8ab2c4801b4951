//! Field blocks: what cannot be decoded, and what can in more than one way (RFC 7541).

use super::*;
use Then::*;

/// GET / of http://test, but for what is behind it.
const GET: &[u8] = b"\x82\x86\x84\x01\x04test";

fn asks(behind: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, [GET, behind].concat())
}

/// The block of a client with another beginning.
fn asks_after(before: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, [before, GET].concat())
}

/// RFC 9113 section 4.3.
fn undecodable() -> Then {
    Connection(&[COMPRESSION_ERROR])
}

#[test]
fn a_block_that_cannot_be_decoded_ends_the_connection() {
    let stage = Stage::new();
    stage.play(vec![
        ("index 0", asks(b"\x80"), undecodable()),
        ("an index beyond both tables", asks(b"\xbe"), undecodable()),
        ("an index far beyond", asks(b"\xff\x80\x01"), undecodable()),
        ("a name with such an index", asks(b"\x7f\x80\x01\x01x"), undecodable()),
        ("a name with such an index, unindexed", asks(b"\x0f\x80\x01\x01x"), undecodable()),
        ("an integer without end", asks(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f"), undecodable()),
        ("an integer beyond 32 bits", asks(b"\xff\xff\xff\xff\xff\xff\x01"), undecodable()),
        ("a string longer than its block", asks(b"\x00\x01x\x7e1"), undecodable()),
        ("a block that ends in an integer", asks(b"\xff"), undecodable()),
        ("a block that ends in a name", asks(b"\x00\x05xy"), undecodable()),
        ("a block that ends before its value", asks(b"\x00\x01x"), undecodable()),
        ("Huffman padding of zeros", asks(b"\x00\x01x\x81\x00"), undecodable()),
        ("Huffman padding of eight bits", asks(b"\x00\x01x\x82\x3f\xff"), undecodable()),
        ("Huffman padding of a byte alone", asks(b"\x00\x01x\x81\xff"), undecodable()),
        ("Huffman's end of string", asks(b"\x00\x01x\x84\xff\xff\xff\xff"), undecodable()),
        ("Huffman's end of string within", asks(b"\x00\x01x\x86\x1f\xff\xff\xff\xf1\xff"), undecodable()),
        ("a table larger than it may be", asks_after(b"\x3f\xe2\x1f"), undecodable()),
        ("a table far larger", asks_after(b"\x3f\xff\xff\xff\x7f"), undecodable()),
        ("a table's size behind a field", asks(b"\x20"), undecodable()),
        (
            "a table's size between fields",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x3f\xe1\x1f\x86\x84\x01\x04test"),
            undecodable(),
        ),
        (
            "an entry of a table that was emptied",
            all(&[
                frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x04\x05/wait\x41\x04test"),
                frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x20\x82\x86\x84\xbe"),
            ]),
            undecodable(),
        ),
        (
            "trailers that cannot be decoded",
            all(&[post(1, "/wait", &[]), frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80")]),
            undecodable(),
        ),
        (
            "trailers of a stream that is closed already",
            all(&[post(1, "/..", &[]), frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80")]),
            undecodable(),
        ),
    ]);
    stage.server.open();
}

#[test]
fn an_entry_that_a_refused_stream_has_not_made_is_an_error() {
    let stage = Stage::new();
    let mut client = stage.client();

    // Twice :method; one entry is kept all the same, and no more than one.
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x84\x41\x04test\x82"));
    client.until("a reset", |f| f.kind == RST_STREAM && f.stream == 1);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x82\x86\x84\xbf"));

    assert_eq!(goes_away(&mut client, &[COMPRESSION_ERROR]), Ok(()));
}

#[test]
fn a_block_may_be_written_in_every_way_there_is() {
    let stage = Stage::new();
    stage.play(vec![
        ("indexed", asks(b""), Served),
        (
            "literals that are kept",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                b"\x40\x07:method\x03GET\x46\x04http\x44\x01/\x41\x04test",
            ),
            Served,
        ),
        (
            "literals that are not",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                b"\x00\x07:method\x03GET\x06\x04http\x04\x01/\x01\x04test",
            ),
            Served,
        ),
        (
            "literals that never are",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                b"\x10\x07:method\x03GET\x16\x04http\x14\x01/\x11\x04test",
            ),
            Served,
        ),
        (
            "Huffman",
            asks(b"\x00\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf"),
            Served,
        ),
        ("an empty Huffman value", asks(b"\x00\x01x\x80"), Served),
        ("an empty value", asks(b"\x00\x01x\x00"), Served),
        ("an integer with a byte too many", asks(b"\x00\x01x\x7f\x80\x00"), undecodable()),
        ("the smallest table", asks_after(b"\x20"), Served),
        ("the largest table", asks_after(b"\x3f\xe1\x1f"), Served),
        ("two sizes", asks_after(b"\x20\x3f\xe1\x1f"), Served),
        (
            "a large entry, which empties the table",
            asks(&[&b"\x40\x01x\x7f\xff\x26"[..], &[b'a'; 127 + 0x7f + (0x26 << 7)]].concat()),
            Served,
        ),
    ]);
}

#[test]
fn what_a_block_leaves_in_the_table_can_be_used_by_the_next_stream() {
    let stage = Stage::new();
    let mut client = stage.client();

    // :authority, x-a and x-b are kept; the newest has the smallest index (RFC 7541 section 2.3.3).
    client.send(asks(b"\x40\x03x-a\x01A\x40\x03x-b\x01B"));
    assert_eq!(client.answer(1), 200);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, [GET, b"\xbe\x7e\x02BB\xbf"].concat()));
    assert_eq!(client.answer(3), 200);

    let seen = &stage.server.record().whole[1];
    // BB has been put before both: what was x-a is one place further on.
    assert_eq!((seen.all("x-b"), seen.all("x-a")), (vec!["B", "BB", "B"], vec![]));
}

#[test]
fn a_block_of_a_refused_stream_still_changes_the_table() {
    let stage = Stage::with("[limits]\nhttp2-streams = 1", "");
    for (name, spoilt) in [
        // More streams than there may be.
        ("refused", frame(HEADERS, END_HEADERS | END_STREAM, 3, [GET, b"\x40\x03x-a\x01A"].concat())),
        // Twice :method.
        ("malformed", frame(HEADERS, END_HEADERS | END_STREAM, 3, [GET, b"\x40\x03x-a\x01A\x82"].concat())),
        // Trailers that do not end their stream.
        ("not the end", all(&[post(3, "/", &[]), frame(HEADERS, END_HEADERS, 3, b"\x40\x03x-a\x01A")])),
    ] {
        stage.server.forget();
        let mut client = stage.client();
        if name == "refused" {
            client.send(get(1, "/wait"));
        }
        client.send(spoilt);
        client.until("a reset", |f| f.kind == RST_STREAM && f.stream == 3);
        stage.server.open();
        if name == "refused" {
            assert_eq!(client.answer(1), 200);
        }
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 5, [GET, b"\xbe"].concat()));
        assert_eq!(client.answer(5), 200, "{name}");
        let record = stage.server.record();
        assert_eq!(record.whole.last().unwrap().all("x-a"), ["A"], "{name}");
    }
}
