//! Writing field blocks (RFC 7541 sections 3, 4 and 6).
//!
//! What a response has in common with those before it should cost a byte a field, and neither much work nor much memory. The
//! client's table is a queue: each field that goes in pushes the oldest out, however useful that is. So what will hardly come
//! again stays outside:
//!
//! - names whose values are the same each time (`content-type`, `server`) go in at once;
//! - names whose values vary (`etag`, `age`, `date`, `content-length`), once the same field was sent shortly before: a
//!   thousand responses in a second have one date, and a file that many ask for has one tag;
//! - of a name that nobody knows beforehand, the first field goes in whatever it is, so that its name costs a byte from then
//!   on; others, once they came again: request ids never do;
//! - secrets never.

use std::collections::VecDeque;

use http::StatusCode;

use crate::fields::{Known, Name};
use crate::hpack::huffman;
use crate::hpack::integer;
use crate::hpack::size_of;
use crate::hpack::statics;
use crate::hpack::statics::Habit;
use crate::hpack::{FIELD_BYTES, TABLE_BYTES};

/// Of a peer that allows more, no more is used: it costs us as much as it.
const TABLE_BYTES_MAX: usize = TABLE_BYTES;
/// A field that takes more than this part of the table stays outside: it would push out most of what is there, and those
/// that come back to it.
const PART_OF_TABLE: usize = 2;
/// Lists of entries whose names have the same hash, more or less.
const LISTS: usize = 32;
/// Fields that were sent shortly before, more or less.
const SEEN: usize = 32;
const FIRST_DYNAMIC_INDEX: usize = statics::FIELDS.len() + 1;
const STATUS: &[u8] = b":status";

/// Writes the field blocks of one connection, in turn. What was written must be sent: the peer's table follows it.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// What the peer allows.
    peer_max: usize,
    /// The next block must say the table's size; this is the smallest that it had since the last block.
    smallest: Option<usize>,
    /// Of each field that was kept out of the table, a part of its hash, at a place that another part says.
    seen: [u16; SEEN],
    /// The entry that the last block began with.
    first: u32,
    /// The entry that was written last in this block.
    last: Option<u32>,
}

/// What the peer's dynamic table holds (RFC 7541 section 2.3.2).
#[derive(Debug)]
struct Table {
    /// The newest comes first.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    /// How many entries there ever were: the number of the newest.
    newest: u32,
    /// By the hash of a name, the number of the newest entry that may have it. Those that have gone are not taken out: that their
    /// number is too old says it.
    lists: [u32; LISTS],
}

#[derive(Debug)]
struct Entry {
    /// The name, and the value behind it.
    text: Box<[u8]>,
    name_len: usize,
    known: Known,
    /// Of both.
    hash: u32,
    /// The next older one of its list.
    older: u32,
    /// The entry that was written behind this one when it was written last.
    follower: u32,
}

/// A field to be written, with the hashes of its name, and of both.
#[derive(Clone, Copy)]
struct Sent<'a> {
    name: Name<'a>,
    value: &'a [u8],
    name_hash: u64,
    hash: u64,
}

/// What the dynamic table has of a field: the number of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Field(u32),
    Name(u32),
    Nothing,
}

/// How a field that is in no table is written (RFC 7541 section 6.2): the bits above its name's index, and how many are
/// left for that.
#[derive(Clone, Copy)]
struct Literal {
    first: u8,
    prefix: u32,
}

const INDEXED: Literal = Literal { first: 0x40, prefix: 6 };
const NOT_INDEXED: Literal = Literal { first: 0, prefix: 4 };
const NEVER_INDEXED: Literal = Literal { first: 0x10, prefix: 4 };

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new()
    }
}

impl Encoder {
    /// Of a peer that has said nothing yet.
    pub fn new() -> Self {
        Encoder {
            table: Table {
                entries: VecDeque::new(),
                size: 0,
                size_max: TABLE_BYTES,
                newest: 0,
                lists: [0; LISTS],
            },
            peer_max: TABLE_BYTES,
            smallest: None,
            seen: [0; SEEN],
            first: 0,
            last: None,
        }
    }

    /// What the peer allows from now on, its SETTINGS_HEADER_TABLE_SIZE: to be told once that is acknowledged.
    pub fn resize(&mut self, peer_max: usize) {
        // RFC 9113 section 4.3.1: after less than before, the peer waits to hear our size, though it be small already.
        let must_say = peer_max < self.peer_max;
        self.peer_max = peer_max;
        let size_max = peer_max.min(TABLE_BYTES_MAX);
        if !must_say && size_max == self.table.size_max {
            return;
        }
        self.table.resize(size_max);
        self.smallest = Some(self.smallest.map_or(size_max, |smallest| smallest.min(size_max)));
    }

    /// Begins a block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        self.last = None;
        let Some(smallest) = self.smallest.take() else { return };
        if smallest < self.table.size_max {
            integer::encode(smallest, 0x20, 5, out);
        }
        integer::encode(self.table.size_max, 0x20, 5, out);
    }

    /// Appends `:status`, which comes before all other fields.
    pub fn status(&mut self, status: StatusCode, out: &mut Vec<u8>) {
        let index = match status.as_u16() {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => return self.field(STATUS, status.as_str().as_bytes(), out),
        };
        out.push(0x80 | index);
    }

    /// Appends a field, whose name is in small letters.
    #[inline]
    pub fn field<'a>(&mut self, name: impl Into<Name<'a>>, value: &[u8], out: &mut Vec<u8>) {
        self.put(name.into(), value, out);
    }

    fn put(&mut self, name: Name<'_>, value: &[u8], out: &mut Vec<u8>) {
        // A server says the same things in the same order, mostly: what came behind the field before is looked at first, and
        // most fields cost no more than that.
        let guess = self.last.map_or(Some(self.first), |last| Some(self.table.entry(last)?.follower));
        if let Some(number) = guess.filter(|guess| self.table.is_at(*guess, name, value)) {
            integer::encode(self.table.index(number), 0x80, 7, out);
            self.last = Some(number);
            return;
        }
        let (name_hash, fixed) = statics::find(name);
        if let Some((index, Habit::Secret)) = fixed {
            return literal(NEVER_INDEXED, index, name, value, out);
        }
        let sent = Sent { name, value, name_hash, hash: statics::hash(name_hash, value) };
        let found = self.table.find(&sent);
        let named = match (found, fixed) {
            (Found::Field(number), _) => {
                integer::encode(self.table.index(number), 0x80, 7, out);
                return self.follow(number);
            }
            (_, Some((index, _))) => index,
            (Found::Name(number), None) => self.table.index(number),
            (Found::Nothing, None) => 0,
        };
        let is_first_of_name = named == 0;
        let is_steady = matches!(fixed, Some((_, Habit::Steady)));
        if !self.table.has_room_for(&sent) || !(is_steady || is_first_of_name || self.was_seen(sent.hash)) {
            return literal(NOT_INDEXED, named, name, value, out);
        }
        literal(INDEXED, named, name, value, out);
        self.table.insert(&sent);
        self.follow(self.table.newest);
    }

    /// Remembers what comes behind what.
    fn follow(&mut self, number: u32) {
        match self.last.replace(number) {
            None => self.first = number,
            Some(last) => self.table.set_follower(last, number),
        }
    }

    /// Whether a field came shortly before; from now on it did.
    fn was_seen(&mut self, hash: u64) -> bool {
        let part = (hash >> 48) as u16;
        let seen = std::mem::replace(&mut self.seen[hash as usize % SEEN], part);
        seen == part
    }
}

impl Table {
    /// How many are newer; one that has gone has as many as there are, at least.
    fn age(&self, number: u32) -> usize {
        self.newest.wrapping_sub(number) as usize
    }

    /// As the peer counts.
    fn index(&self, number: u32) -> usize {
        FIRST_DYNAMIC_INDEX + self.age(number)
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(self.age(number))
    }

    fn is_at(&self, number: u32, name: Name<'_>, value: &[u8]) -> bool {
        self.entry(number).is_some_and(|entry| entry.is(name, value))
    }

    fn set_follower(&mut self, number: u32, follower: u32) {
        let age = self.age(number);
        if let Some(entry) = self.entries.get_mut(age) {
            entry.follower = follower;
        }
    }

    fn find(&self, sent: &Sent) -> Found {
        let mut found = Found::Nothing;
        let (mut number, mut youngest) = (self.lists[sent.name_hash as usize % LISTS], 0);
        loop {
            // What is younger than the one before it in the list is a number that came round again.
            let entry = self.entry(number).filter(|_| self.age(number) >= youngest);
            let Some(entry) = entry else { return found };
            if entry.hash == sent.hash as u32 && entry.is(sent.name, sent.value) {
                return Found::Field(number);
            }
            if found == Found::Nothing && entry.is_called(sent.name) {
                found = Found::Name(number);
            }
            (number, youngest) = (entry.older, self.age(number) + 1);
        }
    }

    fn has_room_for(&self, sent: &Sent) -> bool {
        sent.size() <= self.size_max / PART_OF_TABLE
    }

    /// Makes room for one and keeps it.
    fn insert(&mut self, sent: &Sent) {
        let size = sent.size();
        self.shrink(self.size_max.saturating_sub(size));
        self.size += size;
        self.newest = self.newest.wrapping_add(1);
        let list = &mut self.lists[sent.name_hash as usize % LISTS];
        self.entries.push_front(Entry {
            text: [sent.name.as_bytes(), sent.value].concat().into_boxed_slice(),
            name_len: sent.name.as_bytes().len(),
            known: sent.name.known(),
            hash: sent.hash as u32,
            older: std::mem::replace(list, self.newest),
            follower: self.newest,
        });
    }

    fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.shrink(size_max);
    }

    /// Drops the oldest until what is left has `size` bytes at most.
    fn shrink(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.text.len() + FIELD_BYTES;
        }
    }
}

impl Sent<'_> {
    fn size(&self) -> usize {
        size_of(self.name.as_bytes(), self.value)
    }
}

impl Entry {
    #[inline]
    fn is_called(&self, name: Name<'_>) -> bool {
        let is_known = self.known != Known::Other;
        self.known == name.known() && (is_known || self.text[..self.name_len] == *name.as_bytes())
    }

    #[inline(always)]
    fn is(&self, name: Name<'_>, value: &[u8]) -> bool {
        self.is_called(name) && self.text[self.name_len..] == *value
    }
}

fn literal(kind: Literal, name_index: usize, name: Name<'_>, value: &[u8], out: &mut Vec<u8>) {
    integer::encode(name_index, kind.first, kind.prefix, out);
    if name_index == 0 {
        text(name.as_bytes(), out);
    }
    text(value, out);
}

/// A string (section 5.2), in Huffman code where that is shorter.
fn text(text: &[u8], out: &mut Vec<u8>) {
    let encoded = huffman::encoded_len(text);
    if encoded < text.len() {
        integer::encode(encoded, 0x80, 7, out);
        huffman::encode(text, encoded, out);
    } else {
        integer::encode(text.len(), 0, 7, out);
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::Decoder;

    const USUAL: [(&str, &str); 7] = [
        ("server", "nginx"),
        ("content-type", "text/html; charset=utf-8"),
        ("vary", "accept-encoding"),
        ("cache-control", "max-age=600"),
        ("x-frame-options", "DENY"),
        ("strict-transport-security", "max-age=63072000"),
        ("access-control-allow-origin", "*"),
    ];

    /// Both sides of one connection.
    struct Pair {
        encoder: Encoder,
        decoder: Decoder,
    }

    impl Pair {
        fn new() -> Pair {
            Pair { encoder: Encoder::new(), decoder: Decoder::new(65_536) }
        }

        /// One block: its bytes, which say what was given, and leave both tables the same.
        fn send(&mut self, status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
            let mut out = Vec::new();
            self.encoder.begin(&mut out);
            self.encoder.status(StatusCode::from_u16(status).unwrap(), &mut out);
            for (name, value) in fields {
                self.encoder.field(name.as_bytes(), value.as_bytes(), &mut out);
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let mut read = Vec::new();
            self.decoder.decode(&out, |field| read.push((text(field.name), text(field.value)))).unwrap();
            let status = (":status".to_owned(), status.to_string());
            let sent = fields.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            assert_eq!(read, std::iter::once(status).chain(sent).collect::<Vec<_>>());
            assert!(self.encoder.table.size <= self.encoder.table.size_max);
            out
        }

        /// Fields in the table, oldest first.
        fn indexed(&self) -> Vec<String> {
            let text = |entry: &Entry| {
                let (name, value) = entry.text.split_at(entry.name_len);
                [name, b": ", value].concat()
            };
            let texts = self.encoder.table.entries.iter().rev().map(text);
            texts.map(|text| String::from_utf8(text).unwrap()).collect()
        }
    }

    #[test]
    fn what_is_the_same_in_each_response_costs_a_byte_from_the_second_on() {
        let mut pair = Pair::new();
        let first = pair.send(200, &USUAL);

        assert!(first.len() > 80);
        for _ in 0..3 {
            assert_eq!(pair.send(200, &USUAL).len(), 1 + USUAL.len());
        }
        assert_eq!(pair.indexed().len(), USUAL.len());
    }

    #[test]
    fn a_status_is_one_byte_if_it_is_usual_or_came_before() {
        let mut pair = Pair::new();
        for status in [200, 204, 206, 304, 400, 404, 500] {
            assert_eq!(pair.send(status, &[]).len(), 1);
        }
        assert_eq!((pair.send(302, &[]).len(), pair.send(503, &[]).len()), (4, 5));
        assert_eq!((pair.send(302, &[]).len(), pair.send(503, &[]).len()), (1, 1));
    }

    #[test]
    fn what_comes_once_pushes_nothing_out() {
        let mut pair = Pair::new();
        pair.send(200, &USUAL);
        for n in 0..1000 {
            let once = format!("{n:032x}");
            let varying = [
                "date",
                "etag",
                "age",
                "content-length",
                "last-modified",
                "expires",
                "location",
                "content-range",
                "x-request-id",
                "x-trace",
                "set-cookie",
            ];
            let fields: Vec<_> = varying.into_iter().map(|name| (name, once.as_str())).collect();
            pair.send(200, &fields);
        }

        assert_eq!(pair.send(200, &USUAL).len(), 1 + USUAL.len());
        // The first of names that nobody knows beforehand, so that these cost a byte or two.
        let zero = "0".repeat(32);
        let names = pair.indexed().split_off(USUAL.len());
        assert_eq!(names, [format!("x-request-id: {zero}"), format!("x-trace: {zero}")]);
    }

    #[test]
    fn what_varies_is_indexed_once_it_came_again() {
        let mut pair = Pair::new();
        let of_a_file = [
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("etag", "\"5f-0\""),
            ("content-length", "48"),
            ("x-request-id", "1"),
        ];
        let lengths: Vec<_> = (0..4).map(|_| pair.send(200, &of_a_file).len()).collect();

        assert!(lengths[1] > 20 && lengths[1] < lengths[0], "{lengths:?}");
        assert_eq!(lengths[2..], [5, 5]);
    }

    #[test]
    fn what_comes_next_is_looked_for_where_it_was_last_time() {
        let mut pair = Pair::new();
        let (mut turned, mut fewer) = (USUAL, USUAL.to_vec());
        turned.reverse();
        fewer.remove(3);
        for fields in [&USUAL[..], &turned, &fewer, &[("etag", "1"), USUAL[4], ("etag", "2"), USUAL[1]]] {
            pair.send(200, fields);

            let indexed = fields.iter().filter(|(name, _)| *name != "etag");
            let mut number = pair.encoder.first;
            for (name, value) in indexed {
                assert!(pair.encoder.table.is_at(number, (*name).into(), value.as_bytes()), "{name}");
                number = pair.encoder.table.entry(number).unwrap().follower;
            }
        }
        // What was there and has gone is no guess.
        for n in 0..200 {
            pair.send(200, &[("vary", &n.to_string()), ("server", "nginx")]);
        }
    }

    #[test]
    fn a_string_is_in_huffman_code_only_where_that_is_shorter() {
        for (value, length) in [("", 0), ("a", 1), ("aa", 2), ("aaa", 0x80 | 2), ("<>{}", 4), ("503", 3)] {
            let mut out = Vec::new();
            text(value.as_bytes(), &mut out);
            assert_eq!((out[0], out.len() - 1), (length, usize::from(length & 0x7f)), "{value}");
        }
    }

    #[test]
    fn a_secret_is_in_no_table() {
        let mut pair = Pair::new();
        for _ in 0..3 {
            for (secret, index) in
                [("set-cookie", 55), ("authorization", 23), ("proxy-authorization", 49), ("cookie", 32)]
            {
                let out = pair.send(200, &[(secret, "a=0123456789abcdef")]);
                assert_eq!(out[1..3], [0x1f, index - 15], "{secret}");
            }
        }

        assert!(pair.indexed().is_empty());
    }

    #[test]
    fn a_field_that_would_fill_the_table_stays_outside() {
        let mut pair = Pair::new();
        pair.send(200, &USUAL);
        let large = "a".repeat(2049 - 32 - "server".len());
        pair.send(200, &[("server", &large)]);
        assert_eq!(pair.indexed().len(), USUAL.len());

        pair.send(200, &[("server", &large[1..])]);
        assert_eq!(pair.indexed().len(), USUAL.len() + 1);
    }

    #[test]
    fn the_oldest_goes_first_and_only_as_many_as_must() {
        let mut pair = Pair::new();
        // Each 32 + 4 + 4 bytes.
        for n in 1000..1500 {
            pair.send(200, &[("vary", &n.to_string())]);
        }
        let kept = 4096 / 40;
        assert_eq!(pair.indexed().len(), kept);
        assert_eq!(pair.indexed()[0], format!("vary: {}", 1500 - kept));
        // All of them are found, also those far behind in their list.
        for n in 1500 - kept..1500 {
            assert!(pair.send(200, &[("vary", &n.to_string())]).len() <= 3, "{n}");
        }
        assert_eq!(pair.indexed().len(), kept);
    }

    #[test]
    fn sizes_are_said_as_the_rfc_wants_them() {
        // What the peer allowed since the last block; how the next one begins; what of it is kept.
        for (sizes, begins, kept) in [
            (&[4096][..], &[][..], 7),
            (&[65_536], &[], 7),
            (&[0], &[0x20], 0),
            (&[100], &[0x3f, 100 - 31], 1),
            (&[0, 4096], &[0x20, 0x3f, 0xe1, 0x1f], 0),
            (&[100, 65_536], &[0x3f, 100 - 31, 0x3f, 0xe1, 0x1f], 1),
            (&[100, 50, 200], &[0x3f, 50 - 31, 0x3f, 0xa9, 0x01], 0),
            (&[200, 100, 50], &[0x3f, 50 - 31], 0),
            (&[65_536, 4096], &[0x3f, 0xe1, 0x1f], 7),
            (&[65_536, 5000], &[0x3f, 0xe1, 0x1f], 7),
        ] {
            let mut pair = Pair::new();
            pair.send(200, &USUAL);
            for size in sizes {
                pair.encoder.resize(*size);
            }
            let remaining = pair.indexed();
            assert_eq!(remaining.len(), kept, "{sizes:?}");

            let out = pair.send(200, &[]);
            assert_eq!(out, [begins, &[0x88]].concat(), "{sizes:?}");
            // Said once. What remains is the newest, and both know which.
            assert_eq!(pair.send(200, &[]), [0x88]);
            let newest = &USUAL[USUAL.len() - kept..];
            assert_eq!(pair.send(200, newest).len(), 1 + kept);
            pair.send(200, &USUAL);
        }
    }

    #[test]
    fn without_a_table_nothing_is_indexed() {
        let mut pair = Pair::new();
        pair.encoder.resize(0);
        let first = pair.send(200, &USUAL);

        assert_eq!(pair.send(302, &USUAL).len(), first.len() - 1 + 3);
        assert_eq!(pair.encoder.table.entries.capacity(), 0);
    }

    #[test]
    fn numbers_of_entries_may_come_round() {
        let mut pair = Pair::new();
        pair.encoder.table.newest = u32::MAX - 3;
        for _ in 0..3 {
            pair.send(200, &USUAL);
        }

        assert!(pair.encoder.table.newest < 10);
        assert_eq!(pair.send(200, &USUAL).len(), 1 + USUAL.len());
    }

    proptest::proptest! {
        #[test]
        fn what_was_written_is_read_whatever_the_sizes(
            blocks in proptest::collection::vec(
                (
                    proptest::option::of(0usize..5000),
                    100u16..600,
                    proptest::collection::vec(
                        (
                            "vary|date|x-[a-d]|etag|set-cookie|accept-encoding",
                            "[a-c]{0,3}|gzip, deflate|[ -~]{100,300}",
                        ),
                        0..8,
                    ),
                ),
                0..40,
            ),
        ) {
            let mut pair = Pair::new();
            for (size, status, fields) in blocks {
                if let Some(size) = size {
                    pair.encoder.resize(size);
                }
                let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                pair.send(status, &fields);
            }
        }
    }
}
