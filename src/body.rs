//! Bodies as the rooms pass them to each other.
//!
//! One enum instead of a boxed trait object: no allocation for the bodies of
//! everyday requests, and no virtual call per frame.

mod replay;
mod room;

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::clock::Deadline;

pub use replay::Replay;
pub use room::{PIECE, Room, Share};

/// The longest that a body may be said to be, in bytes: a reader that counts with a sign would take more for less than
/// nothing.
pub const LENGTH_MAX: u64 = i64::MAX as u64;

/// Why a body ended before its end. Whoever reads it must not make it look whole.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body that some room above wraps: see [`Body::Wrapped`].
pub type Wrapped = Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>;

/// A request's or a response's body.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// One piece, in memory; `None` once it has been read.
    Full(Option<Bytes>),
    /// Anything else.
    Wrapped(Wrapped),
}

impl Body {
    /// A body of one piece.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Body::Empty } else { Body::Full(Some(bytes)) }
    }

    /// Wraps `body` behind one allocation.
    pub fn wrap(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Body::Wrapped(Box::pin(body))
    }

    /// True when it is known that nothing will come.
    pub fn is_empty(&self) -> bool {
        self.is_end_stream()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Body::Wrapped(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_none(),
            Body::Wrapped(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Wrapped(body) => body.size_hint(),
        }
    }
}

/// What is known of a body while it passes; shared with whoever must judge its end.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: Cell<u64>,
    frames: Cell<u64>,
    is_awaited: Cell<bool>,
    end: Cell<Option<End>>,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Whole,
    /// Its source broke off.
    Cut,
    /// Its source was silent for too long.
    TooSlow {
        /// The limit.
        after: Duration,
    },
    /// It was larger than allowed.
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Nobody wanted the rest.
    Dropped,
}

/// A body that is counted, and held to a size and a pace.
pub struct Metered {
    inner: Body,
    meter: Rc<Meter>,
    limit: u64,
    idle: Option<Deadline>,
    total: Option<Deadline>,
    pace: Option<Pace>,
    piece_max: usize,
    /// What is left of a piece that was larger.
    rest: Bytes,
}

/// The least that a source must send while it is waited for. Who sends a byte now and then is never silent, and would
/// hold its server's place for ever.
struct Pace {
    /// Bytes in a second.
    least: u64,
    /// How long its source was waited for, in all: what its reader took does not count.
    waited: Duration,
    /// Since when it is waited for now.
    since: Option<Instant>,
}

impl Pace {
    fn waits(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// A piece has come.
    fn came(&mut self) {
        self.waited += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }

    /// Whether `bytes` are too few for the time, once that is more than `grace`.
    fn is_too_slow(&self, bytes: u64, grace: Duration) -> bool {
        self.waited > grace && bytes < self.least.saturating_mul(self.waited.as_secs())
    }
}

impl Meter {
    /// For a body that is still to come: its source is awaited.
    pub fn ahead() -> Rc<Self> {
        Rc::new(Meter { is_awaited: Cell::new(true), ..Meter::default() })
    }

    /// Bytes of data that have passed.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Grows with every piece that passes: a changed number is progress.
    pub fn progress(&self) -> u64 {
        self.frames.get()
    }

    /// True while someone waits for its source: what is late then is the source, not its reader.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.get()
    }

    /// It is its reader's turn.
    pub fn awaits_reader(&self) {
        self.is_awaited.set(false);
    }

    /// How the body ended; `None` while it has not.
    pub fn end(&self) -> Option<End> {
        self.end.get()
    }

    /// For a body that is empty from the start.
    pub fn finish(&self, end: End) {
        if self.end.get().is_none() {
            self.end.set(Some(end));
        }
    }
}

impl Metered {
    /// Passes `inner` on while it stays within `limit` bytes and is never silent for longer than `idle`;
    /// `None` is no limit of ours (whoever is further up has one).
    pub fn new(inner: Body, limit: Option<u64>, idle: Option<Deadline>) -> Self {
        let mut metered = Metered::by(Rc::default(), inner, usize::MAX);
        (metered.limit, metered.idle) = (limit.unwrap_or(u64::MAX), idle);
        metered
    }

    /// Passes `inner` on in pieces of at most `piece_max` bytes; what is known of it goes into `meter`.
    pub fn by(meter: Rc<Meter>, inner: Body, piece_max: usize) -> Self {
        meter.awaits_reader();
        if inner.is_empty() {
            meter.finish(End::Whole);
        }
        Metered {
            inner,
            meter,
            limit: u64::MAX,
            idle: None,
            total: None,
            pace: None,
            piece_max,
            rest: Bytes::new(),
        }
    }

    /// The same, which must end within `total` as a whole.
    pub fn within(mut self, total: Option<Deadline>) -> Self {
        self.total = total;
        self
    }

    /// The same, of which at least so many bytes must come in a second, once it was waited for longer than it may be silent.
    pub fn at_least(mut self, bytes: u64) -> Self {
        self.pace = (bytes > 0).then_some(Pace { least: bytes, waited: Duration::ZERO, since: None });
        self
    }

    /// What is known of it, now and when it has gone.
    pub fn meter(&self) -> Rc<Meter> {
        self.meter.clone()
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.rest.is_empty() {
            true => ready!(Pin::new(&mut self.inner).poll_frame(cx)),
            false => Some(Ok(Frame::data(std::mem::take(&mut self.rest)))),
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| self.piece(frame))))
    }

    fn piece(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if frame.data_ref().is_none_or(|data| data.len() <= self.piece_max) {
            return frame;
        }
        frame.map_data(|mut data| {
            let piece = data.split_to(self.piece_max);
            self.rest = data;
            piece
        })
    }

    fn fail(&self, end: End) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.meter.finish(end);
        Poll::Ready(Some(Err(end.into())))
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(total) = &this.total
            && total.poll_elapsed(cx).is_ready()
        {
            return this.fail(End::TooSlow { after: total.after() });
        }
        let Poll::Ready(frame) = this.next(cx) else {
            this.meter.is_awaited.set(true);
            this.pace.iter_mut().for_each(Pace::waits);
            let Some(idle) = &this.idle else { return Poll::Pending };
            ready!(idle.poll_elapsed(cx));
            let after = idle.after();
            return this.fail(End::TooSlow { after });
        };
        this.meter.is_awaited.set(false);
        this.pace.iter_mut().for_each(Pace::came);
        if let Some(idle) = &this.idle {
            idle.reset();
        }
        match frame {
            Some(Ok(frame)) => {
                let meter = &this.meter;
                meter.frames.set(meter.frames.get() + 1);
                meter.bytes.set(meter.bytes.get() + frame.data_ref().map_or(0, |d| d.len() as u64));
                if meter.bytes.get() > this.limit {
                    return this.fail(End::TooLarge { limit: this.limit });
                }
                // Nothing comes after trailers, and many readers do not look.
                if frame.is_trailers() || this.is_end_stream() {
                    meter.finish(End::Whole);
                } else if let (Some(pace), Some(idle)) = (&this.pace, &this.idle)
                    && pace.is_too_slow(meter.bytes.get(), idle.after())
                {
                    return this.fail(End::TooSlow { after: pace.waited });
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.meter.finish(End::Cut);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                this.meter.finish(End::Whole);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.finish(End::Dropped);
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Whole => f.write_str("the body is complete"),
            End::Cut => f.write_str("the body broke off"),
            End::TooSlow { after } => write!(f, "too little of the body within {after:?}"),
            End::TooLarge { limit } => write!(f, "the body is larger than {limit} bytes"),
            End::Dropped => f.write_str("the body was not wanted to its end"),
        }
    }
}

impl std::error::Error for End {}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_body_passes_in_pieces_each_of_which_is_progress() {
        let meter = Meter::ahead();
        assert!(meter.is_awaited());
        let mut body = Metered::by(meter.clone(), Body::full("abcdefg"), 3);
        assert!(!meter.is_awaited(), "it is the reader's turn");
        let mut cx = Context::from_waker(Waker::noop());

        let mut seen = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) {
            let left = body.size_hint().exact();
            seen.push((frame.into_data().unwrap(), left, meter.progress(), meter.end()));
        }

        let piece = |text: &'static str, left, progress, end| (Bytes::from(text), Some(left), progress, end);
        let expected =
            [piece("abc", 4, 1, None), piece("def", 1, 2, None), piece("g", 0, 3, Some(End::Whole))];
        assert_eq!(seen, expected);
        assert_eq!(meter.bytes(), 7);
    }

    #[test]
    fn only_the_time_that_a_source_was_waited_for_counts_against_it() {
        let grace = Duration::from_secs(30);
        for (waited, bytes, is_too_slow) in
            [(30, 0, false), (31, 3099, true), (31, 3100, false), (600, 59_999, true), (600, 60_000, false)]
        {
            let pace = Pace { least: 100, waited: Duration::from_secs(waited), since: None };
            assert_eq!(pace.is_too_slow(bytes, grace), is_too_slow, "{bytes} bytes in {waited} s");
        }
    }

    #[test]
    fn a_body_dropped_in_the_middle_of_a_piece_is_not_whole() {
        let mut body = Metered::by(Meter::ahead(), Body::full("abcd"), 3);
        let meter = body.meter();
        let mut cx = Context::from_waker(Waker::noop());

        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
        drop(body);

        assert_eq!(meter.end(), Some(End::Dropped));
    }
}
