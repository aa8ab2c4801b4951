//! Fields, as heads and trailers have them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::fields;

/// Why a block is not one of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBlock {
    /// A line of it is no field, or folded.
    Malformed,
    /// It has more fields than it may.
    TooMany,
}

/// The fields of a block that ends in an empty line (RFC 9112 section 5), in their order. A name is a token right before its
/// colon; a value is one line, without the blanks around it and without control characters but tabs.
///
/// # Errors
/// They are none, or more than `fields_max`.
pub fn fields(block: &Bytes, fields_max: usize) -> Result<HeaderMap, BadBlock> {
    let lines = memchr::memchr_iter(b'\n', block).count();
    if lines > fields_max.saturating_add(1) {
        return Err(BadBlock::TooMany);
    }
    let mut map = HeaderMap::with_capacity(lines);
    let mut rest = &block[..];
    loop {
        let end = memchr::memchr(b'\n', rest).ok_or(BadBlock::Malformed)?;
        let line = rest[..end].strip_suffix(b"\r").ok_or(BadBlock::Malformed)?;
        rest = &rest[end + 1..];
        if line.is_empty() {
            return if rest.is_empty() { Ok(map) } else { Err(BadBlock::Malformed) };
        }
        let (name, value) = field(block, line).ok_or(BadBlock::Malformed)?;
        map.try_append(name, value).map_err(|_| BadBlock::TooMany)?;
    }
}

/// The field that `line` is, which is a part of `block`.
fn field(block: &Bytes, line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|b| !fields::is_token_byte(*b)).filter(|end| line[*end] == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = block.slice_ref(trim(&line[colon + 1..]));
    Some((name, HeaderValue::from_maybe_shared(value).ok()?))
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

    fn read(text: &[u8]) -> Result<Vec<(String, Vec<u8>)>, BadBlock> {
        let map = fields(&Bytes::copy_from_slice(text), 3)?;
        Ok(map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect())
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
