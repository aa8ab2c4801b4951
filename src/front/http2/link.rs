//! What the connection and whoever works for a request share: the request's body on its way in, and interim responses on
//! their way out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{BodyError, End};
use crate::fields::Fields;
use crate::proxy;

/// What is gathered of a body into one piece while nobody takes it.
const PIECE_BYTES: usize = 64 * 1024;
/// Bytes that a reader takes before it tells the connection, which may not be the one that has it read.
const TOLD_BYTES: usize = 4 * 1024;

/// One request's, held by both sides.
pub struct Link {
    state: RefCell<State>,
    /// The connection's, for this stream.
    connection: Waker,
}

/// The body of a request. Its client is granted as much more as is read of it.
pub struct RequestBody {
    link: Rc<Link>,
    /// Bytes that are still to come, where that was announced.
    left: Option<u64>,
}

/// What a client waits for before it sends a body (RFC 9110 section 10.1.1).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// Nothing: it sends it.
    #[default]
    Nothing,
    /// To be told that somebody reads it.
    Continue,
}

/// What the connection has to make good since it last asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Bytes that were read.
    pub taken: usize,
    /// Bytes that nobody will read.
    pub unread: usize,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// The newest data, which more may be added to.
    newest: BytesMut,
    trailers: Option<HeaderMap>,
    stage: Stage,
    expects: Expects,
    reader: Option<Waker>,
    account: Account,
    interims: Vec<(StatusCode, Fields)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// More is to come.
    #[default]
    Open,
    /// All has come.
    Whole,
    /// No more will come, and it is not whole.
    Cut,
    /// Nobody reads it.
    Unwanted,
}

impl Link {
    /// Of a stream that `connection` wakes.
    pub fn new(connection: Waker, expects: Expects) -> Rc<Self> {
        let state = State { expects, ..State::default() };
        Rc::new(Link { state: RefCell::new(state), connection })
    }

    /// The body that comes by it, of `length` bytes if that was announced.
    pub fn body(self: &Rc<Self>, length: Option<u64>) -> RequestBody {
        RequestBody { link: self.clone(), left: length }
    }

    /// Data have come.
    pub fn data(&self, data: &[u8]) {
        let mut state = self.state.borrow_mut();
        state.expects = Expects::Nothing;
        if state.stage != Stage::Open {
            state.account.unread += data.len();
            return;
        }
        if state.newest.len() + data.len() > PIECE_BYTES && !state.newest.is_empty() {
            let piece = std::mem::take(&mut state.newest).freeze();
            state.pieces.push_back(piece);
        }
        state.newest.extend_from_slice(data);
        state.wake();
    }

    /// The end has come, and perhaps trailers.
    pub fn end(&self, trailers: Option<HeaderMap>) {
        let mut state = self.state.borrow_mut();
        if state.stage == Stage::Open {
            (state.stage, state.trailers) = (Stage::Whole, trailers);
            state.wake();
        }
    }

    /// The stream is over. What has come of a body that is not whole is not to be taken for it.
    pub fn cut(&self) {
        let mut state = self.state.borrow_mut();
        if state.stage == Stage::Open {
            state.stage = Stage::Cut;
            (state.pieces, state.newest) = Default::default();
            state.wake();
        }
    }

    /// What is to be made good.
    pub fn settle(&self) -> Account {
        std::mem::take(&mut self.state.borrow_mut().account)
    }

    /// Interim responses that are to go out.
    pub fn take_interims(&self) -> Vec<(StatusCode, Fields)> {
        std::mem::take(&mut self.state.borrow_mut().interims)
    }
}

impl proxy::Turn for Link {
    fn interim(&self, status: StatusCode, fields: &Fields) {
        self.state.borrow_mut().interims.push((status, fields.clone()));
        self.connection.wake_by_ref();
    }

    fn ended(&self) {}
}

impl State {
    fn wake(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn next(&mut self) -> Option<Bytes> {
        let newest = &mut self.newest;
        self.pieces.pop_front().or_else(|| (!newest.is_empty()).then(|| std::mem::take(newest).freeze()))
    }

    fn has_data(&self) -> bool {
        !self.pieces.is_empty() || !self.newest.is_empty()
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let RequestBody { link, left } = &mut *self;
        let mut state = link.state.borrow_mut();
        if let Some(data) = state.next() {
            state.account.taken += data.len();
            let tells = state.account.taken >= TOLD_BYTES;
            drop(state);
            if tells {
                link.connection.wake_by_ref();
            }
            *left = left.map(|left| left.saturating_sub(data.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match state.stage {
            Stage::Open => {
                match &mut state.reader {
                    Some(reader) => reader.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                if std::mem::take(&mut state.expects) == Expects::Continue {
                    state.interims.push((StatusCode::CONTINUE, Fields::new()));
                    drop(state);
                    link.connection.wake_by_ref();
                }
                Poll::Pending
            }
            Stage::Whole => Poll::Ready(state.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            Stage::Cut | Stage::Unwanted => Poll::Ready(Some(Err(End::Cut.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.link.state.borrow();
        state.stage == Stage::Whole && !state.has_data() && state.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut state = self.link.state.borrow_mut();
        let unread = state.pieces.iter().map(Bytes::len).sum::<usize>() + state.newest.len();
        (state.pieces, state.newest, state.reader) = Default::default();
        if state.stage == Stage::Open {
            state.stage = Stage::Unwanted;
        }
        state.account.unread += unread;
        drop(state);
        if unread > 0 {
            self.link.connection.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &mut RequestBody) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    fn data(body: &mut RequestBody) -> Vec<u8> {
        let Poll::Ready(Some(Ok(frame))) = read(body) else { panic!("no data") };
        frame.into_data().unwrap().to_vec()
    }

    #[test]
    fn a_body_is_read_as_it_comes_and_to_its_end() {
        let link = Link::new(Waker::noop().clone(), Expects::Nothing);
        let mut body = link.body(Some(6));
        assert!(read(&mut body).is_pending());

        link.data(b"ab");
        link.data(b"cd");
        assert_eq!(data(&mut body), b"abcd");
        assert_eq!(body.size_hint().exact(), Some(2));
        link.data(b"ef");
        assert_eq!(link.settle(), Account { taken: 4, unread: 0 });
        link.end(Some(HeaderMap::new()));
        assert_eq!(data(&mut body), b"ef");
        assert!(!body.is_end_stream());
        assert!(matches!(read(&mut body), Poll::Ready(Some(Ok(frame))) if frame.is_trailers()));
        assert!(body.is_end_stream() && matches!(read(&mut body), Poll::Ready(None)));
        assert_eq!(link.settle(), Account { taken: 2, unread: 0 });
    }

    #[test]
    fn a_large_body_waits_in_large_pieces() {
        let link = Link::new(Waker::noop().clone(), Expects::Nothing);
        let mut body = link.body(None);
        (0..200).for_each(|n| link.data(&[n; 1000]));

        let pieces: Vec<_> = (0..4).map(|_| data(&mut body)).collect();

        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [65_000, 65_000, 65_000, 5000]);
        let expected: Vec<u8> = (0..200).flat_map(|n| [n; 1000]).collect();
        assert!(pieces.concat() == expected);
        assert!(read(&mut body).is_pending());
    }

    #[test]
    fn a_body_that_is_cut_never_looks_whole_and_one_that_is_whole_is_not_cut() {
        let link = Link::new(Waker::noop().clone(), Expects::Nothing);
        let mut body = link.body(None);
        link.data(b"ab");
        link.cut();
        assert!(matches!(read(&mut body), Poll::Ready(Some(Err(_)))));

        let link = Link::new(Waker::noop().clone(), Expects::Nothing);
        let mut body = link.body(None);
        link.data(b"ab");
        link.end(None);
        link.cut();
        assert_eq!(data(&mut body), b"ab");
        assert!(body.is_end_stream());
    }

    #[test]
    fn what_nobody_reads_is_made_good() {
        let link = Link::new(Waker::noop().clone(), Expects::Nothing);
        let body = link.body(None);
        link.data(b"ab");
        drop(body);
        link.data(b"cde");
        link.end(None);
        assert_eq!(link.settle(), Account { taken: 0, unread: 5 });
    }

    #[test]
    fn a_client_that_waits_to_be_told_is_told_once_somebody_reads() {
        let link = Link::new(Waker::noop().clone(), Expects::Continue);
        let mut body = link.body(None);
        assert!(link.take_interims().is_empty());
        assert!(read(&mut body).is_pending() && read(&mut body).is_pending());
        assert_eq!(link.take_interims(), [(StatusCode::CONTINUE, Fields::new())]);

        let link = Link::new(Waker::noop().clone(), Expects::Continue);
        let mut body = link.body(None);
        link.data(b"it did not wait");
        assert_eq!(data(&mut body), b"it did not wait");
        assert!(read(&mut body).is_pending());
        assert!(link.take_interims().is_empty());
    }
}
