//! Requests that wait for another's fetch: for no longer than it is worth, and never for nothing.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::{await_in_flight, cached, is_shared};
use crate::support::origin::Conn;
use crate::support::{Client, DEADLINE, Gate, Message, Origin, Proxy, Then, eventually, one_route, reply};

const GET: &str = "GET /popular HTTP/1.1\r\nHost: test\r\n\r\n";
const FRESH: &str = "Cache-Control: max-age=60\r\n";

/// Some threads that only go on together.
#[derive(Clone, Default)]
struct Crowd(Arc<(Mutex<usize>, Condvar)>);

impl Crowd {
    /// Whether there were so many before the deadline.
    fn gathers(&self, many: usize) -> bool {
        let mut here = self.0.0.lock().unwrap();
        *here += 1;
        self.0.1.notify_all();
        let (here, _) = self.0.1.wait_timeout_while(here, DEADLINE, |here| *here < many).unwrap();
        *here >= many
    }
}

fn say(conn: &mut Conn, bytes: impl AsRef<[u8]>) -> Then {
    match conn.get_mut().write_all(bytes.as_ref()) {
        Ok(()) => Then::Keep,
        Err(_) => Then::Close,
    }
}

/// A server that leaves its first request to `first`, and answers the others at once with `text` and these fields.
fn first_and_others(
    first: impl Fn(&mut Conn) -> Then + Send + Sync + 'static,
    fields: &'static str,
    text: &'static str,
) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::raw(move |_, conn| match count.fetch_add(1, Ordering::SeqCst) {
        0 => first(conn),
        _ => say(conn, reply("200 OK", fields, text)),
    })
}

/// A proxy whose followers wait longer than any test: it is never the wait's end that lets them go.
fn patient(origin: &Origin) -> Proxy {
    let text = one_route("cache = true", "eject = false\nretries = 0", &[origin]);
    Proxy::start(&format!("{text}[cache]\ncollapse-wait = \"60s\"\n"))
}

/// So many clients that have all asked for the same.
fn crowd_of(proxy: &Proxy, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    clients
}

#[test]
fn a_hundred_misses_are_one_fetch_and_all_read_along() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::raw(move |_, conn| {
        say(conn, format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 10\r\n\r\nfirst"));
        opened.wait();
        say(conn, "final")
    });
    let proxy = cached("", &origin);

    let mut clients = crowd_of(&proxy, 100);
    for client in &mut clients {
        assert_eq!(client.head().status(), 200);
        assert_eq!(client.bytes(5), b"first");
    }
    assert!(!gate.is_open(), "the last byte must not have been sent yet");
    gate.open();

    assert!(clients.iter_mut().all(|client| client.bytes(5) == b"final"));
    assert_eq!(origin.count(), 1);
    let collapsed = || proxy.metric("tidegate_cache_requests_total", &["result=\"collapsed\""]);
    eventually("the followers are counted", || collapsed() == 99.0);
}

#[test]
fn what_cannot_be_shared_lets_all_who_wait_go_at_once_and_together() {
    const MANY: usize = 20;
    for (name, fields) in [
        ("private", "Cache-Control: private, max-age=60\r\n"),
        ("no-store", "Cache-Control: no-store\r\n"),
        ("cookie", "Set-Cookie: sid=secret\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        ("vary", "Cache-Control: max-age=60\r\nVary: X-Who\r\n"),
        ("vary-any", "Cache-Control: max-age=60\r\nVary: *\r\n"),
        ("no-cache", "Cache-Control: no-cache\r\nETag: \"a\"\r\n"),
    ] {
        let (gate, others) = (Gate::default(), Crowd::default());
        let opened = gate.clone();
        let count = AtomicUsize::new(0);
        let origin = Origin::raw(move |request, conn| {
            let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
            let is_right = if is_first {
                opened.wait();
                true
            } else {
                others.gathers(MANY - 1)
            };
            let who = request.field("x-who").unwrap_or_default();
            say(conn, reply("200 OK", fields, format!("{who} {is_right}")))
        });
        let proxy = patient(&origin);

        let mut clients: Vec<_> = (0..MANY).map(|_| proxy.client()).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET / HTTP/1.1\r\nHost: test\r\nX-Who: {n}\r\n\r\n"));
        }
        await_in_flight(&proxy, MANY);
        eventually("the first fetch has begun", || origin.count() > 0);
        assert_eq!(origin.count(), 1, "{name}: they wait for the first");
        assert!(!gate.is_open());
        gate.open();

        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.response().text(), format!("{n} true"), "{name}");
        }
        assert_eq!(origin.count(), MANY, "{name}");
    }
}

/// A proxy with this `collapse-wait`, and a leader whose fetch is held until the gate opens.
fn held_leader(collapse_wait: &str) -> (Gate, Origin, Proxy, Client) {
    let gate = Gate::default();
    let opened = gate.clone();
    let hold = move |conn: &mut Conn| {
        opened.wait();
        say(conn, reply("200 OK", FRESH, "held"))
    };
    let origin = first_and_others(hold, FRESH, "own");
    let text = one_route("cache = true", "eject = false", &[&origin]);
    let proxy = Proxy::start(&format!("{text}[cache]\ncollapse-wait = \"{collapse_wait}\"\n"));
    let mut leader = proxy.client();
    leader.send(GET);
    eventually("the first fetch has begun", || origin.count() == 1);
    (gate, origin, proxy, leader)
}

#[test]
fn nobody_waits_for_another_longer_than_collapse_wait() {
    let (gate, _origin, proxy, mut leader) = held_leader("200ms");

    let answers: Vec<Message> = crowd_of(&proxy, 3).iter_mut().map(Client::response).collect();

    assert!(!gate.is_open(), "the first fetch must still be held");
    assert!(answers.iter().all(|answer| answer.text() == "own"), "{answers:?}");
    gate.open();
    assert_eq!(leader.response().text(), "held");
}

#[test]
fn a_collapse_wait_of_nothing_waits_for_nobody() {
    let (gate, _origin, proxy, mut leader) = held_leader("0s");

    assert_eq!(proxy.client().send(GET).response().text(), "own");
    assert!(!gate.is_open());
    gate.open();
    leader.response();
}

#[test]
fn a_leader_that_leaves_before_the_head_lets_the_others_go() {
    let gate = Gate::default();
    let opened = gate.clone();
    let hold = move |conn: &mut Conn| {
        opened.wait();
        say(conn, reply("200 OK", FRESH, "too late"))
    };
    let origin = first_and_others(hold, FRESH, "own");
    let proxy = patient(&origin);
    let mut leader = proxy.client();
    leader.send(GET);
    eventually("the first fetch has begun", || origin.count() == 1);
    let mut followers = crowd_of(&proxy, 5);
    await_in_flight(&proxy, 6);

    drop(leader);

    assert!(followers.iter_mut().all(|follower| follower.response().text() == "own"));
    assert!(!gate.is_open(), "the first fetch must still be held");
    gate.open();
}

#[test]
fn a_leader_that_leaves_within_the_body_leaves_it_to_the_others() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::raw(move |_, conn| {
        say(conn, format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 10\r\n\r\nfirst"));
        opened.wait();
        say(conn, "final")
    });
    let proxy = cached("", &origin);
    let mut clients = crowd_of(&proxy, 6);
    for client in &mut clients {
        client.head();
        assert_eq!(client.bytes(5), b"first");
    }

    // Whoever of them leads: the first three leave, and then a newcomer finds the fetch still under way.
    drop(clients.drain(..3));
    eventually("three have left", || proxy.metric("tidegate_requests_in_flight", &["public"]) == 3.0);
    let mut newcomer = proxy.client();
    newcomer.send(GET).head();
    assert_eq!(newcomer.bytes(5), b"first");
    assert!(!gate.is_open());
    gate.open();

    clients.push(newcomer);
    assert!(clients.iter_mut().all(|client| client.bytes(5) == b"final"));
    drop(clients);
    eventually("it is stored", || is_shared(&proxy.get("/popular")));
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_body_that_all_have_left_is_stored_all_the_same() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::raw(move |_, conn| {
        say(conn, format!("HTTP/1.1 200 OK\r\n{FRESH}Content-Length: 10\r\n\r\nfirst"));
        opened.wait();
        say(conn, "final")
    });
    let proxy = cached("", &origin);
    let mut only = proxy.client();
    only.send(GET).head();

    drop(only);
    eventually("it has left", || proxy.metric("tidegate_requests_in_flight", &["public"]) == 0.0);
    assert!(!gate.is_open());
    gate.open();

    eventually("it is stored", || proxy.metric("tidegate_cache_stored_total", &[]) == 1.0);
    let answer = proxy.get("/popular");
    assert!(is_shared(&answer) && answer.body == b"firstfinal", "{answer:?}");
}

#[test]
fn a_server_that_fails_is_not_asked_by_each_who_may_have_what_is_stale_instead() {
    const STALE: &str = "Cache-Control: max-age=60, stale-if-error=3600\r\nAge: 100\r\n";
    for is_heard in [true, false] {
        let gate = Gate::default();
        let (opened, count) = (gate.clone(), AtomicUsize::new(0));
        let origin = Origin::raw(move |_, conn| match count.fetch_add(1, Ordering::SeqCst) {
            0 => say(conn, reply("200 OK", STALE, "stale")),
            1 => {
                opened.wait();
                if is_heard { say(conn, reply("503 Service Unavailable", "", "")) } else { Then::Close }
            }
            _ => say(conn, reply("200 OK", STALE, "new")),
        });
        let proxy = patient(&origin);
        assert_eq!(proxy.get("/popular").text(), "stale");
        let mut leader = proxy.client();
        leader.send(GET);
        eventually("it is asked again", || origin.count() == 2);
        let mut followers = crowd_of(&proxy, 10);
        await_in_flight(&proxy, 11);

        assert!(!gate.is_open());
        gate.open();

        assert_eq!(leader.response().text(), "stale");
        for follower in &mut followers {
            let answer = follower.response();
            let status = answer.field("cache-status").unwrap_or_default();
            assert!(answer.text() == "stale" && status.contains("stale-if-error"), "{answer:?}");
        }
        assert_eq!(origin.count(), 2);
    }
}

#[test]
fn a_leader_whose_server_fails_lets_the_others_try_for_themselves() {
    let gate = Gate::default();
    let opened = gate.clone();
    let fail = move |_: &mut Conn| {
        opened.wait();
        Then::Close
    };
    let origin = first_and_others(fail, FRESH, "own");
    let proxy = patient(&origin);
    let mut leader = proxy.client();
    leader.send(GET);
    eventually("the first fetch has begun", || origin.count() == 1);
    let mut followers = crowd_of(&proxy, 10);
    await_in_flight(&proxy, 11);

    assert!(!gate.is_open());
    gate.open();

    assert_eq!(leader.response().status(), 502);
    for follower in &mut followers {
        let answer = follower.response();
        assert_eq!((answer.status(), answer.text()), (200, "own".to_owned()));
    }
}
