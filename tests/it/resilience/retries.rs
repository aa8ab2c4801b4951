//! What is sent again, where, and how often.

use std::io::Read;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;

use super::{
    alone, asking, chunked, echo, echoed, noise, proxy, reason, retried, say, sized, stopped, twins,
};
use crate::support::http2::{rest, talk};
use crate::support::origin::Conn;
use crate::support::{Client, Gate, Message, Origin, Proxy, Then, eventually, ok, reply, wire};

/// Nothing but what a test is about decides who is asked.
const CALM: &str = "eject = false";
/// Everything is retried that ever may be.
const ALL: &str = "eject = false\nretry-on = [\"connect\", \"reset\", \"timeout\", 502, 503]";

/// What the server that is asked first does.
type First = Box<dyn Fn(&mut Message, &mut Conn) -> Then + Send + Sync>;

/// Breaks off when it has read a piece of the body.
fn breaks(_: &mut Message, conn: &mut Conn) -> Then {
    let _ = conn.read(&mut [0; 1000]);
    Then::Close
}

/// Breaks off when it has read all of the body.
fn breaks_at_its_end(request: &mut Message, conn: &mut Conn) -> Then {
    let _ = wire::read_request_body(conn, request);
    Then::Close
}

fn asked(servers: &[Origin]) -> usize {
    servers.iter().map(Origin::count).sum()
}

/// A request over HTTP/2 for `/two`, the second half of whose body waits for `may_go_on`.
fn over_http_2(proxy: &Proxy, method: &str, body: &[u8], may_go_on: impl Fn() -> bool) -> (u16, Vec<u8>) {
    let (head, tail) = body.split_at(body.len() / 2);
    let (head, tail) = (Bytes::copy_from_slice(head), Bytes::copy_from_slice(tail));
    talk(proxy.public(), 1 << 20, async |requests, _| {
        let request = Request::builder().method(method).uri("http://test/two").body(()).unwrap();
        let mut requests = requests.ready().await.unwrap();
        let (response, mut stream) = requests.send_request(request, false).unwrap();
        stream.send_data(head, false).unwrap();
        while !may_go_on() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.send_data(tail, true).unwrap();
        let mut response = response.await.unwrap();
        (response.status().as_u16(), rest(response.body_mut()).await.unwrap().0)
    })
}

#[test]
fn what_was_never_sent_goes_elsewhere_with_every_byte_of_its_body() {
    let (mut dead, live) = (Origin::saying("dead"), Origin::raw(echo));
    let proxy = alone(CALM, &[&dead, &live]);
    dead.stop();
    // More than is kept to be sent again: what was never sent need not be kept.
    let body = noise(200_000);

    // Two of each: one of them at least begins with the dead one.
    for _ in 0..2 {
        let answer = proxy.client().send(sized("POST", "/sized", &body)).response();
        assert!(answer.status() == 200 && answer.body == echoed("/sized", &body), "{}", answer.first);
        let answer = proxy.client().send(chunked("POST", "/chunked", &body)).response();
        assert!(answer.status() == 200 && answer.body == echoed("/chunked", &body), "{}", answer.first);
        let (status, answer) = over_http_2(&proxy, "POST", &body, || true);
        assert!(status == 200 && answer == echoed("/two", &body), "{status}");
    }

    assert!(retried(&proxy, "connect-failed") >= 3.0);
}

#[test]
fn a_put_that_a_server_broke_off_is_sent_whole_to_another() {
    let body = noise(60_000);

    for (kind, bytes) in [("sized", sized("PUT", "/", &body)), ("chunked", chunked("PUT", "/", &body))] {
        let servers: [Origin; 2] = twins(breaks);
        let proxy = alone(CALM, &servers.each_ref());
        let (head, tail) = bytes.split_at(bytes.len() / 2);

        let mut client = proxy.client();
        client.send(head);
        eventually("the first has broken off", || asked(&servers) > 0);
        let answer = client.send(tail).response();

        assert!(answer.status() == 200 && answer.body == echoed("/", &body), "{kind}: {}", answer.first);
        assert_eq!(servers.each_ref().map(Origin::count), [1, 1], "{kind}");
    }

    let servers: [Origin; 2] = twins(breaks);
    let proxy = alone(CALM, &servers.each_ref());
    let (status, answer) = over_http_2(&proxy, "PUT", &body, || asked(&servers) > 0);
    assert!(status == 200 && answer == echoed("/two", &body), "{status}");
    assert_eq!(servers.each_ref().map(Origin::count), [1, 1]);
}

#[test]
fn a_body_that_is_larger_than_what_is_kept_is_not_sent_again() {
    // Just at the limit it is.
    for (len, status) in [(10_240, 200), (10_241, 502)] {
        let servers: [Origin; 2] = twins(breaks_at_its_end);
        let proxy = alone("eject = false\nretry-body = \"10KiB\"", &servers.each_ref());

        let answer = proxy.client().send(sized("PUT", "/", &noise(len))).response();

        assert_eq!(answer.status(), status, "{len}");
        assert_eq!(asked(&servers), if status == 200 { 2 } else { 1 }, "{len}");
        assert_eq!(stopped(&proxy, "body"), f64::from(status == 502), "{len}");
    }
}

#[test]
fn a_post_that_a_server_has_begun_is_never_sent_again() {
    let gate = Gate::default();
    let opened = gate.clone();
    let kinds: [(&str, First, u16); 4] = [
        ("broken off", Box::new(breaks), 502),
        ("broken off at its end", Box::new(breaks_at_its_end), 502),
        ("unavailable", Box::new(|_, conn| say(conn, &reply("503 Service Unavailable", "", "its own"))), 503),
        (
            "late",
            Box::new(move |_, _| {
                opened.wait();
                Then::Close
            }),
            504,
        ),
    ];

    for (kind, first, status) in kinds {
        let servers: [Origin; 2] = twins(first);
        let proxy = alone(&format!("{ALL}\ntry-timeout = \"300ms\""), &servers.each_ref());

        let answer = proxy.client().send(sized("POST", "/", b"once")).response();

        assert_eq!(answer.status(), status, "{kind}");
        assert_eq!(answer.text() == "its own", status == 503, "{kind}: the client gets what the server says");
        assert_eq!(asked(&servers), 1, "{kind}");
        assert_eq!(stopped(&proxy, "not-idempotent"), 1.0, "{kind}");
    }
    assert!(!gate.is_open());
    gate.open();
}

#[test]
fn each_word_of_retry_on_is_for_its_own_cause() {
    let gate = Gate::default();
    for cause in ["\"reset\"", "\"timeout\"", "503", "502", "\"connect\""] {
        for word in ["\"connect\"", "\"reset\"", "\"timeout\"", "503", "502", ""] {
            let (opened, answer) = (gate.clone(), cause);
            let mut servers: [Origin; 2] = twins(move |_, conn| match answer {
                "503" => say(conn, &reply("503 Service Unavailable", "", "")),
                "502" => say(conn, &reply("502 Bad Gateway", "", "")),
                "\"timeout\"" => {
                    opened.wait();
                    Then::Close
                }
                _ => Then::Close,
            });
            let rules = format!("eject = false\nretry-on = [{word}]\nfirst-byte-timeout = \"1s\"");
            let proxy = alone(&rules, &servers.each_ref());
            let mut statuses = Vec::new();
            if cause == "\"connect\"" {
                // Whoever is second answers; two requests, as one of them begins with the dead one.
                servers[0].stop();
                let _ = Client::connect(servers[1].address()).send("GET / HTTP/1.1\r\n\r\n").try_response();
                statuses.push(proxy.get("/").status());
            }
            statuses.push(proxy.get("/").status());

            let own = match cause {
                "503" => 503,
                "\"timeout\"" => 504,
                _ => 502,
            };
            let expected = if word == cause { 200 } else { own };
            assert_eq!(statuses.into_iter().max(), Some(expected), "{cause}, retry-on = [{word}]");
        }
    }
    assert!(!gate.is_open());
    gate.open();
}

#[test]
fn a_response_that_is_discarded_leaves_no_trace() {
    let fields = "Set-Cookie: a=discarded\r\nX-From: discarded\r\n";
    // Chunks that go on: whoever used the connection again would meet them.
    let discarded = format!(
        "HTTP/1.1 503 Service Unavailable\r\n{fields}Transfer-Encoding: chunked\r\n\r\n\
         9\r\ndiscarded\r\n9\r\ndiscarded\r\n0\r\n\r\n"
    );
    let busy = Origin::raw(move |_, conn| say(conn, discarded.as_bytes()));
    let well = Origin::raw(echo);
    let proxy = alone("eject = false\nretry-on = [503]\nretry-budget = { percent = 1000 }", &[&busy, &well]);

    let mut client = proxy.client();
    for n in 0..20 {
        let target = format!("/{n}");
        let answer = client.get(&target);
        assert_eq!((answer.status(), answer.body), (200, echoed(&target, b"")));
        assert!(answer.fields.iter().all(|(_, value)| !value.contains("discarded")), "{:?}", answer.fields);
    }

    assert!(busy.count() >= 10, "it was asked {} times", busy.count());
    assert_eq!(busy.connections(), busy.count(), "what was not read to its end is not used again");
    assert_eq!(retried(&proxy, "status"), busy.count() as f64);
}

#[test]
fn a_retry_goes_to_a_server_that_has_not_failed_the_request() {
    let dying = || Origin::start(|_| Vec::new());
    let (a, b, c, well) = (dying(), dying(), dying(), Origin::raw(echo));
    let rules = "eject = false\nretries = 3\nretry-budget = { percent = 1000 }";
    let proxy = proxy(rules, &[&a, &b, &c, &well]);

    for n in 0..12 {
        let target = format!("/{n}");
        assert_eq!(proxy.get(&target).status(), 200, "request {n}");
        for server in [&a, &b, &c, &well] {
            let times = server.requests().iter().filter(|request| request.target() == target).count();
            assert!(times <= 1, "request {n} came {times} times");
        }
    }
}

#[test]
fn no_more_attempts_are_made_than_retries_says_or_there_are_servers() {
    for (retries, count, stop) in [(0, 1, "limit"), (1, 2, "limit"), (2, 3, "limit"), (9, 4, "no-server")] {
        let servers: [Origin; 4] = std::array::from_fn(|_| Origin::start(|_| Vec::new()));
        let proxy = alone(&format!("eject = false\nretries = {retries}"), &servers.each_ref());

        let answer = proxy.get("/");

        assert_eq!((answer.status(), reason(&answer)), (502, "reset"));
        assert_eq!(asked(&servers), count, "retries = {retries}");
        assert_eq!(stopped(&proxy, stop), 1.0, "retries = {retries}");
    }
}

#[test]
fn an_attempt_that_is_too_slow_is_made_elsewhere_only_when_time_outs_are_retried() {
    for (rules, status) in [("retry-on = [\"timeout\"]", 200), ("", 504)] {
        let gate = Gate::default();
        let opened = gate.clone();
        let servers: [Origin; 2] = twins(move |_, _| {
            opened.wait();
            Then::Close
        });
        let proxy = alone(&format!("eject = false\ntry-timeout = \"1s\"\n{rules}"), &servers.each_ref());

        let answer = proxy.get("/");

        assert!(!gate.is_open());
        gate.open();
        assert_eq!(answer.status(), status, "{rules}");
        assert_eq!(reason(&answer), if status == 504 { "try-timed-out" } else { "" });
        assert_eq!(retried(&proxy, "try-timed-out"), f64::from(status == 200));
    }
}

/// Sends so many requests, and gives their count, and what retries there may be for it.
fn storm(proxy: &Proxy, requests: usize, allowed: impl Fn(usize, Duration) -> f64) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..requests / 4 {
                    assert_eq!(client.get("/").status(), 502);
                }
            });
        }
    });
    allowed(requests, began.elapsed())
}

#[test]
fn a_pool_that_is_dead_gets_no_storm_of_retries() {
    for is_refusing in [false, true] {
        let mut servers: [Origin; 3] = std::array::from_fn(|_| Origin::start(|_| Vec::new()));
        let rules = "eject = false\nretry-budget = { percent = 20, per-second = 1 }";
        let proxy = proxy(rules, &servers.each_ref());
        if is_refusing {
            servers.iter_mut().for_each(Origin::stop);
        }

        // A second's retries at once for each second of the window, and those before all were known to be dead.
        let most = storm(&proxy, 400, |requests, took| {
            requests as f64 * 0.2 + (took.as_secs() as f64 + 10.0) + if is_refusing { 8.0 } else { 0.0 }
        });

        let retries = proxy.metric("tidegate_retries_total", &[]);
        assert!(retries <= most, "{retries} retries, refusing: {is_refusing}");
        assert!(retries >= 40.0, "{retries} retries: it should try, refusing: {is_refusing}");
        assert_eq!(
            stopped(&proxy, "budget") + stopped(&proxy, "no-server") + stopped(&proxy, "limit"),
            400.0
        );
        assert!(stopped(&proxy, "budget") >= 200.0);
        if !is_refusing {
            assert_eq!(asked(&servers) as f64, 400.0 + retries);
        }
    }
}

#[test]
fn a_connect_that_failed_costs_no_budget_while_another_server_answers() {
    let (mut dead, dying, live) = (Origin::saying(""), Origin::start(|_| Vec::new()), Origin::saying("live"));
    let nothing = "eject = false\nretry-budget = { percent = 0, per-second = 0 }";
    dead.stop();

    let with_dead = alone(nothing, &[&dead, &live]);
    let free: Vec<_> = (0..20).map(|_| with_dead.get("/").status()).collect();
    let with_dying = alone(nothing, &[&dying, &live]);
    let paid: Vec<_> = (0..20).map(|_| with_dying.get("/").status()).collect();

    assert!(free.iter().all(|status| *status == 200), "{free:?}");
    assert_eq!(paid.iter().filter(|status| **status == 502).count(), 10, "{paid:?}");
    assert_eq!(stopped(&with_dying, "budget"), 10.0);
}

#[test]
fn no_more_retries_are_made_at_once_than_are_allowed() {
    let gate = Gate::default();
    let opened = gate.clone();
    // Whoever is asked for something first breaks off; the second attempt is held.
    let seen = std::sync::Arc::new(std::sync::Mutex::new(std::collections::HashSet::new()));
    let server = || {
        let (seen, opened) = (seen.clone(), opened.clone());
        Origin::start(move |request| {
            if seen.lock().unwrap().insert(request.target().to_owned()) {
                return Vec::new();
            }
            opened.wait();
            ok("again")
        })
    };
    let (a, b) = (server(), server());
    let proxy = alone("eject = false\nretry-budget = { concurrent = 1 }", &[&a, &b]);

    let mut held = asking(&proxy, "/one");
    eventually("it is tried again", || a.count() + b.count() == 2);
    let second = proxy.get("/two");
    assert!(!gate.is_open());
    gate.open();

    assert_eq!((second.status(), reason(&second)), (502, "reset"));
    assert_eq!(stopped(&proxy, "budget"), 1.0);
    assert_eq!(held.response().text(), "again");
    assert_eq!(proxy.get("/three").status(), 200, "when it has ended there may be another");
}
