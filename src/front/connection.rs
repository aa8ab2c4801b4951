//! One client connection: TLS, protocol, requests, end.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tracing::debug;

use crate::body::{self, Body, Meter};
use crate::config::Limits;
use crate::front::streams::Streams;
use crate::front::watch::{Awaits, Speaks, Watch, Watched};
use crate::net::Stream;
use crate::proxy::{self, Client};
use crate::state::{Local, Stage};

/// RFC 9113 section 3.4: what an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long the client may take to hang up after our last word.
const LINGER: Duration = Duration::from_secs(1);
/// Receive windows. The connection's must stay at 1 MiB or above: h2 budgets small DATA frames by it.
const HTTP2_STREAM_WINDOW: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Serves a connection from its first byte to its last. Never fails: what goes wrong is counted
/// and, where there is someone to tell, answered. `seat` is dropped when nothing of it is left.
pub async fn serve(local: Rc<Local>, listener: usize, tcp: TcpStream, peer: SocketAddr, seat: Box<dyn Any>) {
    let Some((stream, prefix, protocol)) = open(&local, listener, tcp).await else { return };
    let watch = Arc::new(Watch::new(protocol));
    let is_tls = matches!(stream, Stream::Tls(_));
    let port = stream.socket().local_addr().map_or(0, |address| address.port());
    let client = Rc::new(Client::new(&local, listener, peer, port, is_tls, seat));
    let io = TokioIo::new(Watched::new(stream, prefix, watch.clone()));
    let view = local.snapshot();
    let limits = &view.config.limits;
    let streams = Streams::new(
        &local,
        &watch,
        limits.write_idle,
        view.listeners[listener].handles.refusal("slow-reader"),
    );
    let service = {
        let (local, watch, streams) = (local.clone(), watch.clone(), streams.clone());
        service_fn(move |request| {
            answer(local.clone(), client.clone(), watch.clone(), request, streams.begins())
        })
    };
    match protocol {
        Speaks::Http1 | Speaks::Anything => {
            let conn = http1_builder(limits).serve_connection(io, service).with_upgrades();
            run(&local, listener, &watch, pin!(conn), |c| c.graceful_shutdown(), AtRest::Close).await;
            watch.becomes_a_tunnel();
        }
        Speaks::Http2 => {
            let conn = http2_builder(limits, streams).serve_connection(io, service);
            run(&local, listener, &watch, pin!(conn), |c| c.graceful_shutdown(), AtRest::SayGoodbye).await;
        }
    }
}

/// How a connection without a request is ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtRest {
    /// HTTP/1.1 has no word for it.
    Close,
    /// HTTP/2 has: GOAWAY, which tells the client that nothing of its was lost.
    SayGoodbye,
}

/// The TLS handshake, if any, and the first bytes, as far as they tell the protocol.
async fn open(local: &Rc<Local>, listener: usize, tcp: TcpStream) -> Option<(Stream, Bytes, Speaks)> {
    let snapshot = local.snapshot();
    let state = &snapshot.listeners[listener];
    let limits = &snapshot.config.limits;
    if tcp.set_nodelay(true).is_err() {
        return None;
    }
    let Some(acceptor) = &state.tls else {
        let mut stream = Stream::Plain(tcp);
        let mut stage = local.stage.clone();
        let first = tokio::select! {
            biased;
            first = local.timers.timeout(limits.head_timeout, first_bytes(&mut stream)) => first,
            // Nothing is lost with a client that has not spoken when the process ends.
            _ = stage.wait_for(|s| *s != Stage::Serving) => return None,
        };
        return match first {
            Ok(Ok((prefix, protocol))) => Some((stream, prefix, protocol)),
            Ok(Err(_)) => None,
            Err(_) => {
                local.cells.inc(state.handles.refused_silent);
                None
            }
        };
    };
    match local.timers.timeout(limits.tls_timeout, acceptor.handshake(tcp)).await {
        Ok(Ok(stream)) => {
            local.cells.inc(state.handles.tls_ok);
            let protocol = if stream.alpn() == Some(b"h2") { Speaks::Http2 } else { Speaks::Http1 };
            Some((stream, Bytes::new(), protocol))
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

/// Reads until it is clear whether the client speaks HTTP/2.
async fn first_bytes(stream: &mut Stream) -> io::Result<(Bytes, Speaks)> {
    let mut buf = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut buf).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if buf.starts_with(PREFACE) {
            return Ok((buf.freeze(), Speaks::Http2));
        }
        if !PREFACE.starts_with(&buf) {
            return Ok((buf.freeze(), Speaks::Http1));
        }
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .auto_date_header(false)
        .half_close(false)
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        // Larger than a head may be, so that it is the head's own limit that speaks.
        .max_buf_size((limits.header_bytes + limits.uri_bytes + 8 * 1024).max(64 * 1024));
    if limits.headers > 100 {
        // Any explicit number moves hyper's parse buffer to the heap; 100 is its own on the stack.
        builder.max_headers(limits.headers);
    }
    builder
}

fn http2_builder(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .auto_date_header(false)
        .max_concurrent_streams(limits.http2_streams)
        .max_pending_accept_reset_streams(limits.http2_resets)
        .max_local_error_reset_streams(limits.http2_resets)
        .max_header_list_size(limits.http2_header_list)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_send_buf_size(body::PIECE);
    builder
}

/// The answer to a request, and the end of what may come before it.
struct Answer {
    serving: proxy::Serving,
    watch: Arc<Watch>,
}

fn answer(
    local: Rc<Local>,
    client: Rc<Client>,
    watch: Arc<Watch>,
    request: Request<Incoming>,
    sent: Rc<Meter>,
) -> Answer {
    watch.request_begins();
    let serving = proxy::serve(local, client, request, sent, Box::new(Turn(watch.clone())));
    Answer { serving, watch }
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.serving).poll(cx));
        self.watch.interims.close();
        Poll::Ready(Ok(response))
    }
}

/// However a request ends, its connection hears of it.
struct Turn(Arc<Watch>);

impl proxy::Turn for Turn {
    fn interim(&self, bytes: &[u8]) {
        self.0.interims.put(bytes);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}

/// Polls the connection to its end, holding the client to its limits and the process to its drain.
async fn run<C>(
    local: &Rc<Local>,
    listener: usize,
    watch: &Watch,
    mut conn: Pin<&mut C>,
    graceful: impl Fn(Pin<&mut C>),
    at_rest: AtRest,
) where
    C: Future<Output = hyper::Result<()>>,
{
    let snapshot = local.snapshot();
    let limits = &snapshot.config.limits;
    let mut stage = local.stage.clone();
    let mut draining = pin!(async move { stage.wait_for(|s| *s != Stage::Serving).await.is_ok() });
    let mut drained = false;
    let mut goodbye = false;
    let mut awaits = Awaits::Nothing;
    let mut deadline = local.timers.deadline(Duration::MAX);
    let outcome = poll_fn(|cx| {
        if let Poll::Ready(outcome) = conn.as_mut().poll(cx) {
            return Poll::Ready(Some(outcome));
        }
        if !drained && draining.as_mut().poll(cx).is_ready() {
            drained = true;
            if watch.is_at_rest() && at_rest == AtRest::Close {
                return Poll::Ready(None);
            }
            goodbye = true;
            graceful(conn.as_mut());
            cx.waker().wake_by_ref();
        }
        let now = match watch.awaits() {
            Awaits::Rest(_) | Awaits::Head(_) if goodbye && at_rest == AtRest::SayGoodbye => Awaits::Linger,
            other => other,
        };
        if now != awaits {
            awaits = now;
            deadline = local.timers.deadline(limit_of(now, limits));
        }
        if now == Awaits::Nothing || deadline.poll_elapsed(cx).is_pending() {
            return Poll::Pending;
        }
        if matches!(now, Awaits::Rest(_)) && at_rest == AtRest::SayGoodbye {
            goodbye = true;
            graceful(conn.as_mut());
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if matches!(now, Awaits::Head(_)) && watch.has_begun_a_head() && at_rest == AtRest::Close {
            // One more poll: the socket answers 408 in place of the read.
            watch.expire();
            let _ = conn.as_mut().poll(cx);
        }
        if now == Awaits::Linger {
            // One more poll, too: why it ended is known only when it has.
            watch.stop_lingering();
            if let Poll::Ready(outcome) = conn.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
        }
        Poll::Ready(None)
    })
    .await;
    let reason = match outcome {
        _ if watch.refused().is_some() => watch.refused().map(proxy::raw_reason),
        _ if watch.has_flooded() => Some("http2-flood"),
        Some(Err(error)) if is_flood(&error) => Some("http2-flood"),
        None if matches!(awaits, Awaits::Head(_)) => Some("slow-head"),
        None if matches!(awaits, Awaits::Write(_)) => Some("slow-reader"),
        // What is no HTTP/2 is told so by GOAWAY, and some of what is no HTTP/1 cannot be told.
        Some(Err(error)) if error.is_parse() || is_no_http2(&error) => {
            debug!(%error, "request refused");
            Some("malformed")
        }
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

/// What came broke the rules of HTTP/2 for the connection as a whole.
fn is_no_http2(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| error.is_library() && error.is_go_away())
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(|source| source.downcast_ref())
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
