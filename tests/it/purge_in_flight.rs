//! What is on its way when something is purged or invalidated: it answers who asked, and is never served to those
//! who ask after it.
//!
//! Responses have no length that is announced: a client hears the end of one only when it has been stored or not.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::origin::Conn;
use crate::support::{Client, Held, Message, Origin, Proxy, Then, eventually, one_route};

const FRESH: &str = "Cache-Control: max-age=3600\r\nSurrogate-Key: t\r\n";

/// Every kind of purge that concerns `http://test/`.
const PURGES: [&str; 8] = [
    r#"{"urls": ["http://test/"]}"#,
    r#"{"prefixes": ["http://test/"]}"#,
    r#"{"tags": ["t"]}"#,
    r#"{"all": true}"#,
    r#"{"urls": ["http://test/"], "soft": true}"#,
    r#"{"prefixes": ["http://test/"], "soft": true}"#,
    r#"{"tags": ["t"], "soft": true}"#,
    r#"{"all": true, "soft": true}"#,
];

fn chunked(status: &str, fields: &str, text: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n{fields}\r\n");
    format!("{head}{:x}\r\n{text}\r\n0\r\n\r\n", text.len()).into_bytes()
}

/// A server that counts its requests and answers as `answer` says, to the n-th of all.
fn nth(answer: impl Fn(usize, &Message) -> Vec<u8> + Send + Sync + 'static) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| answer(count.fetch_add(1, Ordering::SeqCst), request))
}

/// A proxy whose followers wait longer than any test.
fn patient(origin: &Origin) -> Proxy {
    patient_with("", origin)
}

fn patient_with(runtime: &str, origin: &Origin) -> Proxy {
    let text = one_route("cache = true", "eject = false\nretries = 0", &[origin]);
    Proxy::start(&format!("{runtime}{text}[cache]\ncollapse-wait = \"60s\"\n"))
}

fn purge(proxy: &Proxy, json: &str) {
    let head = "POST /api/v1/cache/purge HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{json}", json.len());
    assert_eq!(Client::connect(proxy.admin()).send(request).response().status(), 200);
}

fn asking(proxy: &Proxy, path: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client
}

fn posting(proxy: &Proxy, path: &str) -> Client {
    let mut client = proxy.client();
    client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"));
    client
}

/// Of a proxy with one worker: when so many requests have begun and it answers another one, they wait for something.
fn await_waiting(proxy: &Proxy, count: usize) {
    eventually("all are in the proxy", || {
        proxy.metric("tidegate_requests_in_flight", &["listener=\"public\""]) >= count as f64
    });
    let mut other = proxy.client();
    other.send("OPTIONS / HTTP/1.1\r\nHost: test\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!(other.response().status(), 204);
}

fn not_stored(proxy: &Proxy) -> f64 {
    proxy.metric("tidegate_cache_not_stored_total", &["reason=\"invalidated\""])
}

fn is_hit(answer: &Message) -> bool {
    answer.field("cache-status").unwrap_or_default().starts_with("tidegate; hit")
}

#[test]
fn a_fetch_that_began_before_a_purge_is_neither_stored_nor_shared_with_who_asks_after_it() {
    for json in PURGES {
        let held = Held::default();
        let hands = held.clone();
        let origin = nth(move |n, _| {
            if n == 0 {
                hands.hold();
            }
            chunked("200 OK", FRESH, if n == 0 { "old" } else { "new" })
        });
        let proxy = patient_with("[runtime]\nworkers = 1\n", &origin);
        let mut leader = asking(&proxy, "/");
        held.asked.wait();
        let mut follower = asking(&proxy, "/");
        await_waiting(&proxy, 2);

        purge(&proxy, json);
        assert_eq!(proxy.get("/").text(), "new", "{json}");
        assert!(!held.go.is_open(), "{json}: who asks after it does not wait for what began before");
        held.go.open();

        assert_eq!(leader.response().text(), "old", "{json}: who asked is answered");
        assert_eq!(follower.response().text(), "old", "{json}");
        let after = proxy.get("/");
        assert!(is_hit(&after) && after.text() == "new", "{json}: {after:?}");
        assert_eq!((origin.count(), not_stored(&proxy)), (2, 1.0), "{json}");
    }
}

#[test]
fn a_body_that_had_half_arrived_when_it_was_purged_is_not_stored() {
    for json in PURGES {
        let held = Held::default();
        let origin = in_two_parts(&held, "4\r\nbody\r\n0\r\n\r\n");
        let proxy = patient(&origin);
        let mut first = asking(&proxy, "/");
        let mut answer = first.head();
        held.asked.wait();

        purge(&proxy, json);
        assert_eq!(proxy.get("/").text(), "new", "{json}");
        assert!(!held.go.is_open());
        held.go.open();

        first.body(&mut answer).unwrap();
        assert_eq!(answer.text(), "oldbody", "{json}");
        assert_eq!(proxy.get("/").text(), "new", "{json}");
        assert_eq!(not_stored(&proxy), 1.0, "{json}");
    }
}

/// Sends "old" of its first body, and the `rest` when it is let go; "new" in all others.
fn in_two_parts(held: &Held, rest: &'static str) -> Origin {
    let (hands, count) = (held.clone(), AtomicUsize::new(0));
    Origin::raw(move |_, conn: &mut Conn| {
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            return say(conn, chunked("200 OK", FRESH, "new"));
        }
        say(conn, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FRESH}\r\n3\r\nold\r\n"));
        hands.hold();
        say(conn, rest)
    })
}

fn say(conn: &mut Conn, bytes: impl AsRef<[u8]>) -> Then {
    match conn.get_mut().write_all(bytes.as_ref()) {
        Ok(()) => Then::Keep,
        Err(_) => Then::Close,
    }
}

#[test]
fn a_validation_behind_the_clients_backs_does_not_bring_back_what_was_purged_meanwhile() {
    const STALE: &str = "Cache-Control: max-age=60, stale-while-revalidate=3600\r\nAge: 100\r\nETag: \"a\"\r\nSurrogate-Key: t\r\n";
    const RENEWED: &str = "Cache-Control: max-age=60\r\nETag: \"a\"\r\nSurrogate-Key: t\r\n";
    for json in PURGES {
        for status in ["304 Not Modified", "200 OK"] {
            let held = Held::default();
            let hands = held.clone();
            let origin = nth(move |n, _| match n {
                0 => chunked("200 OK", STALE, "old"),
                1 => {
                    hands.hold();
                    match status {
                        "200 OK" => chunked(status, RENEWED, "old"),
                        _ => format!("HTTP/1.1 {status}\r\n{RENEWED}\r\n").into_bytes(),
                    }
                }
                _ => chunked("200 OK", RENEWED, "new"),
            });
            let proxy = patient(&origin);
            proxy.get("/");
            assert!(is_hit(&proxy.get("/")), "served while it is validated");
            held.asked.wait();

            purge(&proxy, json);
            held.go.open();
            eventually("the validation has ended", || not_stored(&proxy) == 1.0);

            let after = proxy.get("/");
            if json.contains("soft") {
                // Inside its window still: once more it is served while it is validated.
                assert!(after.field("cache-status").unwrap().contains("stale-while-revalidate"), "{json}");
                eventually("it is validated anew", || proxy.get("/").text() == "new");
            } else {
                assert_eq!(after.text(), "new", "{json} {status}");
            }
        }
    }
}

#[test]
fn what_was_purged_while_it_was_validated_does_not_stand_in_for_an_error() {
    const STALE: &str =
        "Cache-Control: max-age=60, stale-if-error=3600\r\nAge: 100\r\nETag: \"a\"\r\nSurrogate-Key: t\r\n";
    let hard = |json: &&&str| !json.contains("soft");
    for json in PURGES.iter().filter(hard) {
        for is_heard in [true, false] {
            let held = Held::default();
            let hands = held.clone();
            let origin = nth(move |n, _| {
                if n == 0 {
                    return chunked("200 OK", STALE, "old");
                }
                hands.hold();
                if is_heard { chunked("503 Service Unavailable", "", "error") } else { Vec::new() }
            });
            let proxy = patient(&origin);
            proxy.get("/");
            let mut validating = asking(&proxy, "/");
            held.asked.wait();

            purge(&proxy, json);
            held.go.open();

            let answer = validating.response();
            assert!(answer.status() >= 500 && answer.text() != "old", "{json}: {answer:?}");
        }
    }
}

#[test]
fn what_was_purged_softly_while_it_was_validated_still_stands_in_for_an_error() {
    const STALE: &str =
        "Cache-Control: max-age=60, stale-if-error=3600\r\nAge: 100\r\nETag: \"a\"\r\nSurrogate-Key: t\r\n";
    for json in PURGES.iter().filter(|json| json.contains("soft")) {
        let held = Held::default();
        let hands = held.clone();
        let origin = nth(move |n, _| {
            if n == 0 {
                return chunked("200 OK", STALE, "old");
            }
            hands.hold();
            chunked("503 Service Unavailable", "", "error")
        });
        let proxy = patient(&origin);
        proxy.get("/");
        let mut validating = asking(&proxy, "/");
        held.asked.wait();

        purge(&proxy, json);
        held.go.open();

        assert_eq!(validating.response().text(), "old", "{json}");
    }
}

#[test]
fn a_purge_does_not_keep_what_it_does_not_name_from_being_stored_and_shared() {
    for json in [
        r#"{"urls": ["http://test/other"]}"#,
        r#"{"prefixes": ["http://test/other"]}"#,
        r#"{"tags": ["other"]}"#,
        r#"{"tags": ["other"], "soft": true}"#,
    ] {
        let held = Held::default();
        let origin = in_two_parts(&held, "0\r\n\r\n");
        let proxy = patient(&origin);
        let mut first = asking(&proxy, "/");
        let mut answer = first.head();
        held.asked.wait();

        purge(&proxy, json);
        let mut second = asking(&proxy, "/");
        let mut shared = second.head();
        held.go.open();

        first.body(&mut answer).unwrap();
        second.body(&mut shared).unwrap();
        assert_eq!((&*answer.text(), &*shared.text()), ("old", "old"), "{json}");
        assert!(is_hit(&proxy.get("/")), "{json}");
        assert_eq!(origin.count(), 1, "{json}");
    }
}

/// What happens to a GET between the beginning and the answer of a POST.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    /// GET asked, POST asked and answered, GET answered.
    Around,
    /// POST asked, GET asked, POST answered, GET answered.
    Across,
    /// POST asked, GET asked and answered, POST answered.
    Within,
}

/// A GET that a server answers before or after it answers a POST, which makes the GET's answer worthless: `POST /`
/// by its target, `POST /edit` by the group that it names.
fn get_and_post(order: Order, target: &'static str) {
    const IN_GROUP: &str = "Cache-Control: max-age=3600\r\nCache-Groups: \"g\"\r\n";
    let (get, post) = (Held::default(), Held::default());
    let (getting, changing, count) = (get.clone(), post.clone(), AtomicUsize::new(0));
    let origin = Origin::start(move |request| {
        if request.method() == "POST" {
            changing.hold();
            let group = if target == "/" { "" } else { "Cache-Group-Invalidation: \"g\"\r\n" };
            return chunked("200 OK", group, "changed");
        }
        if count.fetch_add(1, Ordering::SeqCst) > 0 {
            return chunked("200 OK", IN_GROUP, "new");
        }
        getting.hold();
        chunked("200 OK", IN_GROUP, "old")
    });
    let proxy = patient(&origin);

    let (mut reader, mut writer);
    if order == Order::Around {
        reader = asking(&proxy, "/");
        get.asked.wait();
        writer = posting(&proxy, target);
        post.asked.wait();
    } else {
        writer = posting(&proxy, target);
        post.asked.wait();
        reader = asking(&proxy, "/");
        get.asked.wait();
    }
    if order == Order::Within {
        get.go.open();
        assert_eq!(reader.response().text(), "old");
        assert!(is_hit(&proxy.get("/")), "the change is not known yet");
        post.go.open();
        assert_eq!(writer.response().text(), "changed");
    } else {
        post.go.open();
        assert_eq!(writer.response().text(), "changed");
        assert_eq!(
            proxy.get("/").text(),
            "new",
            "{order:?}: who asks after the change does not wait for the old one"
        );
        assert!(!get.go.is_open());
        get.go.open();
        assert_eq!(reader.response().text(), "old", "{order:?}");
    }

    assert_eq!(proxy.get("/").text(), "new", "{order:?} {target}");
}

#[test]
fn a_get_that_was_asked_before_a_post_was_answered_is_not_stored_after_it() {
    for order in [Order::Around, Order::Across, Order::Within] {
        get_and_post(order, "/");
    }
}

#[test]
fn a_get_that_was_asked_before_its_group_was_invalidated_is_not_stored_after_it() {
    for order in [Order::Around, Order::Across, Order::Within] {
        get_and_post(order, "/edit");
    }
}

#[test]
fn a_group_that_is_invalidated_leaves_alone_what_is_on_its_way_and_in_other_groups() {
    let held = Held::default();
    let hands = held.clone();
    let origin = Origin::start(move |request| {
        if request.method() == "POST" {
            return chunked("200 OK", "Cache-Group-Invalidation: \"g\"\r\n", "");
        }
        hands.hold();
        chunked("200 OK", "Cache-Control: max-age=3600\r\nCache-Groups: \"other\"\r\n", "kept")
    });
    let proxy = patient(&origin);
    let mut reader = asking(&proxy, "/");
    held.asked.wait();

    posting(&proxy, "/edit").response();
    held.go.open();

    assert_eq!(reader.response().text(), "kept");
    assert!(is_hit(&proxy.get("/")));
}

/// The answer to a POST that is the answer to GET too.
const OWN: &str = "Cache-Control: max-age=3600\r\nContent-Location: /\r\nSurrogate-Key: t\r\n";

#[test]
fn of_two_posts_at_once_the_answer_to_the_first_is_not_stored_over_the_second() {
    let (first, second) = (Held::default(), Held::default());
    let hands = [first.clone(), second.clone()];
    let origin = nth(move |n, request| {
        if request.method() == "GET" {
            return chunked("200 OK", FRESH, "second");
        }
        hands[n].hold();
        chunked("200 OK", OWN, ["first", "second"][n])
    });
    let proxy = patient(&origin);
    let mut early = posting(&proxy, "/");
    first.asked.wait();
    let mut late = posting(&proxy, "/");
    second.asked.wait();

    second.go.open();
    assert_eq!(late.response().text(), "second");
    first.go.open();
    assert_eq!(early.response().text(), "first");

    assert_eq!(proxy.get("/").text(), "second", "nobody knows which the server did last");
}

#[test]
fn the_answer_to_a_post_that_began_before_a_purge_is_not_stored_after_it() {
    for json in PURGES {
        let held = Held::default();
        let hands = held.clone();
        let origin = nth(move |n, _| {
            if n == 0 {
                hands.hold();
            }
            chunked("200 OK", OWN, if n == 0 { "old" } else { "new" })
        });
        let proxy = patient(&origin);
        let mut writer = posting(&proxy, "/");
        held.asked.wait();

        purge(&proxy, json);
        held.go.open();

        assert_eq!(writer.response().text(), "old");
        assert_eq!(proxy.get("/").text(), "new", "{json}");
    }
}

#[test]
fn the_answer_to_a_post_is_stored_when_nothing_came_between() {
    let origin = nth(|n, _| chunked("200 OK", OWN, if n == 0 { "made" } else { "fetched" }));
    let proxy = patient(&origin);

    posting(&proxy, "/").response();

    assert_eq!(proxy.get("/").text(), "made");
}

#[test]
fn a_validation_that_ends_late_does_not_take_the_place_of_what_was_fetched_meanwhile() {
    const OLD: &str = "Cache-Control: max-age=60\r\nAge: 100\r\nETag: \"a\"\r\n";
    const RENEWED: &str = "Cache-Control: max-age=60\r\nETag: \"a\"\r\n";
    let held = Held::default();
    let hands = held.clone();
    let origin = nth(move |n, _| match n {
        0 => chunked("200 OK", OLD, "old"),
        1 => {
            hands.hold();
            format!("HTTP/1.1 304 Not Modified\r\n{RENEWED}\r\n").into_bytes()
        }
        _ => chunked("200 OK", "Cache-Control: max-age=60\r\nETag: \"b\"\r\n", "new"),
    });
    let text = one_route("cache = true", "eject = false\nretries = 0", &[&origin]);
    let proxy = Proxy::start(&format!("{text}[cache]\ncollapse-wait = \"100ms\"\n"));
    proxy.get("/");
    let mut validating = asking(&proxy, "/");
    held.asked.wait();

    assert_eq!(proxy.get("/").text(), "new", "it has waited long enough, and asks by itself");
    held.go.open();

    let answer = validating.response();
    assert_eq!(answer.text(), "old");
    assert!(answer.field("cache-status").unwrap().ends_with("detail=superseded"), "{answer:?}");
    assert_eq!(proxy.get("/").text(), "new");
}
