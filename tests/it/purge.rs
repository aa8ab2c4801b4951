//! Purging: by address, prefix, tag and group; hard and soft; by the admin listener and the command line.

use crate::support::proxy::tidegate;
use crate::support::{Client, Gate, Message, Origin, Proxy, Then, eventually, ok, one_route, reply};

/// Answers each path with a body that says how many requests there have been, fresh for an hour.
fn counting(fields: &'static str) -> Origin {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Origin::start(move |request| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let tag =
            request.target().trim_start_matches('/').split(['/', '?']).next().unwrap_or_default().to_owned();
        let fields = format!("Cache-Control: max-age=3600\r\nSurrogate-Key: all-{tag}\r\n{fields}");
        reply("200 OK", &fields, format!("answer {n}"))
    })
}

fn cached(origin: &Origin) -> Proxy {
    Proxy::start(&one_route("cache = true", "", &[origin]))
}

fn purge(proxy: &Proxy, json: &str) -> Message {
    let head = "POST /api/v1/cache/purge HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
    Client::connect(proxy.admin())
        .send(format!("{head}Content-Length: {}\r\n\r\n{json}", json.len()))
        .response()
}

#[track_caller]
fn purged(answer: &Message) -> u64 {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["purged"].as_u64().unwrap()
}

/// Which of these paths are answered from the store now.
fn stored(proxy: &Proxy, paths: &[&'static str]) -> Vec<&'static str> {
    let is_hit = |path: &&&str| {
        let answer = proxy.client().get_with(path, "Cache-Control: only-if-cached\r\n");
        answer.status() == 200
    };
    paths.iter().filter(is_hit).copied().collect()
}

const PATHS: [&str; 5] = ["/a", "/a?b=1", "/a/deep", "/ab", "/c"];

#[test]
fn a_purge_takes_what_it_names_and_nothing_else() {
    let origin = counting("");
    let proxy = cached(&origin);

    for (json, left) in [
        (r#"{"urls": ["http://test/a"]}"#, &["/a?b=1", "/a/deep", "/ab", "/c"][..]),
        (r#"{"urls": ["http://TEST:80/a?b=1", "http://test/c"]}"#, &["/a", "/a/deep", "/ab"]),
        (r#"{"urls": ["https://test/a", "http://other/a"]}"#, &PATHS),
        (r#"{"prefixes": ["http://test/a/"]}"#, &["/a", "/a?b=1", "/ab", "/c"]),
        (r#"{"prefixes": ["http://test/a"]}"#, &["/c"]),
        (r#"{"prefixes": ["http://test"]}"#, &[]),
        (r#"{"tags": ["all-a"]}"#, &["/ab", "/c"]),
        (r#"{"tags": ["all-ab", "all-c", "all-x"]}"#, &["/a", "/a?b=1", "/a/deep"]),
        (r#"{"all": true}"#, &[]),
    ] {
        for path in PATHS {
            assert_eq!(proxy.get(path).status(), 200);
        }
        eventually("all is stored", || stored(&proxy, &PATHS).len() == PATHS.len());

        let count = purged(&purge(&proxy, json));

        assert_eq!(stored(&proxy, &PATHS), left, "{json}");
        assert_eq!(count as usize, PATHS.len() - left.len(), "{json}");
    }
}

#[test]
fn every_variant_and_every_scheme_of_the_key_goes_with_its_address() {
    let origin = counting("Vary: Accept-Language\r\n");
    let proxy = cached(&origin);
    for language in ["de", "en"] {
        proxy.client().get_with("/", &format!("Accept-Language: {language}\r\n"));
    }

    assert_eq!(purged(&purge(&proxy, r#"{"urls": ["http://test/"]}"#)), 2);
}

#[test]
fn what_is_purged_softly_is_validated_before_it_is_used() {
    let origin = Origin::start(|request| {
        let fields = "Cache-Control: max-age=3600\r\nETag: \"a\"\r\n";
        match request.field("if-none-match") {
            Some(_) => reply("304 Not Modified", fields, ""),
            None => reply("200 OK", fields, "kept"),
        }
    });
    let proxy = cached(&origin);
    proxy.get("/");

    assert_eq!(purged(&purge(&proxy, r#"{"urls": ["http://test/"], "soft": true}"#)), 1);
    let answer = proxy.get("/");

    assert_eq!(answer.text(), "kept");
    assert!(answer.field("cache-status").unwrap().contains("fwd=stale; fwd-status=304"), "{answer:?}");
    assert!(proxy.get("/").field("cache-status").unwrap().contains("hit"));
}

#[test]
fn the_answer_to_a_head_is_no_validation_unless_it_names_what_is_stored() {
    // Which of them the server's answers to GET and to HEAD have, and whether that is a validation.
    for (validator, told, is_validated) in [
        ("", "", false),
        ("ETag: \"a\"\r\n", "", false),
        ("ETag: \"a\"\r\n", "Content-Length: 3\r\n", false),
        ("ETag: \"a\"\r\n", "ETag: \"a\"\r\n", true),
        (
            "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            true,
        ),
    ] {
        let origin = Origin::start(move |request| match request.method() {
            "HEAD" => format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{told}\r\n").into_bytes(),
            "POST" => reply("200 OK", "Cache-Group-Invalidation: \"g\"\r\n", ""),
            _ => reply(
                "200 OK",
                &format!("Cache-Control: max-age=60\r\nCache-Groups: \"g\"\r\n{validator}"),
                "old",
            ),
        });
        let proxy = cached(&origin);
        let purge_softly = || drop(purge(&proxy, r#"{"urls": ["http://test/"], "soft": true}"#));
        let post = || {
            drop(
                proxy
                    .client()
                    .send("POST /edit HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
                    .response(),
            )
        };
        for (n, doubt) in [&purge_softly as &dyn Fn(), &post].into_iter().enumerate() {
            proxy.get("/");
            eventually("it is stored", || stored(&proxy, &["/"]) == ["/"]);
            doubt();

            assert_eq!(proxy.client().send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n").head().status(), 200);

            assert_eq!(stored(&proxy, &["/"]) == ["/"], is_validated, "{n}: {validator:?}, {told:?}");
        }
    }
}

#[test]
fn a_fetch_that_began_before_a_purge_is_not_stored_after_it() {
    for json in [r#"{"urls": ["http://test/"]}"#, r#"{"tags": ["t"]}"#, r#"{"all": true}"#] {
        let (asked, go) = (Gate::default(), Gate::default());
        let gates = (asked.clone(), go.clone());
        let origin = Origin::start(move |_| {
            gates.0.open();
            gates.1.wait();
            reply("200 OK", "Cache-Control: max-age=3600\r\nCache-Tag: t\r\n", "old")
        });
        let proxy = cached(&origin);

        std::thread::scope(|scope| {
            let fetch = scope.spawn(|| proxy.get("/"));
            asked.wait();
            purge(&proxy, json);
            go.open();
            assert_eq!(fetch.join().unwrap().text(), "old", "who asked is answered");
        });

        assert!(!proxy.get("/").field("cache-status").unwrap().contains("hit"), "{json}");
    }
}

#[test]
fn the_answer_to_an_unsafe_request_invalidates_its_groups() {
    let origin = Origin::start(|request| {
        if request.method() == "POST" {
            return reply("200 OK", "Cache-Group-Invalidation: \"blog\"\r\n", "done");
        }
        let group = if request.target() == "/other" { "shop" } else { "blog" };
        let windows = "Cache-Control: max-age=3600, stale-while-revalidate=3600, stale-if-error=3600";
        reply("200 OK", &format!("{windows}\r\nETag: \"a\"\r\nCache-Groups: \"{group}\"\r\n"), "x")
    });
    let proxy = cached(&origin);
    for path in ["/a", "/b", "/other"] {
        proxy.get(path);
    }
    eventually("all is stored", || stored(&proxy, &["/a", "/b", "/other"]).len() == 3);

    proxy.client().send("POST /edit HTTP/1.1\r\nHost: elsewhere\r\nContent-Length: 0\r\n\r\n").response();
    assert_eq!(stored(&proxy, &["/a", "/b", "/other"]).len(), 3, "another origin's groups are its own");

    proxy.client().send("POST /edit HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").response();
    assert_eq!(stored(&proxy, &["/a", "/b", "/other"]), ["/other"]);

    let before = origin.count();
    let after = proxy.client().get_with("/a", "Cache-Control: max-stale\r\n");
    assert_eq!(origin.count(), before + 1, "no window and no client lets it be used as it is: {after:?}");
}

#[test]
fn what_a_post_names_is_forgotten_under_the_key_that_it_has() {
    let origin = Origin::start(|request| match request.method() {
        "POST" => reply("303 See Other", "Location: /list?page=1&created=7\r\n", ""),
        _ => reply("200 OK", "Cache-Control: max-age=3600\r\n", "x"),
    });
    let proxy = Proxy::start(&one_route("cache = { key = { query = [\"page\"] } }", "", &[&origin]));
    proxy.get("/list?page=1");
    assert_eq!(stored(&proxy, &["/list?page=1"]).len(), 1);

    proxy.client().send("POST /new HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n").response();

    assert_eq!(stored(&proxy, &["/list?page=1"]).len(), 0);
}

/// Pages that are cached, lists of which only the page counts, and an editor's desk that is not cached: of one server.
fn desk(origin: &Origin) -> Proxy {
    Proxy::start(&format!(
        r#"
[[listener]]
name = "public"
bind = "127.0.0.1:0"
[admin]
bind = "127.0.0.1:0"
[upstream.app]
servers = [{}]
[[route]]
path = "/*"
upstream = "app"
cache = true
[[route]]
path = "/list"
upstream = "app"
cache = {{ key = {{ query = ["page"] }} }}
[[route]]
path = "/desk/*"
upstream = "app"
"#,
        origin.toml()
    ))
}

#[test]
fn a_change_on_one_route_is_known_to_the_others_of_its_upstream() {
    const PATHS: [&str; 3] = ["/article", "/list?page=1", "/other"];
    let origin = Origin::start(|request| match request.method() {
        "POST" => {
            let named = "Location: /list?from=desk&page=1\r\nCache-Group-Invalidation: \"articles\"\r\n";
            reply("303 See Other", named, "")
        }
        _ => {
            let group = if request.target() == "/article" { "articles" } else { "others" };
            reply("200 OK", &format!("Cache-Control: max-age=3600\r\nCache-Groups: \"{group}\"\r\n"), "x")
        }
    });
    for change in ["/desk/publish", "/publish"] {
        let proxy = desk(&origin);
        PATHS.iter().for_each(|path| drop(proxy.get(path)));
        eventually("all is stored", || stored(&proxy, &PATHS).len() == PATHS.len());

        let post = format!("POST {change} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        proxy.client().send(post).response();

        assert_eq!(stored(&proxy, &PATHS), ["/other"], "{change}");
    }
}

#[test]
fn a_purge_that_says_nothing_right_changes_nothing() {
    let origin = counting("");
    let proxy = cached(&origin);
    proxy.get("/a");

    for (json, status, word) in [
        ("{}", 400, "nothing to purge"),
        ("{", 400, "EOF"),
        (r#"{"url": ["http://test/a"]}"#, 400, "unknown field `url`"),
        (r#"{"urls": ["/a"]}"#, 400, "is no address"),
        (r#"{"prefixes": ["test/a"]}"#, 400, "is no address"),
        (r#"{"all": 1}"#, 400, "invalid type"),
    ] {
        let answer = purge(&proxy, json);
        assert_eq!(answer.status(), status, "{json}");
        assert!(answer.text().contains(word), "{json}: {}", answer.text());
    }
    let many = format!(r#"{{"tags": [{}]}}"#, vec![r#""t""#; 1001].join(","));
    assert_eq!(purge(&proxy, &many).status(), 400);
    let large = format!(r#"{{"tags": ["{}"]}}"#, "t".repeat(2 << 20));
    assert_eq!(purge(&proxy, &large).status(), 413);

    // What a page in a browser can send to anyone without asking first.
    let plain = "POST /api/v1/cache/purge HTTP/1.1\r\nHost: test\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n{\"all\": true}";
    assert_eq!(Client::connect(proxy.admin()).send(plain).response().status(), 415);
    let read = Client::connect(proxy.admin()).get("/api/v1/cache/purge");
    assert_eq!((read.status(), read.field("allow")), (405, Some("POST")));

    assert_eq!(stored(&proxy, &["/a"]), ["/a"]);
}

#[test]
fn the_command_line_purges_and_what_it_purged_is_counted() {
    let origin = counting("");
    let proxy = cached(&origin);
    for path in PATHS {
        proxy.get(path);
    }
    eventually("all is stored", || stored(&proxy, &PATHS).len() == PATHS.len());
    let admin = proxy.admin().to_string();
    let run = |arguments: &[&str]| {
        let output = tidegate(&[&["purge", "--admin", &admin][..], arguments].concat()).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };

    let (code, told, _) = run(&["--url", "http://test/c", "--tag", "all-ab"]);
    assert!(code == Some(0) && told.contains("\"purged\":2"), "{told}");
    assert_eq!(stored(&proxy, &PATHS), ["/a", "/a?b=1", "/a/deep"]);
    let (code, told, _) = run(&["--all", "--soft"]);
    assert!(code == Some(0) && told.contains("\"purged\":3,\"soft\":true"), "{told}");

    let (code, _, error) = run(&["--url", "c"]);
    assert!(code == Some(1) && error.contains("is no address"), "{error}");
    assert_eq!(run(&[]).0, Some(2), "nothing to purge is wrong usage");
    let count = |kind: &str| proxy.metric("tidegate_cache_purged_total", &[&format!("kind=\"{kind}\"")]);
    assert_eq!((count("hard"), count("soft")), (2.0, 3.0));
}

#[test]
fn a_purge_of_a_proxy_that_is_not_there_says_so() {
    let (_kept, address) = crate::support::origin::reserve_port();
    let output = tidegate(&["purge", "--all", "--admin", &address.to_string()]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&address.to_string()) && error.contains("is the proxy running"), "{error}");
}

#[test]
fn a_purge_of_what_is_no_admin_listener_says_so() {
    let origin = Origin::raw(|_, conn| {
        use std::io::Write;
        let _ = conn.get_mut().write_all(&ok("hello"));
        Then::Close
    });
    let output = tidegate(&["purge", "--all", "--admin", &origin.address().to_string()]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is no admin listener"));
}

#[test]
fn who_waited_before_a_purge_does_not_bring_back_what_was_purged() {
    // The leader's validation is held back; a follower waits for it, is overtaken by a purge, and goes by itself.
    let (asked, go) = (Gate::default(), Gate::default());
    let gates = (asked.clone(), go.clone());
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = Origin::start(move |request| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match n {
            0 => reply("200 OK", "Cache-Control: max-age=60\r\nAge: 100\r\nETag: \"a\"\r\n", "old"),
            1 => {
                gates.0.open();
                gates.1.wait();
                reply("304 Not Modified", "Cache-Control: max-age=60\r\nETag: \"a\"\r\n", "")
            }
            _ if request.field("if-none-match").is_some() => {
                reply("304 Not Modified", "Cache-Control: max-age=60\r\nETag: \"a\"\r\n", "")
            }
            _ => reply("200 OK", "Cache-Control: max-age=60\r\nETag: \"a\"\r\n", "new"),
        }
    });
    let proxy = Proxy::start(&format!(
        "[cache]\ncollapse-wait = \"500ms\"\n{}",
        one_route("cache = true", "", &[&origin])
    ));
    proxy.get("/");

    std::thread::scope(|scope| {
        let leader = scope.spawn(|| proxy.get("/"));
        asked.wait();
        let follower = scope.spawn(|| proxy.get("/"));
        eventually("the follower waits", || proxy.status()["listeners"][0]["requests_in_flight"] == 2);
        purge(&proxy, r#"{"urls": ["http://test/"]}"#);
        assert_eq!(follower.join().unwrap().text(), "new", "it asks anew, about nothing");
        assert!(asked.is_open() && !go.is_open(), "by its own fetch");
        go.open();
        leader.join().unwrap();
    });

    assert_eq!(proxy.get("/").text(), "new");
}
