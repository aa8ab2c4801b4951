//! The frames of a client of HTTP/2 are counted right, however the bytes are cut.
//!
//! The first byte says how long the pieces are; the rest follows the preface.

use std::time::Instant;

use tidegate::front::frames::{Code, Frames};

/// As `front::frames` has them: what one connection may send at once of frames that do nothing, and the most that one
/// of these costs.
const TOKENS_MAX: usize = 1000;
const COST_MAX: usize = 4;
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub fn holds(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let now = Instant::now();
    let mut whole = Frames::new();
    assert_eq!(whole.received(&PREFACE, now), Ok(()));
    let mut pieces = whole.clone();
    let counted = counted(bytes);

    let outcome = whole.received(bytes, now);
    let piecewise = bytes.chunks(usize::from(size).max(1)).try_for_each(|piece| pieces.received(piece, now));

    assert_eq!(piecewise, outcome);
    match outcome {
        Ok(()) => {
            let goaway = whole.goaway(Code::EnhanceYourCalm);
            assert_eq!(goaway, pieces.goaway(Code::EnhanceYourCalm));
            assert_eq!(goaway[9..13], counted.last_stream.to_be_bytes());
            assert!(counted.useless <= TOKENS_MAX, "{} passed", counted.useless);
        }
        Err(Code::EnhanceYourCalm) => assert!(counted.frames * COST_MAX > TOKENS_MAX),
        Err(_) => {}
    }
}

struct Counted {
    frames: usize,
    useless: usize,
    last_stream: u32,
}

/// RFC 9113 section 4.1: nine bytes, then as many as they say.
fn counted(bytes: &[u8]) -> Counted {
    let (mut counted, mut rest) = (Counted { frames: 0, useless: 0, last_stream: 0 }, bytes);
    while let Some((header, after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
        let is_useful = match header[3] {
            0 => length > 0 || header[4] & 1 == 1,
            1 | 7 => true,
            _ => false,
        };
        counted.frames += 1;
        counted.useless += usize::from(!is_useful);
        if header[3] == 1 {
            counted.last_stream = counted.last_stream.max(stream);
        }
        rest = after.get(length..).unwrap_or_default();
    }
    counted
}
