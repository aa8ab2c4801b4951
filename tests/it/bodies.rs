//! Bodies stream both ways, whatever their length, and nothing is kept whole.

use std::io::{BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::origin::Conn;
use crate::support::{Gate, Origin, Proxy, Then, eventually, ok, wire};

/// More than any buffer on the way: two sockets' and the proxy's own.
const BIG: usize = 32 << 20;

/// Bytes that differ everywhere, so that none can be lost or swapped unseen.
fn pattern(length: usize) -> Vec<u8> {
    let word = |n: usize| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..length.div_ceil(8)).flat_map(word).take(length).collect()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

#[test]
fn a_big_request_body_arrives_as_it_was_sent() {
    let origin = Origin::start(|request| ok(request.body.len().to_string()));
    let proxy = Proxy::before(&origin);
    let body = pattern(8 << 20);

    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
    let answer = client.send(&body).response();

    assert_eq!(answer.text(), body.len().to_string());
    assert!(origin.last().body == body, "the bytes differ");
}

#[test]
fn a_big_response_body_arrives_as_it_was_sent() {
    let body = pattern(8 << 20);
    let sent = body.clone();
    let origin = Origin::start(move |_| ok(&sent));
    let proxy = Proxy::before(&origin);

    let answer = proxy.get("/");

    assert!(answer.body == body, "the bytes differ");
}

#[test]
fn a_chunked_body_is_chunked_on_the_other_side_too() {
    let origin = Origin::start(|request| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend(chunk(&request.body));
        bytes.extend(b"0\r\n\r\n");
        bytes
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let answer = client.send(chunk(b"one ")).send(chunk(b"two")).send("0\r\n\r\n").response();

    assert_eq!(answer.text(), "one two");
    assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
    assert_eq!(origin.last().field("transfer-encoding"), Some("chunked"));
    assert_eq!(origin.last().field("content-length"), None);
}

#[test]
fn the_first_piece_of_a_response_arrives_before_the_last_is_made() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::raw(move |_, conn| {
        let _ = conn.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        opened.wait();
        let _ = conn.get_mut().write_all(b"final");
        Then::Keep
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    let first = client.bytes(5);
    gate.open();
    let last = client.bytes(5);

    assert_eq!((first.as_slice(), last.as_slice()), (&b"first"[..], &b"final"[..]));
}

#[test]
fn the_first_piece_of_a_request_arrives_before_the_last_is_made() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::raw(move |_, conn| {
        let mut first = [0; 5];
        conn.read_exact(&mut first).unwrap();
        opened.open();
        let mut last = [0; 5];
        conn.read_exact(&mut last).unwrap();
        let _ = conn.get_mut().write_all(&ok([first, last].concat()));
        Then::Keep
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst");
    gate.wait();
    let answer = client.send("final").response();

    assert_eq!(answer.text(), "firstfinal");
}

#[test]
fn a_client_that_does_not_read_holds_back_the_server() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let done = Gate::default();
    let is_done = done.clone();
    let origin = Origin::raw(move |_, conn| {
        conn.get_ref().tcp().set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 4 * BIG);
        let _ = conn.get_mut().write_all(head.as_bytes());
        let piece = vec![b'x'; 64 << 10];
        while counted.load(Ordering::SeqCst) < 4 * BIG {
            match conn.get_mut().write(&piece) {
                Ok(bytes) => counted.fetch_add(bytes, Ordering::SeqCst),
                Err(_) => break,
            };
        }
        is_done.open();
        Then::Close
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    done.wait();

    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < BIG, "the proxy took {sent} bytes that nobody read");
}

#[test]
fn a_server_that_does_not_read_holds_back_the_client() {
    let done = Gate::default();
    let is_done = done.clone();
    let origin = Origin::raw(move |_, _| {
        is_done.wait();
        Then::Close
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", 4 * BIG));
    let sent = client.send_until_blocked(&vec![b'x'; 64 << 10], 4 * BIG);
    done.open();

    assert!(sent < BIG, "the proxy took {sent} bytes that nobody read");
}

#[test]
fn memory_stays_flat_while_many_clients_and_servers_take_nothing() {
    const EACH: usize = 32;
    /// What a body in transit may hold, however long it is: some buffers on either side.
    const HELD_MAX: f64 = 1024.0 * 1024.0;
    let blocked = Arc::new(AtomicUsize::new(0));
    let (count, gate) = (blocked.clone(), Gate::default());
    let held = gate.clone();
    let origin = Origin::raw(move |request, conn| {
        if request.target() == "/down" {
            conn.get_ref().tcp().set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
            let _ = conn.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            while conn.get_mut().write_all(&[b'x'; 64 << 10]).is_ok() {}
            count.fetch_add(1, Ordering::SeqCst);
        }
        held.wait();
        Then::Close
    });
    let proxy = Proxy::before(&origin);
    proxy.metrics();
    let before = proxy.metric("process_resident_memory_bytes", &[]);

    let mut readers: Vec<_> = (0..EACH).map(|_| proxy.client()).collect();
    let mut writers: Vec<_> = (0..EACH).map(|_| proxy.client()).collect();
    readers.iter_mut().for_each(|client| {
        client.send("GET /down HTTP/1.1\r\nHost: test\r\n\r\n");
    });
    std::thread::scope(|scope| {
        for client in &mut writers {
            client.send("POST /up HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n");
            scope.spawn(|| client.send_until_blocked(&[b'x'; 64 << 10], 1_000_000_000));
        }
    });
    eventually("every server is held back", || blocked.load(Ordering::SeqCst) == EACH);
    let grown = proxy.metric("process_resident_memory_bytes", &[]) - before;
    assert!(!gate.is_open());
    gate.open();

    assert!(grown < 2.0 * EACH as f64 * HELD_MAX, "{grown} bytes more");
}

#[test]
fn trailers_pass_both_ways() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 17\r\n\r\n".to_vec()
    });
    let proxy = Proxy::before(&origin);

    let answer = proxy
        .client()
        .send("POST / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nTrailer: X-Sent\r\n")
        .send("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sent: 5\r\n\r\n")
        .response();

    let value_of = |fields: &[(String, String)], name: &str| {
        fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.clone())
    };
    assert_eq!(value_of(&answer.trailers, "x-sum").as_deref(), Some("17"));
    assert_eq!(value_of(&origin.last().trailers, "x-sent").as_deref(), Some("5"));
}

#[test]
fn a_client_that_expects_100_continue_gets_it_and_then_the_answer() {
    let origin = Origin::start(|request| ok(&request.body));
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    let interim = client
        .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .head();
    let answer = client.send("body").response();

    assert_eq!(interim.status(), 100);
    assert_eq!((answer.status(), answer.text()), (200, "body".to_owned()));
}

#[test]
fn a_body_up_to_the_routes_limit_passes_and_a_longer_one_is_refused() {
    let origin = Origin::start(|request| ok(request.body.len().to_string()));
    let proxy = Proxy::start(&crate::support::one_route("max-body = \"1KiB\"", "", &[&origin]));
    let post = |length: usize| {
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        proxy.client().send(head).send(vec![b'x'; length]).response()
    };

    assert_eq!(post(1024).text(), "1024");
    assert_eq!(post(1025).status(), 413);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_chunked_body_is_refused_when_it_outgrows_the_routes_limit() {
    let origin = Origin::start(|request| ok(request.body.len().to_string()));
    let proxy = Proxy::start(&crate::support::one_route("max-body = \"1KiB\"", "", &[&origin]));

    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunk(&[b'x'; 900])).send(chunk(&[b'x'; 900])).send("0\r\n\r\n");

    assert_eq!(client.response().status(), 413);
    assert_eq!(origin.count(), 0, "the server must not take it for a whole body");
}

#[test]
fn a_head_request_and_a_304_have_no_body() {
    let origin = Origin::raw(|request, conn| {
        let status = if request.method() == "HEAD" { "200 OK" } else { "304 Not Modified" };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 5000\r\nETag: \"a\"\r\n\r\n");
        let _ = conn.get_mut().write_all(head.as_bytes());
        Then::Keep
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    let head = client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    let unchanged = client.get_with("/", "If-None-Match: \"a\"\r\n");

    assert_eq!((head.status(), head.field("content-length")), (200, Some("5000")));
    assert_eq!(unchanged.status(), 304);
}

#[test]
fn a_response_that_ends_with_its_connection_is_passed_on_whole() {
    let origin = Origin::raw(|_, conn| {
        let _ = conn.get_mut().write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end");
        Then::Close
    });
    let proxy = Proxy::before(&origin);

    assert_eq!(proxy.get("/").text(), "until the end");
}

#[test]
fn a_websocket_is_a_tunnel_once_the_server_agrees() {
    let origin = Origin::raw(echo_after_upgrade);
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    let answer = client.send(WEBSOCKET).head();
    let first = client.send(b"\x81\x05hello\x00\xff").bytes(9);
    let second = client.send(b"more").bytes(4);
    client.finish();

    assert_eq!(answer.status(), 101);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(first, b"\x81\x05hello\x00\xff");
    assert_eq!(second, b"more");
    assert!(client.is_closed());
}

#[test]
fn a_body_that_looks_like_a_refusal_passes_as_it_is() {
    let gate = Gate::default();
    let opened = gate.clone();
    let body = "HTTP/1.1 404 Not Found\r\n\r\n";
    let origin = Origin::raw(move |_, conn| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = conn.get_mut().write_all(head.as_bytes());
        opened.wait();
        let _ = conn.get_mut().write_all(body.as_bytes());
        Then::Close
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    let head = client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    gate.open();
    let came = client.bytes(body.len());

    assert_eq!(head.status(), 200);
    assert_eq!(came, body.as_bytes());
}

#[test]
fn a_drain_waits_for_a_tunnel() {
    let origin = Origin::raw(echo_after_upgrade);
    let mut proxy = Proxy::before(&origin);
    let mut client = proxy.client();
    assert_eq!(client.send(WEBSOCKET).head().status(), 101);

    proxy.terminate();
    eventually("it drains", || proxy.events().iter().any(|event| event.contains("draining")));
    let after = client.send(b"more").bytes(4);
    client.finish();

    assert_eq!(after, b"more");
    assert!(proxy.wait().success());
}

#[test]
fn a_websocket_that_the_server_refuses_is_an_ordinary_answer() {
    let origin = Origin::start(|_| crate::support::reply("403 Forbidden", "", "no"));
    let proxy = Proxy::before(&origin);

    let answer = proxy.client().send(WEBSOCKET).response();

    assert_eq!((answer.status(), answer.text()), (403, "no".to_owned()));
}

const WEBSOCKET: &str = "GET /chat HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn echo_after_upgrade(request: &mut wire::Message, conn: &mut Conn) -> Then {
    assert_eq!(request.field("upgrade"), Some("websocket"));
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let _ = conn.get_mut().write_all(agreed.as_bytes());
    while let Ok(piece) = conn.fill_buf().map(<[u8]>::to_vec) {
        if piece.is_empty() || conn.get_mut().write_all(&piece).is_err() {
            break;
        }
        conn.consume(piece.len());
    }
    Then::Close
}
