//! Who serves first, who helps, and what happens when hardly anyone is well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{alone, proxy};
use crate::support::{Origin, Proxy, eventually, ok, reply};

/// Well as long as its flag says so; what it serves does not depend on it.
pub fn probed(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let flag = is_well.clone();
    let origin = Origin::start(move |request| match request.target() {
        "/healthz" if !flag.load(SeqCst) => reply("500 Unwell", "", ""),
        _ => ok(name),
    });
    (origin, is_well)
}

pub const PROBES: &str = "health = { path = \"/healthz\", interval = \"50ms\", timeout = \"10s\", rise = 1, fall = 1 }\n\
    eject = false\nslow-start = \"0s\"";

/// One worker; each server with its own rules.
pub fn with_rules(upstream: &str, servers: &[(&Origin, &str)]) -> Proxy {
    let server = |(server, rules): &(&Origin, &str)| format!("{{ address = {}, {rules} }}", server.toml());
    let servers: Vec<_> = servers.iter().map(server).collect();
    Proxy::start(&format!(
        "[runtime]\nworkers = 1\n[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [{}]\n{upstream}\n",
        servers.join(", ")
    ))
}

/// Who answered how many of so many requests.
#[track_caller]
pub fn shares(proxy: &Proxy, count: usize) -> BTreeMap<String, usize> {
    let (mut client, mut shares) = (proxy.client(), BTreeMap::new());
    for _ in 0..count {
        let answer = client.get("/");
        assert_eq!(answer.status(), 200, "{}", answer.text());
        *shares.entry(answer.text()).or_insert(0) += 1;
    }
    shares
}

pub fn share(shares: &BTreeMap<String, usize>, name: &str) -> usize {
    shares.get(name).copied().unwrap_or(0)
}

fn picked(proxy: &Proxy, why: &str) -> f64 {
    proxy.metric("tidegate_picks_total", &[&format!("reason=\"{why}\"")])
}

#[test]
fn a_group_serves_only_when_nobody_before_it_may() {
    let [(a, a_well), (b, b_well), (c, _c_well)] = [probed("a"), probed("b"), probed("c")];
    // In another order than in the file.
    let rules = [(&c, "backup = true"), (&b, "priority = 5"), (&a, "priority = 0")];
    let proxy = with_rules(PROBES, &rules);

    assert_eq!(share(&shares(&proxy, 20), "a"), 20);
    a_well.store(false, SeqCst);
    eventually("a is unhealthy", || proxy.state_of(&a) == "unhealthy");
    assert_eq!(share(&shares(&proxy, 20), "b"), 20);
    b_well.store(false, SeqCst);
    eventually("b is unhealthy", || proxy.state_of(&b) == "unhealthy");
    assert_eq!(share(&shares(&proxy, 20), "c"), 20);
    a_well.store(true, SeqCst);
    eventually("a is healthy", || proxy.state_of(&a) == "healthy");
    assert_eq!(share(&shares(&proxy, 20), "a"), 20);
}

#[test]
fn a_retry_goes_on_to_the_next_group() {
    let (mut main, backup) = (Origin::saying("main"), Origin::saying("backup"));
    let proxy = with_rules("eject = false", &[(&main, "priority = 0"), (&backup, "backup = true")]);
    main.stop();

    assert_eq!(share(&shares(&proxy, 5), "backup"), 5);
}

#[test]
fn a_group_that_is_not_whole_lets_the_next_one_help_in_proportion() {
    let [(a, _a_well), (b, b_well), (c, _c_well)] = [probed("a"), probed("b"), probed("c")];
    let rules = [(&a, "priority = 0"), (&b, "priority = 0"), (&c, "priority = 1")];

    for (spill_over, least, most) in [(0, 0, 0), (40, 0, 0), (100, 130, 270)] {
        let proxy = with_rules(&format!("{PROBES}\nspill-over = {spill_over}"), &rules);
        assert_eq!(share(&shares(&proxy, 40), "c"), 0, "all are well");

        b_well.store(false, SeqCst);
        eventually("b is unhealthy", || proxy.state_of(&b) == "unhealthy");
        // Half of the group is well. A half of 400, give or take seven times the deviation.
        let helped = share(&shares(&proxy, 400), "c");
        b_well.store(true, SeqCst);

        assert!((least..=most).contains(&helped), "spill-over = {spill_over}: {helped}");
    }
}

#[test]
fn when_hardly_anyone_is_well_all_get_requests_and_the_operator_hears_of_it() {
    let [(a, _a_well), (b, b_well), (c, c_well)] = [probed("a"), probed("b"), probed("c")];
    let proxy = alone(&format!("{PROBES}\npanic-threshold = 50"), &[&a, &b, &c]);
    let panic = || proxy.metric("tidegate_upstream_panic", &["upstream=\"app\""]);

    b_well.store(false, SeqCst);
    eventually("b is unhealthy", || proxy.state_of(&b) == "unhealthy");
    assert_eq!(share(&shares(&proxy, 30), "b"), 0, "two of three are enough");
    assert_eq!(panic(), 0.0);
    c_well.store(false, SeqCst);
    eventually("c is unhealthy", || proxy.state_of(&c) == "unhealthy");
    let during = shares(&proxy, 30);

    assert_eq!(during.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{during:?}");
    assert_eq!(panic(), 1.0);
    assert_eq!(proxy.status()["upstreams"][0]["panic"], true);
    assert_eq!(picked(&proxy, "panic"), 30.0);
    let says = |text: &str| proxy.events().iter().any(|line| line.contains(text));
    eventually("it is in the log", || says("panic: so few servers are healthy that all serve"));
    b_well.store(true, SeqCst);
    eventually("b is healthy", || proxy.state_of(&b) == "healthy");
    assert_eq!(share(&shares(&proxy, 30), "c"), 0);
    assert_eq!(panic(), 0.0);
    eventually("it is in the log too", || says("panic over: only healthy servers serve"));
}

#[test]
fn without_a_threshold_nobody_panics() {
    let (a, a_well) = probed("a");
    let proxy = proxy(PROBES, &[&a]);

    a_well.store(false, SeqCst);
    eventually("a is unhealthy", || proxy.state_of(&a) == "unhealthy");

    assert_eq!(proxy.get("/").status(), 503);
}

#[test]
fn in_a_panic_ejected_servers_get_as_much_as_the_others() {
    let failing = |name: &'static str| {
        let is_well = Arc::new(AtomicBool::new(false));
        let flag = is_well.clone();
        let answer = move || if flag.load(SeqCst) { ok(name) } else { reply("502 Bad Gateway", "", "") };
        (Origin::start(move |_| answer()), is_well)
    };
    let ((a, a_well), (b, b_well), c) = (failing("a"), failing("b"), Origin::saying("c"));
    let rules =
        "eject = { failures = 1, time = \"1h\", max-time = \"1h\", max-percent = 100 }\npanic-threshold = 50";
    let proxy = alone(rules, &[&a, &b, &c]);
    eventually("both are ejected", || {
        proxy.get("/");
        proxy.state_of(&a) == "ejected" && proxy.state_of(&b) == "ejected"
    });
    a_well.store(true, SeqCst);
    b_well.store(true, SeqCst);

    let shares = shares(&proxy, 90);

    assert!(shares.values().all(|share| *share == 30), "{shares:?}");
}

#[test]
fn a_server_that_drains_makes_no_panic_when_it_is_shut_down() {
    let ((a, _), (mut b, _)) = (probed("a"), probed("b"));
    let rules = format!("{PROBES}\npanic-threshold = 60");
    b_is_drained_and_stopped(&with_rules(&rules, &[(&a, "priority = 0"), (&b, "drain = true")]), &mut b);
}

fn b_is_drained_and_stopped(proxy: &Proxy, b: &mut Origin) {
    assert_eq!(share(&shares(proxy, 10), "a"), 10);

    b.stop();
    eventually("b is unhealthy", || proxy.state_of(b) == "unhealthy");

    assert_eq!(proxy.metric("tidegate_upstream_panic", &[]), 0.0);
    assert_eq!(share(&shares(proxy, 10), "a"), 10);
    assert_eq!(proxy.metric("tidegate_retries_total", &[]), 0.0, "nobody is sent to b");
}

#[test]
fn a_server_that_was_drained_and_shut_down_makes_no_spill_over() {
    let ((a, _), (mut b, _), (c, _)) = (probed("a"), probed("b"), probed("c"));
    let rules = format!("{PROBES}\nspill-over = 100");
    let servers = [(&a, "priority = 0"), (&b, "drain = true"), (&c, "priority = 1")];
    b_is_drained_and_stopped(&with_rules(&rules, &servers), &mut b);
}

#[test]
fn every_pick_is_counted_by_its_reason() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    for strategy in [
        "round-robin",
        "weighted-round-robin",
        "least-connections",
        "power-of-two",
        "random",
        "consistent-hash",
    ] {
        let proxy = alone(&format!("balance = \"{strategy}\""), &[&a, &b]);
        shares(&proxy, 7);
        let reason = if strategy == "consistent-hash" { "hash" } else { strategy };
        assert_eq!(picked(&proxy, reason), 7.0, "{strategy}");
        assert_eq!(proxy.metric("tidegate_picks_total", &[]), 7.0, "{strategy}");
    }

    let mut servers = [Origin::saying("a"), Origin::saying("b")];
    let by_hash = alone("balance = \"consistent-hash\"\neject = { failures = 1 }", &servers.each_ref());
    let own = usize::from(by_hash.get("/").text() == "b");
    servers[own].stop();
    by_hash.get("/");
    by_hash.get("/");
    assert_eq!(picked(&by_hash, "hash-next"), 2.0);

    let sticky = alone("sticky = { cookie = \"gate\" }", &[&a, &b]);
    let cookie = sticky.get("/").field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    sticky.client().get_with("/", &format!("Cookie: {cookie}\r\n"));
    assert_eq!((picked(&sticky, "sticky"), picked(&sticky, "round-robin")), (1.0, 1.0));
}
