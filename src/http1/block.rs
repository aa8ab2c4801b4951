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

/// Bytes of a field of usual size: room for so many is made at once.
const USUAL_BYTES: usize = 32;

/// The fields of a block that ends in an empty line (RFC 9112 section 5), in their order. A name is a token right before its
/// colon; a value is one line, without the blanks around it and without control characters but tabs.
///
/// # Errors
/// They are none, or more than `fields_max`.
pub fn fields(block: &Bytes, fields_max: usize) -> Result<HeaderMap, BadBlock> {
    let mut map = HeaderMap::with_capacity(fields_max.min(block.len() / USUAL_BYTES + 2));
    let mut rest = &block[..];
    loop {
        if let [b'\r', b'\n', behind @ ..] = rest {
            return if behind.is_empty() { Ok(map) } else { Err(BadBlock::Malformed) };
        }
        if map.len() == fields_max {
            return Err(BadBlock::TooMany);
        }
        let (name, value, next) = field(block, rest).ok_or(BadBlock::Malformed)?;
        map.try_append(name, value).map_err(|_| BadBlock::TooMany)?;
        rest = next;
    }
}

/// The first field of `rest`, which is a part of `block`, and what follows it.
fn field<'a>(block: &Bytes, rest: &'a [u8]) -> Option<(HeaderName, HeaderValue, &'a [u8])> {
    let colon = rest.iter().position(|b| !fields::is_token_byte(*b)).filter(|end| rest[*end] == b':')?;
    let name = HeaderName::from_bytes(&rest[..colon]).ok()?;
    let rest = &rest[colon + 1..];
    let end = memchr::memchr(b'\n', rest)?;
    let value = block.slice_ref(trim(rest[..end].strip_suffix(b"\r")?));
    Some((name, HeaderValue::from_maybe_shared(value).ok()?, &rest[end + 1..]))
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
