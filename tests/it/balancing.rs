//! Which server of an upstream gets the next request, and which one keeps a client.

use std::collections::BTreeMap;

use crate::support::certs::Cert;
use crate::support::{Client, Gate, Message, Origin, Proxy, eventually, ok, one_route};

/// Answers with its own name.
fn server(name: &'static str) -> Origin {
    Origin::saying(name)
}

/// One worker: where each keeps its own turn, the shares of a few requests are exact only there.
fn proxy(upstream: &str, servers: &[&Origin]) -> Proxy {
    Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", upstream, servers)))
}

fn shares(answers: impl IntoIterator<Item = Message>) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for answer in answers {
        assert_eq!(answer.status(), 200);
        *shares.entry(answer.text()).or_insert(0) += 1;
    }
    shares
}

fn share(shares: &BTreeMap<String, usize>, name: &str) -> usize {
    shares.get(name).copied().unwrap_or(0)
}

#[test]
fn round_robin_gives_each_server_the_same() {
    let (a, b, c) = (server("a"), server("b"), server("c"));
    let proxy = proxy("balance = \"round-robin\"", &[&a, &b, &c]);

    let mut client = proxy.client();
    let shares = shares((0..30).map(|_| client.get("/")));

    assert_eq!(shares.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
}

#[test]
fn weighted_round_robin_gives_by_weight_and_in_turn() {
    let (a, b) = (server("a"), server("b"));
    let proxy = Proxy::start(&format!(
        "[runtime]\nworkers = 1\n[[route]]\nupstream = \"app\"\n[upstream.app]\nbalance = \"weighted-round-robin\"\n\
         servers = [{{ address = {}, weight = 3 }}, {}]\n",
        a.toml(),
        b.toml()
    ));

    let mut client = proxy.client();
    let order: String = (0..12).map(|_| client.get("/").text()).collect();

    assert_eq!(order.matches('b').count(), 3, "{order}");
    assert!(!order.contains("bb") && !order.contains("aaaa"), "not smooth: {order}");
}

#[test]
fn least_connections_and_power_of_two_avoid_a_busy_server() {
    for balance in ["least-connections", "power-of-two"] {
        let gate = Gate::default();
        let opened = gate.clone();
        let slow = Origin::start(move |request| {
            if request.target() == "/slow" {
                opened.wait();
            }
            ok("slow")
        });
        let fast = server("fast");
        let proxy = proxy(&format!("balance = \"{balance}\""), &[&slow, &fast]);

        // `fast` answers these at once; the first that `slow` gets keeps it busy until the end.
        let mut waiting: Vec<Client> = Vec::new();
        while slow.count() == 0 {
            assert!(waiting.len() < 50, "{balance}: it never picks one of two idle servers");
            let mut client = proxy.client();
            let before = slow.count() + fast.count();
            client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
            eventually("a server is asked", || slow.count() + fast.count() > before);
            waiting.push(client);
        }
        let mut client = proxy.client();
        let shares = shares((0..10).map(|_| client.get("/")));
        gate.open();

        assert_eq!(share(&shares, "fast"), 10, "{balance}: {shares:?}");
    }
}

#[test]
fn random_reaches_every_server() {
    let (a, b) = (server("a"), server("b"));
    let proxy = proxy("balance = \"random\"", &[&a, &b]);

    let mut client = proxy.client();
    let shares = shares((0..60).map(|_| client.get("/")));

    assert!(share(&shares, "a") > 0 && share(&shares, "b") > 0, "{shares:?}");
}

#[test]
fn consistent_hash_sends_one_key_to_one_server_and_many_keys_to_all() {
    for (hash, fields) in [
        ("{ header = \"X-User\" }", "X-User: KEY\r\n"),
        ("{ cookie = \"sid\" }", "Cookie: other=1; sid=KEY\r\n"),
        ("\"path\"", ""),
    ] {
        let (a, b, c) = (server("a"), server("b"), server("c"));
        let proxy = proxy(&format!("balance = \"consistent-hash\"\nhash = {hash}"), &[&a, &b, &c]);
        let mut client = proxy.client();
        let mut ask = |key: usize| {
            client.get_with(&format!("/{key}?q={}", key % 2), &fields.replace("KEY", &key.to_string()))
        };

        let of_one = shares((0..5).map(|_| ask(7)));
        let of_many = shares((0..60).map(&mut ask));

        assert_eq!(of_one.len(), 1, "{hash}: {of_one:?}");
        assert_eq!(of_many.len(), 3, "{hash}: {of_many:?}");
    }
}

#[test]
fn consistent_hash_keeps_a_client_by_its_address() {
    let (a, b, c) = (server("a"), server("b"), server("c"));
    let proxy = proxy("balance = \"consistent-hash\"", &[&a, &b, &c]);

    let shares = shares((0..6).map(|_| proxy.get("/")));

    assert_eq!(shares.len(), 1, "{shares:?}");
}

#[test]
fn consistent_hash_moves_only_the_keys_of_a_dead_server() {
    let (a, b, mut c) = (server("a"), server("b"), server("c"));
    let proxy = proxy(
        "balance = \"consistent-hash\"\nhash = { header = \"x-user\" }\neject = { failures = 1, time = \"60s\" }",
        &[&a, &b, &c],
    );
    let mut client = proxy.client();
    let mut ask = |key: usize| client.get_with("/", &format!("X-User: {key}\r\n")).text();

    let before: Vec<String> = (0..60).map(&mut ask).collect();
    c.stop();
    let after: Vec<String> = (0..60).map(&mut ask).collect();

    for (key, (before, after)) in before.iter().zip(&after).enumerate() {
        assert!(before == after || before == "c", "key {key} moved from {before} to {after}");
        assert_ne!(after, "c");
    }
}

#[test]
fn an_unknown_strategy_is_a_mistake_with_the_nearest_word() {
    let text = "[[listener]]\nbind = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n\
        [upstream.app]\nservers = [\"127.0.0.1:1\"]\nbalance = \"round-robbin\"\n";
    let (status, said) = crate::config_check::check(text);

    assert_eq!(status, Some(2));
    assert!(said.contains("\"round-robin\""), "{said}");
}

#[test]
fn a_backup_is_used_only_when_no_other_server_may_serve() {
    let (mut main, backup) = (server("main"), server("backup"));
    let proxy = Proxy::start(&format!(
        "[runtime]\nworkers = 1\n[[route]]\nupstream = \"app\"\n[upstream.app]\n\
         servers = [{}, {{ address = {}, backup = true }}]\n",
        main.toml(),
        backup.toml()
    ));

    let with_main = shares((0..6).map(|_| proxy.get("/")));
    main.stop();
    let without = shares((0..6).map(|_| proxy.get("/")));

    assert_eq!(share(&with_main, "main"), 6);
    assert_eq!(share(&without, "backup"), 6);
}

/// The `name=value` of the sticky cookie in an answer.
fn cookie(answer: &Message) -> String {
    let field = answer.field("set-cookie").expect("a cookie");
    field.split(';').next().unwrap().to_owned()
}

#[test]
fn a_sticky_cookie_says_nothing_of_the_server_and_is_out_of_reach_of_scripts() {
    let (a, b) = (server("a"), server("b"));
    let proxy = proxy("sticky = { cookie = \"gate\" }", &[&a, &b]);

    let answer = proxy.get("/");

    let field = answer.field("set-cookie").expect("a cookie").to_owned();
    assert!(field.starts_with("gate="), "{field}");
    assert!(field.contains("HttpOnly") && field.contains("SameSite=Lax"), "{field}");
    assert!(!field.contains("Secure"), "{field}");
    for origin in [&a, &b] {
        let port = origin.address().port().to_string();
        assert!(!field.contains(&port) && !field.contains("127.0.0.1"), "{field}");
    }
}

#[test]
fn a_sticky_cookie_is_secure_under_tls() {
    let origin = server("a");
    let cert = Cert::of(&["site.test"]);
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n{}",
        cert.toml(),
        one_route("", "sticky = { cookie = \"gate\" }", &[&origin])
    ));

    let (answer, _) = cert.trust().get(proxy.public(), "site.test").unwrap();

    let field = answer.field("set-cookie").expect("a cookie");
    assert!(field.contains("Secure"), "{field}");
}

#[test]
fn a_client_with_a_sticky_cookie_stays_with_its_server() {
    let (a, b, c) = (server("a"), server("b"), server("c"));
    let proxy = Proxy::start(&one_route("", "sticky = { cookie = \"gate\" }", &[&a, &b, &c]));

    for _ in 0..3 {
        let first = proxy.get("/");
        let field = format!("Cookie: theme=dark; {}\r\n", cookie(&first));
        for _ in 0..6 {
            // A connection each, so that both workers must agree.
            let answer = proxy.client().get_with("/", &field);
            assert_eq!(answer.text(), first.text());
        }
    }
}

#[test]
fn a_client_whose_server_died_moves_to_another_and_stays_there() {
    let mut servers = [server("a"), server("b")];
    let proxy = proxy("sticky = { cookie = \"gate\" }", &[&servers[0], &servers[1]]);
    let first = proxy.get("/");
    let own = usize::from(first.text() == "b");

    servers[own].stop();
    let moved = proxy.client().get_with("/", &format!("Cookie: {}\r\n", cookie(&first)));
    servers[own].restart();
    let later = proxy.client().get_with("/", &format!("Cookie: {}\r\n", cookie(&moved)));

    assert_eq!(moved.status(), 200);
    assert_ne!(moved.text(), first.text());
    assert_eq!(later.text(), moved.text());
}

#[test]
fn a_forged_sticky_cookie_is_ignored() {
    let (a, b) = (server("a"), server("b"));
    let proxy = proxy("sticky = { cookie = \"gate\" }", &[&a, &b]);
    let genuine = cookie(&proxy.get("/"));

    let mut forged = genuine.clone().into_bytes();
    let middle = "gate=".len() + (forged.len() - "gate=".len()) / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();

    for value in [forged.as_str(), "gate=", "gate=0", "gate=127.0.0.1:1", "gate=%%%"] {
        let answers: Vec<_> =
            (0..4).map(|_| proxy.client().get_with("/", &format!("Cookie: {value}\r\n"))).collect();
        assert!(answers.iter().all(|answer| answer.field("set-cookie").is_some()), "{value}");
        assert_eq!(shares(answers).len(), 2, "{value}: the strategy below must pick");
    }
}
