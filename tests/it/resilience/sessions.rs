//! A session stays with its server: by a cookie of ours, by one of the application's, or by a hash.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::{alone, proxy, say};
use crate::support::{Message, Origin, Proxy, Then, eventually, ok, reply};

/// The `name=value` of the last cookie in an answer.
#[track_caller]
fn cookie(answer: &Message) -> String {
    let field = *answer.all("set-cookie").last().expect("a cookie");
    field.split(';').next().unwrap().to_owned()
}

#[track_caller]
fn get(proxy: &Proxy, cookie: &str) -> Message {
    let answer = proxy.client().get_with("/", &format!("Cookie: {cookie}\r\n"));
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer
}

fn other<'a>(servers: &'a mut [Origin; 2], name: &str) -> (&'a mut Origin, &'static str) {
    let [a, b] = servers;
    if name == "a" { (a, "b") } else { (b, "a") }
}

fn key(dir: &Path, name: &str, byte: u8) -> String {
    let path = dir.join(name);
    std::fs::File::create(&path).unwrap().write_all(&[byte; 32]).unwrap();
    format!("{path:?}")
}

#[test]
fn a_change_of_keys_loses_no_session() {
    let (a, b, c) = (Origin::saying("a"), Origin::saying("b"), Origin::saying("c"));
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (key(dir.path(), "old.key", 7), key(dir.path(), "new.key", 8));
    let with =
        |keys: &str| proxy(&format!("sticky = {{ cookie = \"gate\", secret-file = {keys} }}"), &[&a, &b, &c]);
    let (before, during, after) = (with(&old), with(&format!("[{new}, {old}]")), with(&new));

    for _ in 0..4 {
        let first = before.get("/");
        for _ in 0..3 {
            // The old cookie is believed, and written anew under the new key.
            let turned = get(&during, &cookie(&first));
            assert_eq!(turned.text(), first.text());
            assert_ne!(cookie(&turned), cookie(&first));
            let later = get(&during, &cookie(&turned));
            assert_eq!((later.text(), later.field("set-cookie")), (first.text(), None));
            let last = get(&after, &cookie(&turned));
            assert_eq!((last.text(), last.field("set-cookie")), (first.text(), None));
        }
        // Under a key that is gone, it is as good as forged: whoever it goes to, a cookie comes back.
        let texts: BTreeSet<_> = (0..6)
            .map(|_| {
                let answer = get(&after, &cookie(&first));
                assert!(answer.field("set-cookie").is_some());
                answer.text()
            })
            .collect();
        assert!(texts.len() > 1, "the strategy below must pick");
    }
}

#[test]
fn a_session_stays_when_a_kept_connection_turns_out_closed() {
    // It closes upon the second request of a connection, as a server does whose time for it ran out.
    let closing = |name: &'static str| {
        Origin::raw(move |request, conn| match request.nth {
            0 => say(conn, &reply("200 OK", "", name)),
            _ => Then::Close,
        })
    };
    let (a, b, c) = (closing("a"), closing("b"), closing("c"));
    for rules in ["sticky = { cookie = \"gate\" }", "sticky = { hash = { cookie = \"gate\" } }"] {
        let proxy = alone(&format!("eject = false\n{rules}"), &[&a, &b, &c]);
        let first = proxy.client().get_with("/", "Cookie: gate=7\r\n");
        let session = match first.field("set-cookie") {
            Some(_) => cookie(&first),
            None => "gate=7".to_owned(),
        };

        for n in 0..10 {
            assert_eq!(get(&proxy, &session).text(), first.text(), "request {n}, {rules}");
        }
    }
}

/// An application with sessions of its own: it opens one where there is none, in the way of `how`.
fn application(name: &'static str, how: &'static str) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |request| match request.field("cookie") {
        Some(cookie) if cookie.contains("sid=") && request.target() != "/out" => ok(name),
        Some(_) if request.target() == "/out" => {
            reply("200 OK", "Set-Cookie: sid=; Max-Age=0; Path=/\r\n", name)
        }
        _ => {
            let n = count.fetch_add(1, SeqCst);
            reply("200 OK", &how.replace("VALUE", &format!("{name}-{n}")), name)
        }
    })
}

const PLAIN: &str = "Set-Cookie: theme=dark\r\nSet-Cookie: sid=VALUE; Path=/; HttpOnly\r\n";
const QUOTED_AND_CLEARED: &str = "Set-Cookie: sid=; Max-Age=0\r\nSet-Cookie: sid=\"VALUE\"; Path=/\r\nSet-Cookie: sidx=no\r\nSet-Cookie: sid=; Path=/old; Max-Age=0\r\n";

#[test]
fn a_session_that_an_application_opens_is_learned() {
    for how in [PLAIN, QUOTED_AND_CLEARED] {
        let (a, b, c) = (application("a", how), application("b", how), application("c", how));
        let proxy = proxy("sticky = { learn = \"sid\" }", &[&a, &b, &c]);

        let opened: Vec<_> = (0..6).map(|_| proxy.get("/")).collect();
        assert!(opened.iter().all(|answer| answer.all("set-cookie").iter().all(|c| !c.contains("tidegate"))));

        for answer in &opened {
            let own = answer
                .all("set-cookie")
                .into_iter()
                .find(|line| line.contains(&format!("{}-", answer.text())))
                .unwrap();
            let session = own.split(';').next().unwrap();
            for _ in 0..6 {
                assert_eq!(get(&proxy, &format!("theme=dark; {session}")).text(), answer.text(), "{session}");
            }
        }
        assert_eq!(proxy.metric("tidegate_sticky_sessions", &["upstream=\"app\""]), 6.0);
    }
}

#[test]
fn a_learned_session_whose_server_died_moves_and_stays_where_it_went() {
    let mut servers = [application("a", PLAIN), application("b", PLAIN)];
    let proxy = proxy("sticky = { learn = \"sid\" }\neject = false", &servers.each_ref());
    let first = proxy.get("/");
    let session = cookie(&first);

    let (own, other_name) = other(&mut servers, &first.text());
    own.stop();
    assert_eq!(get(&proxy, &session).text(), other_name);
    own.restart();

    for _ in 0..6 {
        assert_eq!(get(&proxy, &session).text(), other_name, "it does not go back");
    }
}

#[test]
fn a_session_that_is_closed_moves_nobody() {
    let (a, b) = (application("a", PLAIN), application("b", PLAIN));
    let proxy = proxy("sticky = { learn = \"sid\" }", &[&a, &b]);
    let (one, two) = (proxy.get("/"), proxy.get("/"));

    // It goes out: that answer sets an empty cookie, which is no session of anyone's.
    let out = proxy.client().get_with("/out", &format!("Cookie: {}\r\n", cookie(&one)));
    assert_eq!(cookie(&out), "sid=");

    for _ in 0..6 {
        assert_eq!(get(&proxy, &cookie(&two)).text(), two.text());
    }
    let nobody: BTreeSet<_> =
        (0..8).map(|_| proxy.client().get_with("/", "Cookie: sid=\r\n").text()).collect();
    assert_eq!(nobody.len(), 2, "an empty cookie binds nobody");
}

#[test]
fn a_cookie_that_a_server_takes_back_is_no_session() {
    // As PHP does it, beside the new one: the last line counts, and this one does not.
    const MOVED: &str = "Set-Cookie: sid=VALUE; Path=/\r\n\
        Set-Cookie: sid=deleted; Expires=Thu, 01-Jan-1970 00:00:01 GMT; Max-Age=0; Path=/old\r\n";
    let (a, b, c) = (application("a", MOVED), application("b", MOVED), application("c", MOVED));
    let proxy = proxy("sticky = { learn = \"sid\" }", &[&a, &b, &c]);

    for _ in 0..6 {
        let answer = proxy.get("/");
        let session = answer.all("set-cookie")[0].split(';').next().unwrap();
        assert_eq!(get(&proxy, session).text(), answer.text());
    }
}

#[test]
fn no_more_sessions_are_remembered_than_size_says() {
    let a = application("a", PLAIN);
    let proxy = proxy("sticky = { learn = \"sid\", size = 64 }", &[&a]);

    let mut client = proxy.client();
    for _ in 0..400 {
        assert_eq!(client.get("/").status(), 200);
    }

    let count = proxy.metric("tidegate_sticky_sessions", &[]);
    assert!((16.0..=64.0).contains(&count), "{count}");
}

#[test]
fn a_hash_keeps_a_session_with_its_server_whatever_the_balance() {
    let servers = ["a", "b", "c"].map(Origin::saying);
    for (hash, target, fields) in [
        ("{ query = \"u\" }", "/?x=1&u=KEY", ""),
        ("{ header = \"X-User\" }", "/", "X-User: KEY\r\n"),
        ("{ cookie = \"sid\" }", "/", "Cookie: a=b; sid=KEY\r\n"),
    ] {
        for balance in ["round-robin", "random", "least-connections", "consistent-hash"] {
            let rules = format!("balance = \"{balance}\"\nsticky = {{ hash = {hash} }}");
            let proxy = proxy(&rules, &servers.each_ref());
            let ask = |key: usize| {
                let key = key.to_string();
                let answer =
                    proxy.client().get_with(&target.replace("KEY", &key), &fields.replace("KEY", &key));
                assert_eq!((answer.status(), answer.field("set-cookie")), (200, None));
                answer.text()
            };

            let before: Vec<_> = (0..12).map(ask).collect();
            let again: Vec<_> = (0..12).map(ask).collect();

            assert_eq!(before, again, "{hash}, {balance}");
            assert!(before.iter().collect::<BTreeSet<_>>().len() > 1, "{hash}, {balance}: {before:?}");
            assert!(proxy.metric("tidegate_picks_total", &["reason=\"sticky\""]) >= 24.0);
        }
    }
}

#[test]
fn a_request_without_what_is_hashed_goes_where_balance_says() {
    let servers = ["a", "b"].map(Origin::saying);
    let proxy = alone("sticky = { hash = { query = \"u\" } }", &servers.each_ref());

    let mut client = proxy.client();
    let texts: String = (0..8).map(|_| client.get("/?other=1").text()).collect();

    assert!(["abababab", "babababa"].contains(&texts.as_str()), "{texts}");
}

#[test]
fn a_session_does_not_go_to_and_fro_while_its_server_begins_slowly() {
    let servers = ["a", "b", "c"].map(Origin::saying);
    for rules in
        ["balance = \"consistent-hash\"\nhash = { query = \"u\" }", "sticky = { hash = { query = \"u\" } }"]
    {
        let proxy = alone(&format!("slow-start = \"1h\"\n{rules}"), &servers.each_ref());
        for drain in [true, false] {
            super::drain::drain(&proxy, "app", &servers[1].address().to_string(), drain);
        }

        let mut client = proxy.client();
        let mut texts = BTreeMap::<_, BTreeSet<_>>::new();
        for n in 0..400 {
            let user = n % 40;
            texts.entry(user).or_default().insert(client.get(&format!("/?u={user}")).text());
        }

        assert!(texts.values().all(|texts| texts.len() == 1), "{rules}: {texts:?}");
    }
}

#[test]
fn the_host_is_hashed_without_its_port_and_in_any_case() {
    let servers: [Origin; 4] = ["a", "b", "c", "d"].map(Origin::saying);
    let proxy = proxy("balance = \"consistent-hash\"\nhash = \"host\"", &servers.each_ref());
    let ask = |host: &str| {
        let answer = proxy.client().send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response();
        assert_eq!(answer.status(), 200, "{host}");
        answer.text()
    };

    let mut found = BTreeSet::new();
    for n in 0..24 {
        let own = ask(&format!("shop{n}.test"));
        for host in [format!("SHOP{n}.Test"), format!("shop{n}.test:8080"), format!("Shop{n}.TEST:80")] {
            assert_eq!(ask(&host), own, "{host}");
        }
        found.insert(own);
    }
    assert_eq!(found.len(), 4);
}

#[test]
fn a_parameter_of_the_query_is_hashed_by_its_name() {
    let servers: [Origin; 4] = ["a", "b", "c", "d"].map(Origin::saying);
    let proxy = proxy("balance = \"consistent-hash\"\nhash = { query = \"tenant\" }", &servers.each_ref());

    let mut found = BTreeSet::new();
    // So many that each server has some, wherever their ports put them on the ring.
    for n in 0..64 {
        let own = proxy.get(&format!("/?tenant={n}")).text();
        for target in [format!("/other?a=1&tenant={n}"), format!("/?xtenant=3&tenant={n}&tenant=9")] {
            assert_eq!(proxy.get(&target).text(), own, "{target}");
        }
        found.insert(own);
    }
    assert_eq!(found.len(), 4);
}

#[test]
fn a_session_s_request_waits_for_its_own_server_and_nobody_waits_with_it() {
    let (gate, names) = (crate::support::Gate::default(), Arc::new(AtomicUsize::new(0)));
    let server = |name: &'static str| {
        let (opened, names) = (gate.clone(), names.clone());
        Origin::start(move |request| {
            if request.target() == "/held" {
                names.fetch_add(1, SeqCst);
                opened.wait();
            }
            ok(name)
        })
    };
    let (a, b) = (server("a"), server("b"));
    let text = format!(
        "[[route]]\nupstream = \"app\"\n[upstream.app]\nsticky = {{ cookie = \"gate\" }}\n\
         queue = {{ timeout = \"1m\" }}\nservers = [{{ address = {}, max-requests = 1 }}, {{ address = {}, max-requests = 1 }}]\n",
        a.toml(),
        b.toml()
    );
    let proxy = Proxy::start(&text);
    let first = proxy.get("/");
    let field = format!("Cookie: {}\r\n", cookie(&first));
    let mut held = proxy.client();
    held.send(format!("GET /held HTTP/1.1\r\nHost: test\r\n{field}\r\n"));
    eventually("its server is busy", || names.load(SeqCst) == 1);
    let mut waiting = proxy.client();
    waiting.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{field}\r\n"));
    super::await_queued(&proxy, 1);

    let others: Vec<_> = (0..4).map(|_| proxy.get("/").text()).collect();

    assert!(others.iter().all(|text| *text != first.text()), "{others:?}");
    assert!(!gate.is_open());
    gate.open();
    assert_eq!(waiting.response().text(), first.text());
    assert_eq!(held.response().text(), first.text());
}
