//! The body of a request, read from its connection by whoever wants it: nothing is read ahead of its reader.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::BodyError;
use crate::front::http1::wire::{BodyStage, Wire};
use crate::http1::coding::Coding;

/// A request's body.
pub struct RequestBody {
    wire: Rc<Wire>,
    coding: Coding,
}

impl RequestBody {
    /// Of a body that has not ended.
    pub fn new(wire: Rc<Wire>, coding: Coding) -> Self {
        RequestBody { wire, coding }
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
            if matches!(frame, Some(Err(_))) {
                reader.finish(BodyStage::Lost);
            } else if coding.is_ended() {
                reader.finish(BodyStage::Ended);
            }
            Poll::Ready(frame)
        })
    }

    fn is_end_stream(&self) -> bool {
        self.coding.is_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.coding.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_end_stream() {
            self.wire.with_body(|reader| reader.finish(BodyStage::Lost));
        }
    }
}
