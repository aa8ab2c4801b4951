//! What HTTP/2 clients may cost that take nothing, send half of something, or only make work: each ends in its time, is
//! counted by its reason, and others are served meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::client::dial;
use crate::support::frames::frame;
use crate::support::{DEADLINE, Gate, Origin, Proxy, Then, eventually, ok, one_route};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// GET / of http://test, by HPACK's static table and literals (RFC 7541 section 6).
const GET: &[u8] = b"\x82\x86\x84\x01\x04test";
/// The same as POST.
const POST: &[u8] = b"\x83\x86\x84\x01\x04test";
/// GET /held.
const GET_HELD: &[u8] = b"\x82\x86\x04\x05/held\x01\x04test";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// A client that has said hello with these settings; what it is told waits in its socket.
fn begun(proxy: &Proxy, settings: &[u8]) -> TcpStream {
    let mut stream = dial(proxy.public());
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).unwrap();
    stream
}

/// SETTINGS_INITIAL_WINDOW_SIZE.
fn window(size: u32) -> Vec<u8> {
    [&[0, 4], &size.to_be_bytes()[..]].concat()
}

fn request(stream: u32, path: &str) -> Vec<u8> {
    let head = [b"\x82\x86\x04", &[path.len() as u8][..], path.as_bytes(), b"\x01\x04test"].concat();
    frame(HEADERS, 5, stream, &head)
}

/// Reads frames until a stream has ended; its DATA.
fn answer(client: &mut TcpStream, stream: u32) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let mut header = [0; 9];
        client.read_exact(&mut header).unwrap();
        let [a, b, c, kind, flags, d, e, f, g] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        client.read_exact(&mut payload).unwrap();
        assert!(kind != GOAWAY, "the connection is closed: {payload:?}");
        if u32::from_be_bytes([d, e, f, g]) == stream {
            assert!(kind != RST_STREAM, "the stream is reset: {payload:?}");
            if kind == DATA {
                data.extend(payload);
            }
            if kind <= HEADERS && flags & 1 == 1 {
                return data;
            }
        }
    }
}

/// Waits until the proxy ends the connection.
#[track_caller]
fn await_end(client: &mut TcpStream, what: &str) {
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    match client.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{what}: the connection does not end: {error}"),
    }
}

fn refusals(proxy: &Proxy, reasons: &[&str]) -> f64 {
    let of = |reason: &&str| proxy.metric("tidegate_refusals_total", &[&format!("reason=\"{reason}\"")]);
    reasons.iter().map(of).sum()
}

const CLIENTS: usize = 4;
const STREAMS: usize = 100;

/// Serves `/small`, and `/big` for as long as somebody takes it; counts who takes nothing more.
fn origin_of_big_bodies() -> (Origin, Arc<AtomicUsize>, Gate) {
    let (blocked, gate) = (Arc::new(AtomicUsize::new(0)), Gate::default());
    let (count, held) = (blocked.clone(), gate.clone());
    let origin = Origin::raw(move |request, conn| {
        if request.target() != "/big" {
            let _ = conn.get_mut().write_all(&ok("small"));
            return Then::Keep;
        }
        conn.get_ref().tcp().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let _ = conn.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while conn.get_mut().write_all(&[b'x'; 64 << 10]).is_ok() {}
        count.fetch_add(1, Ordering::SeqCst);
        held.wait();
        Then::Close
    });
    (origin, blocked, gate)
}

/// What the proxy holds of the bodies that nobody takes, by its own account and by the system's.
#[track_caller]
fn held_while_stalled(settings: &[u8], grant: &[u8], meanwhile: impl FnOnce(&Proxy, &mut [TcpStream])) {
    /// What may wait of one connection: 256 KiB, and of each stream what its head brought and one small piece.
    const WAITING_MAX: f64 = 256.0 * 1024.0 + STREAMS as f64 * 8.0 * 1024.0;
    /// A stream's own state and its server connection's, in a build that is not optimised and in huge pages.
    const STREAM_MAX: f64 = 96.0 * 1024.0;
    let (origin, blocked, gate) = origin_of_big_bodies();
    let proxy = Proxy::before(&origin);
    proxy.metrics();
    let before = proxy.metric("process_resident_memory_bytes", &[]);

    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = begun(&proxy, settings);
            let requests: Vec<u8> = (0..STREAMS as u32).flat_map(|n| request(2 * n + 1, "/big")).collect();
            client.write_all(&[grant, &requests].concat()).unwrap();
            client
        })
        .collect();
    eventually("every server is held back", || blocked.load(Ordering::SeqCst) == CLIENTS * STREAMS);
    let grown = proxy.metric("process_resident_memory_bytes", &[]) - before;
    assert_eq!(proxy.get("/small").text(), "small");
    meanwhile(&proxy, &mut clients);
    let waiting = proxy.metric("tidegate_buffered_bytes", &[]);
    assert!(!gate.is_open());
    drop(clients);
    gate.open();

    assert!(waiting < CLIENTS as f64 * WAITING_MAX, "{waiting} bytes wait");
    assert!(grown < CLIENTS as f64 * (WAITING_MAX + STREAMS as f64 * STREAM_MAX), "{grown} bytes more");
    eventually("nothing waits any more", || proxy.metric("tidegate_buffered_bytes", &[]) == 0.0);
}

#[test]
fn streams_that_are_granted_everything_and_read_by_nobody_share_the_room_of_their_connection() {
    let open = frame(WINDOW_UPDATE, 0, 0, (1u32 << 30).to_be_bytes());
    held_while_stalled(&window(1 << 30), &open, |proxy, _| {
        eventually("what waits is told", || proxy.metric("tidegate_buffered_bytes", &[]) > 0.0);
    });
}

#[test]
fn streams_whose_windows_are_shut_share_the_room_of_their_connection_and_another_goes_on() {
    held_while_stalled(&window(0), b"", |_, clients| {
        let another = 2 * STREAMS as u32 + 1;
        for client in clients {
            client.write_all(&request(another, "/small")).unwrap();
            client.write_all(&frame(WINDOW_UPDATE, 0, another, [0, 0, 1, 0])).unwrap();
            assert_eq!(answer(client, another), b"small");
        }
    });
}

#[test]
fn a_stream_gets_on_however_much_of_the_others_waits() {
    let big = vec![b'x'; 2 << 20];
    let origin = Origin::start(move |_| ok(&big));
    let proxy = Proxy::before(&origin);

    // Each takes more than comes with a head, and not the piece behind it: so that waits, and all of them are more than
    // the connection's room. The connection has its window from the start: else it may be used up before any wants more.
    let mut client = begun(&proxy, &window(1100));
    client.write_all(&frame(WINDOW_UPDATE, 0, 0, (1u32 << 30).to_be_bytes())).unwrap();
    let requests: Vec<u8> = (0..100).flat_map(|n| request(2 * n + 1, "/")).collect();
    client.write_all(&requests).unwrap();
    let room = 256.0 * 1024.0;
    eventually("their room is full", || proxy.metric("tidegate_buffered_bytes", &[]) >= room);
    client.write_all(&request(201, "/")).unwrap();
    client.write_all(&frame(WINDOW_UPDATE, 0, 201, (1u32 << 30).to_be_bytes())).unwrap();

    assert_eq!(answer(&mut client, 201).len(), 2 << 20);
}

/// What is sent as the nth of a flood.
type Nth<'a> = &'a dyn Fn(u32) -> Vec<u8>;

#[test]
fn whatever_makes_us_reset_refuse_or_work_in_vain_is_cut_off_and_others_are_served_meanwhile() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = Origin::start(move |request| {
        if request.target() == "/held" {
            held.wait();
        }
        ok("well")
    });
    let proxy = Proxy::before(&origin);
    let open = |n: u32| 2 * n + 1;
    let floods: &[(&str, Nth)] = &[
        // CVE-2025-8671 (MadeYouReset): each makes us reset a stream that a server may work for.
        ("grants of nothing", &|n| {
            [frame(HEADERS, 4, open(n), POST), frame(WINDOW_UPDATE, 0, open(n), [0; 4])].concat()
        }),
        ("grants that overflow", &|n| {
            let most = 0x7fff_ffffu32.to_be_bytes();
            [frame(HEADERS, 5, open(n), GET_HELD), frame(WINDOW_UPDATE, 0, open(n), most)].concat()
        }),
        ("data after the end", &|n| {
            [frame(HEADERS, 5, open(n), GET_HELD), frame(DATA, 0, open(n), b"x")].concat()
        }),
        ("priorities of a stream above itself", &|n| {
            let itself = [&open(n).to_be_bytes()[..], &[1]].concat();
            [frame(HEADERS, 5, open(n), GET_HELD), frame(PRIORITY, 0, open(n), &itself)].concat()
        }),
        ("heads above themselves", &|n| {
            let head = [&open(n).to_be_bytes()[..], &[1], GET].concat();
            frame(HEADERS, 5 | 0x20, open(n), &head)
        }),
        ("heads that are no request", &|n| frame(HEADERS, 5, open(n), b"\x82\x86\x84\x40\x01A\x01b")),
        // CVE-2023-44487: one after another, so that the server is asked each time.
        ("resets", &|n| {
            [frame(HEADERS, 5, open(n), GET_HELD), frame(RST_STREAM, 0, open(n), [0, 0, 0, 8])].concat()
        }),
        ("more streams than may be", &|n| frame(HEADERS, 5, open(n), GET_HELD)),
        ("nothing but padding", &|n| match n {
            0 => frame(HEADERS, 4, 1, POST),
            _ => frame(DATA, 8, 1, [&[99][..], &[0; 99]].concat()),
        }),
        ("windows that open and shut under a hundred streams", &|n| match n {
            0..100 => frame(HEADERS, 5, open(n), GET_HELD),
            _ => frame(SETTINGS, 0, 0, window(n % 2 * 65_535)),
        }),
        ("goodbyes", &|n| match n {
            0 => frame(HEADERS, 5, 1, GET_HELD),
            _ => frame(GOAWAY, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]),
        }),
        ("continuations of a byte", &|n| match n {
            0 => frame(HEADERS, 0, 1, GET),
            _ => frame(CONTINUATION, 0, 1, b"\x84"),
        }),
        ("large continuations", &|n| match n {
            0 => frame(HEADERS, 0, 1, GET),
            _ => frame(CONTINUATION, 0, 1, [0x84; 16_000]),
        }),
        ("pushes", &|n| frame(PUSH_PROMISE, 4, 1, [&(2 * n + 2).to_be_bytes()[..], GET].concat())),
        ("priorities that are too short", &|_| frame(PRIORITY, 0, 1, [0; 4])),
    ];

    for (count, (name, next)) in floods.iter().enumerate() {
        let asked = origin.count();
        let mut flooding = begun(&proxy, b"");
        let mut sent = 0;
        // Far beyond every budget: a proxy without one takes all of them.
        while sent < 100_000 && flooding.write_all(&next(sent)).is_ok() {
            sent += 1;
            if sent % 500 == 0 {
                assert_eq!(proxy.get("/").text(), "well", "while there are {name}");
            }
        }
        await_end(&mut flooding, name);

        assert!(sent < 100_000, "{name}: all were taken");
        eventually(name, || refusals(&proxy, &["http2-flood", "malformed"]) == (count + 1) as f64);
        let asked = origin.count() - asked - sent as usize / 500;
        assert!(asked <= 400, "{name}: the server was asked {asked} times");
    }
    assert_eq!(proxy.get("/").text(), "well");
    assert!(!gate.is_open());
    gate.open();
}

#[test]
fn a_small_head_that_stands_for_a_large_one_is_not_made() {
    let origin = Origin::saying("well");
    let proxy = Proxy::before(&origin);
    // RFC 7541 section 6.2.1: a field that goes into the table, then a byte for each time it is meant.
    let large = [GET, b"\x40\x01a\x7f\xb9\x16", &[b'v'; 3000], &[0xbe; 8000]].concat();
    // CVE-2026-49975: fields so small that their bytes stay below every limit, each a crumb of a cookie.
    let crumbs = [GET, &b"\x0f\x11\x01a".repeat(150)].concat();

    let mut bomb = begun(&proxy, b"");
    bomb.write_all(&frame(HEADERS, 5, 1, &large)).unwrap();
    await_end(&mut bomb, "a bomb");
    let mut many = begun(&proxy, b"");
    many.write_all(&frame(HEADERS, 5, 1, &crumbs)).unwrap();
    let refusal = String::from_utf8(answer(&mut many, 1)).unwrap();

    assert!(refusal.contains("431") && refusal.contains("fields-too-many"), "{refusal}");
    eventually("both are counted", || {
        (refusals(&proxy, &["http2-flood"]), refusals(&proxy, &["fields-too-many"])) == (1.0, 1.0)
    });
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_client_that_falls_silent_in_the_middle_of_something_ends_in_the_time_for_that() {
    let origin = Origin::saying("well");
    let limits = "[limits]\nhead-timeout = \"300ms\"\nbody-idle = \"300ms\"\nkeep-alive = \"600ms\"\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));
    let part = |bytes: Vec<u8>, length: usize| bytes[..length].to_vec();
    // Behind a request that was answered: it is no longer the connection's beginning that is late.
    let cases = [
        ("half a head", part(frame(HEADERS, 5, 3, GET), 14), "slow-head"),
        ("a head without its end", frame(HEADERS, 1, 3, GET), "slow-head"),
        ("half a continuation", [frame(HEADERS, 1, 3, GET), vec![0, 0, 9, 9]].concat(), "slow-head"),
        ("a body that never begins", frame(HEADERS, 4, 3, POST), "body-too-slow"),
        ("half a body", [frame(HEADERS, 4, 3, POST), frame(DATA, 0, 3, b"x")].concat(), "body-too-slow"),
        (
            "half of its frame",
            [frame(HEADERS, 4, 3, POST), part(frame(DATA, 0, 3, [0; 100]), 50)].concat(),
            "body-too-slow",
        ),
        ("half a ping", part(frame(PING, 0, 0, [0; 8]), 12), ""),
        ("half a frame's header", vec![0, 0], ""),
        ("nothing", Vec::new(), ""),
    ];

    for (what, bytes, reason) in cases {
        let before = refusals(&proxy, &[reason]);
        let mut client = begun(&proxy, b"");
        client.write_all(&frame(HEADERS, 5, 1, GET)).unwrap();
        assert_eq!(answer(&mut client, 1), b"well");
        client.write_all(&bytes).unwrap();
        await_end(&mut client, what);
        if !reason.is_empty() {
            eventually(what, || refusals(&proxy, &[reason]) == before + 1.0);
        }
        assert_eq!(proxy.get("/").text(), "well");
    }
}

#[test]
fn a_client_that_does_not_even_begin_ends_in_the_time_for_a_head() {
    let origin = Origin::saying("well");
    let limits = "[limits]\nhead-timeout = \"300ms\"\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));
    let settings = frame(SETTINGS, 0, 0, b"");
    let half_a_head = [&settings[..], &frame(HEADERS, 5, 1, GET)[..12]].concat();

    for (what, bytes) in [
        ("half a preface", PREFACE[..12].to_vec()),
        ("a preface", PREFACE.to_vec()),
        ("a preface and half its settings", [PREFACE, &settings[..5]].concat()),
        ("a preface and settings", [PREFACE, &settings].concat()),
        ("half a head", [PREFACE, &half_a_head].concat()),
    ] {
        let mut client = dial(proxy.public());
        client.write_all(&bytes).unwrap();
        await_end(&mut client, what);
    }
    eventually("they are counted", || {
        let silent = proxy.metric("tidegate_connections_refused_total", &[]);
        (silent, refusals(&proxy, &["slow-head"])) == (1.0, 4.0)
    });
    assert_eq!(proxy.get("/").text(), "well");
}

#[test]
fn pings_do_not_keep_a_connection_without_requests() {
    let origin = Origin::saying("well");
    let limits = "[limits]\nkeep-alive = \"500ms\"\n";
    let proxy = Proxy::start(&format!("{limits}{}", one_route("", "", &[&origin])));

    let mut client = begun(&proxy, b"");
    client.write_all(&frame(HEADERS, 5, 1, GET)).unwrap();
    assert_eq!(answer(&mut client, 1), b"well");
    // Far fewer than would be a flood: one each time that nothing more has come for a while.
    client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (mut pings, mut space) = (0, [0; 4096]);
    let is_over = loop {
        match client.read(&mut space) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                pings += 1;
                let is_sent = client.write_all(&frame(PING, 0, 0, [7; 8])).is_ok();
                if !is_sent || pings > 500 {
                    break !is_sent;
                }
            }
            Err(_) => break true,
        }
    };

    assert!(is_over, "{pings} pings have kept it");
    assert_eq!(refusals(&proxy, &["http2-flood"]), 0.0);
}
