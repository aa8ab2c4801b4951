//! A response's body, read from its connection by whoever wants it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{BodyError, End};
use crate::fields;
use crate::http1::coding::Coding;
use crate::upstream::conns::{Lease, Pace};
use crate::upstream::side::InFlight;

/// A response body that gives its connection back at its end.
pub(super) struct LeasedBody {
    coding: Coding,
    lease: Option<Lease>,
    /// Bytes that are counted in the room: of the piece that was given last, until the next is asked for, where its reader
    /// takes what comes; of what came with the head or behind a piece, where it is read on demand.
    counted: usize,
    /// The server is busy until its response has ended.
    busy: InFlight,
    /// What times count from.
    epoch: Instant,
    /// No trailers, because `Connection` names them.
    hop_by_hop: Vec<HeaderName>,
}

impl LeasedBody {
    /// Of a body that has not ended.
    pub(super) fn new(coding: Coding, lease: Lease, busy: InFlight, epoch: Instant) -> Self {
        let mut body =
            LeasedBody { coding, lease: Some(lease), counted: 0, busy, epoch, hop_by_hop: Vec::new() };
        body.count(0);
        body
    }

    /// The same; fields that are called so go no further than here (RFC 9110 section 7.6.1).
    pub(super) fn without(mut self, hop_by_hop: Vec<HeaderName>) -> Self {
        self.hop_by_hop = hop_by_hop;
        self
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(lease) = &mut self.lease else { return Poll::Ready(None) };
        if lease.write(cx).is_err() {
            return Poll::Ready(Some(Err(End::Cut.into())));
        }
        let piece_max = lease.piece_max();
        self.coding.poll(cx, &mut lease.conn().reader(piece_max))
    }

    /// Of a piece of so many bytes that is given away now, and of what is there beside it.
    fn count(&mut self, given: usize) {
        let Some(lease) = &mut self.lease else { return };
        let waiting = match lease.pace {
            Pace::Free => given,
            // Who reads on demand counts what it has by itself.
            Pace::OnDemand(_) => lease.conn().unread(),
        };
        lease.room().take(waiting);
        lease.room().give_back(std::mem::replace(&mut self.counted, waiting));
    }

    fn uncount(&mut self) {
        if let Some(lease) = &self.lease {
            lease.room().give_back(std::mem::take(&mut self.counted));
        }
    }

    fn end(&mut self) {
        self.uncount();
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl HttpBody for LeasedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut frame = match self.poll(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                // Whoever asks for a piece has done with the one before.
                self.count(0);
                return Poll::Pending;
            }
        };
        match &mut frame {
            Some(Err(_)) => {
                self.uncount();
                self.lease = None;
                let now = self.epoch.elapsed();
                self.busy.cut(now);
            }
            _ if self.coding.is_ended() => self.end(),
            Some(Ok(frame)) => self.count(frame.data_ref().map_or(0, Bytes::len)),
            None => {}
        }
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
            fields::clean_trailers(trailers);
            self.hop_by_hop.iter().for_each(|name| drop(trailers.remove(name)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.coding.is_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.coding.size_hint()
    }
}

impl Drop for LeasedBody {
    fn drop(&mut self) {
        self.uncount();
    }
}
