//! A client that has left: its server is told at once, by the end of the connection.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Request;

use crate::support::http2::{self, talk};
use crate::support::{Gate, Proxy, eventually, ok};

use super::pool::is_hung_up;
use super::rig::{Server, Then, over_http1, whole};

/// A server that gets stuck: `/head` before its answer, `/body` within it, `/upload` within the request. Far shorter
/// than any time limit is the time until it must hear of its client.
struct Stuck {
    server: Server,
    proxy: Proxy,
    reached: Gate,
    is_told: Arc<AtomicBool>,
}

impl Stuck {
    fn start() -> Stuck {
        let (reached, is_told) = (Gate::default(), Arc::new(AtomicBool::new(false)));
        let (here, told) = (reached.clone(), is_told.clone());
        let server = Server::start(move |request, conn| {
            match request.target() {
                "/well" => {
                    let _ = conn.get_mut().write_all(&ok("well"));
                    return Then::Keep;
                }
                "/body" => {
                    let _ = conn.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
                }
                "/upload" => conn.read_exact(&mut [0; 5]).unwrap(),
                _ => {}
            }
            here.open();
            told.store(is_hung_up(conn.get_mut()), Ordering::SeqCst);
            Then::Close
        });
        let proxy = server.proxy("", "retries = 0");
        Stuck { server, proxy, reached, is_told }
    }

    #[track_caller]
    fn is_told(&self, what: &str) {
        eventually(&format!("the server hears of it, {what}"), || self.is_told.load(Ordering::SeqCst));
        assert_eq!(over_http1(self.proxy.public(), "GET", "/well"), whole("well"));
        assert_eq!(self.server.connections(), 2);
    }
}

#[test]
fn a_client_of_http_1_1_that_leaves_takes_its_request_along() {
    for (path, request) in [
        ("/head", "GET /head HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("/body", "GET /body HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("/upload", "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfirst"),
    ] {
        let stuck = Stuck::start();

        let mut client = stuck.proxy.client();
        client.send(request);
        stuck.reached.wait();
        if path == "/body" {
            assert_eq!(client.head().status(), 200);
        }
        assert!(!stuck.is_told.load(Ordering::SeqCst), "{path}: nobody has left");
        drop(client);

        stuck.is_told(path);
    }
}

#[test]
fn a_client_of_http_2_that_resets_a_stream_takes_its_request_along() {
    for path in ["/head", "/body", "/upload"] {
        let stuck = Stuck::start();

        talk(stuck.proxy.public(), 1 << 20, async |requests, _| {
            let is_upload = path == "/upload";
            let method = if is_upload { "POST" } else { "GET" };
            let request =
                Request::builder().method(method).uri(format!("http://test{path}")).body(()).unwrap();
            let mut ready = requests.clone().ready().await.unwrap();
            let (mut response, mut body) = ready.send_request(request, !is_upload).unwrap();
            if is_upload {
                body.send_data(Bytes::from_static(b"first"), false).unwrap();
            }
            let mut answer = None;
            let reached = stuck.reached.clone();
            if path == "/body" {
                answer = Some((&mut response).await.unwrap());
            } else {
                // The response must be polled, or the stream is not sent.
                let wait = tokio::task::spawn_blocking(move || reached.wait());
                tokio::select! {
                    _ = &mut response => panic!("there is no answer"),
                    waited = wait => waited.unwrap(),
                }
            }
            assert!(!stuck.is_told.load(Ordering::SeqCst), "{path}: nobody has left");
            body.send_reset(h2::Reason::CANCEL);
            drop((answer, response));

            // The connection lives on, and serves others.
            let told = stuck.is_told.clone();
            let what = format!("the server hears of it, {path}");
            let wait = tokio::task::spawn_blocking(move || eventually(&what, || told.load(Ordering::SeqCst)));
            wait.await.unwrap();
            assert_eq!(http2::get(&requests, "/well").await.unwrap().status(), 200);
        });

        stuck.is_told(path);
    }
}
