//! A worker's connections to one server: kept alive, last in first out.
//!
//! Each connection is a local task of its own, so an idle one whose server
//! hangs up is noticed at once. A connection comes back only when its request
//! and its response are both complete, and nothing in them puts in doubt
//! where the next response begins; in every other case it is closed, and the
//! server sees at once that nobody is waiting.

mod wire;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{StatusCode, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::body::{Body, BodyError, End, Meter, Room};
use crate::fields;
use crate::upstream::interim::Mailbox;
use crate::upstream::limits::{Leave, Quota};
use crate::upstream::side::InFlight;
use crate::upstream::tap::{Pace, Tap, Tapped};
use wire::Wire;

pub use wire::is_bad_line;

/// Bytes of one response's head. conformance: a server's head is as hostile as a client's.
const RESPONSE_HEAD_BYTES: usize = 64 * 1024;
/// Why a lease's connection is there.
const HELD: &str = "a lease holds its connection until it is given back";

/// What is read of a response ahead of its client, at most, in one piece. More than a head, so that it is the head's own
/// limit that speaks. hyper would take 400 KiB for each slow reader.
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// The idle connections of one worker to one server.
pub struct Conns {
    idle: RefCell<Vec<Idle>>,
    idle_max: usize,
    idle_timeout: Duration,
    /// `None`: as many as there are requests.
    quota: Option<Arc<Quota>>,
    worker: usize,
    open: Cell<usize>,
    /// What the gauges say: (active, idle).
    reported: Cell<(i64, i64)>,
}

/// A connection in use. Dropping it closes it; [`Lease::give_back`] keeps it.
pub struct Lease {
    conn: Option<Conn>,
    home: Rc<Conns>,
    /// It has carried a request before: the server may have closed it in the meantime.
    pub reused: bool,
    /// Nothing so far puts in doubt where the next response will begin.
    is_sound: bool,
}

/// A response body that gives its connection back at its end.
pub struct LeasedBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// Bytes of the piece that was given last, where the next is read ahead.
    given: usize,
    /// The server is busy until its response has ended.
    busy: InFlight,
    /// What times count from.
    epoch: Instant,
}

struct Idle {
    conn: Conn,
    since: Instant,
}

struct Conn {
    sender: http1::SendRequest<Body>,
    task: JoinHandle<()>,
    interims: Arc<Mailbox>,
    /// For [`wire::Wire`].
    awaits_head: Arc<AtomicBool>,
    tap: Arc<Tap>,
    /// Where connections are limited. The task has it too: it is given back when the socket is closed and nobody has it
    /// any more, not when somebody has decided that it be closed.
    leave: Option<Rc<Leave>>,
}

/// A connection that is being closed, and its leave, for another in its place.
pub struct Spare {
    leave: Rc<Leave>,
    task: JoinHandle<()>,
}

impl Conns {
    /// Keeps at most `idle_max` unused connections, each for at most `idle_timeout`; opens no more than `quota` gives
    /// leave for.
    pub fn new(
        worker: usize,
        idle_max: usize,
        idle_timeout: Duration,
        quota: Option<Arc<Quota>>,
    ) -> Rc<Self> {
        Rc::new(Conns {
            idle: RefCell::default(),
            idle_max,
            idle_timeout,
            quota,
            worker,
            open: Cell::new(0),
            reported: Cell::default(),
        })
    }

    /// The connection that was used last, if one is left that is still open; otherwise what is left of one that was not.
    pub fn take(self: &Rc<Self>, now: Instant) -> Result<Lease, Option<Spare>> {
        let mut idle = self.idle.borrow_mut();
        let mut spare = None;
        while let Some(Idle { conn, since }) = idle.pop() {
            // Not ready: what is left of the last request has not been written yet.
            let may_be_used = conn.sender.is_ready() && !conn.sender.is_closed();
            if may_be_used && now.duration_since(since) < self.idle_timeout {
                return Ok(Lease { conn: Some(conn), home: self.clone(), reused: true, is_sound: true });
            }
            spare = self.close(conn).or(spare);
        }
        Err(spare)
    }

    /// Leave for one more request's connection: `Some(None)` where none is needed, because there is no limit, or one
    /// is idle.
    pub fn leave(&self) -> Option<Option<Leave>> {
        match &self.quota {
            Some(quota) if self.idle.borrow().is_empty() => quota.take().map(Some),
            _ => Some(None),
        }
    }

    /// Whether [`Conns::leave`] would give one.
    pub fn has_room(&self) -> bool {
        self.quota.as_ref().is_none_or(|quota| !self.idle.borrow().is_empty() || quota.has_room())
    }

    /// The same for a request that must have a new one: an idle one is closed for it, unless there is a `spare`.
    pub async fn leave_to_dial(&self, spare: Option<Spare>) -> Option<Option<Rc<Leave>>> {
        let Some(quota) = &self.quota else { return Some(None) };
        let idle = || self.idle.borrow_mut().pop();
        match spare.or_else(|| self.close(idle()?.conn)) {
            Some(spare) => Some(Some(spare.leave().await)),
            None => quota.take().map(|leave| Some(Rc::new(leave))),
        }
    }

    /// A request waits for leave: what other workers keep idle is to go. False when it has room, or waits for something
    /// else.
    pub fn ask_for_room(&self) -> bool {
        let wanted = self.quota.as_ref().filter(|_| !self.has_room());
        wanted.inspect(|quota| quota.want(self.worker)).is_some()
    }

    /// Closes one that is idle, if there is one.
    pub fn close_one(&self) -> bool {
        let idle = self.idle.borrow_mut().pop();
        idle.map(|idle| drop(self.close(idle.conn))).is_some()
    }

    /// Closes what is idle when someone on another worker waits for leave.
    pub fn make_room(&self) {
        if self.quota.as_ref().is_some_and(|quota| quota.is_wanted(self.worker)) {
            let idle = std::mem::take(&mut *self.idle.borrow_mut());
            idle.into_iter().for_each(|i| drop(self.close(i.conn)));
        }
    }

    /// Speaks HTTP/1.1 over a fresh `stream`, which `leave` was given for. What is read of responses and waits counts in
    /// `room`.
    pub async fn open(
        self: &Rc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        headers_max: usize,
        leave: Option<Rc<Leave>>,
        room: &Arc<Room>,
    ) -> hyper::Result<Lease> {
        let awaits_head: Arc<AtomicBool> = Arc::default();
        let tap = Tap::new(room.clone());
        let (sender, connection) = http1::Builder::new()
            .max_headers(headers_max)
            .max_header_size(RESPONSE_HEAD_BYTES)
            .max_buf_size(READ_BUFFER_BYTES)
            .handshake::<_, Body>(TokioIo::new(Tapped::new(
                Wire::new(stream, awaits_head.clone()),
                tap.clone(),
            )))
            .await?;
        // Errors reach whoever waits for the response; there is nobody else to tell.
        let held = leave.clone();
        let task = tokio::task::spawn_local(async move {
            // Bound first, so dropped last: after the socket.
            let _held = held;
            let _ = connection.with_upgrades().await;
        });
        self.open.set(self.open.get() + 1);
        let conn = Conn { sender, task, interims: Arc::default(), awaits_head, tap, leave };
        Ok(Lease { conn: Some(conn), home: self.clone(), reused: false, is_sound: true })
    }

    /// Closes what has been idle for too long, or was closed by the server.
    pub fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        let (keep, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut *idle)
            .into_iter()
            .partition(|i| !i.conn.sender.is_closed() && now.duration_since(i.since) < self.idle_timeout);
        *idle = keep;
        gone.into_iter().for_each(|i| drop(self.close(i.conn)));
    }

    /// Connections without a request.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Connections, in use or not.
    pub fn open_count(&self) -> usize {
        self.open.get()
    }

    /// Calls `change` with the differences to what was reported last.
    pub fn reported(&self, active: i64, idle: i64, change: impl FnOnce(i64, i64)) {
        let before = self.reported.replace((active, idle));
        if before != (active, idle) {
            change(active - before.0, idle - before.1);
        }
    }

    fn close(&self, conn: Conn) -> Option<Spare> {
        conn.task.abort();
        self.open.set(self.open.get() - 1);
        conn.leave.map(|leave| Spare { leave, task: conn.task })
    }
}

impl Spare {
    /// Its leave, once it is closed: a moment later, as its task runs on this thread.
    async fn leave(self) -> Rc<Leave> {
        // An error means that it was aborted, which it was.
        let _ = self.task.await;
        self.leave
    }
}

impl Lease {
    /// Where the interim responses to the request in flight arrive.
    pub fn interims(&self) -> Arc<Mailbox> {
        self.conn().interims.clone()
    }

    /// Sends one request and waits for the head of its final response, which is read at `pace`.
    ///
    /// # Errors
    /// The error's message gives the request back when not one byte of it was sent.
    pub async fn send(
        &mut self,
        mut request: http::Request<Body>,
        pace: Pace<'_>,
    ) -> Result<http::Response<Incoming>, hyper::client::conn::TrySendError<http::Request<Body>>> {
        let interims = self.interims();
        interims.begin();
        hyper::ext::on_informational(&mut request, move |head| interims.put(head.status(), head.headers()));
        let conn = self.conn.as_mut().expect(HELD);
        conn.awaits_head.store(true, Ordering::Relaxed);
        conn.tap.begin(pace);
        let response = conn.sender.try_send_request(request).await;
        conn.tap.shut();
        let response = response?;
        self.is_sound = is_sound(&response);
        Ok(response)
    }

    fn conn(&self) -> &Conn {
        self.conn.as_ref().expect(HELD)
    }

    /// The exchange is complete: the connection may carry the next one, unless that is in doubt.
    pub fn give_back(mut self) {
        if !self.is_sound {
            return;
        }
        let Some(conn) = self.conn.take() else { return };
        conn.tap.release();
        let mut idle = self.home.idle.borrow_mut();
        let is_wanted = self.home.quota.as_ref().is_some_and(|quota| quota.is_wanted(self.home.worker));
        if is_wanted || conn.sender.is_closed() || idle.len() >= self.home.idle_max {
            drop(idle);
            drop(self.home.close(conn));
        } else {
            idle.push(Idle { conn, since: Instant::now() });
        }
    }

    /// The connection has become a tunnel: it lives on without us, and so must its leave.
    pub fn let_go(mut self) -> Option<Rc<Leave>> {
        let conn = self.conn.take()?;
        conn.tap.release();
        self.home.open.set(self.home.open.get() - 1);
        conn.leave
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            drop(self.home.close(conn));
        }
    }
}

impl LeasedBody {
    /// The head of the response has just come; `request` tells whether the request's body had reached its end. `epoch` is
    /// when the process began.
    pub fn new(
        incoming: Incoming,
        mut lease: Lease,
        request: &Meter,
        busy: InFlight,
        epoch: Instant,
    ) -> Self {
        // A server that answers before it was asked all may take the rest for a request.
        lease.is_sound &= request.end() == Some(End::Whole);
        let mut body = LeasedBody { incoming, lease: Some(lease), given: 0, busy, epoch };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    /// Whoever asks for a piece has done with the one before; if there is none yet, it is wanted.
    fn asked(&mut self, frame: &Poll<Option<Result<Frame<Bytes>, hyper::Error>>>) {
        let Some(lease) = &self.lease else { return };
        let tap = &lease.conn().tap;
        tap.took(std::mem::take(&mut self.given));
        match frame {
            Poll::Pending => tap.want(),
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                match tap.is_free() {
                    true => self.given = bytes,
                    // Whoever reads on demand counts what it has by itself.
                    false => tap.took(bytes),
                }
                tap.shut();
            }
            Poll::Ready(_) => {}
        }
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

/// Whether the next response will begin where this one ends, as far as its head tells.
fn is_sound(response: &http::Response<Incoming>) -> bool {
    // hyper goes on in HTTP/1.0, which has no form for a body of unknown length, and would send none.
    if response.version() != Version::HTTP_11 {
        return false;
    }
    // 204 has no body, whatever it says (RFC 9112 §6.3); one that says it has may be followed by it.
    let headers = response.headers();
    let is_empty = |length: &http::HeaderValue| length.as_bytes() == b"0";
    response.status() != StatusCode::NO_CONTENT
        || !headers.contains_key(header::TRANSFER_ENCODING)
            && headers.get_all(header::CONTENT_LENGTH).iter().all(is_empty)
}

impl HttpBody for LeasedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        self.asked(&frame);
        let mut frame = ready!(frame);
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
            fields::clean_trailers(trailers);
        }
        match &frame {
            None => self.end(),
            // Nothing comes after trailers, and not every reader looks.
            Some(Ok(frame)) if frame.is_trailers() || self.incoming.is_end_stream() => self.end(),
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                self.lease = None;
                self.busy.cut(self.epoch.elapsed());
            }
        }
        Poll::Ready(frame.map(|f| f.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::upstream::pool_state::PoolState;
    use crate::upstream::server::ServerState;

    /// Closed as far as the kernel knows: whoever looks later might find what happened in between.
    fn is_closed(server: &std::net::TcpStream) -> bool {
        matches!(server.peek(&mut [0]), Ok(0))
    }

    #[test]
    fn a_place_is_free_when_the_socket_is_closed_and_not_before() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let pool = Arc::new(PoolState::new(1));
        let server = Arc::new(ServerState::new(
            1,
            pool.clone(),
            crate::upstream::health_state::ProbeState::default(),
            false,
        ));
        let quota = Arc::new(Quota { max: (Some(1), None), server, pool });
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let conns = Conns::new(0, 1, Duration::from_secs(3600), Some(quota.clone()));
            let address = listener.local_addr().unwrap();
            let open = async |leave: Option<Rc<Leave>>| {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let (server, _) = listener.accept().unwrap();
                server.set_nonblocking(true).unwrap();
                (conns.open(stream, 10, leave, &Room::new(1, None)).await.unwrap(), server)
            };

            let (lease, first) = open(conns.leave().flatten().map(Rc::new)).await;
            drop(lease);
            assert!(quota.take().is_none() && !is_closed(&first), "its task has not run yet");
            while !quota.has_room() {
                tokio::task::yield_now().await;
            }
            assert!(is_closed(&first));

            let (lease, second) = open(conns.leave().flatten().map(Rc::new)).await;
            lease.give_back();
            assert!(!is_closed(&second), "it rests");
            let leave = conns.leave_to_dial(None).await.flatten();
            assert!(leave.is_some() && is_closed(&second), "another may have its place");
        });
    }

    #[test]
    fn a_connection_that_still_has_something_to_write_is_not_used_again() {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        // Before it listens: so small, and small on the other side, that the kernel does not take the request whole.
        listener.set_recv_buffer_size(4096).unwrap();
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(2).unwrap();
        let listener = std::net::TcpListener::from(listener);
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut answered = Vec::new();
            for mut server in listener.incoming().take(2).map_while(Result::ok) {
                server.read_exact(&mut [0; 4]).unwrap();
                server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                answered.push(server);
            }
            // Held until the client has gone.
            answered.iter_mut().for_each(|server| drop(std::io::copy(server, &mut std::io::sink())));
        });
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let conns = Conns::new(0, 2, Duration::from_secs(3600), None);
            for (length, may_be_used) in [(100 << 10, false), (1, true)] {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                socket2::SockRef::from(&stream).set_send_buffer_size(4096).unwrap();
                let mut lease = conns.open(stream, 10, None, &Room::new(1, None)).await.unwrap();
                let request = http::Request::post("/").body(Body::full(vec![b'x'; length])).unwrap();

                assert!(lease.send(request, Pace::Free).await.is_ok());
                lease.give_back();

                assert_eq!(conns.idle(), 1);
                assert_eq!(conns.take(Instant::now()).is_ok(), may_be_used, "{length} bytes");
            }
        });
    }
}
