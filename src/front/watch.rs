//! The client's socket as hyper's HTTP/2 sees it, and what it is waiting for.
//!
//! hyper has no time-outs for a connection of HTTP/2 and no budget for frames
//! that do nothing. So the socket is wrapped: the wrapper notes what passes,
//! the connection's task asks [`Watch::awaits`] and holds the client to the
//! limit for it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::front::LINGER_BYTES;
use crate::front::frames::{Code, Frames};
use crate::net::Stream;

/// Shared by a connection's socket, its task and its streams. Atomics, never contended: all of them run on one worker.
#[derive(Default)]
pub struct Watch {
    in_flight: AtomicU32,
    requests: AtomicU64,
    write_blocked: AtomicBool,
    writes: AtomicU64,
    lingering: AtomicBool,
    /// The client has had its time to hang up.
    lingered: AtomicBool,
    /// Some of a head has come, and not all.
    head_begun: AtomicBool,
    /// Responses that were sent whole, since this was last asked.
    answered: AtomicU32,
    /// How often the socket has taken nothing more.
    blocks: AtomicU64,
    /// The client sent more frames that do nothing than it may.
    has_flooded: AtomicBool,
    /// The client has broken a rule.
    has_erred: AtomicBool,
}

/// What a connection waits for; a changed number means that it is another wait of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// The first request, or the rest of a head.
    Head(u64),
    /// The next request of a connection at rest.
    Rest(u64),
    /// The client to take what is written.
    Write(u64),
    /// The client to hang up after our last word.
    Linger,
    /// Us.
    Nothing,
}

/// A client's socket, watched.
pub struct Watched {
    stream: Stream,
    /// Bytes that were read while finding out the protocol.
    prefix: Bytes,
    watch: Arc<Watch>,
    /// What the client's frames have cost.
    frames: Frames,
    /// Its client has broken a rule, or floods us: it is not read any more.
    is_over: bool,
    /// Bytes that may still be read and thrown away after our last word.
    linger_bytes: usize,
}

impl Watch {
    /// What the client may be late with.
    pub fn awaits(&self) -> Awaits {
        let requests = self.requests.load(Relaxed);
        if self.lingering.load(Relaxed) {
            Awaits::Linger
        } else if self.write_blocked.load(Relaxed) {
            Awaits::Write(self.writes.load(Relaxed))
        } else if self.in_flight.load(Relaxed) > 0 {
            Awaits::Nothing
        } else if requests == 0 || self.head_begun.load(Relaxed) {
            Awaits::Head(requests)
        } else {
            Awaits::Rest(requests)
        }
    }

    /// A request's head is complete.
    pub fn request_begins(&self) {
        self.requests.store(self.requests.load(Relaxed) + 1, Relaxed);
        self.in_flight.store(self.in_flight.load(Relaxed) + 1, Relaxed);
    }

    /// Its response has ended.
    pub fn request_ends(&self) {
        self.in_flight.store(self.in_flight.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// The client did not hang up: the connection is shut down without waiting for it any longer.
    pub fn stop_lingering(&self) {
        self.lingered.store(true, Relaxed);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// A response has gone out whole.
    pub fn answered(&self) {
        self.answered.store(self.answered.load(Relaxed) + 1, Relaxed);
    }

    /// Grows each time that the socket takes nothing more: then streams wait for each other, not for their client
    /// alone.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Relaxed)
    }

    /// True when the client sent more frames that do nothing than it may.
    pub fn has_flooded(&self) -> bool {
        self.has_flooded.load(Relaxed)
    }

    /// True when the client has broken a rule and was told so.
    pub fn has_erred(&self) -> bool {
        self.has_erred.load(Relaxed)
    }

    fn block(&self) {
        if !self.write_blocked.swap(true, Relaxed) {
            self.blocks.store(self.blocks.load(Relaxed) + 1, Relaxed);
        }
    }

    fn wrote(&self) {
        self.writes.store(self.writes.load(Relaxed) + 1, Relaxed);
        self.write_blocked.store(false, Relaxed);
    }
}

impl Watched {
    /// `prefix` is read before the stream is.
    pub fn new(stream: Stream, prefix: Bytes, watch: Arc<Watch>) -> Self {
        Watched { stream, prefix, watch, frames: Frames::new(), is_over: false, linger_bytes: LINGER_BYTES }
    }

    /// What the client has just sent. One that breaks a rule, or floods us, is told so and not read any more.
    fn note_frames(&mut self, cx: &mut Context<'_>, bytes: &[u8]) {
        self.frames.answered(self.watch.answered.swap(0, Relaxed));
        let Err(code) = self.frames.received(bytes, Instant::now()) else {
            return self.watch.head_begun.store(self.frames.is_amid_head(), Relaxed);
        };
        // Best effort: it may come in the middle of a frame, and nobody may be listening.
        let goaway = self.frames.goaway(code);
        let _ = Pin::new(&mut self.stream).poll_write(cx, &goaway);
        let _ = Pin::new(&mut self.stream).poll_flush(cx);
        match code {
            Code::EnhanceYourCalm => self.watch.has_flooded.store(true, Relaxed),
            _ => self.watch.has_erred.store(true, Relaxed),
        }
        self.prefix.clear();
        self.is_over = true;
    }

    fn note_write(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Pending => self.watch.block(),
            Poll::Ready(_) => self.watch.wrote(),
        }
        if let Poll::Ready(Ok(bytes)) = &outcome {
            self.frames.sent(*bytes);
        }
        outcome
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.is_over {
            // The end, for h2: it closes the connection in good order, and our word is not lost.
            return Poll::Ready(Ok(()));
        }
        if this.prefix.has_remaining() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix.split_to(n));
        } else {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        this.note_frames(cx, &buf.filled()[before..]);
        if this.is_over {
            buf.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        match outcome {
            // TLS takes more than the socket does: it is the flush that waits then.
            Poll::Pending => self.watch.block(),
            Poll::Ready(_) if self.watch.write_blocked.load(Relaxed) => self.watch.wrote(),
            Poll::Ready(_) => {}
        }
        outcome
    }

    /// Closes our side, then reads what the client still sends: a socket that is closed with unread
    /// bytes resets the connection, and the reset may overtake our last response.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.watch.lingering.load(Relaxed) {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.watch.write_blocked.store(false, Relaxed);
            this.watch.lingering.store(true, Relaxed);
        }
        if this.watch.lingered.load(Relaxed) {
            this.linger_bytes = 0;
        }
        ready!(this.stream.poll_discard(cx, &mut this.linger_bytes));
        Poll::Ready(Ok(()))
    }
}
