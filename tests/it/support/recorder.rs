//! A server that notes every byte it gets, reads requests by the letter, and says in each answer what it read.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::client::Stream;
use super::strict::{self, Exact, Stop};
use super::{Origin, origin};

/// It stops when it is dropped.
pub struct Recorder {
    pub origin: Origin,
    log: Arc<Mutex<Log>>,
}

/// What came, on all connections.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// Whole requests, in the order in which they ended.
    pub requests: Vec<Exact>,
    /// What no reader should have to read, and why.
    pub faults: Vec<String>,
    /// Every byte, by connection.
    pub connections: Vec<Vec<u8>>,
}

type Answer = dyn Fn(&Exact) -> Vec<u8> + Send + Sync;

impl Recorder {
    /// Answers each request with 200 and its [`Exact::summary`].
    pub fn start() -> Recorder {
        Recorder::answering(echo)
    }

    /// Behind an answer of 101 it sends back what it gets.
    pub fn answering(answer: impl Fn(&Exact) -> Vec<u8> + Send + Sync + 'static) -> Recorder {
        let log = Arc::new(Mutex::new(Log::default()));
        let shared = log.clone();
        let origin = Origin::by_hand(move |stream| record(stream, &answer, &shared));
        Recorder { origin, log }
    }

    pub fn address(&self) -> SocketAddr {
        self.origin.address()
    }

    pub fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }

    /// Requests and faults since this was asked last; bytes stay.
    pub fn news(&self) -> Log {
        let mut log = self.log.lock().unwrap();
        let (requests, faults) = (std::mem::take(&mut log.requests), std::mem::take(&mut log.faults));
        Log { requests, faults, connections: Vec::new() }
    }
}

/// 200 and what was asked; a length, but no body, for HEAD.
pub fn echo(request: &Exact) -> Vec<u8> {
    let mut answer = origin::ok(strict::bytes(&request.summary()));
    if request.method() == "HEAD" {
        answer.truncate(answer.len() - request.summary().chars().count());
    }
    answer
}

fn record(mut stream: Box<dyn Stream>, answer: &Answer, log: &Mutex<Log>) {
    let place = {
        let mut log = log.lock().unwrap();
        log.connections.push(Vec::new());
        log.connections.len() - 1
    };
    let mut unread = Vec::new();
    let mut is_tunnel = false;
    let mut piece = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        log.lock().unwrap().connections[place].extend_from_slice(&piece[..count]);
        if is_tunnel {
            let _ = stream.write_all(&piece[..count]);
            continue;
        }
        unread.extend_from_slice(&piece[..count]);
        loop {
            match strict::request(&unread) {
                Ok((request, length)) => {
                    unread.drain(..length);
                    let bytes = answer(&request);
                    // Before the answer: a client that has it finds the record.
                    log.lock().unwrap().requests.push(request);
                    if stream.write_all(&bytes).is_err() {
                        return;
                    }
                    is_tunnel = bytes.starts_with(b"HTTP/1.1 101");
                    if is_tunnel {
                        break;
                    }
                }
                Err(Stop::More) => break,
                Err(Stop::Fault(why)) => {
                    log.lock().unwrap().faults.push(why);
                    let _ = stream.write_all(
                        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                    );
                    return;
                }
            }
        }
    }
}
