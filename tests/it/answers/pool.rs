//! What may be used again: a connection whose request and response have both ended, on which nothing is left, and whose
//! answer was not early.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::wire;
use crate::support::{Gate, eventually, ok};

use super::rig::{Outcome, Server, Then, over_http1, over_http2, whole};

/// Whether the other side ends the connection, at last.
pub fn is_hung_up(conn: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match conn.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn a_connection_is_used_again_when_both_messages_have_ended() {
    let server = Server::start(|request, conn| {
        let _ = wire::read_request_body(conn, request);
        let _ = conn.get_mut().write_all(&ok(&request.body));
        Then::Keep
    });
    let proxy = server.proxy("", "");

    let mut client = proxy.client();
    for body in ["a", "bc", "def"] {
        let length = body.len();
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"));
        assert_eq!(client.response().text(), body);
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("{length:x}\r\n{body}\r\n0\r\n\r\n"));
        assert_eq!(client.response().text(), body);
        assert_eq!(client.get("/").text(), "");
    }

    assert_eq!(server.connections(), 1);
}

#[test]
fn a_connection_is_used_again_after_trailers() {
    let server = Server::start(|request, conn| {
        let _ = wire::read_request_body(conn, request);
        let sum = request.trailers.first().map_or("none", |(_, value)| value);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
        let _ = conn.get_mut().write_all(format!("{head}2\r\nok\r\n0\r\nX-Sum: {sum}\r\n\r\n").as_bytes());
        Then::Keep
    });
    let proxy = server.proxy("", "");

    let mut client = proxy.client();
    for n in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nTrailer: X-Sum\r\n");
        client.send(format!("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: {n}\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.trailers, [("x-sum".to_owned(), n.to_string())]);
        assert_eq!(client.get("/").text(), "ok");
        assert_eq!(over_http2(proxy.public(), "GET", "/"), whole("ok"));
    }

    assert_eq!(server.connections(), 1);
}

#[test]
fn what_a_server_says_while_its_connection_rests_closes_it_and_reaches_nobody() {
    for extra in
        ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "HTTP/1.1 408 Late\r\n\r\n", "\r\n", "x"]
    {
        let (at_rest, is_closed) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (rests, closed) = (at_rest.clone(), is_closed.clone());
        let server = Server::start(move |request, conn| {
            let _ = conn.get_mut().write_all(&ok(request.target()));
            if request.target() == "/first" {
                rests.wait();
                let _ = conn.get_mut().write_all(extra.as_bytes());
                closed.store(is_hung_up(conn.get_mut()), Ordering::SeqCst);
                return Then::Close;
            }
            Then::Keep
        });
        let proxy = server.proxy("", "");

        let mut client = proxy.client();
        assert_eq!(client.get("/first").text(), "/first");
        eventually("the connection rests", || proxy.metric("tidegate_server_connections", &["idle"]) == 1.0);
        assert!(!at_rest.is_open());
        at_rest.open();
        eventually("it is closed", || is_closed.load(Ordering::SeqCst));

        assert_eq!(over_http1(proxy.public(), "GET", "/a"), whole("/a"), "{extra:?}");
        assert_eq!(over_http2(proxy.public(), "GET", "/b"), whole("/b"), "{extra:?}");
        assert_eq!(client.get("/c").text(), "/c");
        assert_eq!(server.connections(), 2, "{extra:?}");
    }
}

#[test]
fn what_comes_late_of_one_response_is_no_answer_to_the_next_request() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request, conn| {
        // The body behind an answer to HEAD, say, when something else is asked already.
        let is_late = request.target() == "/next" && asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
        let late = if is_late { "hello" } else { "" };
        let _ = conn.get_mut().write_all(&[late.as_bytes(), &ok(request.target())].concat());
        Then::Keep
    });
    let proxy = server.proxy("", "");
    let mut client = proxy.client();

    assert_eq!(client.get("/first").text(), "/first");
    assert_eq!(client.get("/next").text(), "/next");
    assert_eq!(server.connections(), 2);

    // What may not be done twice is not asked again.
    client.send("POST /next HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    let refused = client.response();
    assert_eq!(refused.status(), 502);
    assert!(refused.text().contains("stale-connection"), "{}", refused.text());
}

#[test]
fn a_response_that_is_there_before_the_request_reaches_nobody() {
    let eager = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = eager.local_addr().unwrap();
    let well = Server::start(|request, conn| {
        let _ = conn.get_mut().write_all(&ok(request.target()));
        Then::Keep
    });
    // It greets whoever comes, whatever they want.
    std::thread::spawn(move || {
        for mut stream in eager.incoming().map_while(Result::ok) {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            is_hung_up(&mut stream);
        }
    });
    let proxy =
        super::rig::proxy("", "eject = false\nretries = 0", &format!("\"{address}\", {}", well.toml()));

    let (mut refused, mut served) = (0, 0);
    for n in 0..20 {
        match over_http1(proxy.public(), "GET", &format!("/{n}")) {
            Outcome::Refused(502, reason) if ["malformed-response", "reset"].contains(&&*reason) => {
                refused += 1
            }
            outcome => {
                assert_eq!(outcome, whole(&format!("/{n}")));
                served += 1;
            }
        }
    }

    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
}

#[test]
fn a_body_of_unknown_length_reaches_a_server_that_has_spoken_http_1_0() {
    let server = Server::start(|request, conn| {
        let _ = wire::read_request_body(conn, request);
        let length = request.body.len();
        let says = format!("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n");
        let _ = conn.get_mut().write_all(&[says.as_bytes(), &request.body].concat());
        Then::Keep
    });
    let proxy = server.proxy("", "");

    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "");
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");

    assert_eq!(client.response().text(), "body");
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_response_that_its_client_did_not_want_to_its_end_closes_its_connection() {
    let is_closed = Arc::new(AtomicBool::new(false));
    let closed = is_closed.clone();
    let server = Server::start(move |request, conn| {
        if request.target() == "/well" {
            let _ = conn.get_mut().write_all(&ok("well"));
            return Then::Keep;
        }
        let _ = conn.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        closed.store(is_hung_up(conn.get_mut()), Ordering::SeqCst);
        Then::Close
    });
    let proxy = server.proxy("", "");

    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    drop(client);
    eventually("it is closed", || is_closed.load(Ordering::SeqCst));

    assert_eq!(over_http1(proxy.public(), "GET", "/well"), whole("well"));
    assert_eq!(server.connections(), 2);
}
