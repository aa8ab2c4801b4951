//! A worker's connections to one server: kept alive, last in first out.
//!
//! A connection comes back only when its request and its response are both complete, and nothing in them puts in doubt
//! where the next response begins; in every other case it is closed, and the server sees at once that nobody is
//! waiting. An idle one has no task: that its server has hung up is noticed when it is wanted, or by the next sweep.

mod body;
mod conn;
mod head;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, Version};

use crate::body::{Body, End, Meter, Room};
use crate::fields::{self, Known, ResponseHead};
use crate::http1::chunked::Chunked;
use crate::http1::coding::Coding;
use crate::http1::sending::Sending;
use crate::net::Counted;
use crate::upstream::interim::{INTERIMS_MAX, Interim};
use crate::upstream::limits::{Leave, Quota, QuotaMax};
use crate::upstream::side::InFlight;
use body::LeasedBody;
use conn::{Conn, RequestCut};
use head::Scan;

pub use conn::NoHead;
pub use head::BadHead;

/// Why a lease's connection is there.
const HELD: &str = "a lease holds its connection until it is given back";

/// What is read at once while a head is awaited and its body may have to wait: most heads, with the whole of a small body.
const HEAD_PIECE: usize = 4 * 1024;
/// The same while something of the client's waits already: most heads, and hardly any of a body.
const SMALL_HEAD_PIECE: usize = 1024;
/// What is read at once of a body for a reader that takes what it is given.
const FREE_PIECE: usize = 128 * 1024;
/// The same where it is read on demand or memory is short.
const BODY_PIECE: usize = 16 * 1024;
/// The same while the client's room is full: enough that a stream whose client does take it gets on.
const SMALL_PIECE: usize = 4 * 1024;
/// Bytes and fields of a response's trailers.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_MAX: usize = 100;

/// The idle connections of one worker to one server.
pub struct Conns {
    idle: RefCell<Vec<Idle>>,
    /// A moment not long ago: of the last request or sweep. Idle connections count from there.
    now: Cell<Instant>,
    idle_max: usize,
    idle_timeout: Duration,
    /// `None`: as many as there are requests.
    quota: Option<Arc<Quota>>,
    worker: usize,
    open: Cell<usize>,
    /// Nothing is kept any more: nobody would look after it.
    is_retired: Cell<bool>,
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
    /// What a head that came before its request was whole has left of it.
    request: Option<Box<Sending>>,
    pace: Pace,
    /// The worker's, for what is read and waits.
    room: Arc<Room>,
}

/// How a response is read.
#[derive(Clone)]
pub enum Pace {
    /// In large pieces, each counted in the worker's room until the next is asked for.
    Free,
    /// In small pieces, the smaller the less there is in this room, which is the client's. Whoever reads counts them; what is
    /// read and not given yet counts here.
    OnDemand(Arc<Room>),
}

/// One request on a connection, from its first byte to the head of its final response.
pub struct Call<'a> {
    lease: &'a mut Lease,
    request: &'a mut Option<Sending>,
    scan: Scan,
    interims: usize,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum CallError {
    /// What came is no head, or nothing did.
    NoHead(NoHead),
    /// Too many interim responses before the final one.
    InterimFlood,
    /// The request's body broke off.
    RequestCut,
}

struct Idle {
    conn: Conn,
    since: Instant,
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
            now: Cell::new(Instant::now()),
            idle_max,
            idle_timeout,
            quota,
            worker,
            open: Cell::new(0),
            is_retired: Cell::new(false),
            reported: Cell::default(),
        })
    }

    /// Whether these limits are its own.
    pub fn has_limits(&self, idle_max: usize, idle_timeout: Duration, max: QuotaMax) -> bool {
        let own = self.quota.as_ref().map_or((None, None), |quota| quota.max);
        (self.idle_max, self.idle_timeout, own) == (idle_max, idle_timeout, max)
    }

    /// Its server is gone, or reached in another way: what is idle is closed, and what is in use when it is done.
    pub fn retire(&self) {
        self.is_retired.set(true);
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        idle.into_iter().for_each(|i| drop(self.close(i.conn)));
    }

    /// The connection that was used last, if one is left that is still open; otherwise the place of one that was not.
    ///
    /// # Errors
    /// There is none.
    pub fn take(
        self: &Rc<Self>,
        now: Instant,
        pace: &Pace,
        room: &Arc<Room>,
    ) -> Result<Lease, Option<Leave>> {
        self.now.set(now);
        let mut spare = None;
        loop {
            let Some(Idle { mut conn, since }) = self.idle.borrow_mut().pop() else { return Err(spare) };
            if now.duration_since(since) < self.idle_timeout && conn.is_quiet() {
                return Ok(self.lease(conn, pace, room, true));
            }
            spare = self.close(conn).or(spare);
        }
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

    /// The same for a request that must have a new one: an idle one is closed for it, unless there is a `spare` place.
    pub fn leave_to_dial(&self, spare: Option<Leave>) -> Option<Option<Leave>> {
        let Some(quota) = &self.quota else { return Some(None) };
        let idle = || self.idle.borrow_mut().pop();
        match spare.or_else(|| self.close(idle()?.conn)) {
            Some(leave) => Some(Some(leave)),
            None => quota.take().map(Some),
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

    /// Speaks HTTP/1.1 over a fresh `stream`, which `leave` was given for. What is read of responses is read at `pace`, and
    /// counts in `room`.
    pub fn open(
        self: &Rc<Self>,
        stream: Counted,
        leave: Option<Leave>,
        pace: &Pace,
        room: &Arc<Room>,
    ) -> Lease {
        self.open.set(self.open.get() + 1);
        self.lease(Conn::new(stream, leave), pace, room, false)
    }

    fn lease(self: &Rc<Self>, conn: Conn, pace: &Pace, room: &Arc<Room>, reused: bool) -> Lease {
        Lease {
            conn: Some(conn),
            home: self.clone(),
            reused,
            is_sound: false,
            request: None,
            pace: pace.clone(),
            room: room.clone(),
        }
    }

    /// Closes what has been idle for too long, or was closed by the server.
    pub fn sweep(&self, now: Instant) {
        self.now.set(now);
        let is_kept = |i: &mut Idle| now.duration_since(i.since) < self.idle_timeout && i.conn.is_quiet();
        let gone: Vec<_> = self.idle.borrow_mut().extract_if(.., |i| !is_kept(i)).collect();
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

    fn close(&self, conn: Conn) -> Option<Leave> {
        self.open.set(self.open.get() - 1);
        conn.close()
    }
}

impl Lease {
    /// Begins a request, which is taken when its response comes before all of it is sent.
    pub fn call<'a>(&'a mut self, request: &'a mut Option<Sending>) -> Call<'a> {
        Call { lease: self, request, scan: Scan::default(), interims: 0 }
    }

    /// The body of the response that `head` begins, whose request was of `method`; `request` tells whether that one's body
    /// had reached its end. What has come whole already needs no connection any more. The server is `busy` until its
    /// response has ended; `epoch` is when the process began.
    pub fn body(
        mut self,
        head: &ResponseHead,
        method: &Method,
        request: &Meter,
        busy: InFlight,
        epoch: Instant,
    ) -> Body {
        let coding = coding(head, method);
        // A server that answers before it was asked all may take the rest for a request.
        self.is_sound = is_sound(head, &coding) && request.end() == Some(End::Whole);
        match coding {
            Coding::Ended => {
                self.give_back();
                Body::Empty
            }
            Coding::Length(bytes) => match self.conn().take_whole(bytes) {
                Some(whole) => {
                    self.give_back();
                    Body::full(whole)
                }
                None => Body::wrap(LeasedBody::new(Coding::Length(bytes), self, busy, epoch)),
            },
            coding => {
                let named = head.fields.elements(Known::Connection);
                let named = named.filter_map(|token| HeaderName::from_bytes(token).ok()).collect();
                Body::wrap(LeasedBody::new(coding, self, busy, epoch).without(named))
            }
        }
    }

    /// The exchange is complete: the connection may carry the next one, unless that is in doubt.
    fn give_back(mut self) {
        if !self.is_sound || self.request.is_some() {
            return;
        }
        let Some(mut conn) = self.conn.take() else { return };
        let home = &self.home;
        let is_wanted = home.quota.as_ref().is_some_and(|quota| quota.is_wanted(home.worker));
        if is_wanted || home.is_retired.get() || home.idle.borrow().len() >= home.idle_max || !conn.is_quiet()
        {
            drop(home.close(conn));
        } else {
            home.idle.borrow_mut().push(Idle { conn, since: home.now.get() });
        }
    }

    /// The connection has become a tunnel: it lives on without us, and so must its place. What the server has said behind
    /// its 101 comes with it.
    pub fn let_go(mut self) -> Option<(Counted, Bytes, Option<Leave>)> {
        let conn = self.conn.take()?;
        self.home.open.set(self.home.open.get() - 1);
        Some(conn.into_parts())
    }

    fn conn(&mut self) -> &mut Conn {
        self.conn.as_mut().expect(HELD)
    }

    /// Writes what is left of the request.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), RequestCut> {
        let (Some(conn), Some(request)) = (&mut self.conn, &mut self.request) else { return Ok(()) };
        conn.write(cx, request)?;
        if request.is_done() {
            self.request = None;
        }
        Ok(())
    }

    /// Where what waits is counted.
    fn room(&self) -> &Room {
        match &self.pace {
            Pace::Free => &self.room,
            Pace::OnDemand(room) => room,
        }
    }

    /// What may be read at once while a head is awaited.
    fn head_piece_max(&self) -> usize {
        match &self.pace {
            Pace::Free => FREE_PIECE,
            Pace::OnDemand(room) if room.held() == 0 => HEAD_PIECE,
            Pace::OnDemand(_) => SMALL_HEAD_PIECE,
        }
    }

    /// What may be read of the body at once.
    fn piece_max(&self) -> usize {
        match &self.pace {
            Pace::Free if self.room.is_full() => BODY_PIECE,
            Pace::Free => FREE_PIECE,
            Pace::OnDemand(room) if room.is_full() => SMALL_PIECE,
            Pace::OnDemand(_) => BODY_PIECE,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            drop(self.home.close(conn));
        }
    }
}

impl Call<'_> {
    /// The head of the final response. Interim ones go into `interims` as they come.
    ///
    /// # Errors
    /// There is none.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        interims: &RefCell<Vec<Interim>>,
    ) -> Poll<Result<ResponseHead, CallError>> {
        let piece_max = self.lease.head_piece_max();
        let conn = self.lease.conn();
        if let Some(request) = self.request {
            conn.write(cx, request).map_err(|RequestCut| CallError::RequestCut)?;
        }
        loop {
            let head = ready!(conn.poll_head(cx, &mut self.scan, piece_max)).map_err(CallError::NoHead)?;
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Ok(head));
            }
            self.interims += 1;
            if self.interims > INTERIMS_MAX {
                return Poll::Ready(Err(CallError::InterimFlood));
            }
            self.scan = Scan::default();
            interims.borrow_mut().push(Interim { status: head.status, fields: head.fields });
        }
    }

    /// The final head is there; what is left of the request is sent while the response is read.
    pub fn answered(self) {
        self.lease.request = self.request.take().filter(|request| !request.is_done()).map(Box::new);
    }

    /// True when an interim response has come: the server has seen the request.
    pub fn was_heard(&self) -> bool {
        self.interims > 0
    }
}

/// RFC 9112 section 6.3. What it leaves open is refused by [`crate::filter`] before anybody reads the body.
fn coding(head: &ResponseHead, method: &Method) -> Coding {
    let has_none = *method == Method::HEAD
        || head.status.is_informational()
        || head.status == StatusCode::NO_CONTENT
        || head.status == StatusCode::NOT_MODIFIED;
    if has_none {
        return Coding::Ended;
    }
    if head.fields.has(Known::TransferEncoding) {
        return Coding::Chunked(Box::new(Chunked::of_response(TRAILER_BYTES_MAX, TRAILERS_MAX)));
    }
    let length = head.fields.get(Known::ContentLength).map(fields::number);
    length.flatten().map_or(Coding::UntilClose, Coding::of_length)
}

/// Whether the next response will begin where this one ends, as far as its head tells.
fn is_sound(head: &ResponseHead, coding: &Coding) -> bool {
    let says_close =
        || head.fields.elements(Known::Connection).any(|token| token.eq_ignore_ascii_case(b"close"));
    // HTTP/1.0 has no form for a request of unknown length, and keeps a connection only by an agreement that proxies between
    // may not know of (RFC 9112 section 9.3).
    if head.version != Version::HTTP_11 || matches!(coding, Coding::UntilClose) || says_close() {
        return false;
    }
    // 204 has no body, whatever it says (RFC 9112 section 6.3); one that says it has may be followed by it.
    head.status != StatusCode::NO_CONTENT
        || !head.fields.has(Known::TransferEncoding)
            && head.fields.get_all(Known::ContentLength).all(|length| length == b"0")
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::http1::outbox::Outbox;
    use crate::http1::sending::{Framing, Head, Trailers};
    use crate::net::Stream;
    use crate::net::descriptors::{Descriptors, Wants};
    use crate::upstream::pool_state::PoolState;
    use crate::upstream::server::ServerState;

    fn counted(stream: tokio::net::TcpStream) -> Counted {
        let descriptors = Descriptors::share(1000, Wants { clients: 1, workers: 1, listeners: 1, probes: 0 });
        Counted::new(Stream::Plain(stream), descriptors.for_server().unwrap())
    }

    fn open(conns: &Rc<Conns>, stream: tokio::net::TcpStream, leave: Option<Leave>) -> Lease {
        let mut lease = conns.open(counted(stream), leave, &Pace::Free, &Room::new(1, None));
        lease.is_sound = true;
        lease
    }

    fn take(conns: &Rc<Conns>) -> Option<Lease> {
        conns.take(Instant::now(), &Pace::Free, &Room::new(1, None)).ok()
    }

    /// Closed as far as the kernel knows: whoever looks later might find what happened in between.
    fn is_closed(server: &std::net::TcpStream) -> bool {
        matches!(server.peek(&mut [0]), Ok(0))
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(test);
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
        run(async {
            let conns = Conns::new(0, 1, Duration::from_secs(3600), Some(quota.clone()));
            let address = listener.local_addr().unwrap();
            let open = async |leave: Option<Leave>| {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let (server, _) = listener.accept().unwrap();
                server.set_nonblocking(true).unwrap();
                (open(&conns, stream, leave), server)
            };

            let (lease, first) = open(conns.leave().flatten()).await;
            assert!(quota.take().is_none() && !is_closed(&first));
            drop(lease);
            assert!(quota.has_room() && is_closed(&first));

            let (lease, second) = open(conns.leave().flatten()).await;
            lease.give_back();
            assert!(!is_closed(&second), "it rests");
            let leave = conns.leave_to_dial(None).flatten();
            assert!(leave.is_some() && is_closed(&second), "another may have its place");
        });
    }

    #[test]
    fn a_connection_at_rest_is_not_used_when_its_server_has_said_something_or_hung_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        run(async {
            let conns = Conns::new(0, 3, Duration::from_secs(3600), None);
            let mut servers = Vec::new();
            for _ in 0..3 {
                let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                servers.push(listener.accept().unwrap().0);
                open(&conns, stream, None).give_back();
            }
            assert_eq!((conns.idle(), conns.open_count()), (3, 3));

            std::io::Write::write_all(&mut servers[0], b"HTTP/1.1 200 OK\r\n").unwrap();
            drop(servers.pop());
            // What the kernel knows is known here once the driver has asked it.
            while conns.idle() > 1 {
                tokio::task::yield_now().await;
                conns.sweep(Instant::now());
            }

            let lease = take(&conns).expect("the second is as it was");
            assert!(lease.reused && take(&conns).is_none());
            assert_eq!((conns.idle(), conns.open_count()), (0, 1));
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
        run(async {
            let conns = Conns::new(0, 2, Duration::from_secs(3600), None);
            for (length, may_be_used) in [(100 << 10, false), (1, true)] {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                socket2::SockRef::from(&stream).set_send_buffer_size(4096).unwrap();
                let mut lease = open(&conns, stream, None);
                let out = Outbox::new(b"POST / HTTP/1.1\r\n\r\n".to_vec());
                let framing = Framing::Length(length as u64);
                let head = Head { out, framing, trailers: Trailers::Drop };

                let mut request = Some(Sending::new(head, Body::full(vec![b'x'; length])));
                let mut call = lease.call(&mut request);
                let interims = RefCell::default();
                assert!(std::future::poll_fn(|cx| call.poll(cx, &interims)).await.is_ok());
                call.answered();
                lease.give_back();

                assert_eq!(take(&conns).is_some(), may_be_used, "{length} bytes");
            }
        });
    }
}
