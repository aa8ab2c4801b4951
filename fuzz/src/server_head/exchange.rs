//! One request, over a connection as the proxy has it, to a server that says what it is told to.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Body as _;
use tidegate::body::{Body, End, Meter, Room};
use tidegate::config;
use tidegate::fields::ResponseHead;
use tidegate::filter::guard::check_response;
use tidegate::http1::chunked::BadChunk;
use tidegate::http1::outbox::Outbox;
use tidegate::http1::sending::{self, Framing, Sending, Trailers};
use tidegate::net::descriptors::{Descriptors, Wants};
use tidegate::net::{Counted, Stream};
use tidegate::state::{Keep, Snapshot};
use tidegate::upstream::balance::Registry;
use tidegate::upstream::conns::{self, CallError, Conns, Lease, NoHead};
use tidegate::upstream::pool::WorkerPool;
use tidegate::upstream::side;

use super::Arrival;
use super::simple::{Fields, Head, Outcome, sorted};

const CONFIG: &str = "[[listener]]\nbind = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n\
                      [upstream.app]\nservers = [\"127.0.0.1:1\"]\neject = false\n";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Of bytes that may wait: less than a piece, so that there may be more.
const ROOM_BYTES: usize = 4 * 1024;
/// So often is asked in vain for what comes behind the last byte, until the server ends: a poll may be in vain also because
/// the runtime wants to do something else.
const SILENT_POLLS: usize = 2;
/// Nobody who has been told of the end asks so often.
const POLLS_MAX: usize = 100;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Asks {
    pub method: Method,
    pub wants_websocket: bool,
    pub pace: Pace,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Somebody who takes what comes.
    Free,
    /// A client that takes what it asked for.
    Demand,
    /// One that has something waiting already.
    Full,
}

/// What the proxy made of it.
#[derive(Debug, Default)]
pub struct Seen {
    pub interims: Vec<(u16, Fields)>,
    pub head: Option<Head>,
    pub data: Vec<u8>,
    /// Bytes of the body that were there, and how many were said to come.
    pub lengths: Vec<(usize, u64)>,
    pub trailers: Fields,
    pub outcome: Outcome,
    /// Bytes that the server has said.
    pub said: usize,
    /// It was waited for until it ended.
    pub has_closed: bool,
    /// The connection may carry another request.
    pub is_kept: bool,
}

/// What a thread has of a proxy.
pub struct World {
    runtime: tokio::runtime::Runtime,
    keep: Arc<Keep>,
    snapshot: Arc<Snapshot>,
    pool: WorkerPool,
    descriptors: Arc<Descriptors>,
}

/// One connection, and its other end.
pub struct Connection {
    conns: Rc<Conns>,
    fresh: Option<Counted>,
    server: UnixStream,
}

impl World {
    /// Made once: it would take longer than all that is asked of it.
    pub fn of_this_thread() -> &'static Self {
        thread_local! {
            static WORLD: &'static World = Box::leak(Box::new(World::new()));
        }
        WORLD.with(|world| *world)
    }

    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let descriptors = Descriptors::share(1000, Wants { clients: 1, workers: 1, listeners: 1, probes: 0 });
        let registry = Registry::builtin();
        let names: Vec<&str> = registry.names().collect();
        let config = config::parse(CONFIG, "fuzz.toml".as_ref(), &names).unwrap();
        let keep = Keep::new(1, &config.cache, descriptors.clone());
        let snapshot = Snapshot::build(config, &keep, &registry, None).unwrap();
        let pool = WorkerPool::new(&snapshot.upstreams[0], keep.metrics.cells(0), 0, 1, 1);
        World { runtime, keep, snapshot, pool, descriptors }
    }

    /// A pair of Unix sockets in place of a connection of TCP: what is written to it is there at once, and no port is used up.
    /// To tokio it is a socket as any other.
    pub fn connect(&self) -> Connection {
        let (server, ours) = UnixStream::pair().unwrap();
        [&server, &ours].iter().for_each(|end| end.set_nonblocking(true).unwrap());
        let ours = std::net::TcpStream::from(OwnedFd::from(ours));
        let _in_runtime = self.runtime.enter();
        let stream = Stream::Plain(tokio::net::TcpStream::from_std(ours).unwrap());
        let fresh = Some(Counted::new(stream, self.descriptors.for_server().unwrap()));
        Connection { conns: Conns::new(0, 1, Duration::from_secs(3600), None), fresh, server }
    }

    /// A request, and all that comes of it when the server says `bytes`.
    pub fn exchange(&self, connection: &mut Connection, bytes: &[u8], arrival: Arrival, asks: &Asks) -> Seen {
        let worker = Room::new(ROOM_BYTES, None);
        let client = Room::new(ROOM_BYTES, Some(worker.clone()));
        let waits = if asks.pace == Pace::Full { ROOM_BYTES } else { 0 };
        let pace = match asks.pace {
            Pace::Free => conns::Pace::Free,
            Pace::Demand | Pace::Full => conns::Pace::OnDemand(client.clone()),
        };
        client.take(waits);
        let (conns, fresh) = (&connection.conns, &mut connection.fresh);
        let lease = conns.take(Instant::now(), &pace, &worker);
        let lease = lease.unwrap_or_else(|_| conns.open(fresh.take().unwrap(), None, &pace, &worker));
        let server = Server { stream: &connection.server, bytes, arrival, said: 0, polls: 0 };
        let mut seen = self.runtime.block_on(self.read(lease, server, asks));
        client.give_back(waits);
        assert_eq!((worker.held(), client.held()), (0, 0), "nothing waits any more");
        assert_eq!(conns.open_count(), conns.idle(), "it is kept or closed");
        seen.is_kept = conns.idle() == 1;
        seen
    }

    async fn read(&self, mut lease: Lease, mut server: Server<'_>, asks: &Asks) -> Seen {
        let mut seen = Seen::default();
        let out = Outbox::new(REQUEST.to_vec());
        let request = sending::Head { out, framing: Framing::Empty, trailers: Trailers::Drop };
        let mut request = Some(Sending::new(request, Body::Empty));
        let (mut call, interims) = (lease.call(&mut request), RefCell::default());
        let answer = server.until(|cx| call.poll(cx, &interims)).await;
        seen.interims =
            interims.take().iter().map(|one| (one.status.as_u16(), fields(&one.fields))).collect();
        assert_eq!(call.was_heard(), !seen.interims.is_empty());
        match answer {
            Ok(parts) => {
                call.answered();
                seen.head = Some(head(&parts));
                self.read_final(lease, &parts, &mut server, asks, &mut seen).await;
            }
            Err(CallError::NoHead(NoHead::Broken { amid, .. })) => seen.outcome = Outcome::NoHead { amid },
            Err(CallError::NoHead(NoHead::Malformed(_)) | CallError::InterimFlood) => {}
            Err(error) => panic!("{error:?}: the request was whole"),
        }
        (seen.said, seen.has_closed) = (server.said, server.has_closed());
        seen
    }

    /// As `proxy` does it.
    async fn read_final(
        &self,
        lease: Lease,
        parts: &ResponseHead,
        server: &mut Server<'_>,
        asks: &Asks,
        seen: &mut Seen,
    ) {
        if check_response(parts, asks.wants_websocket).is_err() {
            return;
        }
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            seen.outcome = Outcome::Tunnel;
            seen.data = tunnelled(lease);
            return;
        }
        let meter = Meter::default();
        meter.finish(End::Whole);
        let mut body = lease.body(parts, &asks.method, &meter, self.in_flight(), self.keep.began());
        seen.outcome = read_body(&mut body, server, seen).await;
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(None)), "it has ended");
    }

    fn in_flight(&self) -> side::InFlight {
        let (client, fields) = (Ipv4Addr::LOCALHOST.into(), tidegate::fields::Fields::new());
        let asks = side::Asks { client, path: "/", query: "", authority: "a", fields: &fields };
        let (now, mut rng) = (Duration::from_secs(1), fastrand::Rng::with_seed(1));
        let side = self.pool.side(&self.snapshot.upstreams[0]);
        side.pick(&asks, &[], &[], now, &mut rng).expect("the server may serve").in_flight
    }
}

async fn read_body(body: &mut Body, server: &mut Server<'_>, seen: &mut Seen) -> Outcome {
    loop {
        let is_over = body.is_end_stream();
        seen.lengths.extend(body.size_hint().exact().map(|length| (seen.data.len(), length)));
        let frame = match server.until(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Outcome::Whole,
            Some(Ok(frame)) => frame,
            Some(Err(error)) if error.is::<BadChunk>() => return Outcome::Refused,
            Some(Err(error)) if error.downcast_ref() == Some(&End::Cut) => return Outcome::Cut,
            Some(Err(error)) => panic!("{error}"),
        };
        assert!(!is_over, "it said that nothing would come");
        match frame.into_data() {
            Ok(data) => seen.data.extend_from_slice(&data),
            Err(frame) => seen.trailers = trailers(frame.trailers_ref().expect("the only other frame")),
        }
    }
}

/// What has come behind the head.
fn tunnelled(lease: Lease) -> Vec<u8> {
    let (mut stream, unread, _) = lease.let_go().expect("a connection in use is there");
    let (mut cx, mut behind) = (Context::from_waker(Waker::noop()), BytesMut::from(&unread[..]));
    while let Poll::Ready(Ok(1..)) = stream.get_mut().poll_append(&mut cx, &mut behind) {}
    behind.to_vec()
}

/// Says something whenever it is waited for, and ends when all is said.
struct Server<'a> {
    stream: &'a UnixStream,
    bytes: &'a [u8],
    arrival: Arrival,
    said: usize,
    /// Since all is said.
    polls: usize,
}

impl Server<'_> {
    async fn until<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        loop {
            if let Poll::Ready(ready) = poll_fn(|cx| Poll::Ready(poll(cx))).await {
                return ready;
            }
            self.speak();
            // What the kernel knows is known here once the driver has asked it.
            tokio::task::yield_now().await;
        }
    }

    fn speak(&mut self) {
        if self.said < self.bytes.len() {
            let end = self.arrival.end(self.said, self.bytes.len());
            match self.stream.write(&self.bytes[self.said..end]) {
                Ok(written) => self.said += written,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            return;
        }
        self.polls += 1;
        assert!(self.polls < POLLS_MAX, "it waits for what does not come");
        if self.has_closed() {
            self.stream.shutdown(Shutdown::Write).unwrap();
        }
    }

    fn has_closed(&self) -> bool {
        self.polls > SILENT_POLLS
    }
}

fn head(parts: &ResponseHead) -> Head {
    let usual = parts.status.canonical_reason().unwrap_or_default().as_bytes();
    Head {
        is_11: parts.version == Version::HTTP_11,
        status: parts.status.as_u16(),
        reason: parts.reason.as_deref().unwrap_or(usual).to_vec(),
        fields: fields(&parts.fields),
    }
}

fn fields(fields: &tidegate::fields::Fields) -> Fields {
    let pairs = super::head::pairs(fields).into_iter();
    pairs.map(|(name, value)| (String::from_utf8(name).expect("a token"), value)).collect()
}

fn trailers(map: &HeaderMap) -> Fields {
    sorted(map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect())
}
