//! A connection that reads only so much.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::net::Stream;

/// Bytes that a server may send in one probe, whatever they are: a head of 64 KiB, a body of 64 KiB in small chunks,
/// interim responses and frames between them. Each of them may be without end, and only together do they have a limit
/// that nothing slips by.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Fails when a server has sent more than [`ANSWER_BYTES_MAX`].
pub(super) struct Bounded {
    stream: Stream,
    left: usize,
}

/// What its reader is told.
#[derive(Debug)]
struct TooMuch;

impl Bounded {
    pub(super) fn new(stream: Stream) -> Bounded {
        Bounded { stream, left: ANSWER_BYTES_MAX }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        match self.left.checked_sub(read) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(io::Error::other(TooMuch))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer is longer than {} KiB", ANSWER_BYTES_MAX / 1024)
    }
}

impl std::error::Error for TooMuch {}
