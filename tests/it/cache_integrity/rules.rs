//! What an operator may say about a route's cache, and what then reaches the server.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ask, cache_status, cached, is_shared};
use crate::support::{Client, Message, Origin, Proxy, eventually, reply};

/// A server whose every answer has this status and these fields, and counts the answers in its body.
fn counting(status: &'static str, fields: &'static str) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        reply(status, fields, format!("answer {n}"))
    })
}

/// A GET of `/` with these fields, each ending in CR LF.
#[track_caller]
fn get_with(proxy: &Proxy, fields: &str) -> Message {
    ask(proxy, &format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n"))
}

/// How many of so many GETs in a row reach the server.
#[track_caller]
fn fetches(rules: &str, status: &'static str, fields: &'static str, requests: usize) -> usize {
    let origin = counting(status, fields);
    let proxy = cached(rules, &origin);
    for _ in 0..requests {
        proxy.get("/");
    }
    origin.count()
}

#[test]
fn a_cache_that_observes_changes_nothing_and_counts() {
    let origin = Origin::start(|request| {
        let fields = "Cache-Control: max-age=60\r\nETag: \"a\"\r\nX-Of-Server: 1\r\n";
        match request.field("if-none-match") {
            Some(_) => reply("304 Not Modified", fields, ""),
            None => reply("200 OK", fields, "body"),
        }
    });
    let proxy = cached("mode = \"observe\", key = { ignore-query = [\"utm_*\"] }", &origin);
    let requests = [
        ("GET /?utm_source=a", "", 200),
        ("GET /", "", 200),
        ("GET /", "", 200),
        ("GET /", "If-None-Match: \"b\"\r\n", 304),
        ("GET /", "Range: bytes=0-1\r\nIf-Range: \"a\"\r\n", 200),
        ("GET /", "Cache-Control: only-if-cached\r\n", 200),
        ("GET /", "Cache-Control: no-store\r\n", 200),
        ("HEAD /", "", 200),
        ("POST /", "Content-Length: 0\r\n", 200),
    ];
    for (n, (line, fields, status)) in requests.into_iter().enumerate() {
        let mut client = proxy.client();
        let answer = client.send(format!("{line} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).head();
        assert_eq!(answer.status(), status, "{line} {fields}");
        for name in ["cache-status", "age"] {
            assert_eq!(answer.field(name), None, "{line} {fields}: {name} was added");
        }
        assert_eq!(origin.count(), n + 1, "{line} {fields}");
        // Nobody waits for a fetch that is only observed.
        eventually("it is stored", || proxy.metric("tidegate_cache_stored_total", &[]) >= 1.0);
        let seen = origin.last();
        assert_eq!(format!("{} {}", seen.method(), seen.target()), line);
        for field in fields.lines() {
            let (name, value) = field.split_once(": ").unwrap();
            assert_eq!(seen.field(name), Some(value), "{line}");
        }
    }

    let of = |result: &str| {
        proxy.metric("tidegate_cache_requests_total", &[&format!("result=\"observed-{result}\"")])
    };
    eventually("all are counted", || of("hit") + of("miss") >= 7.0);
    assert_eq!((of("hit"), of("miss")), (6.0, 1.0), "the hits: all but the first, the POST and no-store");
}

#[test]
fn what_was_only_observed_is_not_served_to_others() {
    let origin = Origin::start(|request| {
        let fields = "Cache-Control: max-age=60\r\nETag: \"a\"\r\n";
        match request.field("if-none-match") {
            Some(_) => reply("304 Not Modified", fields, ""),
            None => reply("200 OK", fields, format!("answer to {}", request.target())),
        }
    });
    let mut text = String::new();
    for (name, mode) in [("public", "on"), ("trial", "observe")] {
        text.push_str(&format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\n[[route]]\nlistener = \"{name}\"\n\
             upstream = \"app\"\ncache = {{ mode = \"{mode}\", key = {{ ignore-query = [\"utm_*\"] }} }}\n"
        ));
    }
    let proxy = Proxy::start(&format!("{text}[upstream.app]\nservers = [{}]\n", origin.toml()));
    let ask_at = |listener: &str, target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        Client::connect(proxy.address(listener)).send(request).response()
    };

    assert_eq!(ask_at("trial", "/?utm_source=evil").text(), "answer to /?utm_source=evil");
    eventually("it is stored", || proxy.metric("tidegate_cache_stored_total", &[]) == 1.0);
    let answer = ask_at("public", "/");
    assert_eq!(answer.text(), "answer to /");
    assert_eq!(cache_status(&answer), "tidegate; fwd=uri-miss; stored");
    assert_eq!(origin.last().field("if-none-match"), None, "nor is it asked about");
    assert!(is_shared(&ask_at("public", "/")), "what is stored for it takes the other's place");
}

#[test]
fn what_is_only_observed_takes_nothing_from_others() {
    let origin = Origin::start(|request| {
        let fields = "Cache-Control: max-age=60\r\nAge: 100\r\nETag: \"a\"\r\n";
        match request.field("if-none-match") {
            Some(_) => reply("304 Not Modified", &fields.replace("100", "0"), ""),
            None => reply("200 OK", fields, "page"),
        }
    });
    let mut text = String::new();
    for (name, mode) in [("public", "on"), ("trial", "observe")] {
        text.push_str(&format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\n[[route]]\nlistener = \"{name}\"\n\
             upstream = \"app\"\ncache = {{ mode = \"{mode}\" }}\n"
        ));
    }
    let proxy = Proxy::start(&format!("{text}[upstream.app]\nservers = [{}]\n", origin.toml()));
    let ask_at = |listener: &str| {
        Client::connect(proxy.address(listener)).send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").response()
    };
    let stored = || proxy.metric("tidegate_cache_stored_total", &[]);
    ask_at("public");
    eventually("it is stored", || stored() == 1.0);

    ask_at("trial");
    eventually("what was observed is stored too", || stored() == 2.0);

    assert_eq!(cache_status(&ask_at("public")), "tidegate; fwd=stale; fwd-status=304; stored");
    assert!(is_shared(&ask_at("public")));
}

#[test]
fn with_min_uses_of_three_the_third_response_is_the_first_to_be_stored() {
    let origin = counting("200 OK", "Cache-Control: max-age=60\r\n");
    let proxy = cached("min-uses = 3", &origin);

    let answers: Vec<Message> = (0..5).map(|_| proxy.get("/")).collect();

    let texts: Vec<String> = answers.iter().map(Message::text).collect();
    assert_eq!(texts, ["answer 0", "answer 1", "answer 2", "answer 2", "answer 2"]);
    assert!(cache_status(&answers[1]).contains("detail=min-uses"), "{}", cache_status(&answers[1]));
    assert!(cache_status(&answers[2]).contains("stored"), "{}", cache_status(&answers[2]));
    assert!(is_shared(&answers[3]));
}

#[test]
fn negative_is_for_its_statuses_and_for_servers_that_say_nothing() {
    let negative = "negative = { statuses = [404, 502], ttl = \"60s\" }";
    for (rules, status, fields, expected) in [
        (negative, "404 Not Found", "", 1),
        (negative, "502 Bad Gateway", "", 1),
        (negative, "410 Gone", "", 3),
        (negative, "200 OK", "", 3),
        (negative, "404 Not Found", "Cache-Control: max-age=0\r\n", 3),
        (negative, "404 Not Found", "Cache-Control: no-store\r\n", 3),
        (negative, "404 Not Found", "Cache-Control: private\r\n", 3),
        (negative, "404 Not Found", "Set-Cookie: a=1\r\n", 3),
        ("", "404 Not Found", "", 3),
    ] {
        assert_eq!(fetches(rules, status, fields, 3), expected, "{rules} {status} {fields}");
    }
}

#[test]
fn a_ttl_counts_for_as_much_as_server_freshness_lets_it() {
    let (respect, override_, ignore) = (
        "ttl = \"60s\"",
        "ttl = \"60s\", server-freshness = \"override\"",
        "ttl = \"60s\", server-freshness = \"ignore\"",
    );
    for (fields, expected) in [
        ("", [1, 1, 1]),
        ("Cache-Control: max-age=0\r\n", [3, 1, 1]),
        ("Expires: 0\r\n", [3, 1, 1]),
        ("Cache-Control: max-age=60\r\n", [1, 1, 1]),
        ("Cache-Control: no-store\r\n", [3, 3, 1]),
        ("Cache-Control: private\r\n", [3, 3, 1]),
        ("Cache-Control: no-cache\r\n", [3, 3, 1]),
        ("Set-Cookie: a=1\r\n", [3, 3, 3]),
        ("Vary: *\r\n", [3, 3, 3]),
    ] {
        for (rules, expected) in [respect, override_, ignore].into_iter().zip(expected) {
            assert_eq!(fetches(rules, "200 OK", fields, 3), expected, "{rules} {fields}");
        }
    }
}

#[test]
fn what_an_operator_lets_pass_is_neither_looked_up_nor_stored() {
    let rules =
        "bypass = { headers = [\"x-preview\"], cookies = [\"session\"], query = [\"nocache\", \"dbg_*\"] }";
    let requests = [
        ("/", "X-Preview: 1\r\n"),
        ("/", "X-Preview:\r\n"),
        ("/", "Cookie: a=1; session=2\r\n"),
        ("/", "Cookie: a=1\r\nCookie: session=\r\n"),
        ("/?nocache", ""),
        ("/?a=1&nocache=1", ""),
        ("/?dbg_x", ""),
    ];
    for (target, fields) in requests {
        let origin = counting("200 OK", "Cache-Control: max-age=60\r\n");
        let proxy = cached(rules, &origin);
        let passing = format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        let usual = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");

        let first = ask(&proxy, &passing);
        assert!(cache_status(&first).contains("fwd=bypass; detail=configured"), "{first:?}");
        if target == "/" {
            assert_eq!(ask(&proxy, &usual).text(), "answer 1", "nothing of it was stored");
            assert_eq!(ask(&proxy, &usual).text(), "answer 1");
            assert_eq!(ask(&proxy, &passing).text(), "answer 2", "{fields}: nothing was looked up");
        } else {
            assert_eq!(ask(&proxy, &passing).text(), "answer 1", "{target}");
        }
    }
    // Not quite the names: these do not pass.
    for (target, fields) in [("/", "Cookie: xsession=1; a=session\r\n"), ("/?a=nocache&dbg=1", "")] {
        let origin = counting("200 OK", "Cache-Control: max-age=60\r\n");
        let proxy = cached(rules, &origin);
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        ask(&proxy, &request);
        assert!(is_shared(&ask(&proxy, &request)), "{target} {fields}");
    }
}

#[test]
fn fields_and_cookies_of_the_key_tell_variants_apart() {
    let origin = Origin::start(|request| {
        let of = |name| request.field(name).unwrap_or("none").to_owned();
        reply("200 OK", "Cache-Control: max-age=60\r\n", format!("{} {}", of("x-tenant"), of("cookie")))
    });
    let proxy = cached("key = { headers = [\"x-tenant\"], cookies = [\"group\"] }", &origin);
    let variants = [
        ("", "none none"),
        ("X-Tenant: a\r\n", "a none"),
        ("X-Tenant: b\r\n", "b none"),
        ("Cookie: group=1\r\n", "none group=1"),
        ("Cookie: group=2\r\n", "none group=2"),
        ("X-Tenant: a\r\nCookie: group=2\r\n", "a group=2"),
    ];

    for _ in 0..2 {
        for (fields, expected) in variants {
            assert_eq!(get_with(&proxy, fields).text(), expected);
        }
    }

    assert_eq!(origin.count(), variants.len());
    let other_cookie = get_with(&proxy, "Cookie: other=1; group=1\r\n");
    assert_eq!(other_cookie.text(), "none group=1", "a cookie that is not in the key tells nothing apart");
}

#[test]
fn directives_of_clients_count_unless_the_operator_says_no() {
    for (rules, is_heard) in [("", true), ("client-directives = false", false)] {
        let origin = counting("200 OK", "Cache-Control: max-age=60\r\n");
        let proxy = cached(rules, &origin);

        let absent = get_with(&proxy, "Cache-Control: only-if-cached\r\n");
        assert_eq!(absent.status() == 504, is_heard, "{rules}: only-if-cached");
        get_with(&proxy, "");
        for fields in [
            "Cache-Control: no-cache\r\n",
            "Cache-Control: no-store\r\n",
            "Cache-Control: min-fresh=100\r\n",
            "Pragma: no-cache\r\n",
        ] {
            assert_eq!(is_shared(&get_with(&proxy, fields)), !is_heard, "{rules} {fields}");
        }
    }
}

#[test]
fn what_was_stored_before_its_key_had_more_parts_is_not_served_in_their_place() {
    let origin = Origin::start(|request| {
        let of = |name| request.field(name).unwrap_or("none").to_owned();
        reply("200 OK", "Cache-Control: max-age=60\r\n", format!("{} {}", of("x-tenant"), of("cookie")))
    });
    let two_rules = |first: &str, second: &str| {
        let mut text = String::new();
        for (name, rules) in [("public", first), ("other", second)] {
            text.push_str(&format!(
                "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\n[[route]]\nlistener = \"{name}\"\n\
                 upstream = \"app\"\ncache = {{ {rules} }}\n"
            ));
        }
        format!("{text}[upstream.app]\nservers = [{}]\n", origin.toml())
    };
    for key in ["headers = [\"x-tenant\"]", "cookies = [\"group\"]"] {
        let with_key = format!("key = {{ {key} }}");
        let proxy = Proxy::start(&two_rules("", &with_key));
        let ask_at = |listener: &str, tenant: &str| {
            let fields = format!("X-Tenant: {tenant}\r\nCookie: group={tenant}\r\n");
            let request = format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
            Client::connect(proxy.address(listener)).send(request).response()
        };
        assert_eq!(ask_at("public", "a").text(), "a group=a");

        // By another route to the same upstream.
        assert_eq!(ask_at("other", "b").text(), "b group=b", "{key}");
        assert!(is_shared(&ask_at("other", "b")), "{key}");

        // And by the same route, when its rules are others.
        assert_eq!(ask_at("public", "c").text(), "a group=a", "{key}: whose key it is not in");
        proxy.reload(&two_rules(&with_key, &with_key));
        assert_eq!(ask_at("public", "d").text(), "d group=d", "{key}");
        assert!(is_shared(&ask_at("public", "d")), "{key}");
        assert!(is_shared(&ask_at("public", "b")), "{key}: what was told apart before is there still");
    }
}
