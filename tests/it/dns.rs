//! Servers are names: what DNS says becomes true for the proxy, and what DNS fails to say changes nothing.

use std::collections::BTreeSet;

use crate::support::certs::Cert;
use crate::support::dns::{Dns, Mood, Record};
use crate::support::{Gate, Origin, Proxy, Then, eventually, ok};

/// One worker, one route to these entries of `servers`, and a name server to ask.
fn proxy(dns: &Dns, servers: &str, upstream: &str) -> Proxy {
    Proxy::start(&format!(
        "[runtime]\nworkers = 1\n{}[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [{servers}]\n{upstream}\n",
        dns.toml()
    ))
}

/// `app.test` with the port that all of these have.
fn name(origins: &[&Origin]) -> String {
    format!("\"app.test:{}\"", origins[0].address().port())
}

fn say(dns: &Dns, origins: &[&Origin]) {
    dns.set_addresses("app.test", &origins.iter().map(|origin| origin.address()).collect::<Vec<_>>());
}

/// Who answers eight requests: more than any server is left out of by chance, for they take turns.
fn who(proxy: &Proxy) -> BTreeSet<String> {
    (0..8).map(|_| proxy.get("/").text()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn srv(priority: u16, weight: u16, port: u16, target: &'static str) -> Record {
    Record::Srv { priority, weight, port, target }
}

fn has_event(proxy: &Proxy, message: &str) -> bool {
    proxy.events().iter().any(|line| line.contains(message))
}

#[test]

fn one_name_with_two_addresses_is_two_servers() {
    let dns = Dns::start();
    let a = Origin::saying("a");
    let b = Origin::beside(&a, 2, "b");
    say(&dns, &[&a, &b]);

    let proxy = proxy(&dns, &name(&[&a]), "");
    let mut client = proxy.client();
    let answers: Vec<String> = (0..20).map(|_| client.get("/").text()).collect();

    assert_eq!(answers.iter().filter(|text| *text == "a").count(), 10, "{answers:?}");
    assert_eq!((proxy.state_of(&a), proxy.state_of(&b)), ("healthy".to_owned(), "healthy".to_owned()));
    assert_eq!(proxy.metric("tidegate_dns_addresses", &["app.test"]), 2.0);
}

#[test]

fn the_servers_follow_their_name() {
    let dns = Dns::start();
    let a = Origin::saying("a");
    let (b, c) = (Origin::beside(&a, 2, "b"), Origin::beside(&a, 3, "c"));
    say(&dns, &[&a]);
    let proxy = proxy(&dns, &name(&[&a]), "");
    assert_eq!(who(&proxy), set(&["a"]));

    say(&dns, &[&b, &c]);
    eventually("b and c serve, and a does not", || who(&proxy) == set(&["b", "c"]));
    say(&dns, &[&a, &b]);
    eventually("a and b serve, and c does not", || who(&proxy) == set(&["a", "b"]));

    assert!(has_event(&proxy, "dns names other servers"));
}

#[test]

fn a_request_in_flight_to_a_server_that_is_gone_is_finished() {
    let dns = Dns::start();
    let (gate, begun) = (Gate::default(), Gate::default());
    let (opened, seen) = (gate.clone(), begun.clone());
    let a = Origin::raw(move |_, conn| {
        seen.open();
        opened.wait();
        std::io::Write::write_all(conn.get_mut(), &ok("a to the end")).unwrap();
        Then::Keep
    });
    let b = Origin::beside(&a, 2, "b");
    say(&dns, &[&a]);
    let proxy = proxy(&dns, &name(&[&a]), "");

    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n");
    begun.wait();
    say(&dns, &[&b]);
    eventually("the proxy knows of b alone", || {
        let servers = proxy.status()["upstreams"][0]["servers"].to_string();
        servers.contains("127.0.0.2") && !servers.contains("127.0.0.1")
    });
    assert_eq!(who(&proxy), set(&["b"]));
    assert!(!gate.is_open(), "a has not answered yet");
    gate.open();

    assert_eq!(client.response().text(), "a to the end");
}

#[test]

fn a_server_that_stays_keeps_its_connection() {
    let dns = Dns::start();
    let a = Origin::saying("a");
    let (b, c) = (Origin::beside(&a, 2, "b"), Origin::beside(&a, 3, "c"));
    say(&dns, &[&a, &b]);
    let proxy = proxy(&dns, &name(&[&a]), "");
    assert_eq!(who(&proxy), set(&["a", "b"]));
    let before = a.connections();

    say(&dns, &[&a, &c]);
    eventually("c serves, and b does not", || who(&proxy) == set(&["a", "c"]));

    assert_eq!(a.connections(), before);
}

#[test]

fn the_last_good_servers_stay_while_dns_fails_and_as_long_as_it_says_nothing() {
    let dns = Dns::start();
    let a = Origin::saying("a");
    let b = Origin::beside(&a, 2, "b");
    say(&dns, &[&a]);
    let proxy = proxy(&dns, &name(&[&a]), "");
    assert_eq!(who(&proxy), set(&["a"]));

    for mood in [Mood::Failing, Mood::Silent, Mood::Refusing, Mood::Empty] {
        dns.turn(mood);
        let before = dns.count("app.test");
        eventually("dns is asked again", || dns.count("app.test") >= before + 2);
        assert_eq!(who(&proxy), set(&["a"]));
    }
    say(&dns, &[&b]);
    dns.turn(Mood::Well);

    eventually("b serves, and a does not", || who(&proxy) == set(&["b"]));
    let warnings = proxy.events().iter().filter(|line| line.contains("dns fails")).count();
    assert_eq!(warnings, 1, "a failure is told once");
    eventually("that DNS answers again is told", || has_event(&proxy, "dns answers again"));
    assert!(proxy.metric("tidegate_dns_lookups_total", &["outcome=\"timed-out\""]) >= 1.0);
}

#[test]

fn a_name_that_does_not_resolve_stops_neither_the_start_nor_the_other_servers() {
    for mood in [Mood::Empty, Mood::Failing, Mood::Silent] {
        let dns = Dns::start();
        let a = Origin::saying("a");
        let late = Origin::beside(&a, 2, "late");
        say(&dns, &[&late]);
        dns.turn(mood);

        let proxy = proxy(&dns, &format!("{}, {}", a.toml(), name(&[&a])), "");
        assert_eq!(who(&proxy), set(&["a"]));
        eventually("it is told", || has_event(&proxy, "dns fails"));
        dns.turn(Mood::Well);

        eventually("it joins", || who(&proxy) == set(&["a", "late"]));
    }
}

#[test]

fn an_upstream_whose_only_name_does_not_resolve_yet_is_unavailable_until_it_does() {
    let dns = Dns::start();
    let a = Origin::saying("a");
    let proxy = proxy(&dns, &name(&[&a]), "");

    assert_eq!(proxy.get("/").status(), 503);
    say(&dns, &[&a]);

    eventually("it serves", || proxy.get("/").text() == "a");
}

#[test]

fn each_address_of_a_name_is_probed_for_itself() {
    let dns = Dns::start();
    let a = Origin::saying("a");
    let mut b = Origin::beside(&a, 2, "b");
    say(&dns, &[&a]);
    let health = "health = { tcp = true, interval = \"50ms\", rise = 1, fall = 1 }\neject = false";
    let proxy = proxy(&dns, &name(&[&a]), health);

    say(&dns, &[&a, &b]);
    eventually("b is a server", || who(&proxy) == set(&["a", "b"]));
    b.stop();
    eventually("b is unhealthy", || proxy.state_of(&b) == "unhealthy");

    assert_eq!(proxy.state_of(&a), "healthy");
    assert_eq!(who(&proxy), set(&["a"]));
}

#[test]

fn a_service_has_the_ports_the_weights_and_the_priorities_of_its_records() {
    let dns = Dns::start();
    let (mut a, mut b, c) = (Origin::saying("a"), Origin::saying("b"), Origin::saying("c"));
    let port = |origin: &Origin| origin.address().port();
    let records = [
        srv(10, 3, port(&a), "node.test"),
        srv(10, 1, port(&b), "node.test"),
        srv(20, 1, port(&c), "node.test"),
    ];
    dns.set("_http._tcp.app.test", 0, &records);
    dns.set_addresses("node.test", &[a.address()]);
    let balance = "balance = \"weighted-round-robin\"\nretries = 2";
    let proxy = proxy(&dns, "\"http+srv://_http._tcp.app.test\"", balance);

    let mut client = proxy.client();
    let answers: Vec<String> = (0..40).map(|_| client.get("/").text()).collect();
    let share = |name: &str| answers.iter().filter(|text| *text == name).count();
    assert_eq!((share("a"), share("b"), share("c")), (30, 10, 0));

    a.stop();
    b.stop();
    eventually("the next priority serves", || proxy.get("/").text() == "c");
}

#[test]

fn a_service_over_tls_is_verified_by_the_domain_that_was_written() {
    // The target is what a forged answer would choose: its name proves nothing.
    for (certified, status) in [("app.test", 200), ("node.test", 502)] {
        let dns = Dns::start();
        let cert = Cert::of(&[certified]);
        let tls = format!("tls = {{ ca = {:?} }}", cert.pem_path);
        let origin = Origin::start_tls(cert, |_| ok("under tls"));
        dns.set("_https._tcp.app.test", 0, &[srv(0, 0, origin.address().port(), "node.test")]);
        dns.set_addresses("node.test", &[origin.address()]);

        let proxy = proxy(&dns, "\"https+srv://_https._tcp.app.test\"", &tls);

        assert_eq!(proxy.get("/").status(), status, "a certificate for {certified}");
    }
}

#[test]
fn connections_to_a_server_that_dns_takes_away_are_closed_and_counted_no_more() {
    let dns = Dns::start();
    let a = Origin::saying("a");
    let b = Origin::beside(&a, 2, "b");
    say(&dns, &[&a]);
    let proxy = proxy(&dns, &name(&[&a]), "");
    assert_eq!(proxy.get("/").text(), "a");
    let open = || proxy.metric("tidegate_server_connections", &["app.test"]);
    eventually("there is one", || open() == 1.0);

    say(&dns, &[&b]);
    eventually("b serves", || who(&proxy) == set(&["b"]));

    eventually("the one to a is closed", || a.open_connections() == 0);
    b.hang_up();
    eventually("and none is counted when those to b are, too", || open() == 0.0);
}
