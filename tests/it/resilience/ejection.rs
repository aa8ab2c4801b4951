//! Servers whose numbers stand out are taken out for a while, never too many, and begin slowly when they come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::alone;
use super::drain::drain;
use super::groups::{share, shares};
use crate::support::{Origin, Proxy, eventually, ok, one_route, reply};

/// Fails with 500, which is no failure in a row, as long as its flag says so.
fn failing(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let is_failing = Arc::new(AtomicBool::new(true));
    let flag = is_failing.clone();
    let answer =
        move || if flag.load(SeqCst) { reply("500 Internal Server Error", "", "") } else { ok(name) };
    (Origin::start(move |_| answer()), is_failing)
}

fn ejected(proxy: &Proxy, servers: &[&Origin]) -> usize {
    servers.iter().filter(|server| proxy.state_of(server) == "ejected").count()
}

/// Asks for so much that every server has some in each second.
fn ask(proxy: &Proxy, count: usize) {
    let mut client = proxy.client();
    (0..count).for_each(|_| {
        client.get("/");
    });
}

#[test]
fn a_server_that_fails_too_large_a_share_is_ejected_and_comes_back() {
    let ((bad, is_failing), good) = (failing("bad"), Origin::saying("good"));
    let rules = "slow-start = \"0s\"\n\
        eject = { error-rate = 50, min-requests = 5, window = \"3s\", time = \"1s\", max-time = \"1s\" }";
    let proxy = alone(rules, &[&bad, &good]);

    eventually("it is ejected", || {
        ask(&proxy, 20);
        proxy.state_of(&bad) == "ejected"
    });
    is_failing.store(false, SeqCst);
    let says = |line: &String| line.contains("server ejected") && line.contains("% of its requests failed");
    let lines = proxy.events();
    eventually("it serves again", || proxy.get("/").text() == "bad");

    assert!(lines.iter().any(says), "{lines:#?}");
    assert!(proxy.metric("tidegate_ejections_total", &[&bad.address().to_string()]) >= 1.0);
    assert_eq!(proxy.metric("tidegate_ejections_total", &[&good.address().to_string()]), 0.0);
}

#[test]
fn a_server_that_fails_a_tolerable_share_stays() {
    // One in four, where half are too many.
    let count = AtomicU64::new(0);
    let fair = Origin::start(move |_| match count.fetch_add(1, SeqCst) % 4 {
        0 => reply("500 Internal Server Error", "", ""),
        _ => ok("fair"),
    });
    let ((bad, _), good) = (failing("bad"), Origin::saying("good"));
    let rules = "eject = { error-rate = 50, min-requests = 5, window = \"3s\", max-percent = 100, time = \"1h\", max-time = \"1h\" }";
    let proxy = alone(rules, &[&fair, &bad, &good]);

    // Once it has been looked at, all have been.
    eventually("the bad one is ejected", || {
        ask(&proxy, 24);
        proxy.state_of(&bad) == "ejected"
    });

    assert_eq!((proxy.state_of(&fair), proxy.state_of(&good)), ("healthy".into(), "healthy".into()));
}

#[test]
fn a_server_that_is_much_slower_than_the_others_is_ejected() {
    let slow = Origin::start(|_| {
        std::thread::park_timeout(Duration::from_millis(300));
        ok("slow")
    });
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let rules = "balance = \"round-robin\"\n\
        eject = { latency-factor = 3, min-requests = 3, window = \"30s\", max-percent = 34, time = \"1h\", max-time = \"1h\" }";
    let proxy = alone(rules, &[&slow, &a, &b]);

    eventually("it is ejected", || {
        ask(&proxy, 6);
        proxy.state_of(&slow) == "ejected"
    });

    let lines = proxy.events();
    let says = |line: &String| line.contains("server ejected") && line.contains("median");
    assert!(lines.iter().any(says), "{lines:#?}");
    assert_eq!(share(&shares(&proxy, 12), "slow"), 0);
}

#[test]
fn however_many_stand_out_no_more_are_ejected_than_allowed() {
    let ((a, _), (b, _), (c, _), (d, _)) = (failing("a"), failing("b"), failing("c"), failing("d"));
    let rules = "eject = { error-rate = 10, min-requests = 3, window = \"3s\", max-percent = 25, time = \"1h\", max-time = \"1h\" }";
    let text =
        format!("[log]\nevents = \"json\"\nlevel = \"debug\"\n{}", one_route("", rules, &[&a, &b, &c, &d]));
    let proxy = Proxy::start(&text);
    let servers = [&a, &b, &c, &d];

    // When it says that it does not, it has looked at all of them.
    eventually("it says that too few would be left", || {
        ask(&proxy, 20);
        assert!(ejected(&proxy, &servers) <= 1);
        proxy.events().iter().any(|line| line.contains("too few would be left"))
    });

    assert_eq!(ejected(&proxy, &servers), 1);
    assert_eq!(proxy.metric("tidegate_ejections_total", &[]), 1.0);
}

#[test]
fn a_server_that_comes_back_begins_with_a_tenth_of_its_share() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = alone("slow-start = \"1h\"", &[&a, &b]);
    let before = share(&shares(&proxy, 100), "b");

    for is_draining in [true, false] {
        drain(&proxy, "app", &b.address().to_string(), is_draining);
    }
    let after = share(&shares(&proxy, 1000), "b");

    assert_eq!(before, 50, "what was always there has its share");
    // A tenth, where it had a half: 100, give or take seven times the deviation.
    assert!((35..=165).contains(&after), "{after} of 1000");
}

#[test]
fn a_server_that_comes_back_from_an_ejection_begins_slowly_too() {
    let (is_failing, b) = (Arc::new(AtomicBool::new(true)), Origin::saying("b"));
    let flag = is_failing.clone();
    let a =
        Origin::start(move |_| if flag.load(SeqCst) { reply("502 Bad Gateway", "", "") } else { ok("a") });
    let rules = "slow-start = \"1h\"\neject = { failures = 1, time = \"200ms\", max-time = \"200ms\" }";
    let proxy = alone(rules, &[&a, &b]);
    eventually("it is ejected", || {
        proxy.get("/");
        proxy.metric("tidegate_ejections_total", &[]) >= 1.0
    });
    is_failing.store(false, SeqCst);
    eventually("it is back", || proxy.state_of(&a) == "healthy");

    let after = share(&shares(&proxy, 1000), "a");

    assert!((35..=165).contains(&after), "{after} of 1000");
}

#[test]
fn a_server_that_comes_back_grows_to_its_whole_share() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = alone("slow-start = \"3s\"", &[&a, &b]);

    for is_draining in [true, false] {
        drain(&proxy, "app", &b.address().to_string(), is_draining);
    }

    eventually("it has its share", || share(&shares(&proxy, 50), "b") == 25);
}

#[test]
fn a_server_that_begins_slowly_serves_where_nobody_else_may() {
    let a = Origin::saying("a");
    let proxy = alone("slow-start = \"1h\"", &[&a]);
    for is_draining in [true, false] {
        drain(&proxy, "app", &a.address().to_string(), is_draining);
    }

    assert_eq!(share(&shares(&proxy, 50), "a"), 50);

    assert!(proxy.metric("tidegate_picks_total", &["reason=\"slow-start\""]) >= 20.0);
}
