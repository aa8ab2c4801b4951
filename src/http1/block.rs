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
/// colon; a value is one line, without the blanks around it and without control characters but tabs.
///
/// # Errors
/// They are none, or more than `fields_max`.
pub fn fields(block: &[u8], fields_max: usize) -> Result<Fields, BadBlock> {
    let mut fields = Fields::of_text(block.to_vec(), fields_max.min(block.len() / USUAL_BYTES + 2));
    let mut begin = 0;
    loop {
        if let [b'\r', b'\n', behind @ ..] = &block[begin..] {
            return if behind.is_empty() { Ok(fields) } else { Err(BadBlock::Malformed) };
        }
        if fields.len() == fields_max {
            return Err(BadBlock::TooMany);
        }
        begin = field(&mut fields, begin, block.len()).ok_or(BadBlock::Malformed)?;
    }
}

/// Takes the field at `begin`; where the next line begins. The block ends at `block_end`.
fn field(fields: &mut Fields, begin: usize, block_end: usize) -> Option<usize> {
    let text = &mut fields.text_mut()[..block_end];
    let colon = begin + fields::lower_token(&mut text[begin..]);
    if colon == begin || text.get(colon) != Some(&b':') {
        return None;
    }
    let line = &text[colon + 1..];
    let newline = memchr::memchr(b'\n', line)?;
    let line = line[..newline].strip_suffix(b"\r")?;
    if !fields::is_value(line) {
        return None;
    }
    let next = colon + newline + 2;
    // As nearly everyone writes it: one blank before the value, none behind it.
    if let [b' ', value @ ..] = line
        && trim(value).len() == value.len()
    {
        fields.found(begin, colon + 2, next);
        return Some(next);
    }
    let value = trim(line);
    let blanks = line.len() - line.trim_ascii_start().len();
    let value_begin = if value.is_empty() { colon + 1 } else { colon + 1 + blanks };
    let value_end = value_begin + value.len();
    fields.found_loose(begin, colon, value_begin, value_end);
    Some(next)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text_of: &[u8]) -> Result<Vec<(String, Vec<u8>)>, BadBlock> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = fields(text_of, 3)?;
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
