//! Bodies as the rooms pass them to each other.
//!
//! One enum instead of a boxed trait object: no allocation for the bodies of
//! everyday requests, and no virtual call per frame.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

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
    /// As it arrives from hyper.
    Incoming(Incoming),
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
            Body::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(cx).map(|f| f.map(|r| r.map_err(Into::into)))
            }
            Body::Wrapped(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_none(),
            Body::Incoming(incoming) => incoming.is_end_stream(),
            Body::Wrapped(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Incoming(incoming) => incoming.size_hint(),
            Body::Wrapped(body) => body.size_hint(),
        }
    }
}
