//! What is to be written, gathered: one system call for all of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;

/// Pieces of text (heads, sizes of chunks) and of bodies, in their order. Bodies are not copied.
#[derive(Debug, Default)]
pub struct Outbox {
    /// All of the text.
    text: Vec<u8>,
    /// Pieces of bodies, and how much of the text goes before each. Small bodies have none: they are copied.
    pieces: Vec<(usize, Bytes)>,
    /// Bytes in all.
    length: usize,
    /// Bytes that are written already.
    written: usize,
}

/// Slices that are written at once: as many as a small vector of the kernel's holds without asking for memory
/// (UIO_FASTIOV).
const SLICES_MAX: usize = 8;
/// Text before each, and text behind the last.
const PIECES_MAX: usize = (SLICES_MAX - 1) / 2;
/// No more is gathered beyond: what waits for the client is memory that it holds.
const FULL_BYTES: usize = 128 * 1024;

impl Outbox {
    /// With a head.
    pub fn new(head: Vec<u8>) -> Self {
        Outbox { length: head.len(), text: head, ..Outbox::default() }
    }

    /// Adds text.
    pub fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.text.len();
        write(&mut self.text);
        self.length += self.text.len() - before;
    }

    /// Adds a piece of a body; one that comes when it is full already is copied.
    pub fn data(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        if self.pieces.len() == PIECES_MAX {
            return self.text(|text| text.extend_from_slice(&data));
        }
        self.length += data.len();
        self.pieces.push((self.text.len(), data));
    }

    /// True when it is time to write.
    pub fn is_full(&self) -> bool {
        self.pieces.len() == PIECES_MAX || self.length >= FULL_BYTES
    }

    /// True when all of it is written.
    pub fn is_empty(&self) -> bool {
        self.length == self.written
    }

    /// What is to be written, in order; how many slices of `into` are used.
    fn slices<'a>(&'a self, into: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let (mut count, mut skip, mut text) = (0, self.written, 0);
        let mut add = |bytes: &'a [u8]| {
            let skipped = skip.min(bytes.len());
            skip -= skipped;
            if skipped < bytes.len() && count < SLICES_MAX {
                into[count] = IoSlice::new(&bytes[skipped..]);
                count += 1;
            }
        };
        for (text_end, data) in &self.pieces {
            add(&self.text[text..*text_end]);
            add(data);
            text = *text_end;
        }
        add(&self.text[text..]);
        count
    }

    /// Writes some of it, at least one byte. One slice is sent, which is cheaper for the kernel than a vector of one.
    ///
    /// # Errors
    /// The stream's.
    pub fn poll_write(
        &self,
        cx: &mut Context<'_>,
        stream: Pin<&mut impl AsyncWrite>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.slices(&mut slices);
        let written = match &slices[..count] {
            [one] => stream.poll_write(cx, one),
            many => stream.poll_write_vectored(cx, many),
        };
        match ready!(written) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => Poll::Ready(written),
        }
    }

    /// So many bytes have been written.
    pub fn advance(&mut self, written: usize) {
        self.written += written;
        if self.is_empty() {
            self.text.clear();
            self.pieces.clear();
            (self.length, self.written) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_written_in_order_however_little_is_taken_at_once() {
        for step in 1..20 {
            let mut outbox = Outbox::default();
            outbox.text(|text| text.extend(b"head"));
            outbox.data(Bytes::from("body"));
            outbox.data(Bytes::from("more"));
            outbox.data(Bytes::new());
            assert!(!outbox.is_full());
            outbox.text(|text| text.extend(b"size"));
            outbox.data(Bytes::from("chunk"));
            outbox.text(|text| text.extend(b"end"));
            assert!(outbox.is_full());
            outbox.data(Bytes::from("late"));

            let mut seen = Vec::new();
            while !outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = outbox.slices(&mut slices);
                let bytes: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).take(step).collect();
                outbox.advance(bytes.len());
                seen.extend(bytes);
            }
            assert_eq!(String::from_utf8(seen).unwrap(), "headbodymoresizechunkendlate", "{step} at once");
            assert!(!outbox.is_full());
        }
    }
}
