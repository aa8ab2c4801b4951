//! What is stored, what is served from the store, and what never is.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Gate, Message, Origin, Proxy, Then, ok, one_route, reply};

/// One route with the cache on.
fn cached(origin: &Origin) -> Proxy {
    Proxy::start(&one_route("cache = true", "eject = false", &[origin]))
}

/// A server whose every answer has these fields and counts the answers in its body.
fn counting(fields: &'static str) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        reply("200 OK", fields, format!("answer {n}"))
    })
}

fn cache_status(answer: &Message) -> &str {
    answer.field("cache-status").expect("Cache-Status")
}

#[test]
fn a_fresh_response_is_fetched_once_and_served_with_its_age() {
    let origin = counting("Cache-Control: max-age=60\r\n");
    let proxy = cached(&origin);

    let miss = proxy.get("/a?x=1");
    let hit = proxy.get("/a?x=1");

    assert_eq!((miss.text(), hit.text()), ("answer 0".to_owned(), "answer 0".to_owned()));
    assert_eq!(origin.count(), 1);
    assert!(cache_status(&miss).starts_with("tidegate; fwd=uri-miss"), "{}", cache_status(&miss));
    assert!(cache_status(&miss).contains("stored"), "{}", cache_status(&miss));
    assert!(cache_status(&hit).starts_with("tidegate; hit"), "{}", cache_status(&hit));
    assert!(hit.field("age").and_then(|age| age.parse::<u64>().ok()).is_some_and(|age| age < 10));
    assert_eq!(miss.field("age"), None);
}

#[test]
fn both_workers_serve_what_one_has_stored() {
    let origin = counting("Cache-Control: max-age=60\r\n");
    let proxy = cached(&origin);

    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    let answers: Vec<String> = clients.iter_mut().map(|client| client.get("/").text()).collect();

    assert!(answers.iter().all(|text| text == "answer 0"), "{answers:?}");
}

#[test]
fn another_query_host_or_path_is_another_entry() {
    let origin = counting("Cache-Control: max-age=60\r\n");
    let proxy = cached(&origin);
    let ask = |host: &str, target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        proxy.client().send(request).response().text()
    };

    let requests = [
        ("a.test", "/"),
        ("b.test", "/"),
        ("a.test", "/x"),
        ("a.test", "/?"),
        ("a.test", "/?q"),
        ("a.test", "/X"),
    ];
    for (n, (host, target)) in requests.into_iter().enumerate() {
        assert_eq!(ask(host, target), format!("answer {n}"), "{host}{target}");
        assert_eq!(ask(host, target), format!("answer {n}"), "{host}{target}");
    }
}

#[test]
fn freshness_comes_from_s_maxage_then_max_age_then_expires() {
    let cases = [
        ("Cache-Control: s-maxage=60, max-age=0\r\n", 1),
        ("Cache-Control: s-maxage=0, max-age=60\r\n", 2),
        ("Cache-Control: max-age=60\r\nExpires: Thu, 01 Jan 1970 00:00:00 GMT\r\n", 1),
        ("Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nExpires: Thu, 01 Jan 2026 00:00:00 GMT\r\n", 2),
        ("Expires: 0\r\n", 2),
        ("Age: 100\r\nCache-Control: max-age=60\r\n", 2),
    ];
    for (fields, fetches) in cases {
        let origin = counting(fields);
        let proxy = cached(&origin);

        proxy.get("/");
        proxy.get("/");

        assert_eq!(origin.count(), fetches, "{fields:?}");
    }
}

#[test]
fn what_must_not_be_stored_is_not() {
    let cases = [
        "Cache-Control: no-store, max-age=60\r\n",
        "Cache-Control: private, max-age=60\r\n",
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nSet-Cookie: sid=secret\r\n",
        "Cache-Control: public\r\nSet-Cookie: sid=secret\r\n",
        "Cache-Control: max-age=60\r\nVary: *\r\n",
        "Cache-Control: no-cache, max-age=60\r\n",
    ];
    for fields in cases {
        let origin = counting(fields);
        let proxy = cached(&origin);

        let answers = [proxy.get("/").text(), proxy.get("/").text()];

        assert_eq!(answers, ["answer 0", "answer 1"], "{fields:?}");
    }
}

#[test]
fn what_was_asked_with_authorization_is_not_shared_unless_it_says_so() {
    for (fields, fetches) in
        [("Cache-Control: max-age=60\r\n", 2), ("Cache-Control: public, max-age=60\r\n", 1)]
    {
        let origin = counting(fields);
        let proxy = cached(&origin);

        proxy.client().get_with("/", "Authorization: Bearer x\r\n");
        proxy.get("/");

        assert_eq!(origin.count(), fetches, "{fields:?}");
    }
}

#[test]
fn a_response_that_varies_is_served_only_to_those_who_ask_alike() {
    let origin = Origin::start(|request| {
        let fields = "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n";
        reply("200 OK", fields, request.field("accept-language").unwrap_or("none"))
    });
    let proxy = cached(&origin);
    let ask =
        |language: &str| proxy.client().get_with("/", &format!("Accept-Language: {language}\r\n")).text();

    for _ in 0..2 {
        assert_eq!(ask("de"), "de");
        assert_eq!(ask("fr"), "fr");
        assert_eq!(proxy.get("/").text(), "none");
    }

    assert_eq!(origin.count(), 3);
}

#[test]
fn a_client_that_has_it_is_told_so() {
    let origin = counting(
        "Cache-Control: max-age=60\r\nETag: \"v1\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n",
    );
    let proxy = cached(&origin);
    proxy.get("/");

    let by_tag = proxy.client().get_with("/", "If-None-Match: W/\"v1\", \"v0\"\r\n");
    let by_date = proxy.client().get_with("/", "If-Modified-Since: Thu, 01 Jan 2026 00:00:00 GMT\r\n");
    let other = proxy.client().get_with("/", "If-None-Match: \"v2\"\r\n");

    assert_eq!((by_tag.status(), by_date.status(), other.status()), (304, 304, 200));
    assert_eq!(by_tag.field("etag"), Some("\"v1\""));
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_stale_response_is_revalidated_and_used_again() {
    let origin = Origin::start(|request| {
        let fields = "Cache-Control: max-age=0\r\nETag: \"v1\"\r\n";
        match request.field("if-none-match") {
            Some("\"v1\"") => reply("304 Not Modified", fields, ""),
            _ => reply("200 OK", fields, "the body"),
        }
    });
    let proxy = cached(&origin);

    let first = proxy.get("/");
    let second = proxy.get("/");

    assert_eq!((second.status(), second.text()), (200, first.text()));
    assert_eq!(origin.last().field("if-none-match"), Some("\"v1\""));
    assert!(cache_status(&second).contains("fwd=stale"), "{}", cache_status(&second));
}

#[test]
fn twenty_misses_for_one_key_are_one_fetch() {
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = Origin::start(move |_| {
        opened.wait();
        reply("200 OK", "Cache-Control: max-age=60\r\n", "once")
    });
    let proxy = cached(&origin);

    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET /popular HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    crate::support::eventually("all are in the proxy", || {
        proxy.metric("tidegate_requests_in_flight", &["listener=\"public\""]) >= 20.0
    });
    gate.open();
    let answers: Vec<Message> = clients.iter_mut().map(|client| client.response()).collect();

    assert!(answers.iter().all(|answer| answer.text() == "once"));
    assert_eq!(origin.count(), 1);
    assert!(answers.iter().any(|answer| cache_status(answer).contains("collapsed")));
}

#[test]
fn misses_that_may_not_share_do_not_wait_for_each_other_for_ever() {
    let origin = counting("Cache-Control: no-store\r\n");
    let proxy = cached(&origin);

    let mut clients: Vec<_> = (0..10).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send("GET /own HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    let mut answers: Vec<String> = clients.iter_mut().map(|client| client.response().text()).collect();

    answers.sort();
    answers.dedup();
    assert_eq!(answers.len(), 10, "each has its own answer");
}

#[test]
fn a_body_that_was_cut_off_is_not_stored() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let origin = Origin::raw(move |_, conn| {
        let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\n";
        let body = if is_first { "0123" } else { "0123456789" };
        let _ = conn.get_mut().write_all(format!("{head}{body}").as_bytes());
        if is_first { Then::Close } else { Then::Keep }
    });
    let proxy = cached(&origin);

    let cut = proxy.client().send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").try_response();
    let whole = proxy.get("/");

    assert!(cut.is_err(), "the client must see that it is cut");
    assert_eq!(whole.text(), "0123456789");
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn a_post_goes_through_and_takes_the_entry_with_it() {
    let origin = counting("Cache-Control: max-age=60\r\n");
    let proxy = cached(&origin);

    proxy.get("/item");
    let post =
        proxy.client().send("POST /item HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx").response();
    let after = proxy.get("/item");

    assert_eq!(post.text(), "answer 1");
    assert_eq!(after.text(), "answer 2");
}

#[test]
fn head_is_answered_from_a_stored_get() {
    let origin = counting("Cache-Control: max-age=60\r\n");
    let proxy = cached(&origin);

    proxy.get("/");
    let head = proxy.client().send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").head();

    assert_eq!((head.status(), head.field("content-length")), (200, Some("8")));
    assert_eq!(origin.count(), 1);
}

#[test]
fn an_object_over_the_routes_limit_is_passed_on_and_not_stored() {
    let origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", vec![b'x'; 5000]));
    let proxy = Proxy::start(&one_route("cache = { max-object = \"4KiB\" }", "", &[&origin]));

    let answers = [proxy.get("/"), proxy.get("/")];

    assert!(answers.iter().all(|answer| answer.body.len() == 5000));
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_route_without_cache_stores_nothing() {
    let origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", "x"));
    let proxy = Proxy::before(&origin);

    let answers = [proxy.get("/"), proxy.get("/")];

    assert_eq!(origin.count(), 2);
    assert!(
        answers.iter().all(|answer| !answer.field("cache-status").is_some_and(|value| value.contains("hit")))
    );
}

#[test]
fn a_hit_is_served_while_the_server_is_down() {
    let mut origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", ok("x")));
    let proxy = cached(&origin);
    proxy.get("/");

    origin.stop();

    assert_eq!(proxy.get("/").status(), 200);
}

#[test]
fn lines_of_a_repeated_field_stay_apart_and_in_their_order() {
    let origin = Origin::start(|_| {
        let fields = "Cache-Control: max-age=60\r\nSet-Cookie: a=1; Expires=Sun, 06 Nov 2095 08:49:37 GMT\r\nLink: <a>\r\n\
            Vary: X-A\r\nSet-Cookie: b=2\r\nLink: <b>, <c>\r\nVary: X-B\r\nX-Empty:\r\nLink: <a>\r\n";
        reply("200 OK", fields, "x")
    });
    let proxy = cached(&origin);

    let answers = [proxy.get("/"), proxy.get("/")];

    assert_eq!(origin.count(), 1);
    for answer in answers {
        assert_eq!(answer.all("set-cookie"), ["a=1; Expires=Sun, 06 Nov 2095 08:49:37 GMT", "b=2"]);
        assert_eq!(answer.all("link"), ["<a>", "<b>, <c>", "<a>"]);
        assert_eq!(answer.all("vary"), ["X-A", "X-B"]);
        assert_eq!(answer.all("x-empty"), [""]);
    }
}

#[test]
fn what_only_the_first_may_have_reaches_the_first_and_nobody_else() {
    let origin = Origin::start(|_| {
        let fields = "Cache-Control: max-age=60, no-cache=\"set-cookie\", private=\"X-User\"\r\n\
            Set-Cookie: sid=1\r\nX-User: alice\r\nX-Shared: yes\r\n";
        reply("200 OK", fields, "page")
    });
    let proxy = cached(&origin);

    let first = proxy.get("/");
    assert_eq!((first.field("set-cookie"), first.field("x-user")), (Some("sid=1"), Some("alice")));
    assert_eq!(first.field("age"), None, "it comes from the server");

    let second = proxy.get("/");
    assert!(second.field("cache-status").unwrap().contains("hit"), "{second:?}");
    assert_eq!((second.field("set-cookie"), second.field("x-user")), (None, None));
    assert_eq!((second.field("x-shared"), second.text().as_str()), (Some("yes"), "page"));
}

#[test]
fn what_only_the_first_may_have_of_a_304_reaches_the_first_and_nobody_else() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |_| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let fields = format!(
            "Cache-Control: max-age=60, no-cache=\"set-cookie\", private=\"X-User, x-mail\"\r\nETag: \"a\"\r\n\
             Set-Cookie: sid={n}\r\nSet-Cookie: b={n}\r\nX-User: user {n}\r\nX-Mail: mail {n}\r\nX-Shared: {n}\r\n"
        );
        match n {
            0 => reply("200 OK", &format!("{fields}Age: 100\r\n"), "page"),
            _ => reply("304 Not Modified", &fields, ""),
        }
    });
    let proxy = cached(&origin);
    proxy.get("/");

    for (n, (ask, status)) in [("", 200), ("If-None-Match: \"a\"\r\n", 304)].into_iter().enumerate() {
        let again = "Cache-Control: no-cache\r\n";
        let validated = proxy.client().get_with("/", &format!("{ask}{again}"));
        assert_eq!(validated.status(), status);
        assert_eq!(validated.all("set-cookie"), [format!("sid={}", n + 1), format!("b={}", n + 1)]);
        let only = ["x-user", "x-mail"].map(|name| validated.field(name).unwrap_or_default().to_owned());
        assert_eq!(only, [format!("user {}", n + 1), format!("mail {}", n + 1)]);

        let hit = proxy.get("/");
        assert!(hit.field("cache-status").unwrap().contains("hit"), "{hit:?}");
        assert_eq!((hit.field("set-cookie"), hit.field("x-user"), hit.field("x-mail")), (None, None, None));
        assert_eq!(hit.field("x-shared"), Some(format!("{}", n + 1).as_str()));
    }
}

#[test]
fn trailers_reach_those_who_read_the_fetch_and_are_not_stored() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
          4\r\nbody\r\n0\r\nX-Sum: 17\r\n\r\n"
            .to_vec()
    });
    let proxy = cached(&origin);

    let first = proxy.client().get_with("/", "TE: trailers\r\n");
    assert_eq!(first.text(), "body");
    assert_eq!(first.trailers, [("x-sum".to_owned(), "17".to_owned())]);

    let second = proxy.client().get_with("/", "TE: trailers\r\n");
    assert!(second.field("cache-status").unwrap().contains("hit"), "{second:?}");
    assert_eq!((second.text().as_str(), second.trailers.len()), ("body", 0));
    assert_eq!(second.field("trailer"), None);
}

#[test]
fn the_server_may_say_that_another_variant_is_the_right_one() {
    let origin = Origin::start(|request| {
        let fields = "Cache-Control: max-age=60\r\nVary: X-Client\r\n";
        match request.field("if-none-match") {
            Some(asked) if asked.contains("\"b\"") && request.field("x-client") == Some("new") => {
                reply("304 Not Modified", &format!("{fields}ETag: \"b\"\r\n"), "")
            }
            // Neither of those that were asked about.
            Some(_) => reply("304 Not Modified", &format!("{fields}ETag: \"zzz\"\r\n"), ""),
            None => {
                let tag = request.field("x-client").unwrap_or_default();
                reply("200 OK", &format!("{fields}ETag: \"{tag}\"\r\n"), format!("for {tag}"))
            }
        }
    });
    let proxy = cached(&origin);
    let get = |client: &str| proxy.client().get_with("/", &format!("X-Client: {client}\r\n"));
    assert_eq!(get("a").text(), "for a");
    get("b");

    let answer = get("new");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "for b"));
    assert!(answer.field("cache-status").unwrap().contains("fwd=vary-miss; fwd-status=304"), "{answer:?}");
    assert!(get("new").field("cache-status").unwrap().contains("hit"), "it is stored for this client too");

    assert_eq!(get("lost").text(), "for lost", "a 304 for none of them is asked again");
}

#[test]
fn a_304_for_another_representation_does_not_update_this_one() {
    let origin = Origin::start(|request| match request.field("if-none-match") {
        Some(_) => reply("304 Not Modified", "Cache-Control: max-age=60\r\nETag: \"new\"\r\n", ""),
        None => reply("200 OK", "Cache-Control: max-age=60\r\nAge: 100\r\nETag: \"old\"\r\n", "the old one"),
    });
    let proxy = cached(&origin);
    proxy.get("/");

    let answer = proxy.get("/");

    assert_eq!((answer.text().as_str(), answer.field("etag")), ("the old one", Some("\"old\"")));
    let asked: Vec<_> =
        origin.requests().iter().map(|r| r.field("if-none-match").map(str::to_owned)).collect();
    assert_eq!(asked, [None, Some("\"old\"".to_owned()), None], "asked again, about none");
}

#[test]
fn a_post_whose_answer_is_stored_is_answered_whole() {
    let origin = Origin::start(|_| {
        reply("200 OK", "Cache-Control: max-age=60\r\nContent-Location: /x\r\nETag: \"a\"\r\n", "made")
    });
    let proxy = cached(&origin);

    let post = "POST /x HTTP/1.1\r\nHost: test\r\nIf-None-Match: *\r\nContent-Length: 0\r\n\r\n";
    let answer = proxy.client().send(post).response();

    assert_eq!((answer.status(), answer.text().as_str()), (200, "made"));
}
