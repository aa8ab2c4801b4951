//! Interim responses (RFC 9110 section 15.2) on their way to a client of HTTP/1.1.
//!
//! hyper's server has no way to send one, so the socket under it does: between two messages, and nowhere else. One
//! that finds no such place is left out, as it may be.
//!
//! hyper flushes its socket only when its own buffer is empty. If that happens while a request runs (its service
//! has not answered yet, so hyper cannot have begun the final head), all that went out before was whole: the wire
//! is clean, and stays so until hyper writes the next byte. See `poll_flush` of its `proto::h1::io`.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};

/// Bytes that may wait for a client that reads slowly. 64 KiB: one head of a server is no larger.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Those of one connection. The flags keep the lock, which nobody ever waits for, out of the path of requests that
/// have none.
#[derive(Default)]
pub struct Interims {
    /// A request runs: its final response is not in hyper's hands.
    is_open: AtomicBool,
    /// Nothing was written since a flush while a request ran.
    is_clean: AtomicBool,
    has_some: AtomicBool,
    waiting: Mutex<BytesMut>,
}

impl Interims {
    /// A request begins. What was left of the one before comes too late.
    pub fn open(&self) {
        self.is_clean.store(false, Relaxed);
        self.forget();
        self.is_open.store(true, Relaxed);
    }

    /// Its final response is there: none is taken from now on.
    pub fn close(&self) {
        self.is_open.store(false, Relaxed);
    }

    /// One more, whole. The flush that follows each poll of a request sends it.
    pub fn put(&self, bytes: &[u8]) {
        let mut waiting = self.waiting();
        if self.is_open.load(Relaxed) && waiting.len() + bytes.len() <= WAITING_BYTES_MAX {
            waiting.extend_from_slice(bytes);
            self.has_some.store(true, Relaxed);
        }
    }

    /// All that was written has been flushed: what may go out now.
    pub fn after_flush(&self) -> Option<Bytes> {
        let is_open = self.is_open.load(Relaxed);
        self.is_clean.store(is_open, Relaxed);
        if is_open { self.take() } else { None }
    }

    /// hyper is about to write: what may go out before that.
    pub fn before_write(&self) -> Option<Bytes> {
        let was_clean = self.is_clean.load(Relaxed);
        self.is_clean.store(false, Relaxed);
        if was_clean {
            return self.take();
        }
        if !self.is_open.load(Relaxed) {
            // The final head may be in what is written now.
            self.forget();
        }
        None
    }

    fn take(&self) -> Option<Bytes> {
        if !self.has_some.load(Relaxed) {
            return None;
        }
        self.has_some.store(false, Relaxed);
        Some(std::mem::take(&mut *self.waiting()).freeze())
    }

    fn forget(&self) {
        drop(self.take());
    }

    fn waiting(&self) -> MutexGuard<'_, BytesMut> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens on a connection.
    enum Does {
        Open,
        Close,
        Put(&'static str),
        /// And what goes out then.
        Flush(Option<&'static str>),
        Write(Option<&'static str>),
    }

    #[test]
    fn an_interim_response_goes_out_between_two_messages_or_not_at_all() {
        use Does::*;
        let cases: &[&[Does]] = &[
            // As soon as it is there.
            &[
                Open,
                Flush(None),
                Put("a"),
                Flush(Some("a")),
                Put("b"),
                Put("c"),
                Flush(Some("bc")),
                Close,
                Write(None),
            ],
            // Together with the final response.
            &[Open, Flush(None), Put("a"), Close, Write(Some("a")), Write(None), Flush(None)],
            // The rest of the response before, or `100 Continue`, is still being written.
            &[Open, Put("a"), Write(None), Write(None), Flush(Some("a")), Close, Write(None)],
            // The same, and the final response is behind it in hyper's buffer.
            &[Open, Put("a"), Write(None), Close, Write(None), Flush(None), Write(None)],
            &[Open, Flush(None), Write(None), Put("a"), Close, Write(None), Flush(None)],
            // No request runs, or none runs any longer.
            &[Put("a"), Flush(None), Write(None)],
            &[Open, Flush(None), Close, Put("a"), Write(None), Flush(None)],
            // What a request has left behind is not taken for the next one's.
            &[Open, Flush(None), Put("a"), Close, Open, Flush(None), Write(None)],
        ];
        for (nth, steps) in cases.iter().enumerate() {
            let interims = Interims::default();
            for (place, step) in steps.iter().enumerate() {
                let (said, expected) = match step {
                    Open => {
                        interims.open();
                        (None, None)
                    }
                    Close => {
                        interims.close();
                        (None, None)
                    }
                    Put(text) => {
                        interims.put(text.as_bytes());
                        (None, None)
                    }
                    Flush(expected) => (interims.after_flush(), *expected),
                    Write(expected) => (interims.before_write(), *expected),
                };
                assert_eq!(said.as_deref(), expected.map(str::as_bytes), "case {nth}, step {place}");
            }
        }
    }

    #[test]
    fn one_that_finds_no_room_is_left_out_whole() {
        let interims = Interims::default();
        interims.open();

        interims.put(&[b'a'; WAITING_BYTES_MAX - 1]);
        interims.put(b"bb");
        interims.put(b"c");

        let sent = interims.after_flush().unwrap();
        assert_eq!((sent.len(), &sent[sent.len() - 2..]), (WAITING_BYTES_MAX, &b"ac"[..]));
    }
}
