//! Nobody gets what the server said to another's request: published attacks, each by two clients.
//!
//! The attacker asks first, the victim second; the same server stands behind a listener without a cache too, and
//! what it says there to the victim's own request is what the victim must get.

use std::net::IpAddr;

use super::{cache_status, is_shared};
use crate::support::certs::Cert;
use crate::support::{Client, Message, Origin, Proxy, reply};

/// Its answer is the request, as far as an answer can depend on it; fresh for a minute, with these fields.
fn echo(fields: &'static str) -> Origin {
    Origin::start(move |request| {
        let fields = format!("Cache-Control: max-age=60\r\n{fields}");
        reply("200 OK", &fields, echoed(request))
    })
}

fn echoed(request: &Message) -> String {
    // These two are of the request or of the listener, not of what was asked for.
    let is_own = |name: &str| ["x-request-id", "x-forwarded-port"].contains(&name);
    let line = |(name, value): &(String, String)| format!("{}: {value}", name.to_ascii_lowercase());
    let mut lines: Vec<String> = request.fields.iter().map(line).collect();
    lines.retain(|line| !is_own(line.split(':').next().unwrap()));
    lines.sort();
    format!("{} {}\n{}\n", request.method(), request.target(), lines.join("\n"))
}

/// A listener with the cache and one without, both with these further keys.
fn both(listener: &str, rules: &str, upstream: &str, origin: &Origin) -> Proxy {
    let mut text = String::new();
    for (name, cache) in [("public", format!("{{ {rules} }}")), ("plain", "false".to_owned())] {
        text.push_str(&format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\n{listener}\n\
             [[route]]\nlistener = \"{name}\"\nupstream = \"app\"\ncache = {cache}\n"
        ));
    }
    Proxy::start(&format!("{text}[upstream.app]\nservers = [{}]\n{upstream}\n", origin.toml()))
}

#[track_caller]
fn ask_at(proxy: &Proxy, listener: &str, request: &str) -> Message {
    Client::connect(proxy.address(listener)).send(request).response()
}

/// The attack of `attacker` on `victim`; `PATH` in both becomes a path that only they have asked for.
#[track_caller]
fn attack(proxy: &Proxy, attacker: &str, victim: &str) {
    static PATHS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let path = format!("/p{}", PATHS.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
    let [attacker, victim] = [attacker, victim].map(|request| request.replace("PATH", &path));

    ask_at(proxy, "public", &attacker);
    let got = ask_at(proxy, "public", &victim);
    let right = ask_at(proxy, "plain", &victim);
    assert_eq!(got.text(), right.text(), "after {attacker:?}");

    // The other way round, and so that it is the store which answers.
    let again = ask_at(proxy, "public", &victim);
    assert!(is_shared(&again), "{victim:?} is not answered from the store: {again:?}");
    assert_eq!(again.text(), right.text(), "from the store, after {attacker:?}");
}

/// A GET of `PATH` of this host, with these fields.
fn get(host: &str, fields: &str) -> String {
    format!("GET PATH HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

#[test]
fn another_host_or_target_is_never_answered_with_this_ones() {
    // CVE-2026-2836: a key of the path alone gave one host's answer to another host's clients.
    let origin = echo("");
    let proxy = both("", "", "", &origin);
    let victim = get("test", "");

    for host in ["evil.test", "test:8080", "test:443", "test.", "test:080", "[::1]", "127.0.0.1"] {
        attack(&proxy, &get(host, ""), &victim);
        attack(&proxy, &victim, &get(host, ""));
    }
    for target in [
        "http://evil.testPATH",
        "http://test:8080PATH",
        "https://evil.testPATH",
        "PATH?",
        "PATH?a",
        "PATH/",
        "/PATH",
        "PATH/.",
        "PATH/../PATH",
        "PATH;a=1",
        "PATH%20",
        "PATH%2f",
        "PATH%3F",
        "PATH%23",
    ] {
        let attacker = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        attack(&proxy, &attacker, &victim);
        attack(&proxy, &victim, &attacker);
    }
}

#[test]
fn what_a_stranger_says_about_the_way_it_came_reaches_neither_server_nor_key() {
    let origin = echo("");
    let proxy = both("", "", "", &origin);

    for fields in [
        "X-Forwarded-Host: evil.test\r\n",
        "X-Forwarded-Proto: https\r\n",
        "X-Forwarded-Scheme: https\r\n",
        "X-Forwarded-Prefix: /evil\r\n",
        "X-Forwarded-Server: evil.test\r\n",
        "X-Forwarded-For: 6.6.6.6\r\n",
        "X-Real-IP: 6.6.6.6\r\n",
        "Forwarded: for=6.6.6.6;host=evil.test;proto=https\r\n",
        "X_Forwarded_Host: evil.test\r\n",
        "X-Forwarded_Host: evil.test\r\n",
        "Proxy: http://evil.test\r\n",
        "Connection: X-Evil\r\nX-Evil: 1\r\n",
        "TE: evil\r\n",
    ] {
        attack(&proxy, &get("test", fields), &get("test", ""));
        let evil = ["evil", "6.6.6.6"].iter().any(|word| echoed(&origin.requests()[0]).contains(word));
        assert!(!evil, "{fields:?} reached the server");
    }
}

#[test]
fn fields_by_which_a_request_is_about_something_else_pass_the_cache_by() {
    let origin = echo("");
    let proxy = both("", "", "", &origin);

    for (fields, body, reason) in [
        ("X-HTTP-Method-Override: POST\r\n", "", "unkeyed-input"),
        ("X-HTTP-Method: DELETE\r\n", "", "unkeyed-input"),
        ("X-Method-Override: PUT\r\n", "", "unkeyed-input"),
        ("X-Original-URL: /admin\r\n", "", "unkeyed-input"),
        ("X-Rewrite-URL: /admin\r\n", "", "unkeyed-input"),
        ("X-Original-URI: /admin\r\n", "", "unkeyed-input"),
        ("X-Host: evil.test\r\n", "", "unkeyed-input"),
        ("X-HTTP-Host-Override: evil.test\r\n", "", "unkeyed-input"),
        // CVE-2020-28473 and the like: the body of a GET ("fat GET") changes the answer.
        ("Content-Length: 6\r\n", "a=evil", "request-body"),
        ("Transfer-Encoding: chunked\r\n", "6\r\na=evil\r\n0\r\n\r\n", "request-body"),
        ("Range: bytes=0-1,3-4\r\n", "", "range"),
        ("If-Match: \"evil\"\r\n", "", "precondition"),
    ] {
        let attacker = format!("{}{body}", get("test", fields));
        attack(&proxy, &attacker, &get("test", ""));
        // Nor is anything looked up for it, now that there is something.
        let seen = origin.count();
        let answer = ask_at(&proxy, "public", &attacker.replace("PATH", "/p"));
        let status = cache_status(&answer);
        assert_eq!(status, format!("tidegate; fwd=bypass; detail={reason}"), "{fields:?}");
        assert_eq!(origin.count(), seen + 1, "{fields:?}");
    }
}

#[test]
fn scheme_and_host_of_the_client_are_in_the_key_whatever_the_server_is_told() {
    let origin = echo("");
    // The rewritten Host is the same for all: the key must not be made of it.
    let proxy = both("", "", "host = \"backend.test\"", &origin);

    attack(&proxy, &get("evil.test", ""), &get("test", ""));
    attack(&proxy, "GET http://evil.testPATH HTTP/1.1\r\nHost: test\r\n\r\n", &get("test", ""));
}

#[test]
fn what_was_stored_in_the_clear_is_not_served_under_tls() {
    let origin = Origin::start(|request| {
        let scheme = request.field("x-forwarded-proto").unwrap_or_default();
        reply("200 OK", "Cache-Control: max-age=60\r\n", scheme)
    });
    let cert = Cert::of(&["site.test"]);
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"secure\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n\
         [[route]]\nupstream = \"app\"\ncache = true\n[upstream.app]\nservers = [{}]\n",
        cert.toml(),
        origin.toml()
    ));
    let trust = cert.trust();
    let request = "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n";
    let in_the_clear = || proxy.client().send(request).response().text();
    let under_tls = || {
        let mut client = Client::connect_tls(proxy.address("secure"), "site.test", &trust);
        client.send(request).response().text()
    };

    for _ in 0..2 {
        assert_eq!(in_the_clear(), "http");
        assert_eq!(under_tls(), "https");
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn ignored_parameters_reach_neither_key_nor_server() {
    let origin = echo("");
    let proxy = both("", "key = { ignore-query = [\"utm_*\", \"fbclid\"] }", "", &origin);

    for (attacker, victim) in [
        ("PATH?utm_source=evil", "PATH"),
        ("PATH?fbclid=evil&utm_x", "PATH"),
        ("PATH?a=1&utm_source=evil", "PATH?a=1"),
        // CVE-2020-14343 and the like: what splits at `;` too would find another `a` in an ignored parameter.
        ("PATH?a=1&utm_source=x;a=evil", "PATH?a=1"),
    ] {
        let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        attack(&proxy, &line(attacker), &line(victim));
        assert!(origin.requests().iter().all(|request| !request.target().contains("evil")), "{attacker}");
    }
    // Not the names that are ignored: these are in the key, and the server sees them.
    for other in ["PATH?utm=1", "PATH?Utm_source=1", "PATH?%75tm_source=1", "PATH?a=1;utm_source=2"] {
        let line = format!("GET {other} HTTP/1.1\r\nHost: test\r\n\r\n");
        attack(&proxy, &line, &get("test", ""));
        attack(&proxy, &get("test", ""), &line);
    }
}

#[test]
fn one_address_answered_by_two_upstreams_is_two_entries() {
    let (internal, public) = (echo("X-Of: internal\r\n"), echo("X-Of: public\r\n"));
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"internal\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nlistener = \"public\"\nupstream = \"public\"\ncache = true\n\
         [[route]]\nlistener = \"internal\"\nupstream = \"internal\"\ncache = true\n\
         [upstream.public]\nservers = [{}]\n[upstream.internal]\nservers = [{}]\n",
        public.toml(),
        internal.toml()
    ));
    for _ in 0..2 {
        for listener in ["internal", "public"] {
            let answer = ask_at(&proxy, listener, "GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(answer.field("x-of"), Some(listener));
        }
    }
    assert_eq!((internal.count(), public.count()), (1, 1));
}

#[test]
fn a_page_of_one_client_is_not_stored_under_the_name_of_a_stylesheet() {
    // Web cache deception: the victim follows a link to /account/x.css, the attacker asks for it next.
    for fields in [
        "Cache-Control: private\r\n",
        "Cache-Control: private, max-age=60\r\n",
        "Cache-Control: no-store\r\n",
        "Cache-Control: no-cache\r\nETag: \"a\"\r\n",
        "",
        "Set-Cookie: sid=new\r\n",
        "Set-Cookie: sid=new\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "Set-Cookie: sid=new\r\nCache-Control: public\r\n",
        "Vary: Cookie\r\nCache-Control: max-age=60\r\n",
        "Vary: Accept, cookie\r\nCache-Control: public, max-age=60\r\n",
        "Vary: *\r\nCache-Control: max-age=60\r\n",
    ] {
        let origin = Origin::start(move |request| {
            reply("200 OK", fields, format!("page of {}", request.field("cookie").unwrap_or("nobody")))
        });
        let proxy = both("", "", "", &origin);
        let page = |cookie: &str| {
            let request = format!("GET /account/x.css HTTP/1.1\r\nHost: test\r\n{cookie}\r\n");
            ask_at(&proxy, "public", &request).text()
        };

        assert_eq!(page("Cookie: sid=victim\r\n"), "page of sid=victim", "{fields:?}");
        assert_eq!(page("Cookie: sid=attacker\r\n"), "page of sid=attacker", "{fields:?}");
        assert_eq!(page(""), "page of nobody", "{fields:?}");
    }
}

#[test]
fn what_credentials_opened_stays_closed_to_others() {
    for (fields, is_shared) in [
        ("Cache-Control: max-age=60\r\n", false),
        ("Cache-Control: no-transform, max-age=60\r\nETag: \"a\"\r\n", false),
        ("Cache-Control: private, max-age=60\r\n", false),
        ("Cache-Control: public, max-age=60\r\n", true),
    ] {
        let origin = Origin::start(move |request| {
            let who = request.field("authorization").unwrap_or("nobody");
            reply("200 OK", fields, format!("page of {who}"))
        });
        let proxy = both("", "", "", &origin);
        let page = |fields: &str| {
            ask_at(&proxy, "public", &format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n")).text()
        };

        assert_eq!(page("Authorization: Basic victim\r\n"), "page of Basic victim");
        let others = [page("Authorization: Basic attacker\r\n"), page("")];
        let expected = if is_shared {
            ["page of Basic victim"; 2]
        } else {
            ["page of Basic attacker", "page of nobody"]
        };
        assert_eq!(others, expected, "{fields:?}");
    }
}

#[test]
fn cookies_vary_as_the_server_gets_them() {
    let origin = echo("Vary: Cookie\r\n");
    let proxy = both("", "", "", &origin);

    // Two lines become one with a semicolon; a comma in one line is another value.
    attack(&proxy, &get("test", "Cookie: a=1, b=2\r\n"), &get("test", "Cookie: a=1\r\nCookie: b=2\r\n"));
    attack(&proxy, &get("test", "Cookie: a=1,b=2\r\n"), &get("test", "Cookie: a=1, b=2\r\n"));
    attack(&proxy, &get("test", "Cookie: a=1; b=2\r\n"), &get("test", "Cookie: b=2; a=1\r\n"));
}

#[test]
fn a_field_that_connection_names_selects_nothing() {
    let origin = echo("Vary: Origin\r\n");
    let proxy = both("", "", "", &origin);

    // The server does not see it: its answer is not for those whose `Origin` it does see.
    let attacker = get("test", "Connection: Origin\r\nOrigin: https://victim.test\r\n");
    attack(&proxy, &attacker, &get("test", "Origin: https://victim.test\r\n"));
}

#[test]
fn a_response_that_varies_by_who_asks_is_not_shared() {
    for field in ["X-Forwarded-For", "X-Real-IP", "Forwarded"] {
        let origin = Origin::start(move |request| {
            let fields = format!("Cache-Control: max-age=60\r\nVary: Accept, {field}\r\n");
            reply("200 OK", &fields, request.field("x-real-ip").unwrap_or_default())
        });
        let proxy = both("", "", "", &origin);
        let from = |ip: &str| {
            let ip: IpAddr = ip.parse().unwrap();
            let mut client = Client::connect_from(ip, proxy.public());
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").response().text()
        };

        assert_eq!(from("127.0.0.2"), "127.0.0.2", "{field}");
        assert_eq!(from("127.0.0.3"), "127.0.0.3", "{field}");
    }
}

#[test]
fn a_response_that_varies_by_what_only_trusted_proxies_are_believed_is_not_shared() {
    let origin = Origin::start(|request| {
        let fields = "Cache-Control: max-age=60\r\nVary: Accept, X-Forwarded-Prefix\r\n";
        reply("200 OK", fields, request.field("x-forwarded-prefix").unwrap_or("none"))
    });
    let proxy = both("trusted-proxies = [\"127.0.0.2\"]", "", "", &origin);
    let from = |ip: &str| {
        let mut client = Client::connect_from(ip.parse::<IpAddr>().unwrap(), proxy.public());
        client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-Prefix: /app\r\n\r\n").response().text()
    };

    assert_eq!(from("127.0.0.3"), "none", "a stranger, who says what the server does not hear");
    assert_eq!(from("127.0.0.2"), "/app");
    assert_eq!(from("127.0.0.3"), "none");
}

#[test]
fn one_address_in_two_spellings_has_one_answer_that_is_right_for_both() {
    let origin = echo("");
    let proxy = both("", "", "", &origin);
    let victim = get("test", "");

    for (target, host) in [
        // An authority in the target comes before Host (RFC 9112 section 3.2.2).
        ("http://testPATH", "evil.test"),
        ("https://testPATH", "test"),
        ("HTTP://testPATH", "test"),
        ("PATH#evil", "test"),
        ("PATH", "TEST"),
        ("PATH", "Test:80"),
        ("PATH", "test:80"),
        ("PATH", "test:"),
        ("http://TEST:80PATH", "test"),
    ] {
        attack(&proxy, &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"), &victim);
    }
}

#[test]
fn what_a_trusted_proxy_says_of_scheme_and_host_counts() {
    let origin = echo("");
    let proxy = both("trusted-proxies = [\"127.0.0.0/8\"]", "", "", &origin);
    let clear = get("test", "X-Forwarded-Proto: http\r\n");
    let secure = get("test", "X-Forwarded-Proto: https\r\n");

    attack(&proxy, &clear, &secure);
    attack(&proxy, &secure, &clear);
    for fields in [
        "X-Forwarded-Host: evil.test\r\n",
        "X-Forwarded-Host: test\r\nX-Forwarded-Host: evil.test\r\n",
        "X-Forwarded-Host: TEST:80\r\n",
        "X-Forwarded-Host:\r\n",
        "X-Forwarded-Proto: https, http\r\n",
        "X-Forwarded-Proto: HTTP\r\n",
        "X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n",
        // Load balancers pass on a client's own, and many servers read it before the others.
        "Forwarded: host=evil.test\r\n",
        "Forwarded: for=6.6.6.6;Host=\"evil.test\"\r\n",
        "Forwarded: for=6.6.6.6, for=7.7.7.7;host=evil.test\r\n",
        "Forwarded: for=6.6.6.6\r\nForwarded: proto=https\r\n",
        "Forwarded: for=6.6.6.6;proto=\"HTTP\"\r\n",
        "Forwarded: for=\"6.6.6.6;host=test\";host=\"e\\vil.test\"\r\n",
        "Forwarded: host=test:80\r\n",
    ] {
        attack(&proxy, &get("test", fields), &clear);
        attack(&proxy, &get("test", fields), &get("test", ""));
    }
}

#[test]
fn what_a_trusted_proxy_says_of_nothing_but_the_client_is_no_reason_to_pass_the_cache_by() {
    let origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", "page"));
    let proxy = both("trusted-proxies = [\"127.0.0.0/8\"]", "", "", &origin);
    for (n, fields) in [
        "Forwarded: for=6.6.6.6;by=1.1.1.1\r\n",
        "Forwarded: for=\"[::1]:80\";host=test;proto=http, for=_hidden\r\n",
        "Forwarded: For=6.6.6.6;Proto=http;Host=\"test\"\r\n",
        "Forwarded:\r\n",
        "X-Forwarded-Proto: http\r\nX-Forwarded-Host: test\r\nX-Forwarded-For: 6.6.6.6\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!("GET /{n} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        ask_at(&proxy, "public", &request);
        assert!(is_shared(&ask_at(&proxy, "public", &request)), "{fields:?}");
    }
}

#[test]
fn the_answer_to_a_post_is_stored_only_where_the_key_holds_all_of_it() {
    let origin = Origin::start(|request| {
        let path = request.target().split('?').next().unwrap();
        reply(
            "200 OK",
            &format!("Cache-Control: max-age=60\r\nContent-Location: {path}\r\n"),
            echoed(request),
        )
    });
    let rules = "key = { ignore-query = [\"utm_*\"] }, bypass = { headers = [\"x-preview\"] }";
    let proxy = both("trusted-proxies = [\"127.0.0.0/8\"]", rules, "", &origin);
    let post =
        |line: &str, fields: &str| format!("POST {line} HTTP/1.1\r\nContent-Length: 3\r\n{fields}\r\na=b");
    let stored = |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nCache-Control: only-if-cached\r\n\r\n");
        ask_at(&proxy, "public", &request).status() == 200
    };

    ask_at(&proxy, "public", &post("/plain", "Host: test\r\n"));
    assert!(stored("/plain"));
    for (n, (query, fields)) in [
        ("", "Host: test\r\nX-HTTP-Method-Override: PUT\r\n"),
        ("", "Host: test\r\nX-Rewrite-URL: /admin\r\n"),
        ("", "Host: test\r\nX-Preview: 1\r\n"),
        ("", "Host: TEST:80\r\n"),
        ("", "Host: test\r\nX-Forwarded-Host: evil.test\r\n"),
        ("", "Host: test\r\nConnection: Origin\r\nOrigin: a\r\n"),
        ("?utm_source=evil", "Host: test\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        ask_at(&proxy, "public", &post(&format!("/{n}{query}"), fields));
        assert!(!stored(&format!("/{n}")), "{query} {fields}");
    }
}
