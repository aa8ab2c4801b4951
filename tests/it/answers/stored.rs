//! What is bad is neither stored nor asked for again where that is not safe.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Proxy, ok, reply};

use super::rig::{Outcome, Server, Then, over_http1, over_http2, proxy, refused, whole};

/// Bad answers to `/N`, each to be stored if it were good.
fn bad_answers() -> Vec<(&'static str, Then, Outcome)> {
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n";
    let says = |rest: &str| -> &'static str { format!("{head}{rest}").leak() };
    vec![
        (says("Content-Length: 10\r\n\r\nhello"), Then::Close, Outcome::Cut),
        (says("Content-Length: 10\r\n\r\nhello"), Then::Reset, Outcome::Cut),
        (says("Content-Length: 10\r\n\r\nhello"), Then::Keep, Outcome::Cut),
        (says("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), Then::Close, Outcome::Cut),
        (says("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"), Then::Close, Outcome::Cut),
        (says("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"), Then::Keep, Outcome::Cut),
        (
            says("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: \0\r\n\r\n"),
            Then::Keep,
            Outcome::Cut,
        ),
        (says("\r\nhello"), Then::Reset, Outcome::Cut),
        (says("Content-Length: 5, 7\r\n\r\nhello"), Then::Keep, refused("response-content-length")),
        (
            says("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            Then::Keep,
            refused("response-content-length"),
        ),
        (
            says("Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
            Then::Keep,
            refused("response-transfer-encoding"),
        ),
        (says("X-A: 1\nContent-Length: 5\r\n\r\nhello"), Then::Keep, refused("malformed-response")),
    ]
}

#[test]
fn a_bad_answer_is_not_stored() {
    let answers = bad_answers();
    let asked: Arc<Vec<AtomicUsize>> = Arc::new(answers.iter().map(|_| AtomicUsize::new(0)).collect());
    let (count, says) = (asked.clone(), bad_answers());
    let server = Server::start(move |request, conn| {
        let index: usize = request.target().trim_start_matches('/').parse().unwrap();
        if count[index].fetch_add(1, Ordering::SeqCst) < 2 {
            let _ = conn.get_mut().write_all(says[index].0.as_bytes());
            return says[index].1;
        }
        let _ = conn.get_mut().write_all(&reply("200 OK", "Cache-Control: max-age=60\r\n", "good"));
        Then::Keep
    });
    let proxy = server.proxy("cache = true", "eject = false\nretries = 0\nbody-idle = \"300ms\"");

    for (index, (says, _, expected)) in answers.iter().enumerate() {
        let path = format!("/{index}");
        assert_eq!(&over_http1(proxy.public(), "GET", &path), expected, "{says:?}");
        assert_eq!(&over_http2(proxy.public(), "GET", &path), expected, "{says:?}");
        assert_eq!(over_http1(proxy.public(), "GET", &path), whole("good"), "{says:?}");
        assert_eq!(over_http2(proxy.public(), "GET", &path), whole("good"), "{says:?}");
        assert_eq!(asked[index].load(Ordering::SeqCst), 3, "the good one is stored: {says:?}");
    }
}

/// Two servers: one that answers so whoever comes, and one that is well.
fn beside_a_well_one(says: &'static str, then: Then) -> (Proxy, Server, Server, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let bad = Server::start(move |_, conn| {
        count.fetch_add(1, Ordering::SeqCst);
        let _ = conn.get_mut().write_all(says.as_bytes());
        then
    });
    let well = Server::start(|_, conn| {
        let _ = conn.get_mut().write_all(&ok("well"));
        Then::Keep
    });
    let servers = format!("{}, {}", bad.toml(), well.toml());
    let proxy = proxy("", "eject = false\nretries = 2", &servers);
    (proxy, bad, well, asked)
}

#[test]
fn what_was_cut_before_its_head_is_had_from_another_server_and_what_was_cut_later_is_not() {
    for (says, is_retried) in [
        ("", true),
        ("HTTP/1.1 200 OK\r\nContent-Le", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
    ] {
        for then in [Then::Close, Then::Reset] {
            let (proxy, _bad, _well, asked) = beside_a_well_one(says, then);
            let outcomes: Vec<_> = (0..6).map(|_| over_http1(proxy.public(), "GET", "/")).collect();

            let bad = asked.load(Ordering::SeqCst);
            let cut = outcomes.iter().filter(|outcome| **outcome == Outcome::Cut).count();
            let served = outcomes.iter().filter(|outcome| **outcome == whole("well")).count();
            assert!(bad > 0, "the bad one was asked");
            assert_eq!(
                (cut, served),
                if is_retried { (0, 6) } else { (bad, 6 - bad) },
                "{says:?}: {outcomes:?}"
            );
        }
    }
}

#[test]
fn nonsense_is_not_asked_for_again() {
    for (says, reason) in [
        ("garbage\r\n\r\n", "malformed-response"),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "malformed-response"),
        ("HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok", "response-status"),
        ("HTTP/1.1 101 Other\r\n\r\n", "response-upgrade"),
    ] {
        let (proxy, _bad, _well, asked) = beside_a_well_one(says, Then::Keep);
        let outcomes: Vec<_> = (0..6).map(|_| over_http1(proxy.public(), "GET", "/")).collect();

        let bad = asked.load(Ordering::SeqCst);
        assert!(bad > 0, "the bad one was asked");
        assert_eq!(outcomes.iter().filter(|o| **o == refused(reason)).count(), bad, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|o| **o == whole("well")).count(), 6 - bad, "{outcomes:?}");
    }
}
