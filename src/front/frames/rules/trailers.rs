//! Pseudo-fields in trailers, which make a request malformed (RFC 9113 section 8.1), and which h2 drops without a word.
//!
//! A block is taken apart just as far as that needs (RFC 7541 section 6), and only blocks of trailers, which are rare. A
//! field that is named by an entry of the dynamic table is passed by: to know it, all blocks would have to be decoded. h2
//! drops it as it drops all others, so no server ever sees it.

/// Entries of the static table that are pseudo-fields (RFC 7541 appendix A).
const PSEUDO: std::ops::RangeInclusive<usize> = 1..=14;
/// Bytes of a block that are looked at: as many as a list of fields may have by default, though they may stand for more.
const BLOCK_BYTES_MAX: usize = 32 * 1024;

/// One block of trailers, over all its frames.
#[derive(Debug, Clone, Default)]
pub struct Trailers {
    block: Vec<u8>,
    padding: Padding,
    /// Bytes of the frame before its part of the block, those of that part, and those of padding behind it.
    before: usize,
    left: usize,
    part: Part,
}

/// Where a frame says how much padding it has (RFC 9113 section 6.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Padding {
    #[default]
    None,
    SaidFirst,
}

/// Which part of a block a frame holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    #[default]
    MoreToCome,
    Last,
}

impl Trailers {
    /// A frame of `length` bytes begins; so many bytes of priority stand before its part of the block.
    pub fn frame(&mut self, length: usize, priority: usize, padding: Padding, part: Part) {
        (self.padding, self.before, self.part) = (padding, priority, part);
        self.left = length.saturating_sub(priority);
    }

    /// Bytes of the frame's payload. True when the block is whole, and has a pseudo-field.
    pub fn have_pseudo_fields(&mut self, mut bytes: &[u8]) -> bool {
        if self.padding == Padding::SaidFirst
            && let Some((padding, after)) = bytes.split_first()
        {
            self.padding = Padding::None;
            self.left = self.left.saturating_sub(1 + usize::from(*padding));
            bytes = after;
        }
        let before = self.before.min(bytes.len());
        self.before -= before;
        let ours = &bytes[before..];
        let ours = &ours[..ours.len().min(self.left)];
        self.left -= ours.len();
        let room = BLOCK_BYTES_MAX - self.block.len();
        self.block.extend_from_slice(&ours[..ours.len().min(room)]);
        self.left == 0 && self.part == Part::Last && has_pseudo_field(&self.block).unwrap_or(false)
    }
}

/// `None`: what the block holds is cut off.
fn has_pseudo_field(block: &[u8]) -> Option<bool> {
    let mut rest = block;
    while let Some(first) = rest.first() {
        // Section 6, by the leading bits: indexed; literal that is kept; the table's size; other literals.
        let (prefix, has_name, has_value) = match first {
            0x80.. => (7, true, false),
            0x40.. => (6, true, true),
            0x20.. => (5, false, false),
            _ => (4, true, true),
        };
        let (index, after) = integer(rest, prefix)?;
        rest = after;
        if has_name && PSEUDO.contains(&index) {
            return Some(true);
        }
        if has_value && index == 0 {
            let (name, after) = string(rest)?;
            if name.begins_with_colon() {
                return Some(true);
            }
            rest = after;
        }
        if has_value {
            rest = string(rest)?.1;
        }
    }
    Some(false)
}

struct Text<'a> {
    is_huffman: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    /// Plainly, or in the seven bits that are a colon in Huffman's code (appendix B).
    fn begins_with_colon(&self) -> bool {
        match self.bytes.first() {
            Some(first) if self.is_huffman => first >> 1 == 0b101_1100,
            first => first == Some(&b':'),
        }
    }
}

/// Section 5.2.
fn string(bytes: &[u8]) -> Option<(Text<'_>, &[u8])> {
    let is_huffman = bytes.first()? & 0x80 != 0;
    let (length, after) = integer(bytes, 7)?;
    let (bytes, after) = after.split_at_checked(length)?;
    Some((Text { is_huffman, bytes }, after))
}

/// Section 5.1. One that is too large for h2 is none.
fn integer(bytes: &[u8], prefix: u32) -> Option<(usize, &[u8])> {
    let (first, mut rest) = bytes.split_first()?;
    let most = (1 << prefix) - 1;
    let mut value = usize::from(*first) & most;
    if value < most {
        return Some((value, rest));
    }
    for shift in [0, 7, 14, 21] {
        let (byte, after) = rest.split_first()?;
        rest = after;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, rest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudo_fields_are_found_in_every_form() {
        for (name, block, expected) in [
            ("nothing", &b""[..], Some(false)),
            ("a plain field", b"\x00\x01x\x011", Some(false)),
            ("a field of the static table", b"\x90", Some(false)),
            ("a name of the static table", b"\x5f\x01x\x0f\x01\x01x", Some(false)),
            ("the first behind them", b"\x8f", Some(false)),
            ("an entry of the dynamic table", b"\xbe\xff\x80\x01", Some(false)),
            ("a size, which is no index", b"\x22", Some(false)),
            ("a colon in a value", b"\x00\x01x\x01:", Some(false)),
            (":authority", b"\x81", Some(true)),
            (":status of the static table", b"\x8e", Some(true)),
            (":path by its name's index, kept", b"\x44\x01/", Some(true)),
            (":path by its name's index", b"\x04\x01/", Some(true)),
            (":path by its name's index, never kept", b"\x14\x01/", Some(true)),
            ("by its name", b"\x00\x02:x\x011", Some(true)),
            ("by its name, kept", b"\x40\x02:x\x011", Some(true)),
            (":path in Huffman's code", b"\x00\x84\xb9\x58\xd3\x3f\x01/", Some(true)),
            ("behind another field", b"\x00\x01x\x011\x84", Some(true)),
            ("behind a long value", &[&b"\x00\x01x\x7f\x01"[..], &[b'a'; 128], b"\x84"].concat(), Some(true)),
            ("cut in an integer", b"\xff\x80", None),
            ("cut in a value", b"\x00\x01x\x051", None),
            ("an integer without end", b"\xff\xff\xff\xff\xff\xff\xff\x01", None),
        ] {
            assert_eq!(has_pseudo_field(block), expected, "{name}");
        }
    }

    #[test]
    fn a_block_is_looked_at_when_it_is_whole_and_without_what_is_around_it() {
        let mut trailers = Trailers::default();
        // Padding of two, priority, then five bytes of the block.
        trailers.frame(13, 5, Padding::SaidFirst, Part::MoreToCome);
        for bytes in [&b"\x02\x84\x84"[..], b"\x84\x84\x84", b"\x00\x01", b"x\x01", b"1\x84", b"\x84"] {
            assert!(!trailers.have_pseudo_fields(bytes));
        }
        trailers.frame(1, 0, Padding::None, Part::MoreToCome);
        assert!(!trailers.have_pseudo_fields(b"\x84"), "there is more to come");
        trailers.frame(1, 0, Padding::None, Part::Last);
        assert!(trailers.have_pseudo_fields(b"\x90"));

        let mut trailers = Trailers::default();
        trailers.frame(9, 5, Padding::SaidFirst, Part::Last);
        assert!(!trailers.have_pseudo_fields(b"\x02\x84\x84\x84\x84\x84\x90\x84\x84"), "padding is no field");
    }

    proptest::proptest! {
        #[test]
        fn no_block_makes_it_panic(block in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = has_pseudo_field(&block);
        }
    }
}
