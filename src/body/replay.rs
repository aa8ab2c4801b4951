//! A request's body that can be sent again, as long as it is small.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BodyError, Room};

/// What has been read of a body is kept, up to a limit, and given again to each reader.
pub struct Replay(Rc<RefCell<Tape>>);

struct Tape {
    source: Body,
    kept: Vec<Kept>,
    /// Bytes that may still be kept.
    left: u64,
    /// The worker's, for what is kept.
    room: Arc<Room>,
    /// Kept from the first byte on, and the source has not failed.
    is_whole: bool,
    /// The only reader that may read: an attempt that was given up must not take what the next one needs.
    reader: u32,
}

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

struct Reader {
    tape: Rc<RefCell<Tape>>,
    number: u32,
    position: usize,
}

impl Replay {
    /// Of `source`, of which at most `limit` bytes are kept, while there is room for them.
    pub fn new(source: Body, limit: u64, room: Arc<Room>) -> Self {
        let tape = Tape { source, kept: Vec::new(), left: limit, room, is_whole: true, reader: 0 };
        Replay(Rc::new(RefCell::new(tape)))
    }

    /// The body from its beginning; `None` when that is not to be had any more. Readers of before are cut off.
    pub fn reader(&self) -> Option<Body> {
        let mut tape = self.0.borrow_mut();
        if !tape.is_whole {
            return None;
        }
        tape.reader += 1;
        Some(Body::wrap(Reader { tape: self.0.clone(), number: tape.reader, position: 0 }))
    }

    /// Whether there would be a reader.
    pub fn is_whole(&self) -> bool {
        self.0.borrow().is_whole
    }
}

impl Tape {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let (bytes, kept) = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => (data.len() as u64, Kept::Data(data.clone())),
            (_, Some(trailers)) => (0, Kept::Trailers(trailers.clone())),
            _ => return,
        };
        match self.left.checked_sub(bytes) {
            Some(left) if self.is_whole && !self.room.is_full() => {
                self.left = left;
                self.room.take(len(&kept));
                self.kept.push(kept);
            }
            _ => self.forget(),
        }
    }

    fn forget(&mut self) {
        self.is_whole = false;
        let kept = std::mem::take(&mut self.kept);
        self.room.give_back(kept.iter().map(len).sum());
    }

    /// Bytes kept from `position` on.
    fn ahead(&self, position: usize) -> u64 {
        self.kept.iter().skip(position).map(len).sum::<usize>() as u64
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.forget();
    }
}

fn len(kept: &Kept) -> usize {
    if let Kept::Data(data) = kept { data.len() } else { 0 }
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let tape = self.tape.clone();
        let mut tape = tape.borrow_mut();
        if tape.reader != self.number {
            return Poll::Ready(Some(Err("the body is sent elsewhere".into())));
        }
        if let Some(kept) = tape.kept.get(self.position).cloned() {
            self.position += 1;
            return Poll::Ready(Some(Ok(match kept {
                Kept::Data(data) => Frame::data(data),
                Kept::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        let frame = ready!(Pin::new(&mut tape.source).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                tape.keep(frame);
                self.position = tape.kept.len();
            }
            Some(Err(_)) => tape.forget(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let tape = self.tape.borrow();
        self.position >= tape.kept.len() && tape.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let tape = self.tape.borrow();
        let (ahead, source) = (tape.ahead(self.position), tape.source.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(source.lower() + ahead);
        if let Some(upper) = source.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Pieces, of which `None` is a failure.
    struct Pieces(VecDeque<Option<&'static str>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let piece = self.0.pop_front();
            Poll::Ready(piece.map(|p| p.map(|text| Frame::data(Bytes::from(text))).ok_or("broken".into())))
        }
    }

    fn replay(pieces: &[Option<&'static str>], limit: u64) -> Replay {
        Replay::new(Body::wrap(Pieces(pieces.iter().copied().collect())), limit, Room::new(1 << 20, None))
    }

    /// Up to `count` pieces; an error is "!".
    fn read(body: &mut Body, count: usize) -> String {
        let mut text = String::new();
        for _ in 0..count {
            match Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => {
                    text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
                }
                Poll::Ready(Some(Err(_))) => text.push('!'),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        text
    }

    #[test]
    fn each_reader_gets_it_from_the_beginning_and_goes_on_where_nobody_has_read() {
        let replay = replay(&[Some("a"), Some("b"), Some("c")], 3);
        let mut first = replay.reader().unwrap();
        assert_eq!(read(&mut first, 2), "ab");
        let mut second = replay.reader().unwrap();
        assert_eq!(read(&mut first, 1), "!", "it is cut off");
        assert_eq!(read(&mut second, 9), "abc");
        assert!(replay.is_whole());
        assert_eq!(read(&mut replay.reader().unwrap(), 9), "abc");
    }

    #[test]
    fn what_is_too_large_passes_and_is_not_to_be_had_again() {
        let replay = replay(&[Some("a"), Some("bb"), Some("c")], 2);
        let mut first = replay.reader().unwrap();
        assert_eq!(read(&mut first, 9), "abbc");
        assert!(!replay.is_whole() && replay.reader().is_none());
    }

    #[test]
    fn nothing_is_kept_where_there_is_no_room_and_what_was_is_given_back() {
        let room = Room::new(2, None);
        let pieces = ["a", "b", "c"].map(Some);
        let new = || Replay::new(Body::wrap(Pieces(pieces.into_iter().collect())), 9, room.clone());

        let one = new();
        assert_eq!(read(&mut one.reader().unwrap(), 1), "a");
        assert_eq!(room.held(), 1);
        let other = new();
        assert_eq!(read(&mut other.reader().unwrap(), 9), "abc", "it passes");
        assert!(!other.is_whole() && room.held() == 1);
        drop(one);
        assert_eq!(room.held(), 0);
    }

    #[test]
    fn a_source_that_failed_is_not_sent_again() {
        let replay = replay(&[Some("a"), None], 9);
        assert_eq!(read(&mut replay.reader().unwrap(), 9), "a!");
        assert!(replay.reader().is_none());
    }
}
