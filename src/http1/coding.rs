//! How a body is told from what follows it, for whoever reads it.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use crate::body::{BodyError, End};
use crate::http1::chunked::{Chunked, Next};

/// Where the bytes of a body come from.
pub trait Source {
    /// What was read and not used.
    fn unread(&mut self) -> &mut BytesMut;

    /// Reads at most so many bytes into a piece of its own; an empty one at the end.
    ///
    /// # Errors
    /// The connection's.
    fn poll_piece(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<io::Result<Bytes>>;

    /// Reads more of what is to be understood before it can be passed on; 0 at the end.
    ///
    /// # Errors
    /// The connection's.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>>;
}

/// A body's coding, and how far it is read.
#[derive(Debug)]
pub enum Coding {
    /// So many bytes are to come; never 0.
    Length(u64),
    /// Chunks (RFC 9112 section 7.1).
    Chunked(Box<Chunked>),
    /// Whatever comes until the connection ends: responses only.
    UntilClose,
    /// Nothing more.
    Ended,
}

impl Coding {
    /// Of a body of so many bytes.
    pub fn of_length(bytes: u64) -> Self {
        if bytes == 0 { Coding::Ended } else { Coding::Length(bytes) }
    }

    /// True when nothing more will come.
    pub fn is_ended(&self) -> bool {
        matches!(self, Coding::Ended)
    }

    /// The next frame; nothing at the end, and after an error.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_frame(cx, source));
        if frame.is_err() {
            *self = Coding::Ended;
        }
        Poll::Ready(frame.transpose())
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
    ) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        match self {
            Coding::Ended => Poll::Ready(Ok(None)),
            Coding::Length(left) => {
                let piece = ready!(poll_some(cx, source, usize::try_from(*left).unwrap_or(usize::MAX)))?;
                if piece.is_empty() {
                    return Poll::Ready(Err(End::Cut.into()));
                }
                *self = Coding::of_length(*left - piece.len() as u64);
                Poll::Ready(Ok(Some(Frame::data(piece))))
            }
            Coding::UntilClose => {
                let piece = ready!(poll_some(cx, source, usize::MAX))?;
                if piece.is_empty() {
                    *self = Coding::Ended;
                    return Poll::Ready(Ok(None));
                }
                Poll::Ready(Ok(Some(Frame::data(piece))))
            }
            Coding::Chunked(chunked) => loop {
                match chunked.next(source.unread())? {
                    Next::Data(data) => {
                        // Most bodies end where their last piece does, and not every reader looks behind it.
                        if chunked.ends(source.unread()) {
                            *self = Coding::Ended;
                        }
                        return Poll::Ready(Ok(Some(Frame::data(data))));
                    }
                    Next::Trailers(trailers) => {
                        *self = Coding::Ended;
                        return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                    }
                    Next::End => {
                        *self = Coding::Ended;
                        return Poll::Ready(Ok(None));
                    }
                    Next::More => {
                        if ready!(source.poll_more(cx))? == 0 {
                            return Poll::Ready(Err(End::Cut.into()));
                        }
                    }
                }
            },
        }
    }

    /// What is known of the length of what is to come.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Coding::Length(left) => SizeHint::with_exact(*left),
            Coding::Chunked(_) | Coding::UntilClose => SizeHint::default(),
            Coding::Ended => SizeHint::with_exact(0),
        }
    }
}

/// What is there already, or else what is read; at most `bytes_max`.
fn poll_some(cx: &mut Context<'_>, source: &mut impl Source, bytes_max: usize) -> Poll<io::Result<Bytes>> {
    let unread = source.unread();
    match unread.len().min(bytes_max) {
        0 => source.poll_piece(cx, bytes_max),
        there => Poll::Ready(Ok(unread.split_to(there).freeze())),
    }
}
