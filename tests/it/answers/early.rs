//! Answers that come before the request has gone out whole.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;

use crate::support::http2::{rest, talk};
use crate::support::{Gate, ok};

use super::rig::{Server, Then, over_http1, whole};

const TOO_LARGE: &[u8] = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig";
/// More than any buffer of the proxy's, less than what sockets hold for a client that does not want to wait.
const UPLOAD: usize = 512 << 10;

/// Says that it is too much without reading it, and then does this; `/well` is well.
fn refusing(then: Then) -> Server {
    Server::start(move |request, conn| {
        if request.target() == "/well" {
            let _ = conn.get_mut().write_all(&ok("well"));
            return Then::Keep;
        }
        let _ = conn.get_mut().write_all(TOO_LARGE);
        then
    })
}

#[test]
fn a_server_that_answers_and_closes_without_reading_the_body_is_heard() {
    for then in [Then::Close, Then::Reset] {
        let server = refusing(then);
        let proxy = server.proxy("", "eject = false\nretries = 0");

        for round in 0..20 {
            let mut client = proxy.client();
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {UPLOAD}\r\n\r\n"));
            client.send_until_blocked(&[b'x'; 16 << 10], UPLOAD);
            let answer = client.response();

            assert_eq!((answer.status(), answer.text()), (413, "big".to_owned()), "round {round}");
            assert_eq!(over_http1(proxy.public(), "GET", "/well"), whole("well"));
        }
    }
}

#[test]
fn a_server_that_answers_and_closes_is_heard_over_http_2() {
    let server = refusing(Then::Close);
    let proxy = server.proxy("", "eject = false\nretries = 0");

    for round in 0..20 {
        let status = talk(proxy.public(), 1 << 20, async |requests, _| {
            let request = Request::post("http://test/").body(()).unwrap();
            let mut ready = requests.clone().ready().await.unwrap();
            let (response, mut body) = ready.send_request(request, false).unwrap();
            // As much as the stream has room for.
            body.send_data(Bytes::from(vec![b'x'; UPLOAD]), true).unwrap();
            let mut response = response.await.unwrap();
            assert_eq!(rest(response.body_mut()).await.unwrap().0, b"big");
            response.status().as_u16()
        });
        assert_eq!(status, 413, "round {round}");
    }
}

#[test]
fn a_connection_whose_answer_came_early_is_not_used_again() {
    // The server reads the rest of the body as its next request, and then says so: that must reach nobody.
    let smuggled = Arc::new(AtomicUsize::new(0));
    let count = smuggled.clone();
    let server = Server::start(move |request, conn| {
        if request.target() == "/smuggled" {
            count.fetch_add(1, Ordering::SeqCst);
        }
        let _ = conn.get_mut().write_all(&ok(request.target()));
        Then::Keep
    });
    let proxy = server.proxy("", "eject = false");
    let body = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

    for n in 0..10 {
        let mut client = proxy.client();
        let length = body.len() + 1;
        client.send(format!("POST /early HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
        assert_eq!(client.response().text(), "/early");
        client.send(body).send("!");

        let path = format!("/{n}");
        assert_eq!(over_http1(proxy.public(), "GET", &path), whole(&path));
        client.rest();
    }

    assert_eq!(smuggled.load(Ordering::SeqCst), 0);
    assert_eq!(server.connections(), 11, "what answered early is not used again, what did not is");
}

#[test]
fn an_early_answer_may_end_after_its_request_and_its_connection_is_not_used_again_either() {
    let (begun, sent) = (Gate::default(), Gate::default());
    let (has_begun, has_sent) = (begun.clone(), sent.clone());
    let server = Server::start(move |request, conn| {
        if request.target() == "/well" {
            let _ = conn.get_mut().write_all(&ok("well"));
            return Then::Keep;
        }
        let _ = conn.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        has_begun.wait();
        let mut body = [0; 4];
        conn.read_exact(&mut body).unwrap();
        has_sent.open();
        let _ = conn.get_mut().write_all(b"final");
        Then::Keep
    });
    let proxy = server.proxy("", "");

    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n");
    let mut answer = client.head();
    assert!(!begun.is_open(), "it came before the body was sent");
    begun.open();
    client.send("body");
    sent.wait();
    client.body(&mut answer).unwrap();

    assert_eq!(answer.text(), "firstfinal");
    assert_eq!(over_http1(proxy.public(), "GET", "/well"), whole("well"));
    assert_eq!(server.connections(), 2);
}
