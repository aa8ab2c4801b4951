//! One client connection: TLS, protocol, requests, end.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;

use crate::body::{self, Body};
use crate::clock::Deadline;
use crate::config::Limits;
use crate::front::LINGER;
use crate::front::accept::Accepted;
use crate::front::http1::{self, Parked};
use crate::front::streams::Streams;
use crate::front::watch::{Awaits, Watch, Watched};
use crate::net::Stream;
use crate::proxy::{self, Client};
use crate::state::{Local, Stage};

/// RFC 9113 section 3.4: what an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Receive windows. The connection's must stay at 1 MiB or above: h2 budgets small DATA frames by it.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

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
        let view = accepted.local.snapshot();
        let phase = match view.listeners[accepted.listener].tls {
            _ if tcp.set_nodelay(true).is_err() => Phase::Over,
            Some(_) => Phase::Busy(Box::pin(secure(accepted.clone(), tcp))),
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
        let keep_alive = local.snapshot().config.limits.keep_alive;
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
                    if !is_late && !self.accepted.local.is_draining() {
                        self.phase = Phase::Waiting(parked, limit);
                        return Poll::Pending;
                    }
                    if is_late && parked.requests == 0 {
                        let Accepted { local, listener, .. } = &*self.accepted;
                        local.cells.inc(local.snapshot().listeners[*listener].handles.refused_silent);
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
    let view = local.snapshot();
    let limit = view.config.limits.head_timeout;
    match local.timers.timeout(limit, protocol_of(local, &mut stream, &mut first)).await {
        Ok(Ok(protocol)) => serve(&accepted, stream, first, protocol).await,
        Ok(Err(_)) => None,
        Err(_) => {
            local.cells.inc(view.listeners[accepted.listener].handles.refused_silent);
            None
        }
    }
}

/// The TLS handshake, and what it tells of the protocol.
async fn secure(accepted: Rc<Accepted>, tcp: TcpStream) -> Option<Parked> {
    let stream = Box::pin(handshake(&accepted.local, accepted.listener, tcp)).await?;
    let protocol = if stream.alpn() == Some(b"h2") { Speaks::Http2 } else { Speaks::Http1 };
    serve(&accepted, stream, BytesMut::new(), protocol).await
}

async fn handshake(local: &Rc<Local>, listener: usize, tcp: TcpStream) -> Option<Stream> {
    let snapshot = local.snapshot();
    let state = &snapshot.listeners[listener];
    let limits = &snapshot.config.limits;
    let acceptor = state.tls.as_ref()?;
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
            Box::pin(serve_http2(local, client, stream, first)).await;
            None
        }
    }
}

async fn serve_http2(local: Rc<Local>, client: Rc<Client>, stream: Stream, prefix: BytesMut) {
    let watch = Arc::new(Watch::default());
    let turn = Rc::new(Turn(watch.clone()));
    let listener = client.listener;
    let io = TokioIo::new(Watched::new(stream, prefix.freeze(), watch.clone()));
    let view = local.snapshot();
    let limits = &view.config.limits;
    let too_slow = view.listeners[listener].handles.refusal("slow-reader");
    let streams = Streams::new(&local, &watch, limits.write_idle, too_slow);
    let service = {
        let (local, watch, streams) = (local.clone(), watch.clone(), streams.clone());
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            watch.request_begins();
            let (head, body) = request.into_parts();
            let (local, client, turn) = (local.clone(), client.clone(), turn.clone());
            let serving =
                proxy::serve(local, client, head.into(), Body::Incoming(body), streams.begins(), turn, None);
            async { Ok::<_, Infallible>(serving.await.into_response()) }
        })
    };
    let conn = http2_builder(limits, streams).serve_connection(io, service);
    run(&local, listener, &watch, pin!(conn)).await;
}

/// Reads on until it is clear whether the client speaks HTTP/2.
async fn protocol_of(local: &Local, stream: &mut Stream, first: &mut BytesMut) -> io::Result<Speaks> {
    poll_fn(|cx| {
        loop {
            if first.starts_with(PREFACE) {
                return Poll::Ready(Ok(Speaks::Http2));
            }
            if !PREFACE.starts_with(first) {
                return Poll::Ready(Ok(Speaks::Http1));
            }
            let outcome = stream.poll_append(cx, first);
            if outcome.is_pending() && local.is_draining() {
                return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
            }
            if ready!(outcome)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    })
    .await
}

fn http2_builder(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .auto_date_header(false)
        .max_concurrent_streams(limits.http2_streams)
        .max_pending_accept_reset_streams(limits.http2_resets)
        .max_header_list_size(limits.http2_header_list)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(body::PIECE);
    builder
}

/// However a request ends, its connection hears of it.
struct Turn(Arc<Watch>);

impl proxy::Turn for Turn {
    /// hyper cannot send any over HTTP/2.
    fn interim(&self, _: http::StatusCode, _: &http::HeaderMap) {}

    fn ended(&self) {
        self.0.request_ends();
    }
}

/// Polls the connection to its end, holding the client to its limits and the process to its drain.
async fn run<I, S>(
    local: &Rc<Local>,
    listener: usize,
    watch: &Watch,
    mut conn: Pin<&mut http2::Connection<I, S, Streams>>,
) where
    http2::Connection<I, S, Streams>: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<hyper::body::Incoming, ResBody = Body>,
    Streams: hyper::rt::bounds::Http2ServerConnExec<S::Future, Body>,
{
    let snapshot = local.snapshot();
    let limits = &snapshot.config.limits;
    let mut stage = local.stage.clone();
    let mut draining = pin!(async move { stage.wait_for(|s| *s != Stage::Serving).await.is_ok() });
    let mut goodbye = false;
    let mut awaits = Awaits::Nothing;
    let mut deadline = local.timers.deadline(Duration::MAX);
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(outcome) = conn.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        let requests_max = limits.requests_per_connection;
        // What was on its way when we said goodbye is still served; who goes on after that does not listen.
        if watch.requests() > requests_max.saturating_add(u64::from(limits.http2_streams)) {
            return Poll::Ready(None);
        }
        if !goodbye && (watch.requests() >= requests_max || draining.as_mut().poll(cx).is_ready()) {
            goodbye = true;
            // GOAWAY tells the client that nothing of its was lost.
            conn.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        let now = match watch.awaits() {
            Awaits::Rest(_) | Awaits::Head(_) if goodbye => Awaits::Linger,
            other => other,
        };
        if now != awaits {
            awaits = now;
            deadline = local.timers.deadline(limit_of(now, limits));
        }
        if now == Awaits::Nothing || deadline.poll_elapsed(cx).is_pending() {
            return Poll::Pending;
        }
        if matches!(now, Awaits::Rest(_)) {
            goodbye = true;
            conn.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if now == Awaits::Linger {
            // One more poll: why it ended is known only when it has.
            watch.stop_lingering();
            if let Poll::Ready(outcome) = conn.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
        }
        Poll::Ready(None)
    })
    .await;
    let reason = match outcome {
        _ if watch.has_flooded() => Some("http2-flood"),
        Some(Err(error)) if is_flood(&error) => Some("http2-flood"),
        _ if watch.has_erred() => Some("malformed"),
        Some(Err(error)) if is_mistake(&error) => {
            debug!(%error, "refused over http/2");
            Some("malformed")
        }
        None if matches!(awaits, Awaits::Head(_)) => Some("slow-head"),
        None if matches!(awaits, Awaits::Write(_)) => Some("slow-reader"),
        _ => None,
    };
    if let Some(counter) = reason.and_then(|reason| snapshot.listeners[listener].handles.refusal(reason)) {
        local.cells.inc(counter);
    }
}

/// h2 has limits of its own: on resets, on CONTINUATION, on empty DATA.
fn is_flood(error: &hyper::Error) -> bool {
    h2_error(error)
        .is_some_and(|error| error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM))
}

/// h2 has told the client what it did wrong.
fn is_mistake(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| error.is_go_away() && error.is_library())
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

fn limit_of(awaits: Awaits, limits: &Limits) -> Duration {
    match awaits {
        Awaits::Head(_) => limits.head_timeout,
        Awaits::Rest(_) => limits.keep_alive,
        Awaits::Write(_) => limits.write_idle,
        Awaits::Linger => LINGER,
        Awaits::Nothing => Duration::MAX,
    }
}
