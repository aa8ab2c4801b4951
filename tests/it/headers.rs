//! What passes, what is rebuilt, and whom the proxy believes.

use crate::support::{Message, Origin, Proxy, one_route, reply};

/// What the server saw of a GET with these fields.
fn seen(proxy: &Proxy, origin: &Origin, fields: &str) -> Message {
    assert_eq!(proxy.client().get_with("/", fields).status(), 200);
    origin.last()
}

/// A proxy that believes whoever comes from this machine.
fn trusting(origin: &Origin) -> Proxy {
    Proxy::start(&format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\ntrusted-proxies = [\"127.0.0.0/8\"]\n{}",
        one_route("", "", &[origin])
    ))
}

#[test]
fn hop_by_hop_fields_stop_here_both_ways() {
    let origin = Origin::start(|_| {
        reply(
            "200 OK",
            "Connection: X-Private\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\nX-Public: 1\r\n",
            "x",
        )
    });
    let proxy = Proxy::before(&origin);

    let fields = "Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nTE: gzip\r\n\
        Proxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\nX-Open: 1\r\n";
    let answer = proxy.client().get_with("/", fields);
    let request = origin.last();

    for name in ["x-secret", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(request.field(name), None, "{name} reached the server");
    }
    for name in ["x-private", "keep-alive"] {
        assert_eq!(answer.field(name), None, "{name} reached the client");
    }
    assert_eq!((request.field("x-open"), answer.field("x-public")), (Some("1"), Some("1")));
}

#[test]
fn repeated_fields_and_cookies_pass_unchanged() {
    let origin = Origin::start(|_| reply("200 OK", "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n", ""));
    let proxy = Proxy::before(&origin);

    let answer = proxy.client().get_with("/", "X-Many: one\r\nX-Many: two\r\nCookie: a=1; b=2\r\n");

    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(origin.last().all("x-many").join(", "), "one, two");
    assert_eq!(origin.last().field("cookie"), Some("a=1; b=2"));
}

#[test]
fn a_stranger_cannot_say_who_it_is() {
    let origin = Origin::saying("x");
    let proxy = Proxy::before(&origin);

    let request = seen(
        &proxy,
        &origin,
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n\
         Forwarded: for=6.6.6.6;proto=https\r\n",
    );

    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.all("x-forwarded-host"), ["test"]);
    let forwarded = request.all("forwarded").join(", ");
    assert!(forwarded.contains("for=127.0.0.1") && !forwarded.contains("6.6.6.6"), "{forwarded}");
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to() {
    let origin = Origin::saying("x");
    let proxy = trusting(&origin);

    let request = seen(
        &proxy,
        &origin,
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.example.com\r\n",
    );

    assert_eq!(request.all("x-forwarded-for").join(", "), "203.0.113.7, 127.0.0.1");
    assert_eq!(request.all("x-forwarded-proto"), ["https"]);
    assert_eq!(request.all("x-forwarded-host"), ["www.example.com"]);
}

#[test]
fn via_names_the_proxy_both_ways_and_keeps_those_before() {
    let origin = Origin::start(|_| reply("200 OK", "Via: 1.1 inner\r\n", ""));
    let proxy = Proxy::before(&origin);

    let answer = proxy.client().get_with("/", "Via: 1.0 outer\r\n");

    assert_eq!(origin.last().all("via").join(", "), "1.0 outer, 1.1 tidegate");
    assert_eq!(answer.all("via").join(", "), "1.1 inner, 1.1 tidegate");
}

#[test]
fn every_request_has_an_id_that_both_sides_see() {
    let origin = Origin::saying("x");
    let proxy = Proxy::before(&origin);

    let ids: Vec<String> = (0..10)
        .map(|_| {
            let answer = proxy.get("/");
            let id = origin.last().field("x-request-id").expect("an id").to_owned();
            assert_eq!(answer.field("x-request-id"), Some(id.as_str()));
            id
        })
        .collect();

    let distinct: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 10, "{ids:?}");
}

#[test]
fn a_request_id_is_kept_only_from_a_trusted_proxy() {
    let origin = Origin::saying("x");
    let (strict, trusting) = (Proxy::before(&origin), trusting(&origin));

    let made = seen(&strict, &origin, "X-Request-Id: mine-1\r\n");
    let kept = seen(&trusting, &origin, "X-Request-Id: mine-1\r\n");

    assert_ne!(made.field("x-request-id"), Some("mine-1"));
    assert_eq!(made.all("x-request-id").len(), 1);
    assert_eq!(kept.all("x-request-id"), ["mine-1"]);
}

#[test]
fn the_host_is_the_clients_unless_the_upstream_says_otherwise() {
    let origin = Origin::saying("x");
    let server = origin.address().to_string();

    for (key, host) in [
        ("", "test"),
        ("host = \"preserve\"", "test"),
        ("host = \"server\"", server.as_str()),
        ("host = \"app.internal\"", "app.internal"),
    ] {
        let proxy = Proxy::start(&one_route("", key, &[&origin]));
        assert_eq!(seen(&proxy, &origin, "").all("host"), [host], "{key}");
    }
}

#[test]
fn http_2_reaches_a_server_as_http_1_1_with_its_host() {
    let Some(_) = crate::support::program("curl") else { return };
    let origin = Origin::saying("x");
    let proxy = Proxy::before(&origin);

    let url = format!("http://{}/path?q=1", proxy.public());
    crate::support::program::curl(&["--http2-prior-knowledge", "-H", "Cookie: a=1", "-d", "body", &url]);

    let request = origin.last();
    assert_eq!(request.first, "POST /path?q=1 HTTP/1.1");
    assert_eq!(request.all("host"), [proxy.public().to_string()]);
    assert_eq!(request.body, b"body");
    assert!(request.field("via").is_some_and(|via| via.starts_with("2")), "{request:?}");
}
