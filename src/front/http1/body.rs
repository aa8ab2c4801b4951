//! The body of a request, read from its connection by whoever wants it: nothing is read ahead of its reader.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{BodyError, End};
use crate::front::http1::chunked::{BadChunk, Chunked, Next};
use crate::front::http1::wire::{BodyStage, Reader, Wire};

/// A request's body.
pub struct RequestBody {
    wire: Rc<Wire>,
    coding: Coding,
}

enum Coding {
    /// Bytes to come.
    Length(u64),
    Chunked(Box<Chunked>),
    Ended,
}

impl RequestBody {
    /// Of `length` bytes, which is not 0.
    pub fn of_length(wire: Rc<Wire>, length: u64) -> Self {
        RequestBody { wire, coding: Coding::Length(length) }
    }

    /// In chunks.
    pub fn of_chunks(wire: Rc<Wire>, chunked: Chunked) -> Self {
        RequestBody { wire, coding: Coding::Chunked(Box::new(chunked)) }
    }
}

impl Coding {
    /// The next frame; `None` at the end.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Reader<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        match self {
            Coding::Ended => Poll::Ready(Ok(None)),
            Coding::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let unread = reader.unread();
                let piece = match unread.len().min(most) {
                    0 => ready!(reader.poll_piece(cx, most))?,
                    there => unread.split_to(there).freeze(),
                };
                if piece.is_empty() {
                    return Poll::Ready(Err(End::Cut.into()));
                }
                *left -= piece.len() as u64;
                if *left == 0 {
                    self.end(reader);
                }
                Poll::Ready(Ok(Some(Frame::data(piece))))
            }
            Coding::Chunked(chunked) => loop {
                match chunked.next(reader.unread())? {
                    Next::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                    Next::Trailers(trailers) => {
                        self.end(reader);
                        return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                    }
                    Next::End => {
                        self.end(reader);
                        return Poll::Ready(Ok(None));
                    }
                    Next::More => {
                        if ready!(reader.poll_more(cx))? == 0 {
                            return Poll::Ready(Err(End::Cut.into()));
                        }
                    }
                }
            },
        }
    }

    fn end(&mut self, reader: &mut Reader<'_>) {
        *self = Coding::Ended;
        reader.finish(BodyStage::Ended);
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let RequestBody { wire, coding } = &mut *self;
        wire.with_body(|reader| {
            reader.ask();
            let frame = ready!(coding.poll(cx, reader));
            if frame.is_err() {
                *coding = Coding::Ended;
                reader.finish(BodyStage::Lost);
            }
            Poll::Ready(frame.transpose())
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.coding, Coding::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match self.coding {
            Coding::Length(left) => SizeHint::with_exact(left),
            Coding::Chunked(_) => SizeHint::default(),
            Coding::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_end_stream() {
            self.wire.with_body(|reader| reader.finish(BodyStage::Lost));
        }
    }
}

impl std::fmt::Display for BadChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body is not chunked as it says")
    }
}

impl std::error::Error for BadChunk {}
