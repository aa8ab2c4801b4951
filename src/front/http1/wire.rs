//! The socket of an HTTP/1.1 connection, shared by its task and the body of the request in hand.
//!
//! Both run on one worker and take turns, so a cell is enough. Who reads: the body, while someone waits for more of it;
//! else the task. Who writes: the task alone. Nothing is kept here for a connection at rest.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Limits;
use crate::fields::{Fields, RequestHead};
use crate::front::http1::head::{self, BadHead, Scan};
use crate::http1::coding::Source;
use crate::http1::outbox::Outbox;
use crate::http1::text;
use crate::net::Stream;

use crate::proxy;

/// What is read at once where it is not known how much will come: nearly every head, and a small body behind it, which is
/// copied. More of it would cost more than reading it into a place of its own.
const READ_BYTES: usize = 8 * 1024;
/// The most that is read at once of a body in chunks.
const MORE_BYTES: usize = 16 * 1024;
/// The most that is read of a body in one piece.
const PIECE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of interim responses that may wait for a client that reads slowly: one head of a server is no larger.
const INTERIM_BYTES_MAX: usize = 64 * 1024;
/// RFC 9110 section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The socket, and what is known of it.
pub struct Wire(RefCell<State>);

/// How far the body of the request in hand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyStage {
    /// It is read to its end, or there is none: what comes next is another request.
    Ended,
    /// It is being read.
    Open,
    /// Nobody reads it to its end, or its end cannot be found: no request can follow.
    Lost,
}

struct State {
    /// `None` once it is a tunnel's.
    stream: Option<Stream>,
    /// Read, and not used yet.
    unread: BytesMut,
    body: BodyStage,
    /// The client sends its body when it is told to.
    awaits_continue: bool,
    /// Interim responses that are to go out before the final one.
    interims: BytesMut,
    /// A final response may still have interim ones before it.
    takes_interims: bool,
    /// The connection's task.
    task: Option<Waker>,
    /// Someone waits for more of the body: it is the one that the socket wakes.
    has_reader: bool,
}

/// What the client does while it waits for its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// As far as one can see.
    There,
    /// It has closed its side.
    Gone,
}

impl Wire {
    /// `unread` was read while finding out the protocol.
    pub fn new(stream: Stream, unread: BytesMut) -> Rc<Self> {
        Rc::new(Wire(RefCell::new(State {
            stream: Some(stream),
            unread,
            body: BodyStage::Ended,
            awaits_continue: false,
            interims: BytesMut::new(),
            takes_interims: false,
            task: None,
            has_reader: false,
        })))
    }

    /// The next head; `None` when the client has closed its side instead.
    pub fn poll_head(
        &self,
        cx: &mut Context<'_>,
        scan: &mut Scan,
        limits: &Limits,
    ) -> Poll<Result<Option<RequestHead>, BadHead>> {
        let state = &mut *self.0.borrow_mut();
        if !state.unread.is_empty()
            && let Some(place) = scan.find(&state.unread, limits)?
        {
            state.unread.advance(place.begin);
            let head = state.unread.split_to(place.end - place.begin);
            return Poll::Ready(head::parse(&head, scan, limits).map(Some));
        }
        loop {
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut buf = ReadBuf::uninit(&mut space);
            let Ok(()) = ready!(state.poll_read(cx, &mut buf)) else { return Poll::Ready(Ok(None)) };
            let filled = buf.filled();
            if filled.is_empty() {
                return Poll::Ready(Ok(None));
            }
            if !state.unread.is_empty() {
                state.unread.extend_from_slice(filled);
            }
            // Nearly always a head comes whole.
            let bytes = if state.unread.is_empty() { filled } else { &state.unread[..] };
            let Some(place) = scan.find(bytes, limits)? else {
                if state.unread.is_empty() {
                    state.unread.extend_from_slice(filled);
                }
                continue;
            };
            let head = head::parse(&bytes[place.begin..place.end], scan, limits);
            if state.unread.is_empty() {
                state.unread.extend_from_slice(&filled[place.end..]);
            } else {
                state.unread.advance(place.end);
            }
            return Poll::Ready(head.map(Some));
        }
    }

    /// True when some of the next head is there.
    pub fn has_begun_a_head(&self, scan: &Scan) -> bool {
        scan.has_begun(&self.0.borrow().unread)
    }

    /// A request begins: its body, and whether the client waits to be told to send it.
    pub fn begin(&self, body: BodyStage, awaits_continue: bool) {
        let mut state = self.0.borrow_mut();
        (state.body, state.awaits_continue, state.takes_interims) = (body, awaits_continue, true);
    }

    /// Its final response is there: no interim one is taken from now on. Says how far the body is, and whether the client
    /// still waits to be told to send it.
    pub fn end_interims(&self) -> (BodyStage, bool) {
        let mut state = self.0.borrow_mut();
        state.takes_interims = false;
        (state.body, std::mem::take(&mut state.awaits_continue))
    }

    /// How far the request's body is.
    pub fn body(&self) -> BodyStage {
        self.0.borrow().body
    }

    /// True when bytes are there that belong to no request yet.
    pub fn has_unread(&self) -> bool {
        !self.0.borrow().unread.is_empty()
    }

    /// Sends the interim responses that wait. `task` is woken when there are more, or the body has ended.
    pub fn poll_interims(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        match &mut state.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        let Some(stream) = &mut state.stream else { return Poll::Ready(Ok(())) };
        while state.interims.has_remaining() {
            let written = ready!(Pin::new(&mut *stream).poll_write(cx, &state.interims))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.interims.advance(written);
            if !state.interims.has_remaining() {
                state.interims = BytesMut::new();
                return Pin::new(stream).poll_flush(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what is left of interim responses: it goes out before anything else.
    pub fn take_interims(&self) -> Bytes {
        std::mem::take(&mut self.0.borrow_mut().interims).freeze()
    }

    /// Whether the client is still there, as far as it can be told without reading more than one piece ahead.
    pub fn poll_presence(&self, cx: &mut Context<'_>) -> Presence {
        let state = &mut *self.0.borrow_mut();
        let is_ours = match state.body {
            BodyStage::Ended => true,
            BodyStage::Open => !state.has_reader,
            BodyStage::Lost => false,
        };
        while is_ours && state.unread.len() < READ_BYTES {
            let Some(stream) = &mut state.stream else { return Presence::Gone };
            match stream.poll_append(cx, &mut state.unread) {
                Poll::Pending => break,
                Poll::Ready(Ok(read)) if read > 0 => {}
                // Whoever sends requests one behind the other and then closes that side waits for what they come to.
                Poll::Ready(Ok(_)) if state.body == BodyStage::Ended && !state.unread.is_empty() => break,
                Poll::Ready(_) => return Presence::Gone,
            }
        }
        Presence::There
    }

    /// Writes some of `out`, at least one byte.
    pub fn poll_write(&self, cx: &mut Context<'_>, out: &Outbox) -> Poll<io::Result<usize>> {
        let stream = &mut self.0.borrow_mut().stream;
        out.poll_write(cx, Pin::new(stream.as_mut().ok_or(io::ErrorKind::NotConnected)?))
    }

    /// TLS may hold back what the socket did not take at once.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0.borrow_mut().stream {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The socket and what was read of what follows, for a tunnel or for the end.
    pub fn take(&self) -> Option<(Stream, Bytes)> {
        let mut state = self.0.borrow_mut();
        let unread = std::mem::take(&mut state.unread).freeze();
        Some((state.stream.take()?, unread))
    }

    /// Puts the wire into the hands of the request's body for as long as `read` takes.
    pub(super) fn with_body<T>(&self, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        let mut state = self.0.borrow_mut();
        read(&mut Reader(&mut state))
    }
}

impl proxy::Turn for Wire {
    fn interim(&self, status: StatusCode, fields: &Fields) {
        let mut bytes = Vec::new();
        text::interim(&mut bytes, status, fields);
        self.0.borrow_mut().queue(&bytes);
    }

    fn ended(&self) {}
}

impl State {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Pin::new(stream).poll_read(cx, buf)
    }

    fn queue(&mut self, bytes: &[u8]) {
        if self.takes_interims && self.interims.len() + bytes.len() <= INTERIM_BYTES_MAX {
            self.interims.extend_from_slice(bytes);
        }
    }

    fn wake(&mut self) {
        self.task.take().into_iter().for_each(Waker::wake);
    }
}

/// The wire in the hands of the request's body.
pub(super) struct Reader<'a>(&'a mut State);

impl Reader<'_> {
    /// Someone wants the body: the client is told to send it, if it waits for that.
    pub fn ask(&mut self) {
        if std::mem::take(&mut self.0.awaits_continue) && self.0.unread.is_empty() {
            self.0.queue(CONTINUE);
            self.0.wake();
        }
    }

    /// The body is read to its end, or will not be.
    pub fn finish(&mut self, stage: BodyStage) {
        if self.0.body == BodyStage::Open {
            (self.0.body, self.0.has_reader) = (stage, false);
            self.0.wake();
        }
    }

    fn poll_stream<T>(
        &mut self,
        read: impl FnOnce(&mut Stream, &mut BytesMut) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let State { stream, unread, has_reader, .. } = &mut *self.0;
        let stream = stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        *has_reader = true;
        let read = ready!(read(stream, unread));
        *has_reader = false;
        Poll::Ready(read)
    }
}

impl Source for Reader<'_> {
    fn unread(&mut self) -> &mut BytesMut {
        &mut self.0.unread
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<io::Result<Bytes>> {
        self.poll_stream(|stream, unread| stream.poll_piece_of(cx, bytes_max, PIECE_BYTES_MAX, unread))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_stream(|stream, unread| stream.poll_into(cx, MORE_BYTES, unread))
    }
}
