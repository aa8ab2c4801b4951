//! What HTTP/2 has and HTTP/1.1 has not: trailers as frames, streams with windows of their own.

use std::io::{Read, Write};

use bytes::Bytes;
use http::{HeaderMap, Request};

use crate::support::frames::frame;
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

/// A client that speaks in bytes: it has said hello, and takes no notice of what it is told.
fn raw(proxy: &Proxy) -> std::net::TcpStream {
    let mut stream = crate::support::client::dial(proxy.public());
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&frame(4, 0, 0, b"")).unwrap();
    stream
}

/// What is sent as the nth of a flood.
type Nth<'a> = &'a dyn Fn(u32) -> Vec<u8>;

/// GET / of http://test, by HPACK's static table and literals (RFC 7541 section 6).
const GET: &[u8] = b"\x82\x86\x84\x01\x04test";
/// The same as POST.
const POST: &[u8] = b"\x83\x86\x84\x01\x04test";

#[test]
fn a_client_that_only_makes_work_is_cut_off_and_others_are_served_meanwhile() {
    let origin = Origin::saying("well");
    let proxy = Proxy::before(&origin);
    let open = |n: u32| 2 * n + 1;
    let floods: &[(&str, Nth)] = &[
        ("ping", &|n| frame(6, 0, 0, u64::from(n).to_be_bytes())),
        ("settings", &|_| frame(4, 0, 0, b"")),
        ("settings that change the window", &|n| frame(4, 0, 0, [0, 4, 0, 0, (n % 2) as u8 + 1, 0])),
        ("window updates", &|_| frame(8, 0, 0, [0, 0, 0, 1])),
        ("priorities", &|n| frame(2, 0, open(n), [0, 0, 0, 0, 1])),
        ("unknown frames", &|_| frame(0xbb, 0, 0, b"x")),
        ("resets", &|n| [frame(1, 5, open(n), GET), frame(3, 0, open(n), [0, 0, 0, 8])].concat()),
        ("empty data", &|n| if n == 0 { frame(1, 4, 1, POST) } else { frame(0, 0, 1, b"") }),
        ("continuations", &|n| if n == 0 { frame(1, 0, 1, GET) } else { frame(9, 0, 1, b"") }),
    ];

    for (count, (name, next)) in floods.iter().enumerate() {
        let mut flooding = raw(&proxy);
        let mut sent = 0;
        // Far beyond every budget: a proxy without one takes all of them.
        while sent < 100_000 && flooding.write_all(&next(sent)).is_ok() {
            sent += 1;
            if sent % 500 == 0 {
                assert_eq!(proxy.get("/").text(), "well", "while there are {name}");
            }
        }
        let mut rest = Vec::new();
        let _ = flooding.read_to_end(&mut rest);

        assert!(sent < 100_000, "{name}: all were taken");
        eventually(name, || {
            let cut = proxy.metric("tidegate_refusals_total", &["reason=\"http2-flood\""]);
            cut == (count + 1) as f64
        });
    }
}

#[test]
fn a_client_that_grants_its_window_in_small_pieces_is_no_flood() {
    let big: Vec<u8> = (0..BIG).map(|n| (n / 7) as u8).collect();
    let sent = big.clone();
    let origin = Origin::start(move |_| ok(&sent));
    let proxy = Proxy::before(&origin);

    // 8 KiB of window: h2 grants it again in halves.
    let body = talk(proxy.public(), 8192, async |requests, _| {
        let mut answer = get(&requests, "/").await.unwrap();
        rest(answer.body_mut()).await.unwrap().0
    });

    assert!(body == big, "the bytes differ");
    assert_eq!(proxy.metric("tidegate_refusals_total", &["reason=\"http2-flood\""]), 0.0);
}

#[test]
fn a_client_that_acknowledges_every_small_answer_is_no_flood() {
    let origin = Origin::saying("small");
    let proxy = Proxy::before(&origin);

    // As some proxies do: for each answer a grant for the stream and one for the connection, far more often than
    // a budget that only time fills would bear.
    let mut client = raw(&proxy);
    client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let grant = |stream: u32| frame(8, 0, stream, [0, 0, 0, 5]);
    for n in 0..2500 {
        let stream = 2 * n + 1;
        client.write_all(&frame(1, 5, stream, GET)).unwrap();
        await_end_of(&mut client, stream);
        client.write_all(&[grant(stream), grant(0)].concat()).expect("it goes on");
    }

    assert_eq!(proxy.metric("tidegate_refusals_total", &["reason=\"http2-flood\""]), 0.0);
}

/// Reads frames until a stream has ended.
fn await_end_of(client: &mut std::net::TcpStream, stream: u32) {
    loop {
        let mut header = [0; 9];
        client.read_exact(&mut header).unwrap();
        let [a, b, c, kind, flags, d, e, f, g] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        client.read_exact(&mut payload).unwrap();
        assert!(kind != 7, "the connection is closed: {payload:?}");
        if kind == 4 && flags & 1 == 0 {
            client.write_all(&frame(4, 1, 0, b"")).unwrap();
        }
        if kind < 2 && flags & 1 == 1 && u32::from_be_bytes([d, e, f, g]) == stream {
            return;
        }
    }
}
