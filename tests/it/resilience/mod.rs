//! What becomes of requests while servers fail, are full, or are taken away.

mod drain;
mod ejection;
mod groups;
mod limits;
mod retries;
mod sessions;
mod timeouts;

pub use drain::drain;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::support::origin::Conn;
use crate::support::{Client, Message, Origin, Proxy, Then, eventually, one_route, wire};

/// One worker, where what each keeps for itself must be exact.
fn alone(upstream: &str, servers: &[&Origin]) -> Proxy {
    Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", upstream, servers)))
}

/// Two workers.
fn proxy(upstream: &str, servers: &[&Origin]) -> Proxy {
    Proxy::start(&one_route("", upstream, servers))
}

/// The reason that an answer of the proxy's own gives.
fn reason(answer: &Message) -> &str {
    let status = answer.field("proxy-status").unwrap_or_default();
    status.split("details=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

/// A request with a body of a known length.
fn sized(method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The same in chunks.
fn chunked(method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut bytes = head.into_bytes();
    for piece in body.chunks(5000) {
        bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        bytes.extend(piece);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

/// So many bytes, no two stretches of which are the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Servers that stand in for each other: whichever is asked first does `first`, and then all answer with what they
/// were asked for.
fn twins<const N: usize>(
    first: impl Fn(&mut Message, &mut Conn) -> Then + Send + Sync + 'static,
) -> [Origin; N] {
    let (first, is_first) = (Arc::new(first), Arc::new(AtomicBool::new(true)));
    std::array::from_fn(|_| {
        let (first, is_first) = (first.clone(), is_first.clone());
        Origin::raw(move |request, conn| match is_first.swap(false, SeqCst) {
            true => first(request, conn),
            false => echo(request, conn),
        })
    })
}

/// Answers with the target, and behind a blank with the body.
fn echo(request: &mut Message, conn: &mut Conn) -> Then {
    if wire::read_request_body(conn, request).is_err() {
        return Then::Close;
    }
    let body = [request.target().as_bytes(), b" ", &request.body].concat();
    say(conn, &crate::support::ok(body))
}

/// What [`echo`] answers.
fn echoed(target: &str, body: &[u8]) -> Vec<u8> {
    [target.as_bytes(), b" ", body].concat()
}

fn say(conn: &mut Conn, bytes: &[u8]) -> Then {
    match conn.get_mut().write_all(bytes) {
        Ok(()) => Then::Keep,
        Err(_) => Then::Close,
    }
}

/// Waits for the other side to end the connection; false when it says something first.
fn is_left_alone(conn: &mut Conn) -> bool {
    matches!(conn.read(&mut [0]), Ok(0) | Err(_))
}

/// A client that has sent a GET and has not looked at the answer.
#[track_caller]
fn asking(proxy: &Proxy, target: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client
}

/// Waits until so many requests wait for a server.
#[track_caller]
fn await_queued(proxy: &Proxy, count: usize) {
    eventually(&format!("{count} are queued"), || {
        proxy.metric("tidegate_requests_queued", &["upstream=\"app\""]) == count as f64
    });
}

fn stopped(proxy: &Proxy, why: &str) -> f64 {
    proxy.metric("tidegate_retries_stopped_total", &[&format!("reason=\"{why}\"")])
}

fn retried(proxy: &Proxy, why: &str) -> f64 {
    proxy.metric("tidegate_retries_total", &[&format!("reason=\"{why}\"")])
}
