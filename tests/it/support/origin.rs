//! A server to stand behind the proxy: it answers as the test says, remembers what it was asked,
//! and can go away and come back on the same port.

use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use socket2::{Domain, Socket, Type};

use super::certs::Cert;
use super::client::Stream;
use super::wire::{self, Message};
use super::{DEADLINE, Held};

/// Both directions of one accepted connection.
pub type Conn = BufReader<Box<dyn Stream>>;

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
}

type WholeAnswer = dyn Fn(&Message) -> Vec<u8> + Send + Sync;
type RawAnswer = dyn Fn(&mut Message, &mut Conn) -> Then + Send + Sync;
type ByHand = dyn Fn(Box<dyn Stream>) + Send + Sync;

/// How a connection is answered.
enum Answer {
    /// With bytes, once the request has been read whole.
    Whole(Box<WholeAnswer>),
    /// By hand, once the head has been read.
    Raw(Box<RawAnswer>),
    /// By hand, from the first byte of the connection to its last.
    Connection(Box<ByHand>),
}

/// A listening server; it stops when it is dropped.
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Bound but never listening, so that nobody takes the port while the origin is stopped.
    _reservation: Socket,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    answer: Answer,
    cert: Option<Cert>,
    is_up: AtomicBool,
    requests: Mutex<Vec<Message>>,
    connections: Mutex<Vec<TcpStream>>,
    open: AtomicUsize,
}

impl Origin {
    /// Answers each whole request with bytes; no bytes end the connection.
    pub fn start(answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::boot(Answer::Whole(Box::new(answer)), None)
    }

    /// The same under TLS.
    pub fn start_tls(cert: Cert, answer: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Origin {
        Origin::boot(Answer::Whole(Box::new(answer)), Some(cert))
    }

    /// Answers by hand, having read no more than the head.
    pub fn raw(answer: impl Fn(&mut Message, &mut Conn) -> Then + Send + Sync + 'static) -> Origin {
        Origin::boot(Answer::Raw(Box::new(answer)), None)
    }

    /// Serves each connection by hand, of which nothing has been read.
    pub fn by_hand(serve: impl Fn(Box<dyn Stream>) + Send + Sync + 'static) -> Origin {
        Origin::boot(Answer::Connection(Box::new(serve)), None)
    }

    /// Always 200 and this body.
    pub fn saying(body: &'static str) -> Origin {
        Origin::start(move |_| ok(body))
    }

    /// Answers with the path that was asked for; requests for `/held…` and `/…/held…` are held.
    pub fn holding() -> (Origin, Held) {
        let held = Held::default();
        let hands = held.clone();
        let origin = Origin::start(move |request| {
            if request.target().contains("/held") {
                hands.hold();
            }
            ok(request.target())
        });
        (origin, held)
    }

    /// The same as [`Origin::saying`] on the port of another origin, at another loopback address: what one name with two addresses
    /// needs. No other test takes that port, because each has its own at 127.0.0.1.
    pub fn beside(other: &Origin, last: u8, body: &'static str) -> Origin {
        let reservation = bind(SocketAddr::from(([127, 0, 0, last], other.address().port())));
        Origin::boot_on(reservation, Answer::Whole(Box::new(move |_| ok(body))), None)
    }

    fn boot(answer: Answer, cert: Option<Cert>) -> Origin {
        let (reservation, _) = reserve_port();
        Origin::boot_on(reservation, answer, cert)
    }

    fn boot_on(reservation: Socket, answer: Answer, cert: Option<Cert>) -> Origin {
        let address = reservation.local_addr().unwrap().as_socket().unwrap();
        let shared = Arc::new(Shared {
            answer,
            cert,
            is_up: AtomicBool::new(false),
            requests: Mutex::default(),
            connections: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let mut origin = Origin { address, shared, _reservation: reservation, accepting: None };
        origin.restart();
        origin
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As one quoted element of `servers`.
    pub fn toml(&self) -> String {
        format!("\"{}\"", self.address)
    }

    /// What it was asked so far, in order.
    pub fn requests(&self) -> Vec<Message> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// The last request.
    #[track_caller]
    pub fn last(&self) -> Message {
        self.requests().pop().expect("the origin was never asked")
    }

    /// Connections accepted since it started.
    pub fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Refuses connections from now on, and breaks those it has.
    pub fn stop(&mut self) {
        self.shared.is_up.store(false, Ordering::SeqCst);
        let Some(accepting) = self.accepting.take() else { return };
        // One connection to wake the accepting thread, which then drops the listener.
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
        let _ = accepting.join();
        self.hang_up();
    }

    /// Breaks the connections it has, and goes on listening.
    pub fn hang_up(&self) {
        for connection in self.shared.connections.lock().unwrap().iter() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Listens again, on the same port.
    pub fn restart(&mut self) {
        assert!(self.accepting.is_none(), "the origin is up already");
        let socket = bind(self.address);
        socket.listen(1024).unwrap();
        self.shared.is_up.store(true, Ordering::SeqCst);
        let shared = self.shared.clone();
        self.accepting = Some(std::thread::spawn(move || accept(socket.into(), &shared)));
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

/// 200 with a body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    reply("200 OK", "", body)
}

/// A response with further fields, each ending in CR LF.
pub fn reply(status: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A port of our own: bound, refusing connections, and shareable by `SO_REUSEPORT` alone.
pub fn reserve_port() -> (Socket, SocketAddr) {
    let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn bind(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn head_of(bytes: &[u8]) -> String {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase()
}

fn accept(listener: TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if !shared.is_up.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        // A test's proxy may hold an idle connection for the whole test; no test is longer than this.
        let _ = stream.set_read_timeout(Some(DEADLINE * 4));
        let _ = stream.set_write_timeout(Some(DEADLINE));
        shared.connections.lock().unwrap().push(stream.try_clone().unwrap());
        let shared = shared.clone();
        shared.open.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || serve(stream, &shared));
    }
}

fn serve(tcp: TcpStream, shared: &Shared) {
    let last_word = tcp.try_clone().unwrap();
    let stream: Box<dyn Stream> = match &shared.cert {
        Some(cert) => Box::new(cert.accept(tcp)),
        None => Box::new(tcp),
    };
    match &shared.answer {
        Answer::Connection(serve) => serve(stream),
        answer => converse(BufReader::new(stream), answer, shared),
    }
    // The registry of connections holds a clone, so dropping ours would not end the connection.
    let _ = last_word.shutdown(Shutdown::Both);
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

fn converse(mut conn: Conn, answer: &Answer, shared: &Shared) {
    let mut nth = 0;
    while let Ok(Some(mut request)) = wire::read_head(&mut conn) {
        request.nth = nth;
        nth += 1;
        let then = match answer {
            Answer::Whole(answer) => answer_whole(answer, &mut request, &mut conn, shared),
            Answer::Raw(answer) => {
                shared.requests.lock().unwrap().push(request.clone());
                answer(&mut request, &mut conn)
            }
            Answer::Connection(_) => Then::Close,
        };
        if then == Then::Close {
            break;
        }
    }
}

/// The request is recorded before its answer goes out: a client that has the answer finds the record.
fn answer_whole(
    answer: &dyn Fn(&Message) -> Vec<u8>,
    request: &mut Message,
    conn: &mut Conn,
    shared: &Shared,
) -> Then {
    if wire::read_request_body(conn, request).is_err() {
        return Then::Close;
    }
    shared.requests.lock().unwrap().push(request.clone());
    let bytes = answer(request);
    let is_last = bytes.is_empty() || head_of(&bytes).contains("connection: close");
    if conn.get_mut().write_all(&bytes).is_err() || is_last { Then::Close } else { Then::Keep }
}
