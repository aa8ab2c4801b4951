//! What is stored is what the server sent, byte for byte, and only what it sent whole.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{await_in_flight, cache_status, cached, is_shared, purge};
use crate::support::certs::Cert;
use crate::support::origin::Conn;
use crate::support::{Client, Gate, Message, Origin, Proxy, Then, eventually, http2, one_route, reply, wire};

/// Distinct addresses; together several times what the cache may hold.
const URLS: usize = 300;

/// So many threads that speak HTTP/1.1, with one connection each (and one more that they let wait).
const THREADS: usize = 12;

/// Requests of each of them.
const REQUESTS: usize = 250;

/// So many threads that speak HTTP/2, so many connections of each, so many streams at once, so often.
const HTTP2: (usize, usize, usize, usize) = (4, 5, 5, 10);

/// Requests between two reloads.
const PER_RELOAD: usize = 200;

/// What a server says now of each address; it changes its mind now and then.
struct Site {
    asked: Vec<AtomicUsize>,
}

/// Clients and reloads wait for each other, so that there are as many on a slow machine.
#[derive(Default)]
struct Pace {
    requests: AtomicUsize,
    reloads: AtomicUsize,
}

impl Pace {
    /// Before a request: not far ahead of the reloads.
    fn request(&self) {
        let sent = self.requests.fetch_add(1, Ordering::SeqCst);
        eventually("there is another reload", || sent / PER_RELOAD < self.reloads.load(Ordering::SeqCst) + 2);
    }

    /// Puts one configuration after the other in force, until nobody talks.
    fn reload_until(&self, is_over: impl Fn() -> bool, proxy: &Proxy, origin: &Origin) {
        for round in 1.. {
            let is_due = || self.requests.load(Ordering::SeqCst) >= round * PER_RELOAD;
            eventually("there are more requests, or all is over", || is_due() || is_over());
            if is_over() {
                return;
            }
            let report = proxy.reload(&text_of(round, origin));
            assert_eq!(report["workers_late"], false, "{report}");
            self.reloads.store(round, Ordering::SeqCst);
        }
    }
}

/// A part of a body, and of what.
struct Received<'a> {
    url: usize,
    status: u16,
    /// The fields that it was asked for with.
    fields: &'a str,
    /// `URL-VERSION`, as the response's own field says.
    of: &'a str,
    content_range: Option<&'a str>,
    body: &'a [u8],
}

impl Site {
    fn new() -> Arc<Site> {
        Arc::new(Site { asked: (0..URLS).map(|_| AtomicUsize::new(0)).collect() })
    }

    /// Every sixth request to an address finds a new version of it.
    fn version(&self, url: usize) -> usize {
        self.asked[url].load(Ordering::SeqCst) / 6
    }

    fn answer(&self, request: &Message) -> Vec<u8> {
        let url: usize = request.target()[1..].parse().unwrap();
        let version = self.asked[url].fetch_add(1, Ordering::SeqCst) / 6;
        let of = format!("{url}-{version}");
        let lifetime = if url % 7 == 3 { 0 } else { 60 };
        let mut fields = format!("X-Of: {of}\r\nCache-Control: max-age={lifetime}\r\n");
        if url % 3 != 1 {
            fields.push_str(&format!("ETag: \"{of}\"\r\n"));
            if request.field("if-none-match").is_some_and(|tags| tags.contains(&format!("\"{of}\""))) {
                return reply("304 Not Modified", &fields, "");
            }
        }
        let whole = body_of(url, version);
        let range = request.field("range").filter(|_| url.is_multiple_of(2));
        if let Some(part) = range.and_then(|range| asked_of(&format!("Range: {range}"), whole.len())) {
            let (first, last, length) = (part.start, part.end - 1, whole.len());
            fields.push_str(&format!("Content-Range: bytes {first}-{last}/{length}\r\n"));
            return reply("206 Partial Content", &fields, &whole[part]);
        }
        if url % 4 == 2 { chunked(&fields, &whole) } else { reply("200 OK", &fields, whole) }
    }
}

impl Received<'_> {
    /// Which version it is of; the test fails when it is not that version, whole or the right part of it.
    #[track_caller]
    fn check(&self) -> usize {
        let (url, version) = self.of.split_once('-').expect("which version it is");
        assert_eq!(url.parse(), Ok(self.url), "another address's response");
        let version = version.parse().unwrap();
        let whole = body_of(self.url, version);
        let right = match self.status {
            200 => &whole[..],
            206 => {
                let range = self.content_range.expect("Content-Range");
                let (range, length) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap();
                let (from, to) = range.split_once('-').unwrap();
                assert_eq!(length.parse(), Ok(whole.len()));
                let range = from.parse().unwrap()..to.parse::<usize>().unwrap() + 1;
                assert_eq!(Some(range.clone()), asked_of(self.fields, whole.len()), "{}", self.fields);
                &whole[range]
            }
            304 | 416 => &[],
            status => panic!("{status} for {}", self.url),
        };
        assert_eq!(self.body.len(), right.len(), "{} {}", self.status, self.of);
        assert!(self.body == right, "{} {}: the bytes differ", self.status, self.of);
        version
    }
}

/// From nothing to more than may be stored (a quarter of `max-size`), most of them small; of odd addresses
/// another length for each version.
fn length(url: usize, version: usize) -> usize {
    let base = match url % 25 {
        0 => return 0,
        1 => return 1,
        24 => 600 << 10,
        22 | 23 => 200 << 10,
        n if n > 15 => 50 << 10,
        n if n > 8 => 5 << 10,
        n => 100 * n,
    };
    base + url + if url % 2 == 1 { version % 50 } else { 0 }
}

/// Bytes that are nowhere else the same, neither in another body nor in another version of this one.
fn body_of(url: usize, version: usize) -> Vec<u8> {
    let length = length(url, version);
    let mut bytes = Vec::with_capacity(length + 8);
    let mut word = ((url * 1_000_003 + version) as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while bytes.len() < length {
        word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bytes.extend_from_slice(&(word ^ word >> 31).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// What of a body of this length `Range: bytes=...` asks for.
fn asked_of(line: &str, length: usize) -> Option<Range<usize>> {
    let (from, to) = line.trim().strip_prefix("Range: bytes=")?.split_once('-')?;
    let number = |text: &str| text.parse::<usize>().unwrap();
    let range = match (from, to) {
        ("", last) => length.saturating_sub(number(last))..length,
        (from, "") => number(from)..length,
        (from, to) => number(from)..length.min(number(to) + 1),
    };
    (range.start < range.end).then_some(range)
}

fn chunked(fields: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}\r\n").into_bytes();
    for piece in body.chunks(7001) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Some addresses are asked for far more often than others.
fn any_url(random: &mut fastrand::Rng) -> usize {
    let last = random.usize(0..URLS);
    random.usize(0..=last)
}

/// Further fields of a request for `url`: mostly none, else one range, or a condition.
fn any_fields(random: &mut fastrand::Rng, url: usize, version: usize) -> String {
    let length = length(url, version).max(1);
    match random.u8(0..16) {
        0 => format!("Range: bytes={}-\r\n", random.usize(0..length)),
        1..4 => {
            let from = random.usize(0..length);
            format!("Range: bytes={from}-{}\r\n", from + random.usize(0..length))
        }
        4 => format!("Range: bytes=-{}\r\n", random.usize(1..=length)),
        5 => format!("If-None-Match: \"{url}-{version}\"\r\n"),
        _ => String::new(),
    }
}

#[track_caller]
fn check(url: usize, fields: &str, answer: &Message) -> usize {
    let (of, content_range) = (answer.field("x-of").unwrap_or_default(), answer.field("content-range"));
    let received = Received { url, fields, status: answer.status(), of, content_range, body: &answer.body };
    received.check()
}

/// One client of HTTP/1.1 that now and then leaves in the middle, lets a response wait, or purges.
fn talk_http1(proxy: &Proxy, site: &Site, pace: &Pace, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = proxy.client();
    let mut waiting: Option<(usize, String, Client, Message)> = None;
    for n in 0..REQUESTS {
        pace.request();
        let url = any_url(&mut random);
        let fields = any_fields(&mut random, url, site.version(url));
        let request = format!("GET /{url} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        match n % 25 {
            // It leaves with most of the body unread.
            7 => {
                client.send(request).head();
                client = proxy.client();
            }
            // It lets the body wait while it does other things.
            12 => {
                let mut slow = proxy.client();
                let head = slow.send(request).head();
                waiting = Some((url, fields, slow, head));
            }
            24 => {
                let (url, fields, mut slow, mut answer) = waiting.take().expect("one that waits");
                slow.body(&mut answer).expect("the rest of it");
                check(url, &fields, &answer);
            }
            18 => purge_and_see(proxy, site, &mut client, url, n),
            _ => {
                let answer = client.send(request).response();
                check(url, &fields, &answer);
            }
        }
    }
}

/// What is purged is not seen again: who asks then is told what the server says now, or something newer.
fn purge_and_see(proxy: &Proxy, site: &Site, client: &mut Client, url: usize, n: usize) {
    let at_least = site.version(url);
    let json = match n % 4 {
        0 => format!(r#"{{"urls": ["http://test/{url}"]}}"#),
        1 => format!(r#"{{"urls": ["http://test/{url}"], "soft": true}}"#),
        2 => format!(r#"{{"prefixes": ["http://test/{url}"]}}"#),
        _ => r#"{"all": true, "soft": true}"#.to_owned(),
    };
    purge(proxy, &json);
    let version = check(url, "", &client.get(&format!("/{url}")));
    assert!(version >= at_least, "{url}-{version} after a purge of {url}-{at_least}: {json}");
}

/// One client of HTTP/2 with several streams at once, some of which it leaves.
fn talk_http2(proxy: &Proxy, seed: u64) {
    let (_, connections, streams, times) = HTTP2;
    for connection in 0..connections {
        let mut random = fastrand::Rng::with_seed(seed + connection as u64);
        http2::talk(proxy.public(), 65_535, async |requests, _| {
            for _ in 0..times {
                let urls: Vec<usize> = (0..streams).map(|_| any_url(&mut random)).collect();
                let asking = urls.iter().map(|url| {
                    let (requests, path) = (requests.clone(), format!("/{url}"));
                    tokio::spawn(async move { http2::get(&requests, &path).await.unwrap() })
                });
                let asking: Vec<_> = asking.collect();
                for (n, (url, answer)) in urls.into_iter().zip(asking).enumerate() {
                    let mut answer = answer.await.unwrap();
                    if n == 3 {
                        continue;
                    }
                    let body = http2::rest(answer.body_mut()).await.unwrap().0;
                    let field = |name| answer.headers().get(name).map(|value| value.to_str().unwrap());
                    let (of, content_range) = (field("x-of").unwrap(), field("content-range"));
                    let status = answer.status().as_u16();
                    Received { url, fields: "", status, of, content_range, body: &body }.check();
                }
            }
        });
    }
}

/// The configuration of one round: the cache on with rules that change, and now and then off, or only observing.
fn text_of(round: usize, origin: &Origin) -> String {
    // None by which something stale is served: what is purged softly is not to be seen again.
    let cache = [
        "true",
        "{ max-object = \"300KiB\" }",
        "{ key = { headers = [\"range\"] } }",
        "false",
        "{ targeted = false, min-uses = 2 }",
        "{ mode = \"observe\" }",
        "{ key = { cookies = [\"none\"], ignore-query = [\"utm_*\"] } }",
    ];
    let upstream = format!("eject = false\nidle-connections = {}", 100 + round % 2);
    let text = one_route(&format!("cache = {}", cache[round % cache.len()]), &upstream, &[origin]);
    format!("{text}[cache]\nmax-size = \"2MiB\"\n")
}

#[test]
fn every_body_is_what_the_server_sent_for_the_version_it_names() {
    let site = Site::new();
    let answering = site.clone();
    let origin = Origin::start(move |request| answering.answer(request));
    let proxy = Proxy::start(&text_of(0, &origin));

    let pace = Pace::default();
    std::thread::scope(|scope| {
        let clients = (0..THREADS).map(|seed| {
            let (proxy, site, pace) = (&proxy, &site, &pace);
            scope.spawn(move || talk_http1(proxy, site, pace, seed as u64))
        });
        let http2 = (0..HTTP2.0).map(|seed| {
            let proxy = &proxy;
            scope.spawn(move || talk_http2(proxy, 1000 * (seed as u64 + 1)))
        });
        let clients: Vec<_> = clients.chain(http2).collect();
        pace.reload_until(|| clients.iter().all(|client| client.is_finished()), &proxy, &origin);
    });
    assert!(pace.reloads.into_inner() >= 7, "each configuration has been in force");

    eventually("nothing is in flight", || {
        let status = proxy.status();
        let public = status["listeners"].as_array().unwrap().iter().find(|l| l["name"] == "public").unwrap();
        public["requests_in_flight"] == 0 && status["upstreams"][0]["servers"][0]["in_flight"] == 0
    });
    let panics = proxy.events().into_iter().filter(|line| line.contains("panic"));
    assert_eq!(panics.collect::<Vec<_>>(), [""; 0]);
    // It was all there: what this test is for has happened, and often.
    for (name, label, least) in [
        ("tidegate_cache_requests_total", "result=\"hit\"", 300.0),
        ("tidegate_cache_requests_total", "result=\"revalidated\"", 5.0),
        ("tidegate_cache_requests_total", "result=\"miss\"", 300.0),
        ("tidegate_cache_stored_total", "", 300.0),
        ("tidegate_cache_evicted_total", "", 100.0),
        ("tidegate_cache_not_stored_total", "too-large", 5.0),
        ("tidegate_cache_purged_total", "hard", 1.0),
        ("tidegate_cache_purged_total", "soft", 1.0),
    ] {
        let count = proxy.metric(name, &[label]);
        assert!(count >= least, "{name} {label}: {count}");
    }
}

#[test]
fn who_asks_after_a_purge_does_not_follow_a_fetch_from_before_it() {
    for json in [r#"{"urls": ["http://test/"]}"#, r#"{"prefixes": ["http://test/"], "soft": true}"#] {
        let gate = Gate::default();
        let (opened, count) = (gate.clone(), AtomicUsize::new(0));
        let origin = Origin::raw(move |_, conn| {
            let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
            say(conn, &format!("{FRESH}Content-Length: 3\r\n\r\n{}", if is_first { "o" } else { "new" }));
            if is_first {
                opened.wait();
                say(conn, "ld");
            }
            Then::Keep
        });
        let proxy = cached("", &origin);
        let mut before = proxy.client();
        let mut old = before.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();

        purge(&proxy, json);

        assert_eq!(proxy.get("/").text(), "new", "{json}");
        assert!(!gate.is_open());
        gate.open();
        before.body(&mut old).unwrap();
        assert_eq!(old.body, b"old", "who asked before is answered");
        assert_eq!(proxy.get("/").text(), "new", "{json}");
    }
}

/// How a server cuts a response short after `first`.
struct Cut {
    name: &'static str,
    head: &'static str,
    tail: &'static str,
}

const CUTS: [Cut; 6] = [
    Cut { name: "announced length", head: "Content-Length: 10\r\n\r\nfirst", tail: "" },
    Cut { name: "one byte before the end", head: "Content-Length: 10\r\n\r\nfirst", tail: "fina" },
    Cut { name: "no last chunk", head: "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", tail: "" },
    Cut {
        name: "no end of the last chunk",
        head: "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        tail: "5\r\nfinal\r\n0\r\n",
    },
    Cut {
        name: "within a chunk",
        head: "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        tail: "5\r\nfin",
    },
    Cut { name: "no chunk at all", head: "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", tail: "final" },
];

const FRESH: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n";

fn say(conn: &mut Conn, text: &str) {
    let _ = conn.get_mut().write_all(text.as_bytes());
}

/// A server that cuts its first response short once the gate is open, and then says `firstfinal` to all.
fn cutting(cut: &'static Cut, gate: &Gate) -> Origin {
    let (opened, count) = (gate.clone(), AtomicUsize::new(0));
    Origin::raw(move |_, conn| {
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            say(conn, &format!("{FRESH}Content-Length: 10\r\n\r\nfirstfinal"));
            return Then::Keep;
        }
        say(conn, &format!("{FRESH}{}", cut.head));
        opened.wait();
        say(conn, cut.tail);
        Then::Close
    })
}

#[test]
fn a_body_that_is_cut_short_is_cut_for_all_and_stored_for_none() {
    for cut in &CUTS {
        let gate = Gate::default();
        let origin = cutting(cut, &gate);
        let proxy = cached("", &origin);
        let mut clients: Vec<Client> = (0..6).map(|_| proxy.client()).collect();
        let mut answers: Vec<Message> = clients
            .iter_mut()
            .map(|client| client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head())
            .collect();
        await_in_flight(&proxy, 6);
        assert_eq!(origin.count(), 1, "{}: they share one fetch", cut.name);
        assert!(!gate.is_open());

        gate.open();

        for (client, answer) in clients.iter_mut().zip(&mut answers) {
            let outcome = client.body(answer);
            assert!(outcome.is_err(), "{}: looks whole: {answer:?}", cut.name);
            assert!(b"firstfinal".starts_with(&answer.body[..]), "{}: {answer:?}", cut.name);
        }
        let next = proxy.get("/");
        assert!(!is_shared(&next), "{}: {}", cut.name, cache_status(&next));
        assert_eq!((next.body.as_slice(), origin.count()), (&b"firstfinal"[..], 2), "{}", cut.name);
        assert!(is_shared(&proxy.get("/")), "{}: what came whole is stored", cut.name);
        let not_stored = || proxy.metric("tidegate_cache_not_stored_total", &["cut-short"]);
        assert_eq!(not_stored(), 1.0, "{}", cut.name);
    }
}

#[test]
fn a_stream_of_http_2_sees_the_cut_too() {
    for cut in &CUTS {
        let gate = Gate::default();
        let origin = cutting(cut, &gate);
        let proxy = cached("", &origin);

        http2::talk(proxy.public(), 65_535, async |requests, _| {
            let (mut one, mut other) =
                tokio::try_join!(http2::get(&requests, "/"), http2::get(&requests, "/")).unwrap();
            assert_eq!(origin.count(), 1, "{}: they share one fetch", cut.name);
            gate.open();
            for answer in [&mut one, &mut other] {
                let outcome = http2::rest(answer.body_mut()).await;
                assert!(outcome.is_err(), "{}: looks whole: {outcome:?}", cut.name);
            }
        });

        assert!(!is_shared(&proxy.get("/")), "{}", cut.name);
    }
}

#[test]
fn a_body_that_takes_too_long_is_cut_and_not_stored() {
    for limit in
        ["body-idle = \"300ms\"", "total-timeout = \"300ms\"", "total-timeout = \"300ms\"\nretries = 0"]
    {
        for head in ["Content-Length: 10\r\n\r\nfirst", "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"] {
            let (gate, count) = (Gate::default(), AtomicUsize::new(0));
            let held = gate.clone();
            let origin = Origin::raw(move |_, conn| {
                if count.fetch_add(1, Ordering::SeqCst) == 0 {
                    say(conn, &format!("{FRESH}{head}"));
                    held.wait();
                    return Then::Close;
                }
                say(conn, &format!("{FRESH}Content-Length: 10\r\n\r\nfirstfinal"));
                Then::Keep
            });
            let upstream = format!("eject = false\n{limit}");
            let proxy = Proxy::start(&one_route("cache = true", &upstream, &[&origin]));
            let mut clients = [proxy.client(), proxy.client()];
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            }

            for client in &mut clients {
                let outcome = client.try_response();
                assert!(outcome.is_err(), "{limit}: looks whole: {outcome:?}");
            }

            let next = proxy.get("/");
            assert!(next.body == b"firstfinal" && !is_shared(&next), "{limit}: {next:?}");
            assert!(is_shared(&proxy.get("/")), "{limit}");
            gate.open();
        }
    }
}

#[test]
fn a_part_that_is_cut_short_is_not_stored() {
    let count = AtomicUsize::new(0);
    let origin = Origin::raw(move |_, conn| {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        let head = "HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n";
        let body = if is_first { "01" } else { "01234" };
        say(conn, &format!("{head}Content-Range: bytes 0-4/10\r\nContent-Length: 5\r\n\r\n{body}"));
        if is_first { Then::Close } else { Then::Keep }
    });
    let proxy = cached("", &origin);
    let request = "GET / HTTP/1.1\r\nHost: test\r\nRange: bytes=0-4\r\n\r\n";

    assert!(proxy.client().send(request).try_response().is_err());
    let next = proxy.client().send(request).response();

    assert!(next.body == b"01234" && !is_shared(&next), "{next:?}");
    assert!(is_shared(&proxy.client().send(request).response()));
    assert_eq!(origin.count(), 2);
}

/// Neither announces its length: only how the connection ends tells whether it is whole.
const ENDLESS: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\nfirst";

#[test]
fn a_body_that_ends_with_a_reset_is_not_whole() {
    // Not an `Origin`, whose connections end in good order.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let toml = format!(
        "[[route]]\nupstream = \"app\"\ncache = true\n[upstream.app]\neject = false\nservers = [\"{}\"]\n",
        server.local_addr().unwrap()
    );
    let proxy = Proxy::start(&toml);

    for _ in 0..2 {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let (mut conn, _) = server.accept().unwrap();
        let mut head = std::io::BufReader::new(conn.try_clone().unwrap());
        wire::read_head(&mut head).unwrap().expect("a request: nothing is stored");
        drop(head);
        conn.write_all(ENDLESS.as_bytes()).unwrap();
        let mut answer = client.head();
        socket2::SockRef::from(&conn).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(conn);

        assert!(client.body(&mut answer).is_err(), "looks whole: {answer:?}");
    }
}

#[test]
fn under_tls_a_body_that_ends_unannounced_is_not_whole() {
    // RFC 9112 section 9.8: without a closure alert anyone on the way may have cut it.
    let cert = Cert::of(&["localhost"]);
    let tls = format!("tls = {{ ca = {:?}, server-name = \"localhost\" }}", cert.pem_path);
    let count = AtomicUsize::new(0);
    let origin = Origin::start_tls(cert, move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => ENDLESS.into(),
        _ => reply("200 OK", "Cache-Control: max-age=60\r\n", "firstfinal"),
    });
    let server = format!("servers = [\"https://{}\"]", origin.address());
    let proxy = Proxy::start(&format!(
        "[[route]]\nupstream = \"app\"\ncache = true\n[upstream.app]\neject = false\n{server}\n{tls}\n"
    ));
    let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

    let cut = proxy.client().send(request).try_response();
    let next = proxy.client().send(request).response();

    assert!(cut.is_err(), "looks whole: {cut:?}");
    assert!(next.body == b"firstfinal" && !is_shared(&next), "{next:?}");
}
