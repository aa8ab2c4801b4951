//! How a server's socket is read: as fast as hyper likes, or only when somebody wants more.
//!
//! hyper reads a piece ahead of whoever reads the body, and in ever larger pieces. For one client that is welcome; for
//! the hundred streams of an HTTP/2 client that takes nothing it is megabytes (CVE-2019-9517). So the socket is wrapped:
//! with [`Pace::OnDemand`] it gives what was asked for, and is silent until more is.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

use crate::body::Room;

/// What is read at once while a head is awaited: most heads, and little of a body that may have to wait.
const HEAD_PIECE: usize = 4 * 1024;
/// What is read at once of a body, at most, where it is read on demand or memory is short.
const BODY_PIECE: usize = 16 * 1024;
/// The same while the client's room is full: enough that a stream whose client does take it gets on.
const SMALL_PIECE: usize = 4 * 1024;

/// How a response is read.
#[derive(Clone, Copy)]
pub enum Pace<'a> {
    /// As fast as it comes, a piece ahead.
    Free,
    /// What somebody waits for, and no more. It counts in this room, which is the client's.
    OnDemand(&'a Arc<Room>),
}

/// Shared by a connection's socket and whoever reads its response. Atomics and a mutex, never contended: hyper wants
/// the socket of an upgradable connection to be `Send`.
pub struct Tap {
    state: AtomicU8,
    /// Bytes that were read and have not been taken.
    unread: AtomicUsize,
    /// What they are counted in: the worker's.
    room: Arc<Room>,
    demand: Mutex<Demand>,
}

/// What is there of a response that is read on demand.
#[derive(Default)]
struct Demand {
    /// What is read is counted in it instead.
    room: Option<Arc<Room>>,
    /// The task that reads the socket, while it may not.
    reader: Option<Waker>,
}

/// A server's socket, read through a [`Tap`].
pub struct Tapped<S> {
    stream: Take<S>,
    tap: Arc<Tap>,
}

/// Open without limit.
const FREE: u8 = 0;
/// A head is awaited.
const HEAD: u8 = 1;
/// Some of a head has been read: whoever waits for it looks first whether it is whole.
const LOOK: u8 = 2;
/// Nobody waits for anything.
const SHUT: u8 = 3;
/// Somebody waits for more of a body.
const WANTED: u8 = 4;

impl Tap {
    /// Free, of a connection of the worker that `room` belongs to.
    pub fn new(room: Arc<Room>) -> Arc<Self> {
        Arc::new(Tap {
            state: AtomicU8::new(FREE),
            unread: AtomicUsize::new(0),
            room,
            demand: Mutex::default(),
        })
    }

    /// A request begins whose response is read at this pace.
    pub fn begin(&self, pace: Pace<'_>) {
        let Pace::OnDemand(room) = pace else { return };
        self.took(usize::MAX);
        self.demand().room = Some(room.clone());
        self.state.store(HEAD, Relaxed);
    }

    /// The head is there, or a piece has been taken: nothing more is wanted now.
    pub fn shut(&self) {
        if !self.is_free() {
            self.state.store(SHUT, Relaxed);
        }
    }

    /// Somebody waits for the next piece of the body.
    pub fn want(&self) {
        if !self.is_free() && self.state.swap(WANTED, Relaxed) != WANTED {
            self.wake();
        }
    }

    /// The response has ended: what the server says now is for hyper to judge.
    pub fn release(&self) {
        self.took(usize::MAX);
        if !self.is_free() {
            self.state.store(FREE, Relaxed);
            self.demand().room = None;
            self.wake();
        }
    }

    /// So many bytes of the body have been taken.
    pub fn took(&self, bytes: usize) {
        let unread = self.unread.load(Relaxed);
        let taken = bytes.min(unread);
        self.unread.store(unread - taken, Relaxed);
        self.in_room(|room| room.give_back(taken));
    }

    /// True when the response is not read on demand.
    pub fn is_free(&self) -> bool {
        self.state.load(Relaxed) == FREE
    }

    fn read(&self, bytes: usize) {
        self.unread.store(self.unread.load(Relaxed) + bytes, Relaxed);
        self.in_room(|room| room.take(bytes));
        if self.state.load(Relaxed) == HEAD {
            self.state.store(LOOK, Relaxed);
        }
    }

    /// How much may be read now.
    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<usize> {
        match self.state.load(Relaxed) {
            FREE if self.room.is_full() => Poll::Ready(BODY_PIECE),
            FREE => Poll::Ready(usize::MAX),
            HEAD => Poll::Ready(HEAD_PIECE),
            WANTED => Poll::Ready(self.in_room(|room| if room.is_full() { SMALL_PIECE } else { BODY_PIECE })),
            LOOK => {
                self.state.store(HEAD, Relaxed);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => {
                self.demand().reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Whose room it is that what is read counts in.
    fn in_room<T>(&self, act: impl FnOnce(&Room) -> T) -> T {
        match self.is_free() {
            true => act(&self.room),
            false => act(self.demand().room.as_ref().unwrap_or(&self.room)),
        }
    }

    fn wake(&self) {
        let reader = self.demand().reader.take();
        reader.into_iter().for_each(Waker::wake);
    }

    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.took(usize::MAX);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tapped<S> {
    /// `stream`, read as `tap` allows.
    pub fn new(stream: S, tap: Arc<Tap>) -> Self {
        Tapped { stream: stream.take(0), tap }
    }

    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.get_mut())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = ready!(self.tap.poll_open(cx));
        let before = buf.filled().len();
        if most >= buf.remaining() {
            ready!(self.stream().poll_read(cx, buf))?;
        } else {
            self.stream.set_limit(most as u64);
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
        self.tap.read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
