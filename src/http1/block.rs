//! Fields, as heads and trailers have them.

use crate::fields::{self, Fields};

/// Why a block is not one of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBlock {
    /// A line of it is no field, or folded.
    Malformed,
    /// It has more fields than it may.
    TooMany,
}

/// Bytes of a field of usual size: room for so many is made at once.
const USUAL_BYTES: usize = 32;

/// The fields of a block that ends in an empty line (RFC 9112 section 5), in their order. A name is a token right before its
/// colon; a value is one line, without the blanks around it and without control characters but tabs. `newlines` are where the
/// lines of the block end, of as many of the first ones as is known.
///
/// # Errors
/// They are none, or more than `fields_max`.
pub fn fields(
    block: &[u8],
    mut newlines: impl Iterator<Item = usize>,
    fields_max: usize,
) -> Result<Fields, BadBlock> {
    if has_controls(block) {
        return Err(BadBlock::Malformed);
    }
    let mut fields = Fields::of_text(block.to_vec(), fields_max.min(block.len() / USUAL_BYTES + 2));
    let mut begin = 0;
    loop {
        if let [b'\r', b'\n', behind @ ..] = &block[begin..] {
            return if behind.is_empty() { Ok(fields) } else { Err(BadBlock::Malformed) };
        }
        if fields.len() == fields_max {
            return Err(BadBlock::TooMany);
        }
        let newline = newlines.next().or_else(|| Some(begin + memchr::memchr(b'\n', &block[begin..])?));
        let end = newline.ok_or(BadBlock::Malformed)? + 1;
        debug_assert!(memchr::memchr(b'\n', &block[begin..end]) == Some(end - 1 - begin));
        field(&mut fields, begin, end).ok_or(BadBlock::Malformed)?;
        begin = end;
    }
}

/// Whether there are control characters besides tabs, LF, and CR before an LF.
fn has_controls(block: &[u8]) -> bool {
    let is_control = |b: u8| fields::is_control(b) & (b != b'\r') & (b != b'\n');
    let Some((last, _)) = block.split_last() else { return false };
    let pairs = block.iter().zip(&block[1..]);
    // All of them are looked at, however it stands: that way many are at once.
    let has = pairs.fold(false, |has, (b, next)| has | is_control(*b) | ((*b == b'\r') & (*next != b'\n')));
    has | is_control(*last) | (*last == b'\r')
}

/// Takes the field whose line is `begin..end`.
fn field(fields: &mut Fields, begin: usize, end: usize) -> Option<()> {
    let line = &mut fields.text_mut()[begin..end];
    let colon = fields::lower_token(line);
    if colon == 0 || line[colon] != b':' {
        return None;
    }
    let raw = line[colon + 1..].strip_suffix(b"\r\n")?;
    // As nearly everyone writes it: one blank before the value, none behind it.
    if let [b' ', value @ ..] = raw
        && !fields::is_padded(value)
    {
        fields.found(begin, begin + colon + 2, end);
        return Some(());
    }
    let value = begin + colon + 1 + (raw.len() - raw.trim_ascii_start().len());
    let value_end = value + raw.trim_ascii().len();
    fields.found_loose(begin, begin + colon, value, value_end);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text_of: &[u8]) -> Result<Vec<(String, Vec<u8>)>, BadBlock> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let known = text_of.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at);
        let fields = fields(text_of, known, 3)?;
        assert_eq!(Ok(&fields), super::fields(text_of, std::iter::empty(), 3).as_ref());
        Ok(fields.iter().map(|field| (text(field.name()), field.value().to_vec())).collect())
    }

    #[test]
    fn fields_are_read_to_the_byte() {
        for (text, expected) in [
            (&b"\r\n"[..], vec![]),
            (b"A:b\r\n\r\n", vec![("a", &b"b"[..])]),
            (
                b"A: \t b \tc\t \r\nEmpty:\r\nBlank: \r\n\r\n",
                vec![("a", b"b \tc"), ("empty", b""), ("blank", b"")],
            ),
            (b"X-1!#$%&'*+-.^_`|~: \x80\xff:\r\n\r\n", vec![("x-1!#$%&'*+-.^_`|~", b"\x80\xff:")]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            assert_eq!(read(text), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_field_is_none() {
        for text in [
            &b""[..],
            b"A: b\r\n",
            b"A: b\n\r\n",
            b"A: b\r\n\n",
            b"A: b\r\n\r\n\r\n",
            b"A\r\n\r\n",
            b": b\r\n\r\n",
            b"A : b\r\n\r\n",
            b" A: b\r\n\r\n",
            b"\tA: b\r\n\r\n",
            b"A: b\r\n c\r\n\r\n",
            b"A\"B: c\r\n\r\n",
            b"A\x80: c\r\n\r\n",
            b"A(B): c\r\n\r\n",
            b"A: b\0\r\n\r\n",
            b"A: b\rc\r\n\r\n",
            b"A: b\r\r\n\r\n",
            b"A: b\x7f\r\n\r\n",
        ] {
            assert_eq!(read(text), Err(BadBlock::Malformed), "{:?}", String::from_utf8_lossy(text));
        }
        assert_eq!(read(&[&b"A: b\r\n".repeat(4)[..], b"\r\n"].concat()), Err(BadBlock::TooMany));
        assert_eq!(read(&[&b"A: b\r\n".repeat(3)[..], b"\r\n"].concat()).map(|f| f.len()), Ok(3));
    }
}
