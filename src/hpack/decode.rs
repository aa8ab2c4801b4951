//! Reading field blocks (RFC 7541 sections 3, 4 and 6).

use std::collections::VecDeque;
use std::fmt;

use crate::hpack::TABLE_BYTES;
use crate::hpack::field::{Entry, Field, Name};
use crate::hpack::huffman;
use crate::hpack::integer;
use crate::hpack::statics;

/// Updates of the table's size that one block may begin with: the smallest that there was since the last block, and the
/// one that holds (RFC 7541 section 4.2).
const SIZE_UPDATES_MAX: usize = 2;
/// Of what strings were decoded in, this much is kept for the next block.
const SCRATCH_BYTES_KEPT: usize = 1024;

/// A block is not as the RFC says, and from here on nothing is known of what the peer's table holds: COMPRESSION_ERROR
/// (RFC 9113 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// It ends within a field.
    Truncated,
    /// A number that is too long.
    Integer,
    /// A field that stands in no table.
    Index,
    /// The table's size is more than we allowed, or is said where it may not be.
    TableSize,
    /// A string that was not encoded by the Huffman code.
    Huffman,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::Truncated => "a field block ends within a field",
            DecodeError::Integer => "a number in a field block is too long",
            DecodeError::Index => "a field block names a field that is in no table",
            DecodeError::TableSize => {
                "a field block sets the size of its table beyond the limit, or too late"
            }
            DecodeError::Huffman => "a string in a field block is not in Huffman code",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Reads the field blocks of one connection, in turn.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// What the peer may set the table's size to.
    table_max: usize,
    /// Where strings are decoded.
    scratch: Vec<u8>,
}

/// The dynamic table (RFC 7541 section 2.3.2).
#[derive(Debug)]
struct Table {
    /// The newest comes first.
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
}

/// A string as it was sent.
#[derive(Clone, Copy)]
enum Text<'a> {
    Plain(&'a [u8]),
    Huffman(&'a [u8]),
}

/// How a literal field was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    Indexed,
    NotIndexed,
}

impl Decoder {
    /// Of a peer whose table may have `table_max` bytes, as our SETTINGS_HEADER_TABLE_SIZE says: of less than 4096, it still
    /// may have that, which is what it begins with.
    pub fn new(table_max: usize) -> Self {
        Decoder {
            table: Table { entries: VecDeque::new(), size: 0, size_max: TABLE_BYTES },
            table_max: table_max.max(TABLE_BYTES),
            scratch: Vec::new(),
        }
    }

    /// Hands out each field of a whole block, in order. Whoever has had enough of them lets the rest pass, and pays nothing for
    /// it: all must be read, for the sake of the table.
    ///
    /// # Errors
    /// The block breaks a rule. What was handed out before is worth nothing.
    pub fn decode(&mut self, block: &[u8], mut field: impl FnMut(&Field<'_>)) -> Result<(), DecodeError> {
        let mut rest = block;
        self.take_size_updates(&mut rest)?;
        while let Some((&first, behind)) = rest.split_first() {
            rest = behind;
            // Section 6: 1 a field of a table; 01 a literal for the table; 001 a size, which comes first; 0001 and 0000 a
            // literal. That the former is for no table ever concerns whoever writes it again; for servers we write HTTP/1.1.
            match first.leading_zeros() {
                0 => field(&Field::of(self.table.get(integer::decode(first, 7, &mut rest)?)?)),
                1 => {
                    let name = integer::decode(first, 6, &mut rest)?;
                    self.take_literal(name, Literal::Indexed, &mut rest, &mut field)?;
                }
                2 => return Err(DecodeError::TableSize),
                _ => {
                    let name = integer::decode(first, 4, &mut rest)?;
                    self.take_literal(name, Literal::NotIndexed, &mut rest, &mut field)?;
                }
            }
        }
        if self.scratch.capacity() > SCRATCH_BYTES_KEPT {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    fn take_size_updates(&mut self, rest: &mut &[u8]) -> Result<(), DecodeError> {
        for _ in 0..SIZE_UPDATES_MAX {
            let Some((&first @ 0b0010_0000..=0b0011_1111, behind)) = rest.split_first() else { break };
            *rest = behind;
            let size = integer::decode(first, 5, rest)?;
            if size > self.table_max {
                return Err(DecodeError::TableSize);
            }
            self.table.resize(size);
        }
        Ok(())
    }

    /// A field whose value was sent, and its name too if `index` is 0 (section 6.2).
    fn take_literal(
        &mut self,
        index: usize,
        literal: Literal,
        rest: &mut &[u8],
        field: &mut impl FnMut(&Field<'_>),
    ) -> Result<(), DecodeError> {
        self.scratch.clear();
        let own_name = if index == 0 { Some(take_text(rest)?) } else { None };
        if let Some(name) = own_name {
            name.decode(&mut self.scratch)?;
        }
        let split = self.scratch.len();
        let value = take_text(rest)?;
        value.decode(&mut self.scratch)?;
        let (decoded_name, decoded_value) = self.scratch.split_at(split);
        let own_name = own_name.map(|name| name.plain(decoded_name));
        let value = value.plain(decoded_value);
        match (literal, own_name) {
            (Literal::NotIndexed, Some(name)) => field(&Field::literal(name, value)),
            (Literal::NotIndexed, None) => field(&Field::named(&self.table.get(index)?.name, value)),
            (Literal::Indexed, own_name) => {
                // Before anything goes to make room for it: its name's entry may be what goes (section 4.4).
                let name =
                    own_name.map_or_else(|| Ok(self.table.get(index)?.name.clone()), |n| Ok(Name::new(n)))?;
                match self.table.insert(Entry::new(name, value)) {
                    Ok(entry) => field(&Field::of(entry)),
                    Err(entry) => field(&Field::of(&entry)),
                }
            }
        }
        Ok(())
    }
}

impl Table {
    /// The field with an index of either table (section 2.3.3).
    fn get(&self, index: usize) -> Result<&Entry, DecodeError> {
        let place = index.checked_sub(1).ok_or(DecodeError::Index)?;
        let entry = match place.checked_sub(statics::FIELDS.len()) {
            None => statics::FIELDS.get(place),
            Some(place) => self.entries.get(place),
        };
        entry.ok_or(DecodeError::Index)
    }

    /// Makes room for one and keeps it. One that is larger than the table empties it, and comes back (section 4.4).
    fn insert(&mut self, entry: Entry) -> Result<&Entry, Entry> {
        let size = entry.size();
        self.shrink(self.size_max.saturating_sub(size));
        if size > self.size_max {
            return Err(entry);
        }
        self.size += size;
        self.entries.push_front(entry);
        Ok(&self.entries[0])
    }

    fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.shrink(size_max);
    }

    /// Drops the oldest until what is left has `size` bytes at most.
    fn shrink(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.size -= oldest.size();
        }
    }
}

/// A string (section 5.2).
fn take_text<'a>(rest: &mut &'a [u8]) -> Result<Text<'a>, DecodeError> {
    let (&first, behind) = rest.split_first().ok_or(DecodeError::Truncated)?;
    *rest = behind;
    let length = integer::decode(first, 7, rest)?;
    let (text, behind) = rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    *rest = behind;
    Ok(if first & 0x80 == 0 { Text::Plain(text) } else { Text::Huffman(text) })
}

impl<'a> Text<'a> {
    /// Appends it, if it must be decoded.
    fn decode(self, scratch: &mut Vec<u8>) -> Result<(), DecodeError> {
        match self {
            Text::Plain(_) => Ok(()),
            Text::Huffman(text) => huffman::decode(text, scratch).map_err(|_| DecodeError::Huffman),
        }
    }

    /// What it says, which is `decoded` if it had to be.
    fn plain<'b>(self, decoded: &'b [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Text::Plain(text) => text,
            Text::Huffman(_) => decoded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hpack::{BadField, Pseudo};

    const DATE_21: &str = "Mon, 21 Oct 2013 20:13:21 GMT";
    const DATE_22: &str = "Mon, 21 Oct 2013 20:13:22 GMT";
    const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    const LOCATION: &str = "https://www.example.com";

    type Fields = Vec<(String, String)>;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        let byte = |start: usize| u8::from_str_radix(&digits[start..start + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, DecodeError> {
        let mut fields = Vec::new();
        decoder.decode(block, |field| fields.push((text(field.name), text(field.value))))?;
        let sum: usize = decoder.table.entries.iter().map(Entry::size).sum();
        assert_eq!(decoder.table.size, sum);
        assert!(sum <= decoder.table.size_max && decoder.table.size_max <= decoder.table_max);
        Ok(fields)
    }

    fn fields(expected: &[(&str, &str)]) -> Fields {
        expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// A block, what it says, and the size of the table behind it.
    type Example<'a> = (&'a str, &'a [(&'a str, &'a str)], usize);

    fn hold(mut decoder: Decoder, examples: &[Example]) {
        for (hex, expected, size) in examples {
            assert_eq!(decoded(&mut decoder, &bytes(hex)), Ok(fields(expected)), "{hex}");
            assert_eq!(decoder.table.size, *size, "{hex}");
        }
    }

    #[test]
    fn fields_are_those_of_appendix_c_2() {
        for example in [
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                &[("custom-key", "custom-header")][..],
                55,
            ),
            ("040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 0),
            ("1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 0),
            ("82", &[(":method", "GET")], 0),
        ] {
            hold(Decoder::new(4096), &[example]);
        }
    }

    #[test]
    fn requests_are_those_of_appendix_c_3_and_c_4() {
        let begin = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
        let host = (":authority", "www.example.com");
        let first = [&begin[..], &[host]].concat();
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            host,
            ("custom-key", "custom-value"),
        ];
        for hex in [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ] {
            hold(Decoder::new(4096), &[(hex[0], &first, 57), (hex[1], &second, 110), (hex[2], &third, 164)]);
        }
    }

    #[test]
    fn responses_are_those_of_appendix_c_5_and_c_6_where_a_table_of_256_bytes_forgets() {
        let rest = [("cache-control", "private"), ("date", DATE_21), ("location", LOCATION)];
        let first = [&[(":status", "302")][..], &rest].concat();
        let second = [&[(":status", "307")][..], &rest].concat();
        let third = [
            (":status", "200"),
            ("cache-control", "private"),
            ("date", DATE_22),
            ("location", LOCATION),
            ("content-encoding", "gzip"),
            ("set-cookie", COOKIE),
        ];
        for hex in [
            [
                "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a \
                 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "4803 3330 37c1 c0bf",
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 \
                 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 \
                 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            ],
            [
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
                 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                "4883 640e ffc1 c0bf",
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 \
                 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed \
                 4ee5 b106 3d50 07",
            ],
        ] {
            let mut decoder = Decoder::new(4096);
            decoder.table.resize(256);
            hold(decoder, &[(hex[0], &first, 222), (hex[1], &second, 222), (hex[2], &third, 215)]);
        }
    }

    #[test]
    fn a_block_that_breaks_a_rule_is_an_error() {
        use DecodeError::{Huffman, Index, Integer, TableSize, Truncated};
        for (hex, expected) in [
            // Indexes (section 2.3.3, 6.1): none is 0, and the dynamic table is empty here.
            ("80", Index),
            ("be", Index),
            ("82 be", Index),
            ("ff 00", Index),
            ("ff ff ff ff ff 0f", Index),
            ("ff ff ff ff ff ff 00", Integer),
            ("ff 80 80 80 80 80 00", Integer),
            ("7e 01 61", Index),
            ("0f 2f 01 61", Index),
            ("1f 2f 01 61", Index),
            ("7f ff ff ff ff ff 01 01 61", Integer),
            // A size above ours (section 4.2, 6.3), behind a field, too long, or once too often.
            ("3f e2 1f", TableSize),
            ("3f ff ff ff ff 0f", TableSize),
            ("3f ff ff ff ff ff 01", Integer),
            ("82 20", TableSize),
            ("20 82 20", TableSize),
            ("20 20 20", TableSize),
            ("20 3f e2 1f", TableSize),
            // Ends where something must follow.
            ("ff", Truncated),
            ("ff 80", Truncated),
            ("3f", Truncated),
            ("40", Truncated),
            ("40 01", Truncated),
            ("40 01 61", Truncated),
            ("40 01 61 01", Truncated),
            ("41", Truncated),
            ("41 7f", Truncated),
            ("41 7f ff ff ff ff 7f 61", Truncated),
            ("41 7f ff ff ff ff ff 01 61", Integer),
            ("04 02 61", Truncated),
            ("10 01", Truncated),
            ("82 41 82 61", Truncated),
            // Strings (section 5.2): padding longer than 7 bits or not of ones, the end inside.
            ("04 81 ff", Huffman),
            ("04 82 1f ff", Huffman),
            ("04 81 18", Huffman),
            ("04 84 ff ff ff ff", Huffman),
            ("04 85 1f ff ff ff ff", Huffman),
            ("40 81 ff 01 61", Huffman),
            ("00 81 00 81 07", Huffman),
        ] {
            assert_eq!(decoded(&mut Decoder::new(4096), &bytes(hex)), Err(expected), "{hex}");
        }
        for hex in ["", "20", "3f e1 1f", "20 20", "20 3f e1 1f 82", "04 81 1f", "04 80", "00 00 00"] {
            assert!(decoded(&mut Decoder::new(4096), &bytes(hex)).is_ok(), "{hex}");
        }
    }

    #[test]
    fn a_table_has_what_its_size_holds_and_the_oldest_goes_first() {
        let mut decoder = Decoder::new(8192);
        // Each 32 + 1 + 1 bytes.
        for value in 0..200u8 {
            decoded(&mut decoder, &[0x40, 1, b'a', 1, value]).unwrap();
        }
        assert_eq!(decoder.table.entries.len(), 4096 / 34);
        let newest = |decoder: &mut Decoder| {
            let mut value = None;
            decoder.decode(&[0x80 | 62], |field| value = Some(field.value[0])).map(|()| value)
        };
        assert_eq!(newest(&mut decoder), Ok(Some(199)));

        // To two of them and a byte short of the third; raising it brings nothing back.
        assert_eq!(decoded(&mut decoder, &bytes("3f 46")), Ok(vec![]));
        assert_eq!(decoder.table.entries.len(), 2);
        assert_eq!(decoded(&mut decoder, &bytes("3f 46 3f e1 1f bf")).map(|f| f.len()), Ok(1));
        assert_eq!(decoded(&mut decoder, &bytes("c0")), Err(DecodeError::Index));
        // To what we allow, which is more than it began with.
        assert_eq!(decoded(&mut decoder, &bytes("3f e1 3f")), Ok(vec![]));
        assert_eq!((decoder.table.size_max, newest(&mut decoder)), (8192, Ok(Some(199))));
        assert_eq!(decoded(&mut decoder, &bytes("3f e2 3f")), Err(DecodeError::TableSize));
        assert_eq!(decoded(&mut decoder, &bytes("20 be")), Err(DecodeError::Index));
        // A peer begins with 4096 bytes, and may have them until it knows of less.
        assert_eq!(
            decoded(&mut Decoder::new(0), &bytes("3f e1 1f 40 01 61 01 62 be")).map(|f| f.len()),
            Ok(2)
        );
    }

    #[test]
    fn a_field_larger_than_the_table_empties_it_and_is_read_all_the_same() {
        let mut decoder = Decoder::new(4096);
        // Room for 34 bytes: one of these, and no larger one.
        let block = bytes("22 40 01 61 01 62 3f 03 40 01 61 01 62");
        assert_eq!(decoded(&mut decoder, &block), Err(DecodeError::TableSize));
        assert_eq!(
            decoded(&mut decoder, &bytes("3f 03 40 01 61 01 62 be")),
            Ok(fields(&[("a", "b"), ("a", "b")]))
        );
        assert_eq!(decoded(&mut decoder, &bytes("7e 02 62 63")), Ok(fields(&[("a", "bc")])));
        assert_eq!(decoder.table.entries.len(), 0);
        assert_eq!(decoded(&mut decoder, &bytes("be")), Err(DecodeError::Index));
    }

    #[test]
    fn a_new_field_may_be_named_after_the_one_that_it_pushes_out() {
        let mut decoder = Decoder::new(4096);
        let block = bytes("3f 03 40 01 61 01 62 7e 01 63 be");

        assert_eq!(decoded(&mut decoder, &block), Ok(fields(&[("a", "b"), ("a", "c"), ("a", "c")])));
        assert_eq!(decoder.table.entries.len(), 1);
    }

    #[test]
    fn a_field_is_the_same_from_every_table_and_from_none() {
        for (name, value, expected) in [
            (&b"content-type"[..], &b"text/html"[..], Ok(())),
            (b"x-own", b"\xff\t", Ok(())),
            (b"x-own", b"", Ok(())),
            (b"x!#$%&'*+-.^_`|~1", b"a", Ok(())),
            (b"x\"", b"a", Err(BadField::Name)),
            (b"X-Own", b"a", Err(BadField::Name)),
            (b"Content-Type", b"a", Err(BadField::Name)),
            (b"", b"a", Err(BadField::Name)),
            (b"a b", b"a", Err(BadField::Name)),
            (b"a\0", b"a", Err(BadField::Name)),
            (b"\xff", b"a", Err(BadField::Name)),
            (b"a:", b"a", Err(BadField::Name)),
            (b"x-own", b"a\r\nb: c", Err(BadField::Value)),
            (b"host", b"a\0", Err(BadField::Value)),
            (b"x-own", b"\x7f", Err(BadField::Value)),
            (b":method", b"PUT", Err(BadField::Name)),
            (b":path", b"/", Err(BadField::Name)),
            (b":protocol", b"a", Err(BadField::Name)),
            (b":else", b"a", Err(BadField::Name)),
            (b":", b"a", Err(BadField::Name)),
        ] {
            let pseudo = match name {
                b":method" => Some(Pseudo::Method),
                b":path" => Some(Pseudo::Path),
                b":protocol" => Some(Pseudo::Protocol),
                [b':', ..] => Some(Pseudo::Unknown),
                _ => None,
            };
            let mut strings = Vec::new();
            for string in [name, value] {
                integer::encode(string.len(), 0, 7, &mut strings);
                strings.extend_from_slice(string);
            }
            let behind = &strings[..];
            // With it in the table, and its name twice, so that both are looked at again.
            let block = [
                &[0x40],
                behind,
                &[0x00],
                behind,
                &[0x10],
                behind,
                &[0xbe, 0x7e, 1, b'a', 0x0f, 0x2f, 1, b'a'],
            ]
            .concat();
            let mut seen = 0;
            let result =
                Decoder::new(100_000).decode(&[&bytes("3f 81 8c 06"), &block[..]].concat(), |field| {
                    seen += 1;
                    assert_eq!((field.name, field.pseudo()), (name, pseudo));
                    assert_eq!(field.size(), field.name.len() + field.value.len() + 32);
                    assert_eq!(field.shared_value(), field.value);
                    if field.value != value {
                        assert_eq!(field.value, b"a");
                        return;
                    }
                    let found = field.ordinary().map(|(name, value)| (name.as_bytes(), value));
                    assert_eq!(found, expected.map(|()| (name, value)), "{}", text(name));
                });

            assert_eq!((result, seen), (Ok(()), 6));
        }
    }

    #[test]
    fn what_nobody_looked_at_is_in_the_table_all_the_same() {
        let mut decoder = Decoder::new(4096);
        decoder.decode(&bytes("40 01 61 01 62 82 40 01 63 01 64"), |_| {}).unwrap();

        assert_eq!(decoded(&mut decoder, &bytes("be bf")), Ok(fields(&[("c", "d"), ("a", "b")])));
    }

    #[test]
    fn a_decoder_keeps_its_table_and_little_else() {
        let mut decoder = Decoder::new(4096);
        let mut block = vec![0x00, 1, b'a'];
        integer::encode(10_000, 0x80, 7, &mut block);
        // Zeros: the code of 0, five bits long.
        block.extend([0; 10_000]);
        let mut length = 0;
        decoder.decode(&block, |field| length = field.value.len()).unwrap();

        assert_eq!(length, 16_000);
        assert!(decoder.scratch.capacity() <= SCRATCH_BYTES_KEPT);
    }

    proptest::proptest! {
        /// Nothing panics, and nothing is larger than it may be.
        #[test]
        fn any_block_is_fields_or_an_error(blocks: Vec<Vec<u8>>) {
            let mut decoder = Decoder::new(4096);
            for block in blocks {
                let mut handed = 0;
                if decoder.decode(&block, |_| handed += 1).is_err() {
                    break;
                }
                proptest::prop_assert!(handed <= block.len());
                proptest::prop_assert!(decoder.table.size <= 4096);
            }
        }
    }
}
