//! What HTTP/2 has and HTTP/1.1 has not: trailers as frames, streams with windows of their own.

use bytes::Bytes;
use http::{HeaderMap, Request};

use crate::support::http2::{get, rest, talk};
use crate::support::{Origin, Proxy, eventually, ok, one_route};

/// More than a stream may hold on its way to a client that does not read.
const BIG: usize = 4 << 20;

#[test]
fn trailers_of_a_server_reach_an_http_2_client() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\ngrpc-status: 0\r\n\r\n"
            .to_vec()
    });
    let proxy = Proxy::before(&origin);

    let (body, trailers) = talk(proxy.public(), 65_535, async |requests, _| {
        let mut answer = get(&requests, "/").await.unwrap();
        rest(answer.body_mut()).await.unwrap()
    });

    assert_eq!(body, b"body");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

#[test]
fn announced_trailers_of_an_http_2_client_reach_the_server() {
    let origin = Origin::saying("thanks");
    let proxy = Proxy::before(&origin);

    talk(proxy.public(), 65_535, async |requests, _| {
        let request = Request::post("http://test/").header("trailer", "x-sum").body(()).unwrap();
        let mut ready = requests.ready().await.unwrap();
        let (response, mut body) = ready.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"data"), false).unwrap();
        body.send_trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "17".parse().unwrap())]))
            .unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });

    let request = origin.last();
    assert_eq!(request.body, b"data");
    assert_eq!(request.trailers, [("x-sum".to_owned(), "17".to_owned())]);
}

#[test]
fn a_stream_whose_client_takes_nothing_is_reset_and_the_others_go_on() {
    let big = vec![b'x'; BIG];
    let origin =
        Origin::start(move |request| if request.target() == "/big" { ok(&big) } else { ok("small") });
    let text = format!("[limits]\nwrite-idle = \"300ms\"\n{}", one_route("", "", &[&origin]));
    let proxy = Proxy::start(&text);

    talk(proxy.public(), 65_535, async |requests, _| {
        let stalled = get(&requests, "/big").await.unwrap();
        let mut body = stalled.into_body();
        let first = body.data().await.unwrap();
        assert!(first.is_ok_and(|data| !data.is_empty()));
        // Nothing is given back: the window stays shut.
        let end = loop {
            match body.data().await.expect("it must not look whole") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(end.is_reset() && end.is_remote(), "{end:?}");
        let mut next = get(&requests, "/small").await.unwrap();
        assert_eq!(rest(next.body_mut()).await.unwrap().0, b"small");
    });

    eventually("the stream is counted and its server free", || {
        let slow = proxy.metric("tidegate_refusals_total", &["reason=\"slow-reader\""]);
        slow == 1.0 && proxy.status()["upstreams"][0]["servers"][0]["in_flight"] == 0
    });
}

#[test]
fn a_connection_at_rest_is_not_taken_for_a_slow_head() {
    let origin = Origin::saying("x");
    let limits = "[limits]\nhead-timeout = \"200ms\"\nkeep-alive = \"10s\"\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));

    talk(proxy.public(), 65_535, async |requests, mut ping| {
        let mut first = get(&requests, "/").await.unwrap();
        assert_eq!(rest(first.body_mut()).await.unwrap().0, b"x");
        ping.ping(h2::Ping::opaque()).await.expect("a frame that begins no request");

        // Half a head that begins now is the clock: it is over its limit when it is answered.
        let late = tokio::task::spawn_blocking({
            let mut clock = proxy.client();
            move || clock.send("GET / HTTP/1.1\r\n").response().status()
        });
        assert_eq!(late.await.unwrap(), 408);

        let mut second = get(&requests, "/").await.unwrap();
        assert_eq!(rest(second.body_mut()).await.unwrap().0, b"x");
    });
}
