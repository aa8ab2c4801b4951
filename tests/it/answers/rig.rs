//! A server that says what a table says, and the questions that are asked of each line of the table.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use http::{Method, Request};
use socket2::SockRef;

use crate::support::http2::{rest, talk};
use crate::support::wire::{self, Message};
use crate::support::{Client, DEADLINE, Proxy, ok};

pub type Conn = BufReader<TcpStream>;
type Script = dyn Fn(&mut Message, &mut Conn) -> Then + Send + Sync;

/// What a server does when it has said its piece.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
    /// A reset instead of an end.
    Reset,
}

/// A server whose every connection ends as it is told to: nothing but its own thread holds the socket.
pub struct Server {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    is_up: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers each head by `script`.
    pub fn start(script: impl Fn(&mut Message, &mut Conn) -> Then + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, is_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let (counted, goes_on, script): (_, _, Arc<Script>) =
            (accepted.clone(), is_up.clone(), Arc::new(script));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !goes_on.load(Ordering::SeqCst) {
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let script = script.clone();
                std::thread::spawn(move || serve(stream, &*script));
            }
        });
        Server { address, accepted, is_up, accepting: Some(accepting) }
    }

    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// As one quoted element of `servers`.
    pub fn toml(&self) -> String {
        format!("\"{}\"", self.address)
    }

    /// A proxy before it, of one worker, so that there is one pool of connections.
    #[track_caller]
    pub fn proxy(&self, route: &str, upstream: &str) -> Proxy {
        proxy(route, upstream, &self.toml())
    }
}

/// A proxy of one worker before `servers`.
#[track_caller]
pub fn proxy(route: &str, upstream: &str, servers: &str) -> Proxy {
    Proxy::start(&format!(
        "[runtime]\nworkers = 1\ndrain-timeout = \"5s\"\n[[route]]\nupstream = \"app\"\n{route}\n\
         [upstream.app]\nservers = [{servers}]\n{upstream}\n"
    ))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_up.store(false, Ordering::SeqCst);
        // One connection to wake the accepting thread.
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

fn serve(stream: TcpStream, script: &Script) {
    let _ = stream.set_nodelay(true);
    // Longer than any test: it is the proxy that hangs up.
    let _ = stream.set_read_timeout(Some(DEADLINE * 4));
    let _ = stream.set_write_timeout(Some(DEADLINE));
    let mut conn = BufReader::new(stream);
    let mut nth = 0;
    while let Ok(Some(mut request)) = wire::read_head(&mut conn) {
        request.nth = nth;
        nth += 1;
        match script(&mut request, &mut conn) {
            Then::Keep => {}
            Then::Close => return,
            Then::Reset => {
                return SockRef::from(conn.get_ref()).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            }
        }
    }
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A message with an end, from the server: its status and its body.
    Whole(u16, String),
    /// None, or one that ends before its end.
    Cut,
    /// An answer of the proxy's own, and its reason.
    Refused(u16, String),
}

/// 502, for this reason.
pub fn refused(reason: &str) -> Outcome {
    Outcome::Refused(502, reason.to_owned())
}

/// 200, with this body.
pub fn whole(body: &str) -> Outcome {
    Outcome::Whole(200, body.to_owned())
}

/// Whether a connection may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    Yes,
    No,
}

/// One answer, and what becomes of it.
pub struct Case {
    pub name: String,
    pub method: &'static str,
    pub says: Vec<u8>,
    pub then: Then,
    pub expected: Outcome,
    /// What reason there may be instead, where a race decides.
    pub or: Option<Outcome>,
    pub again: Again,
}

impl Case {
    /// A GET is answered so, on a connection that the server keeps open.
    pub fn new(name: impl Into<String>, says: impl AsRef<[u8]>, expected: Outcome) -> Case {
        Case {
            name: name.into(),
            method: "GET",
            says: says.as_ref().to_vec(),
            then: Then::Keep,
            expected,
            or: None,
            again: Again::No,
        }
    }

    pub fn method(self, method: &'static str) -> Case {
        Case { method, ..self }
    }

    pub fn then(self, then: Then) -> Case {
        Case { then, ..self }
    }

    pub fn or(self, or: Outcome) -> Case {
        Case { or: Some(or), ..self }
    }

    /// It is sound: its connection goes on.
    pub fn and_again(self) -> Case {
        Case { again: Again::Yes, ..self }
    }
}

/// Asks for each case as a client of HTTP/1.1 and as one of HTTP/2, and each time as another client for something else.
#[track_caller]
pub fn examine(cases: Vec<Case>) {
    examine_with("", cases);
}

/// The same, with further keys of the upstream.
#[track_caller]
pub fn examine_with(upstream: &str, cases: Vec<Case>) {
    let cases = Arc::new(cases);
    let again: Arc<Mutex<Vec<usize>>> = Arc::default();
    let server = saying(cases.clone(), again.clone());
    // What waits for more is cut soon.
    let proxy = server
        .proxy("", &format!("eject = false\nbody-idle = \"400ms\"\nfirst-byte-timeout = \"5s\"\n{upstream}"));

    let mut wrong = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        type Ask = fn(SocketAddr, &str, &str) -> Outcome;
        for (version, ask) in [("HTTP/1.1", over_http1 as Ask), ("HTTP/2", over_http2)] {
            let found = ask(proxy.public(), case.method, &format!("/case/{index}"));
            if found != case.expected && Some(&found) != case.or.as_ref() {
                wrong.push(format!("{}, {version}: {found:?} instead of {:?}", case.name, case.expected));
            }
            let path = format!("/well/{index}");
            let next = over_http1(proxy.public(), "GET", &path);
            if next != whole(&path) {
                wrong.push(format!("{}, {version}: the next client got {next:?}", case.name));
            }
            let is_again = std::mem::take(&mut *again.lock().unwrap()).contains(&index);
            if is_again != (case.again == Again::Yes) {
                wrong.push(format!("{}, {version}: used again: {is_again}", case.name));
            }
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `/case/N` is answered as the table says; into `again` goes what case was on the connection before. All else is
/// answered with its own path.
fn saying(cases: Arc<Vec<Case>>, again: Arc<Mutex<Vec<usize>>>) -> Server {
    let last: Mutex<HashMap<SocketAddr, usize>> = Mutex::default();
    Server::start(move |request, conn| {
        let peer = conn.get_ref().peer_addr().unwrap();
        let before = last.lock().unwrap().remove(&peer);
        // A port may come back, as another connection.
        again.lock().unwrap().extend(before.filter(|_| request.nth > 0));
        let Some(index) = request.target().strip_prefix("/case/") else {
            let _ = conn.get_mut().write_all(&ok(request.target()));
            return Then::Keep;
        };
        let index: usize = index.parse().unwrap();
        last.lock().unwrap().insert(peer, index);
        let _ = conn.get_mut().write_all(&cases[index].says);
        cases[index].then
    })
}

/// One request on a connection of its own, and all that comes until it ends.
pub fn over_http1(address: SocketAddr, method: &str, path: &str) -> Outcome {
    let mut client = Client::connect(address);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    outcome_of(method, &client.rest())
}

/// What these bytes say, to the letter: a message that is followed by anything is not whole.
pub fn outcome_of(method: &str, bytes: &[u8]) -> Outcome {
    let mut rest = bytes;
    let mut message = loop {
        match wire::read_head(&mut rest) {
            Ok(Some(head)) if head.status() < 200 => {}
            Ok(Some(head)) => break head,
            _ => return Outcome::Cut,
        }
    };
    let is_whole = method == "HEAD" || wire::read_response_body(&mut rest, &mut message).is_ok();
    assert!(!is_whole || rest.is_empty(), "more than one message: {}", String::from_utf8_lossy(bytes));
    match is_whole {
        false => Outcome::Cut,
        true => outcome(message.status(), message.field("proxy-status").is_some(), message.text()),
    }
}

pub fn over_http2(address: SocketAddr, method: &str, path: &str) -> Outcome {
    talk(address, 1 << 20, async |requests, _| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = Request::builder().method(method).uri(format!("http://test{path}")).body(()).unwrap();
        let mut ready = requests.clone().ready().await.unwrap();
        let Ok(mut response) = ready.send_request(request, true).unwrap().0.await else {
            return Outcome::Cut;
        };
        match rest(response.body_mut()).await {
            Err(error) => {
                assert!(error.is_reset(), "the stream ends, not the connection: {error}");
                Outcome::Cut
            }
            Ok((body, _)) => {
                let is_own = response.headers().contains_key("proxy-status");
                outcome(response.status().as_u16(), is_own, String::from_utf8_lossy(&body).into_owned())
            }
        }
    })
}

fn outcome(status: u16, is_own: bool, body: String) -> Outcome {
    if !is_own {
        return Outcome::Whole(status, body);
    }
    let reason = body.lines().find_map(|line| line.strip_prefix("reason: ")).unwrap_or_default();
    Outcome::Refused(status, reason.to_owned())
}
