//! One client connection: TLS, protocol, requests, end.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::net::TcpStream;
use tracing::debug;

use crate::clock::Deadline;
use crate::front::accept::Accepted;
use crate::front::http1::{self, Parked};
use crate::front::http2::{self, PREFACE};
use crate::net::Stream;
use crate::net::tls::Acceptor;

/// What the bytes of a connection mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

/// A connection, from its first byte to its last. Never fails: what goes wrong is counted and, where there is someone to
/// tell, answered.
///
/// A future written by hand: a connection at rest costs what this holds, and there may be tens of thousands.
pub struct Connection {
    accepted: Rc<Accepted>,
    phase: Phase,
}

enum Phase {
    /// Nobody has said anything yet, or for a while.
    Waiting(Parked, Deadline),
    Busy(Pin<Box<dyn Future<Output = Option<Parked>>>>),
    Over,
}

impl Connection {
    /// Of a socket that was just accepted.
    pub fn new(accepted: Rc<Accepted>, tcp: TcpStream) -> Self {
        let (view, listener) = accepted.door.place();
        let phase = match &view.listeners[listener].tls {
            Some(acceptor) => Phase::Busy(Box::pin(secure(accepted.clone(), acceptor.clone(), tcp))),
            None => {
                let limit = accepted.local.timers.deadline(view.config.limits.head_timeout);
                Phase::Waiting(Parked { stream: Stream::Plain(tcp), requests: 0 }, limit)
            }
        };
        Connection { accepted, phase }
    }

    /// It is at rest, and costs little more than its socket from now on.
    fn park(&mut self, parked: Parked) {
        let local = &self.accepted.local;
        let keep_alive = self.accepted.door.view().config.limits.keep_alive;
        let limit = local.timers.deadline(keep_alive.saturating_sub(http1::PARK_AFTER));
        self.phase = Phase::Waiting(parked, limit);
    }

    /// The client says something, beginning with `first`.
    fn rouse(&mut self, parked: Parked, first: BytesMut) {
        let accepted = self.accepted.clone();
        self.phase = Phase::Busy(match parked.requests {
            0 => Box::pin(begin(accepted, parked.stream, first)),
            _ => {
                let client = accepted.client(&parked.stream);
                Box::pin(http1::serve(accepted.local.clone(), client, parked, first))
            }
        });
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.accepted.local.timers.read_clock();
        loop {
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Over => return Poll::Ready(()),
                Phase::Busy(mut busy) => match busy.as_mut().poll(cx) {
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Ready(Some(parked)) => self.park(parked),
                    Poll::Pending => {
                        self.phase = Phase::Busy(busy);
                        return Poll::Pending;
                    }
                },
                Phase::Waiting(mut parked, limit) => {
                    match poll_first(&mut parked.stream, cx) {
                        Poll::Ready(None) => return Poll::Ready(()),
                        Poll::Ready(Some(first)) => {
                            self.rouse(parked, first);
                            continue;
                        }
                        Poll::Pending => {}
                    }
                    // Nothing is lost with a client that says nothing when the process ends.
                    let is_late = limit.poll_elapsed(cx).is_ready();
                    if !is_late && !self.accepted.is_leaving() {
                        self.phase = Phase::Waiting(parked, limit);
                        return Poll::Pending;
                    }
                    if is_late && parked.requests == 0 {
                        self.accepted.count_silence();
                    }
                    let _ = parked.stream.poll_farewell(cx);
                    return Poll::Ready(());
                }
            }
        }
    }
}

/// The first bytes after a rest, or nothing yet where TLS has to look at them first; `None` at the end. Until there are
/// some, no memory is held for them.
fn poll_first(stream: &mut Stream, cx: &mut Context<'_>) -> Poll<Option<BytesMut>> {
    if matches!(stream, Stream::Tls(_)) {
        return stream.poll_read_ready(cx).map(|ready| ready.is_ok().then(BytesMut::new));
    }
    let mut first = BytesMut::new();
    stream.poll_append(cx, &mut first).map(|read| read.is_ok_and(|bytes| bytes > 0).then_some(first))
}

/// The first bytes in the clear tell the protocol.
async fn begin(accepted: Rc<Accepted>, mut stream: Stream, mut first: BytesMut) -> Option<Parked> {
    let local = &accepted.local;
    let limit = accepted.door.view().config.limits.head_timeout;
    match local.timers.timeout(limit, protocol_of(&accepted, &mut stream, &mut first)).await {
        Ok(Ok(protocol)) => serve(&accepted, stream, first, protocol).await,
        Ok(Err(_)) => None,
        Err(_) => {
            accepted.count_silence();
            None
        }
    }
}

/// The TLS handshake, and what it tells of the protocol.
async fn secure(accepted: Rc<Accepted>, acceptor: Acceptor, tcp: TcpStream) -> Option<Parked> {
    let stream = Box::pin(handshake(&accepted, acceptor, tcp)).await?;
    let protocol = if stream.alpn() == Some(b"h2") { Speaks::Http2 } else { Speaks::Http1 };
    serve(&accepted, stream, BytesMut::new(), protocol).await
}

async fn handshake(accepted: &Accepted, acceptor: Acceptor, tcp: TcpStream) -> Option<Stream> {
    let (local, (view, listener)) = (&accepted.local, accepted.door.place());
    let (state, limits) = (&view.listeners[listener], &view.config.limits);
    // A place, and not a turn to wait for: those who begin handshakes and leave them would make everyone wait.
    let Some(_place) = local.keep.seats.handshake(limits.handshakes) else {
        local.cells.inc(state.handles.refused_handshake);
        return None;
    };
    match local.timers.timeout(limits.tls_timeout, acceptor.handshake(tcp)).await {
        Ok(Ok(stream)) => {
            local.cells.inc(state.handles.tls_ok);
            Some(stream)
        }
        Ok(Err(error)) => {
            local.cells.inc(state.handles.tls_failed);
            debug!(listener = state.name, %error, "tls handshake failed");
            None
        }
        Err(_) => {
            local.cells.inc(state.handles.tls_timed_out);
            None
        }
    }
}

async fn serve(accepted: &Rc<Accepted>, stream: Stream, first: BytesMut, protocol: Speaks) -> Option<Parked> {
    let (local, client) = (accepted.local.clone(), accepted.client(&stream));
    match protocol {
        Speaks::Http1 => http1::serve(local, client, Parked { stream, requests: 0 }, first).await,
        Speaks::Http2 => {
            // Boxed: its state is thousands of bytes, and most connections do not have it.
            Box::pin(http2::serve(local, client, stream, first)).await;
            None
        }
    }
}

/// Reads on until it is clear whether the client speaks HTTP/2.
async fn protocol_of(accepted: &Accepted, stream: &mut Stream, first: &mut BytesMut) -> io::Result<Speaks> {
    poll_fn(|cx| {
        loop {
            if first.starts_with(PREFACE) {
                return Poll::Ready(Ok(Speaks::Http2));
            }
            if !PREFACE.starts_with(first) {
                return Poll::Ready(Ok(Speaks::Http1));
            }
            let outcome = stream.poll_append(cx, first);
            if outcome.is_pending() && accepted.is_leaving() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            if ready!(outcome)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    })
    .await
}
