//! One connection to a server, and what of it belongs to the request in hand.
//!
//! It has no task of its own: whoever waits for the response writes what is left of the request and reads what has come,
//! in one poll. So nothing is read ahead of its reader, and the server feels a slow client at once.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::fields::ResponseHead;
use crate::http1::coding::Source;
use crate::http1::sending::{Sending, Stage};
use crate::net::Counted;
use crate::upstream::conns::head::{self, BadHead, Scan};
use crate::upstream::limits::Leave;

/// The most that is read at once where what is read has to be understood: nearly every head, and a small body behind it. What
/// comes behind a head is copied, and more of it would cost more than reading it into a place of its own.
const READ_BYTES: usize = 8 * 1024;
/// The most that is read at once of a body in chunks.
const MORE_BYTES: usize = 16 * 1024;

/// A socket, and what was read of it and not used.
pub(super) struct Conn {
    stream: Counted,
    unread: BytesMut,
    /// Why nothing more can be written. A server may answer and close before it has read all: an error would be the end of
    /// the answer that is waiting to be read. So nothing more is written, and the reader finds the answer, or the end.
    unwritable: Option<io::Error>,
    /// Where connections are limited. Last: it is given back when the socket is closed, not before.
    leave: Option<Leave>,
}

/// The request's body broke off: what was sent of it must not look whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestCut;

impl Conn {
    pub(super) fn new(stream: Counted, leave: Option<Leave>) -> Self {
        Conn { stream, unread: BytesMut::new(), unwritable: None, leave }
    }

    /// Nothing has come since the last response: the server has not hung up, and has not said what nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        if !self.unread.is_empty() || self.unwritable.is_some() {
            return false;
        }
        let stream = self.stream.get_mut();
        // The readiness that the last poll of the kernel left: no system call, and none for a quiet connection.
        if matches!(stream.socket().try_io(Interest::READABLE, || Ok(())), Err(e) if is_pending(&e)) {
            return true;
        }
        // Something is there; under TLS perhaps only a ticket.
        let (mut space, mut cx) = ([0; 1], Context::from_waker(Waker::noop()));
        Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut space)).is_pending()
    }

    /// Writes what is there of the request.
    pub(super) fn write(&mut self, cx: &mut Context<'_>, sending: &mut Sending) -> Result<(), RequestCut> {
        while self.unwritable.is_none() {
            sending.gather(cx);
            if sending.stage() == Stage::Cut {
                return Err(RequestCut);
            }
            let stream = Pin::new(self.stream.get_mut());
            let written = match sending.out.is_empty() {
                // TLS may hold back what the socket did not take at once.
                true => stream.poll_flush(cx).map_ok(|()| 0),
                false => sending.out.poll_write(cx, stream),
            };
            match written {
                Poll::Pending | Poll::Ready(Ok(0)) => return Ok(()),
                Poll::Ready(Ok(written)) => sending.out.advance(written),
                Poll::Ready(Err(error)) => self.unwritable = Some(error),
            }
        }
        Ok(())
    }

    /// The next head, read in pieces of at most `piece_max` bytes.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        scan: &mut Scan,
        piece_max: usize,
    ) -> Poll<Result<ResponseHead, NoHead>> {
        if !self.unread.is_empty()
            && let Some(end) = scan.find(&self.unread)?
        {
            let head = self.unread.split_to(end);
            return Poll::Ready(Ok(head::parse(&head, scan)?));
        }
        loop {
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut buf = ReadBuf::uninit(&mut space[..piece_max.min(READ_BYTES)]);
            let read = ready!(Pin::new(self.stream.get_mut()).poll_read(cx, &mut buf));
            let filled = buf.filled();
            if read.is_err() || filled.is_empty() {
                // What the kernel told the writer it tells once: to the reader a reset would look like the end.
                let error = self.unwritable.take().or(read.err());
                let error = error.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
                return Poll::Ready(Err(NoHead::Broken { error, amid: !self.unread.is_empty() }));
            }
            // Nearly always a head comes whole.
            if self.unread.is_empty()
                && let Some(end) = scan.find(filled)?
            {
                self.unread.extend_from_slice(&filled[end..]);
                return Poll::Ready(Ok(head::parse(&filled[..end], scan)?));
            }
            let was_empty = self.unread.is_empty();
            self.unread.extend_from_slice(filled);
            if !was_empty && let Some(end) = scan.find(&self.unread)? {
                let head = self.unread.split_to(end);
                return Poll::Ready(Ok(head::parse(&head, scan)?));
            }
        }
    }

    /// Bytes that were read and not used.
    pub(super) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// All of a body of `bytes`, if it has come already.
    pub(super) fn take_whole(&mut self, bytes: u64) -> Option<Bytes> {
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= self.unread.len())?;
        // With nothing behind it, as nearly always, it needs no count of who else has a part of it.
        let whole = match bytes == self.unread.len() {
            true => std::mem::take(&mut self.unread),
            false => self.unread.split_to(bytes),
        };
        Some(whole.freeze())
    }

    /// The connection in the hands of a body's reader, which is given pieces of at most `piece_max` bytes.
    pub(super) fn reader(&mut self, piece_max: usize) -> Reader<'_> {
        Reader { conn: self, piece_max }
    }

    /// Gives the place back for another connection once this one is closed, which is now.
    pub(super) fn close(self) -> Option<Leave> {
        drop(self.stream);
        self.leave
    }

    /// For a tunnel: the socket, what came behind the head, and the connection's place.
    pub(super) fn into_parts(self) -> (Counted, Bytes, Option<Leave>) {
        (self.stream, self.unread.freeze(), self.leave)
    }
}

/// Why there is no head.
#[derive(Debug)]
pub enum NoHead {
    /// The connection ended or failed, perhaps in the middle of a head.
    Broken {
        /// What the kernel or TLS says.
        error: io::Error,
        /// Some of a head was there.
        amid: bool,
    },
    /// What came is none.
    Malformed(BadHead),
}

impl From<BadHead> for NoHead {
    fn from(bad: BadHead) -> Self {
        NoHead::Malformed(bad)
    }
}

/// A connection in the hands of a body's reader.
pub(super) struct Reader<'a> {
    conn: &'a mut Conn,
    piece_max: usize,
}

impl Reader<'_> {
    fn heard<T>(&mut self, read: io::Result<T>, is_end: impl FnOnce(&T) -> bool) -> io::Result<T> {
        match read {
            Ok(read) if is_end(&read) => self.conn.unwritable.take().map_or(Ok(read), Err),
            read => read,
        }
    }
}

impl Source for Reader<'_> {
    fn unread(&mut self) -> &mut BytesMut {
        &mut self.conn.unread
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<io::Result<Bytes>> {
        let Conn { stream, unread, .. } = &mut *self.conn;
        let read = ready!(stream.get_mut().poll_piece_of(cx, bytes_max, self.piece_max, unread));
        Poll::Ready(self.heard(read, Bytes::is_empty))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let bytes_max = MORE_BYTES.min(self.piece_max);
        let read = ready!(self.conn.stream.get_mut().poll_into(cx, bytes_max, &mut self.conn.unread));
        Poll::Ready(self.heard(read, |read| *read == 0))
    }
}

fn is_pending(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
