//! HTTP/1.1 clients that are slow, hoard or never end. Each ends in its time, holds little memory, is counted, and keeps
//! nobody else from being served.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::{drip, memory, open, refusals, refused};
use crate::support::client::dial;
use crate::support::{Client, Gate, Origin, Proxy, Then, eventually, ok, one_route};

const LIMITS: &str = "[limits]\nhead-timeout = \"700ms\"\nbody-idle = \"700ms\"\nbody-rate = \"1KiB\"\n\
    write-idle = \"700ms\"\nkeep-alive = \"5s\"\n";
const LIMIT: Duration = Duration::from_millis(700);
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const MIB: f64 = 1024.0 * 1024.0;

fn limited(origin: &Origin) -> Proxy {
    Proxy::start(&format!("{LIMITS}{}", one_route("", "", &[origin])))
}

/// A head that goes on for ever.
fn endless_head() -> Vec<u8> {
    [&b"GET / HTTP/1.1\r\nHost: test\r\nX-A: "[..], &[b'a'; 4000]].concat()
}

#[test]
fn a_head_that_is_dripped_has_the_time_of_one_head_not_of_each_byte() {
    let origin = Origin::saying("served");
    let proxy = limited(&origin);

    let began = Instant::now();
    let (took, heard) = drip(&proxy, "public", (&mut dial(proxy.public()), began), &endless_head());

    assert!(took >= LIMIT, "{took:?}");
    assert!(heard.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&heard));
    eventually("it is counted", || refusals(&proxy, "slow-head") == 1.0);
}

#[test]
fn a_second_head_on_a_connection_has_no_more_time_than_the_first() {
    let origin = Origin::saying("served");
    let proxy = limited(&origin);

    let (began, mut tcp) = (Instant::now(), dial(proxy.public()));
    let first = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    std::io::Write::write_all(&mut tcp, first).unwrap();
    let (took, heard) = drip(&proxy, "public", (&mut tcp, began), &endless_head());

    assert!(took >= LIMIT, "{took:?}");
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.starts_with("HTTP/1.1 200 ") && heard.contains("HTTP/1.1 408 "), "{heard}");
    eventually("it is counted", || refusals(&proxy, "slow-head") == 1.0);
}

#[test]
fn a_client_that_sends_empty_lines_alone_is_refused() {
    let origin = Origin::saying("served");
    let proxy = limited(&origin);

    let tcp = &mut dial(proxy.public());
    let (_, heard) = drip(&proxy, "public", (tcp, Instant::now()), &b"\r\n".repeat(2000));

    assert!(heard.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&heard));
    eventually("nothing is left", || open(&proxy, "public") == 0.0);
    eventually("it is counted", || refusals(&proxy, "malformed") == 1.0);
}

#[test]
fn a_body_that_is_dripped_is_answered_408_and_not_blamed_on_the_server() {
    let (origin, other) = (Origin::saying("served"), Origin::saying("served"));
    // Two, because the last that may serve is never ejected.
    let rules = "eject = { failures = 1, max-percent = 100 }";
    let proxy = Proxy::start(&format!("{LIMITS}{}", one_route("", rules, &[&origin, &other])));

    let (began, mut tcp) = (Instant::now(), dial(proxy.public()));
    let head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";
    std::io::Write::write_all(&mut tcp, head).unwrap();
    let (took, heard) = drip(&proxy, "public", (&mut tcp, began), &[b'x'; 4000]);

    assert!(took >= LIMIT, "{took:?}");
    assert!(heard.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&heard));
    eventually("it is counted", || refusals(&proxy, "body-too-slow") == 1.0);
    assert_eq!(proxy.metric("tidegate_ejections_total", &[]), 0.0);
}

#[test]
fn a_client_that_waits_for_its_server_to_take_a_body_is_not_too_slow() {
    const BODY: usize = 32 << 20;
    let gate = Gate::default();
    let waits = gate.clone();
    let origin = Origin::raw(move |request, conn| {
        waits.wait();
        let _ = crate::support::wire::read_request_body(conn, request);
        let _ = std::io::Write::write_all(conn.get_mut(), &ok(request.body.len().to_string()));
        Then::Close
    });
    // So much a second that nobody who is waited for longer than body-idle could reach it.
    let limits = "[limits]\nbody-idle = \"3s\"\nbody-rate = \"1GiB\"\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));

    let mut client = proxy.client();
    let began = Instant::now();
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("that time has passed", || began.elapsed() > Duration::from_secs(4));
            gate.open();
        });
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY}\r\n\r\n"));
        client.send(vec![b'x'; BODY]).response()
    });

    assert_eq!((answer.status(), answer.text()), (200, BODY.to_string()));
}

#[test]
fn clients_that_take_nothing_are_hung_up_on_and_hold_little() {
    const READERS: usize = 30;
    let origin = Origin::start(|request| match request.target() {
        "/big" => ok(vec![b'x'; 20 << 20]),
        _ => ok("served"),
    });
    let proxy = limited(&origin);
    let before = memory(&proxy);

    let mut readers: Vec<_> = (0..READERS).map(|_| proxy.client()).collect();
    readers.iter_mut().for_each(|client| {
        client.send("GET /big HTTP/1.1\r\nHost: test\r\n\r\n");
    });
    let mut most = 0.0_f64;
    eventually("all are counted", || {
        most = most.max(memory(&proxy) - before);
        assert_eq!(proxy.get("/").status(), 200);
        refusals(&proxy, "slow-reader") == READERS as f64
    });

    assert!(most < MIB * READERS as f64, "{most} bytes for {READERS} readers");
    eventually("nothing is left", || open(&proxy, "public") == 0.0);
}

#[test]
fn hoarded_connections_end_when_they_have_rested_for_too_long() {
    const HOARD: usize = 100;
    let origin = Origin::saying("served");
    let limits = format!("[limits]\nkeep-alive = \"1s\"\nconnections-per-client = {HOARD}\n");
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));
    let before = memory(&proxy);

    let mut hoard: Vec<_> = (0..HOARD).map(|_| Client::connect_from(NEIGHBOUR, proxy.public())).collect();
    eventually("all are there", || open(&proxy, "public") == HOARD as f64);
    let one_more = Client::connect_from(NEIGHBOUR, proxy.public())
        .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .try_response();
    for client in &mut hoard {
        assert_eq!(client.get("/").status(), 200);
    }
    let rested = Instant::now();
    assert_eq!(proxy.get("/").status(), 200, "others are served");
    let grown = memory(&proxy) - before;
    assert!(hoard.iter_mut().all(Client::is_closed));
    let rested = rested.elapsed();

    assert!(one_more.is_err(), "{one_more:?}");
    assert_eq!(refused(&proxy, "limit-connections-per-client"), 1.0);
    // The last of them began to rest a moment before.
    assert!(rested >= Duration::from_millis(900), "{rested:?}");
    assert!(grown < 100.0 * 1024.0 * HOARD as f64, "{grown} bytes for {HOARD} connections");
}

#[test]
fn an_endless_pipeline_whose_client_reads_nothing_is_held_back_and_ended() {
    let origin = Origin::start(|_| ok(vec![b'x'; 10_000]));
    let proxy = limited(&origin);
    let before = memory(&proxy);

    let mut client = proxy.client();
    let requests = "GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1000);
    let sent = client.send_until_blocked(requests.as_bytes(), 200 << 20);
    let grown = memory(&proxy) - before;
    assert_eq!(proxy.get("/").status(), 200);

    eventually("it is counted", || refusals(&proxy, "slow-reader") == 1.0);
    assert!(sent < 50 << 20, "{sent} bytes were taken");
    assert!(grown < 8.0 * MIB, "{grown} bytes");
    let asked = origin.count();
    assert!(asked < 5000, "{asked} requests of a client that takes nothing");
    eventually("nothing is left", || open(&proxy, "public") == 0.0);
}

#[test]
fn huge_chunk_extensions_are_refused() {
    let origin = Origin::saying("served");
    let proxy = limited(&origin);
    let before = memory(&proxy);

    for extensions in [vec![1 << 20], vec![1000; 100]] {
        let mut client = proxy.client();
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for length in extensions {
            client.send(format!("1;{}\r\nx\r\n", "a".repeat(length)));
        }
        client.send("0\r\n\r\n");
        let refusal = client.try_response();

        // A client that still sends when it is hung up on may miss the last word.
        assert!(refusal.as_ref().map_or(true, |answer| answer.status() == 400), "{refusal:?}");
        assert_eq!(proxy.get("/").status(), 200);
    }

    eventually("both are counted", || refusals(&proxy, "body-cut") + refusals(&proxy, "malformed") == 2.0);
    assert!(memory(&proxy) - before < 8.0 * MIB);
    assert!(origin.requests().iter().all(|request| request.method() == "GET"), "no whole body of these");
}

#[test]
fn a_body_in_a_great_many_chunks_of_one_byte_arrives_and_others_are_served_meanwhile() {
    const CHUNKS: usize = 50_000;
    let origin = Origin::start(|request| ok(request.body.len().to_string()));
    let proxy = limited(&origin);
    let before = memory(&proxy);

    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..CHUNKS / 1000 {
        client.send("1\r\nx\r\n".repeat(1000));
        assert_eq!(proxy.get("/").status(), 200);
    }
    let answer = client.send("0\r\n\r\n").response();

    assert_eq!((answer.status(), answer.text()), (200, CHUNKS.to_string()));
    let grown = memory(&proxy) - before;
    assert!(grown < 8.0 * MIB, "{grown} bytes");
}
