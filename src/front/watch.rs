//! The client's socket as hyper sees it, and what it is waiting for.
//!
//! hyper's own time-outs need a timer per request and cannot tell a client
//! that is slow to send a head from one that is at rest. So the socket is
//! wrapped: the wrapper notes what passes, the connection's task asks
//! [`Watch::awaits`] and holds the client to the limit for it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::front::frames::Frames;
use crate::front::interim::Interims;
use crate::net::Stream;
use crate::proxy;

/// Bytes that are read and thrown away after our last word, so that it is not lost to a reset.
const LINGER_BYTES: usize = 256 * 1024;

/// Shared by a connection's socket, its task and its requests. Atomics, never contended: hyper
/// wants the socket of an upgradable connection to be `Send`.
#[derive(Default)]
pub struct Watch {
    in_flight: AtomicU32,
    requests: AtomicU64,
    head_begun: AtomicBool,
    write_blocked: AtomicBool,
    writes: AtomicU64,
    lingering: AtomicBool,
    /// The client has had its time to hang up.
    lingered: AtomicBool,
    expired: AtomicBool,
    /// A response of ours is on its way, or still in a buffer.
    answering: AtomicBool,
    /// Responses of HTTP/2 that were sent whole, since this was last asked.
    answered: AtomicU32,
    /// How often the socket has taken nothing more.
    blocks: AtomicU64,
    /// The client sent more frames that do nothing than it may.
    has_flooded: AtomicBool,
    /// With which status a head was refused; 0 when none was.
    refused: AtomicU16,
    speaks: AtomicU8,
    /// What servers say before their responses.
    pub interims: Interims,
}

/// What the bytes of a connection mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Speaks {
    Http1,
    Http2,
    /// Whatever both ends of a tunnel agreed on.
    Anything,
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
    /// The rest of interim responses that have begun: nothing else may be written before.
    interims: Bytes,
    /// Of HTTP/2: what the client's frames have cost.
    frames: Option<Frames>,
    lingered: usize,
}

impl Watch {
    /// Of a connection that has just been opened.
    pub fn new(speaks: Speaks) -> Self {
        Watch { speaks: AtomicU8::new(speaks as u8), ..Watch::default() }
    }

    /// hyper has let go of the connection: it is a tunnel, or over.
    pub fn becomes_a_tunnel(&self) {
        self.speaks.store(Speaks::Anything as u8, Relaxed);
    }

    fn is_speaking(&self, what: Speaks) -> bool {
        self.speaks.load(Relaxed) == what as u8
    }

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
        if !self.is_speaking(Speaks::Http2) {
            self.head_begun.store(false, Relaxed);
        }
        self.answering.store(true, Relaxed);
        self.interims.open();
        self.requests.store(self.requests.load(Relaxed) + 1, Relaxed);
        self.in_flight.store(self.in_flight.load(Relaxed) + 1, Relaxed);
    }

    /// Its response has ended.
    pub fn request_ends(&self) {
        self.in_flight.store(self.in_flight.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// The head took too long: the next read answers 408.
    pub fn expire(&self) {
        self.expired.store(true, Relaxed);
    }

    /// The client did not hang up: the connection is shut down without waiting for it any longer.
    pub fn stop_lingering(&self) {
        self.lingered.store(true, Relaxed);
    }

    /// True when no request is in flight and no head has begun.
    pub fn is_at_rest(&self) -> bool {
        self.in_flight.load(Relaxed) == 0 && !self.head_begun.load(Relaxed)
    }

    /// True when some bytes of a head have come.
    pub fn has_begun_a_head(&self) -> bool {
        self.head_begun.load(Relaxed)
    }

    /// A response of HTTP/2 has gone out whole.
    pub fn answered(&self) {
        self.answered.store(self.answered.load(Relaxed) + 1, Relaxed);
    }

    /// Grows each time that the socket takes nothing more: then streams wait for each other, not for their client
    /// alone.
    pub fn blocks(&self) -> u64 {
        self.blocks.load(Relaxed)
    }

    fn block(&self) {
        if !self.write_blocked.swap(true, Relaxed) {
            self.blocks.store(self.blocks.load(Relaxed) + 1, Relaxed);
        }
    }

    /// True when the client sent more frames that do nothing than it may.
    pub fn has_flooded(&self) -> bool {
        self.has_flooded.load(Relaxed)
    }

    /// With which status a head was refused.
    pub fn refused(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.refused.load(Relaxed)).ok()
    }

    fn flushed(&self) {
        if self.write_blocked.load(Relaxed) {
            self.wrote();
        }
        if self.in_flight.load(Relaxed) == 0 {
            self.answering.store(false, Relaxed);
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
        if !prefix.is_empty() && watch.is_speaking(Speaks::Http1) {
            watch.head_begun.store(true, Relaxed);
        }
        let mut frames = watch.is_speaking(Speaks::Http2).then(Frames::new);
        if let Some(frames) = &mut frames {
            // It is shorter than a budget.
            let _ = frames.received(&prefix, Instant::now());
        }
        Watched { stream, prefix, watch, interims: Bytes::new(), frames, lingered: 0 }
    }

    /// What a client of HTTP/2 has just sent; one that floods us is told so, and is not read any more.
    fn note_frames(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let Some(frames) = &mut self.frames else { return Ok(()) };
        frames.answered(self.watch.answered.swap(0, Relaxed));
        if frames.received(bytes, Instant::now()).is_ok() {
            self.watch.head_begun.store(frames.is_amid_head(), Relaxed);
            return Ok(());
        }
        self.watch.has_flooded.store(true, Relaxed);
        // Best effort, as above: it may come in the middle of a frame, and nobody may be listening.
        let goaway = frames.goaway();
        let _ = Pin::new(&mut self.stream).poll_write(cx, &goaway);
        let _ = Pin::new(&mut self.stream).poll_flush(cx);
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn note_write(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Pending => self.watch.block(),
            Poll::Ready(_) => self.watch.wrote(),
        }
        if let (Some(frames), Poll::Ready(Ok(bytes))) = (&mut self.frames, &outcome) {
            frames.sent(*bytes);
        }
        outcome
    }

    /// Makes way for what hyper writes next.
    fn before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_interims(cx))?;
        let Some(interims) = self.watch.interims.before_write() else { return Poll::Ready(Ok(())) };
        self.interims = interims;
        self.write_interims(cx)
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.write_interims(cx))?;
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            let Some(interims) = self.watch.interims.after_flush() else { return Poll::Ready(Ok(())) };
            self.interims = interims;
        }
    }

    fn write_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.interims.has_remaining() {
            let outcome = Pin::new(&mut self.stream).poll_write(cx, &self.interims);
            let written = ready!(self.note_write(outcome))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interims.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// hyper answers a head that it cannot parse by itself, bare. In its place goes our own refusal,
    /// with a body, a request id and `Proxy-Status`. Every response of ours names the request id.
    fn replaces(&self, first: &[u8]) -> Option<Bytes> {
        let is_bare = self.watch.is_speaking(Speaks::Http1)
            && !self.watch.answering.load(Relaxed)
            && first.len() < 256
            && first.starts_with(b"HTTP/1.1 4")
            && memchr::memmem::find(first, b"x-request-id").is_none();
        let status = if is_bare { StatusCode::from_bytes(first.get(9..12)?).ok()? } else { return None };
        self.watch.refused.store(status.as_u16(), Relaxed);
        Some(proxy::raw_refusal(status))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.expired.load(Relaxed) {
            // Best effort: a client that does not even read will not miss it.
            let refusal = proxy::raw_refusal(StatusCode::REQUEST_TIMEOUT);
            let _ = Pin::new(&mut this.stream).poll_write(cx, &refusal);
            let _ = Pin::new(&mut this.stream).poll_flush(cx);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if this.prefix.has_remaining() {
            let n = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix.split_to(n));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.note_frames(cx, &buf.filled()[before..])?;
        // Of HTTP/2 the frames tell.
        let may_be_a_head = this.watch.is_speaking(Speaks::Http1) && this.watch.in_flight.load(Relaxed) == 0;
        if may_be_a_head && buf.filled().len() > before {
            this.watch.head_begun.store(true, Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.before_write(cx))?;
        if let Some(refusal) = self.replaces(buf) {
            let _ = ready!(Pin::new(&mut self.stream).poll_write(cx, &refusal))?;
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.before_write(cx))?;
        if let Some(refusal) = bufs.first().and_then(|first| self.replaces(first)) {
            let _ = ready!(Pin::new(&mut self.stream).poll_write(cx, &refusal))?;
            return Poll::Ready(Ok(bufs.iter().map(|b| b.len()).sum()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.flush(cx);
        match outcome {
            // TLS takes more than the socket does: it is the flush that waits then.
            Poll::Pending => self.watch.block(),
            Poll::Ready(_) => self.watch.flushed(),
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
        if this.watch.is_speaking(Speaks::Anything) {
            // The other direction of a tunnel is still being read, by its own copy.
            return Poll::Ready(Ok(()));
        }
        let mut space = [0u8; 4096];
        while this.lingered < LINGER_BYTES && !this.watch.lingered.load(Relaxed) {
            let mut buf = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => this.lingered += buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Writes until the client's buffers are full; how much that was.
    async fn fill(socket: &mut Watched) -> usize {
        let mut sent = 0;
        while let Poll::Ready(written) =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut *socket).poll_write(cx, &[b'x'; 1000]))).await
        {
            sent += written.unwrap();
            // Whether the socket takes more is known only after the runtime has looked.
            tokio::task::yield_now().await;
        }
        sent
    }

    async fn flush(socket: &mut Watched) -> Poll<io::Result<()>> {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *socket).poll_flush(cx))).await
    }

    #[test]
    fn an_interim_response_that_has_begun_is_finished_before_anything_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            let watch = Arc::new(Watch::new(Speaks::Http1));
            let mut socket = Watched::new(Stream::Plain(accepted), Bytes::new(), watch.clone());
            let before = fill(&mut socket).await;

            watch.request_begins();
            watch.interims.put(&[b'i'; 60_000]);
            let is_blocked = flush(&mut socket).await.is_pending();
            let awaits = watch.awaits();
            watch.interims.close();
            let (sent, heard) = tokio::join!(
                async move {
                    socket.write_all(b"final").await.unwrap();
                    socket.shutdown().await
                },
                async {
                    let mut heard = Vec::new();
                    client.read_to_end(&mut heard).await.unwrap();
                    drop(client);
                    heard
                },
            );

            assert!(
                is_blocked && matches!(awaits, Awaits::Write(_)),
                "the client is who is late: {awaits:?}"
            );
            assert!(sent.is_ok());
            let expected = [&vec![b'x'; before][..], &[b'i'; 60_000], b"final"].concat();
            assert!(heard == expected, "{} bytes of {}", heard.len(), expected.len());
        });
    }
}
