//! A connection's bytes, in the clear or under TLS.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::net::descriptors::Descriptor;

/// What [`Stream::poll_append`] reads at once.
const APPEND_BYTES: usize = 16 * 1024;
/// What [`Stream::poll_discard`] reads at once.
const DISCARD_BYTES: usize = 4 * 1024;

/// A connection, to a client or to a server.
pub enum Stream {
    /// In the clear.
    Plain(TcpStream),
    /// Under TLS; boxed, because its state is large and most connections do not have it.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection to a server that counts among the process's until it is closed, whoever has it then.
pub struct Counted {
    stream: Stream,
    _descriptor: Descriptor,
}

impl Counted {
    /// `descriptor` is given back with the socket.
    pub fn new(stream: Stream, descriptor: Descriptor) -> Self {
        Counted { stream, _descriptor: descriptor }
    }

    /// The connection itself.
    pub fn get_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

impl Stream {
    /// The socket under it all.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Ready when a read may find something; it may also find that there is not enough yet.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(tcp) => tcp.poll_read_ready(cx),
            Stream::Tls(tls) => match tls.get_ref() {
                // Something has been decrypted already.
                (_, session) if !session.wants_read() => Poll::Ready(Ok(())),
                (tcp, _) => tcp.poll_read_ready(cx),
            },
        }
    }

    /// Appends what is there to `into`; 0 bytes at the end. Until something is there, no memory is held for it.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_append(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::uninit() }; APPEND_BYTES];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(Pin::new(self).poll_read(cx, &mut buf))?;
        into.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads at most `bytes_max` into `into`; 0 at the end. No memory is asked for while there is nothing to read.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
        into: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_read_ready(cx))?;
        into.reserve(bytes_max);
        let mut limited = self.take(bytes_max as u64);
        pin!(limited.read_buf(into)).poll(cx)
    }

    /// Reads at most `bytes_max` into a piece of its own, which keeps no more memory than it needs; an empty one at the end.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<io::Result<Bytes>> {
        let mut piece = BytesMut::new();
        let read = ready!(self.poll_into(cx, bytes_max, &mut piece))?;
        let is_roomy = read < piece.capacity() / 4;
        Poll::Ready(Ok(if is_roomy { Bytes::copy_from_slice(&piece) } else { piece.freeze() }))
    }

    /// The same of something of which so many bytes are `left`. What is there behind its end goes into `behind`.
    ///
    /// For the last piece it asks for one byte more than it wants: a read that gets less than it could tells the driver that
    /// the socket is empty, which else takes another system call to find out.
    ///
    /// # Errors
    /// The socket's.
    pub fn poll_piece_of(
        &mut self,
        cx: &mut Context<'_>,
        left: usize,
        bytes_max: usize,
        behind: &mut BytesMut,
    ) -> Poll<io::Result<Bytes>> {
        if left > bytes_max {
            return self.poll_piece(cx, bytes_max);
        }
        let mut piece = ready!(self.poll_piece(cx, left + 1))?;
        if piece.len() > left {
            behind.extend_from_slice(&piece.split_off(left));
        }
        Poll::Ready(Ok(piece))
    }

    /// Reads what still comes and throws it away, until the end or until `left` bytes, which it counts down.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        while *left > 0 {
            let mut space = [const { MaybeUninit::uninit() }; DISCARD_BYTES];
            let mut buf = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut *self).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *left = left.saturating_sub(buf.filled().len()),
                _ => break,
            }
        }
        Poll::Ready(())
    }

    /// The last word of a connection that is closed without one of HTTP: under TLS there is one, so that nothing can look
    /// cut. Whoever does not take it at once will not miss it.
    pub fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    /// The protocol that ALPN agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }
}

macro_rules! each {
    ($self:ident, $s:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($s) => {
                let $s = Pin::new($s);
                $call
            }
            Stream::Tls($s) => {
                let $s = Pin::new(&mut **$s);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, s => s.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, s => s.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_shutdown(cx))
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
