//! A server's socket, as hyper reads and writes it: what hyper would let through is refused here, and what a server said
//! before it closed is heard.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a status line that its status ends at: `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// A connection to a server.
pub(super) struct Wire<S> {
    stream: S,
    /// A request has been made, and the head of its final response has not been read. Both sides run on one worker; an
    /// atomic because hyper wants the socket to be `Send`.
    awaits_head: Arc<AtomicBool>,
    lines: Lines,
    /// Why nothing more can be written.
    failed: Option<io::Error>,
}

/// Why the head of a response is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadLine {
    /// It ends in LF alone.
    BareLf,
    /// It is empty, where a status was due.
    Empty,
}

/// The lines of a response's heads, as they come. It looks at their ends and nothing else: hyper does the rest.
#[derive(Debug, Default)]
struct Lines {
    /// The line's first bytes, where it is a status line.
    start: [u8; STATUS_END],
    /// Bytes of the line so far.
    length: usize,
    /// The last of them.
    last: u8,
    has_status: bool,
}

/// Whether there is more to a head.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    Goes,
    Ended,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// `awaits_head` is set by whoever makes a request, and cleared here.
    pub(super) fn new(stream: S, awaits_head: Arc<AtomicBool>) -> Self {
        Wire { stream, awaits_head, lines: Lines::default(), failed: None }
    }

    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.awaits_head.load(Ordering::Relaxed) {
            return Ok(());
        }
        let head = self.lines.take(bytes).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        if head == Head::Ended {
            self.lines = Lines::default();
            self.awaits_head.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes by `write`. A server may answer and close before it has read all: an error would be the end of the
    /// connection, and of the answer that is waiting to be read. So nothing more is written, and the reader finds the
    /// answer, or the end.
    fn write<T>(&mut self, write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.failed.is_some() {
            return Poll::Pending;
        }
        match write(Pin::new(&mut self.stream)) {
            Poll::Ready(Err(error)) => {
                self.failed = Some(error);
                Poll::Pending
            }
            outcome => outcome,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        Poll::Ready(match self.failed.take() {
            // The kernel has told the writer that the connection was reset, and tells it once: to the reader this would
            // look like the end of a body.
            Some(error) if fresh.is_empty() => Err(error),
            failed => {
                self.failed = failed;
                self.check(fresh)
            }
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nobody reads any more: an error is the end.
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Lines {
    // RFC 9112 §2.2: a line ends in CRLF; a recipient "MAY recognize a single LF", and an empty line before the first is
    // for servers to ignore. A server that lets LF alone into a field's value would have us end the head there.
    fn take(&mut self, mut bytes: &[u8]) -> Result<Head, BadLine> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.keep(&bytes[..end]);
            bytes = &bytes[end + 1..];
            if self.last != b'\r' {
                return Err(BadLine::BareLf);
            }
            let is_empty = self.length == 1;
            (self.length, self.last) = (0, 0);
            match (is_empty, self.has_status) {
                (true, false) => return Err(BadLine::Empty),
                (true, true) if !self.is_interim() => return Ok(Head::Ended),
                // The next head begins.
                (true, true) => *self = Lines::default(),
                (false, _) => self.has_status = true,
            }
        }
        self.keep(bytes);
        Ok(Head::Goes)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        if !self.has_status
            && let Some(room) = self.start.get_mut(self.length..)
        {
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
        }
        self.length = self.length.saturating_add(bytes.len());
        self.last = *last;
    }

    /// 1xx, but for 101, behind which there is no other head.
    fn is_interim(&self) -> bool {
        let status = &self.start[STATUS_END - 3..];
        status.starts_with(b"1") && status != b"101"
    }
}

/// Whether a connection ended because of [`BadLine`].
pub fn is_bad_line(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    io.and_then(io::Error::get_ref).is_some_and(|inner| inner.is::<BadLine>())
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadLine::BareLf => "a line of the head ends in LF alone",
            BadLine::Empty => "an empty line in place of a status",
        })
    }
}

impl std::error::Error for BadLine {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_where_its_empty_line_is_and_every_line_ends_in_crlf() {
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody\nof lines\n\n", Ok(Head::Ended)),
            ("HTTP/1.1 200\r\n\r\n", Ok(Head::Ended)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n\n", Ok(Head::Ended)),
            ("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\n", Ok(Head::Ended)),
            ("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n", Ok(Head::Goes)),
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r", Ok(Head::Goes)),
            ("", Ok(Head::Goes)),
            ("HTTP/1.1 200 OK\n", Err(BadLine::BareLf)),
            ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", Err(BadLine::BareLf)),
            ("HTTP/1.1 200 OK\r\nA: b\r\n\n", Err(BadLine::BareLf)),
            ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\n", Err(BadLine::BareLf)),
            ("\n", Err(BadLine::BareLf)),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Err(BadLine::Empty)),
            ("HTTP/1.1 103 Early Hints\r\n\r\n\r\n", Err(BadLine::Empty)),
        ] {
            assert_eq!(Lines::default().take(text.as_bytes()), expected, "{text:?} at once");

            let mut lines = Lines::default();
            let mut pieces = text.as_bytes().chunks(1).map(|byte| lines.take(byte));
            let found = pieces.find(|head| *head != Ok(Head::Goes)).unwrap_or(Ok(Head::Goes));
            assert_eq!(found, expected, "{text:?} byte by byte");
        }
    }
}
