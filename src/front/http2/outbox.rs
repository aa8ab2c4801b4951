//! What is to be written, gathered: one system call for all of it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Frames in their order: what is small (headers of frames, heads, a little data) as text, pieces of bodies as they
/// are, not copied.
#[derive(Debug, Default)]
pub struct Outbox {
    /// All of the text; what is written of it stands at its beginning.
    text: Vec<u8>,
    text_written: usize,
    /// How much of the text stands before the last piece, or has been written.
    text_claimed: usize,
    pieces: VecDeque<Piece>,
    /// Bytes that wait.
    length: usize,
}

#[derive(Debug)]
struct Piece {
    /// Bytes of text between the piece before and this one.
    text: usize,
    data: Bytes,
}

/// Slices that are written at once: text and data of all that [`FULL_BYTES`] let in.
pub const SLICES_MAX: usize = 16;
/// No more of bodies is gathered beyond: what waits for the client is memory that it holds.
pub const FULL_BYTES: usize = 64 * 1024;
/// Data up to this are copied: cheaper than a slice of their own.
const COPIED: usize = 1024;
/// Text that has been written and still stands there is moved out of the way when it is so much.
const WRITTEN_MAX: usize = 16 * 1024;

impl Outbox {
    /// Adds text.
    pub fn text<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let before = self.text.len();
        let outcome = write(&mut self.text);
        self.length += self.text.len() - before;
        outcome
    }

    /// Adds a piece of a body.
    pub fn data(&mut self, data: Bytes) {
        if data.len() <= COPIED {
            return self.text(|text| text.extend_from_slice(&data));
        }
        self.length += data.len();
        let text = self.text.len() - self.text_claimed;
        self.text_claimed = self.text.len();
        self.pieces.push_back(Piece { text, data });
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// True when bodies must wait.
    pub fn is_full(&self) -> bool {
        self.length >= FULL_BYTES
    }

    /// What is to be written first, in order; how many slices of `into` are used.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let (mut count, mut at) = (0, self.text_written);
        let mut add = |bytes: &'a [u8]| {
            if !bytes.is_empty() && count < SLICES_MAX {
                into[count] = IoSlice::new(bytes);
                count += 1;
            }
        };
        // No more than fit: of each at least its data is a slice.
        for piece in self.pieces.iter().take(SLICES_MAX) {
            add(&self.text[at..at + piece.text]);
            add(&piece.data);
            at += piece.text;
        }
        if self.pieces.len() < SLICES_MAX {
            add(&self.text[at..]);
        }
        count
    }

    /// So many bytes have been written.
    pub fn advance(&mut self, written: usize) {
        debug_assert!(written <= self.length);
        self.length -= written;
        let mut left = written;
        while left > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                self.text_written += left;
                self.text_claimed = self.text_claimed.max(self.text_written);
                break;
            };
            let text = left.min(piece.text);
            (piece.text, self.text_written, left) =
                (piece.text - text, self.text_written + text, left - text);
            let data = left.min(piece.data.len());
            piece.data.advance(data);
            left -= data;
            if piece.data.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.forget_written();
    }

    /// Gives back what memory it can, at rest.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Outbox::default();
        }
    }

    /// True when it has none.
    pub fn is_shrunk(&self) -> bool {
        self.text.capacity() == 0 && self.pieces.capacity() == 0
    }

    fn forget_written(&mut self) {
        if self.length == 0 {
            self.text.clear();
        } else if self.text_written >= WRITTEN_MAX {
            self.text.drain(..self.text_written);
        } else {
            return;
        }
        self.text_claimed = if self.length == 0 { 0 } else { self.text_claimed - self.text_written };
        self.text_written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(outbox: &mut Outbox, most: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = outbox.slices(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).take(most).collect();
        outbox.advance(bytes.len());
        bytes
    }

    proptest::proptest! {
        #[test]
        fn all_is_written_once_and_in_order_however_little_is_taken_at_once(
            steps in proptest::collection::vec((0usize..3, 0usize..5000), 1..60),
        ) {
            let mut outbox = Outbox::default();
            let (mut expected, mut seen) = (Vec::new(), Vec::new());
            for (n, (what, length)) in steps.into_iter().enumerate() {
                let bytes = vec![n as u8; length];
                match what {
                    0 => outbox.text(|text| text.extend_from_slice(&bytes)),
                    1 => outbox.data(Bytes::from(bytes.clone())),
                    _ => seen.extend(write(&mut outbox, length)),
                }
                if what < 2 {
                    expected.extend(bytes);
                }
                proptest::prop_assert_eq!(outbox.len(), expected.len() - seen.len());
                proptest::prop_assert!(outbox.text_written < WRITTEN_MAX + 5000);
            }
            while !outbox.is_empty() {
                seen.extend(write(&mut outbox, 7000));
            }
            proptest::prop_assert!(seen == expected);
            proptest::prop_assert_eq!((outbox.text.len(), outbox.pieces.len()), (0, 0));
        }
    }
}
