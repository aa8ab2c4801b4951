//! Numbers (RFC 7541 section 5.1): what fits of them into the low bits of a byte, and seven bits in each of those behind.

use crate::hpack::DecodeError;

/// Bytes behind the first: 35 bits, where everything that is counted here is below 2^32.
const BYTES_MAX: u32 = 5;

/// Reads one whose first byte is `first`, in whose `prefix` lowest bits it begins.
pub(super) fn decode(first: u8, prefix: u32, rest: &mut &[u8]) -> Result<usize, DecodeError> {
    let full = u8::MAX >> (8 - prefix);
    let mut value = u64::from(first & full);
    if value < u64::from(full) {
        return Ok(usize::from(first & full));
    }
    for place in 0..BYTES_MAX {
        let (&byte, behind) = rest.split_first().ok_or(DecodeError::Truncated)?;
        *rest = behind;
        value += u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return usize::try_from(value).map_err(|_| DecodeError::Integer);
        }
    }
    Err(DecodeError::Integer)
}

/// Writes `value` behind the bits of `first` that are above `prefix`.
#[inline]
pub(super) fn encode(value: usize, first: u8, prefix: u32, out: &mut Vec<u8>) {
    let full = u8::MAX >> (8 - prefix);
    match value.checked_sub(usize::from(full)) {
        None => out.push(first | value as u8),
        Some(left) => encode_rest(left, first | full, out),
    }
}

fn encode_rest(mut left: usize, first: u8, out: &mut Vec<u8>) {
    out.push(first);
    while left >= 0x80 {
        out.push(0x80 | left as u8);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], prefix: u32) -> Result<(usize, usize), DecodeError> {
        let mut rest = &bytes[1..];
        decode(bytes[0], prefix, &mut rest).map(|value| (value, rest.len()))
    }

    #[test]
    fn numbers_are_those_of_appendix_c_1() {
        for (value, prefix, bytes) in
            [(10, 5, &[0b0_1010][..]), (1337, 5, &[0b1_1111, 0b1001_1010, 0b1010]), (42, 8, &[0b10_1010])]
        {
            let mut out = Vec::new();
            encode(value, 0, prefix, &mut out);
            assert_eq!((out.as_slice(), read(bytes, prefix)), (bytes, Ok((value, 0))));
        }
    }

    #[test]
    fn a_number_has_an_end_and_no_more_than_five_bytes_behind_its_first() {
        for (bytes, prefix, expected) in [
            (&[0xe0 | 30, 1][..], 5, Ok((30, 1))),
            (&[0x1f, 0], 5, Ok((31, 0))),
            (&[0x7f, 0x80, 0], 7, Ok((127, 0))),
            (&[0x1f, 0x80, 0x80, 0x80, 0x80, 0], 5, Ok((31, 0))),
            (&[0x1f, 0xff, 0xff, 0xff, 0xff, 0x7f, 1], 5, Ok((31 + (1 << 35) - 1, 1))),
            (&[0x1f, 0x80, 0x80, 0x80, 0x80, 0x80, 0], 5, Err(DecodeError::Integer)),
            (&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 5, Err(DecodeError::Integer)),
            (&[0x1f], 5, Err(DecodeError::Truncated)),
            (&[0x1f, 0x80], 5, Err(DecodeError::Truncated)),
        ] {
            assert_eq!(read(bytes, prefix), expected, "{bytes:x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_written_is_read(value in 0usize..1 << 33, prefix in 4u32..8) {
            let mut out = Vec::new();
            encode(value, 0, prefix, &mut out);
            proptest::prop_assert_eq!(read(&out, prefix), Ok((value, 0)));
        }
    }
}
