//! The frames of a client of HTTP/2 are counted right, however the bytes are cut.
//!
//! The first byte says how long the pieces are; the rest follows the preface.

use std::time::Instant;

use tidegate::front::frames::{Flood, Frames};

/// As `front::frames` has them.
const TOKENS_MAX: usize = 1000;
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn holds(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let now = Instant::now();
    let mut whole = Frames::new();
    assert_eq!(whole.received(&PREFACE, now), Ok(()));
    let mut pieces = whole.clone();
    let (useless, last_stream) = counted(bytes);

    let outcome = whole.received(bytes, now);
    assert_eq!(outcome, if useless > TOKENS_MAX { Err(Flood) } else { Ok(()) });
    let piecewise = bytes.chunks(usize::from(size).max(1)).try_for_each(|piece| pieces.received(piece, now));
    assert_eq!(piecewise, outcome);
    if outcome.is_ok() {
        assert_eq!(whole.goaway(), pieces.goaway());
        assert_eq!(whole.goaway()[9..13], last_stream.to_be_bytes());
    }
}

/// RFC 9113 section 4.1: nine bytes, then as many as they say.
fn counted(bytes: &[u8]) -> (usize, u32) {
    let (mut useless, mut last_stream, mut rest) = (0, 0, bytes);
    while let Some((header, after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
        let is_useful = match header[3] {
            0 => length > 0 || header[4] & 1 == 1,
            1 | 7 => true,
            _ => false,
        };
        useless += usize::from(!is_useful);
        last_stream = if header[3] == 1 { last_stream.max(stream) } else { last_stream };
        rest = after.get(length..).unwrap_or_default();
    }
    (useless, last_stream)
}
