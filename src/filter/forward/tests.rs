//! Heads in, heads out, as text.

use http::Request;
use http::Response;
use http::StatusCode;

use super::*;

fn parts(version: Version, method: &str, fields: &[(&str, &str)]) -> RequestHead {
    let request = Request::builder().version(version).method(method).uri("/").body(()).unwrap();
    let fields = fields.iter().copied().collect();
    RequestHead::from(request.into_parts().0).with(|head| head.fields = fields)
}

struct Given {
    peer: Peer,
    peer_kind: PeerKind,
    client_ip: &'static str,
    host: &'static str,
    websocket: bool,
    body: BodyLength,
}

impl Default for Given {
    fn default() -> Self {
        Given {
            peer: Peer::new("192.0.2.1".parse().unwrap(), "https", 443),
            peer_kind: PeerKind::Client,
            client_ip: "192.0.2.1",
            host: "example.com",
            websocket: false,
            body: BodyLength::None,
        }
    }
}

impl Given {
    fn trusted() -> Self {
        Given {
            peer: Peer::new("10.0.0.1".parse().unwrap(), "http", 80),
            peer_kind: PeerKind::TrustedProxy,
            ..Given::default()
        }
    }

    fn sends(&self, head: &RequestHead) -> Vec<String> {
        let id = RequestId::Theirs(b"id"[..].into());
        let ctx = ForwardContext {
            peer: &self.peer,
            peer_kind: self.peer_kind,
            client_ip: self.client_ip.parse().unwrap(),
            host: self.host,
            host_header: self.host.as_bytes(),
            request_id: &id,
            websocket: self.websocket,
            body: self.body,
            conditions: None,
        };
        let mut text = Vec::new();
        to_server(head, &ctx, &mut text);
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }

    /// Without what every request gets.
    fn sends_of_client(&self, head: &RequestHead) -> Vec<String> {
        let ours = ["host: ", "x-forwarded-", "forwarded: ", "x-real-ip", "via: ", "x-request-id"];
        let mut lines = self.sends(head);
        lines.retain(|line| !ours.iter().any(|o| line.starts_with(o)));
        lines
    }
}

#[test]
fn an_everyday_request_keeps_its_order_and_tells_where_it_came_from() {
    let head = parts(
        Version::HTTP_11,
        "GET",
        &[("accept", "a"), ("host", "x"), ("x-b", "1"), ("x-a", "2"), ("x-b", "3")],
    );

    assert_eq!(
        Given::default().sends(&head),
        [
            "host: example.com",
            "accept: a",
            "x-b: 1",
            "x-a: 2",
            "x-b: 3",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-proto: https",
            "x-forwarded-port: 443",
            "x-real-ip: 192.0.2.1",
            "x-forwarded-host: example.com",
            "forwarded: for=192.0.2.1;proto=https;host=example.com",
            "via: 1.1 tidegate",
            "x-request-id: id",
        ]
    );
}

#[test]
fn what_belongs_to_the_connection_or_is_forged_stays_behind() {
    let head = parts(
        Version::HTTP_11,
        "GET",
        &[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("close", "1"),
            ("keep-alive", "5"),
            ("proxy", "evil"),
            ("proxy-authorization", "x"),
            ("proxy-anything", "x"),
            ("proxyish", "stays"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("x_forwarded_for", "6.6.6.6"),
            ("x-forwarded-user", "root"),
            ("trailer", "x-sum"),
        ],
    );

    assert_eq!(Given::default().sends_of_client(&head), ["proxyish: stays", "trailer: x-sum"]);
}

#[test]
fn what_looks_like_a_field_that_stays_behind_stays_behind_too() {
    for (name, passes) in [
        ("x.forwarded.for", false),
        ("x~real~ip", false),
        ("_x-forwarded-for", false),
        ("x-forwarded-for.", false),
        ("x-forwarded-for_", false),
        ("content.length", false),
        ("transfer|encoding", false),
        ("a_b", false),
        ("a.b", true),
        ("x-forwarder", true),
        ("x.", true),
    ] {
        for given in [Given::default(), Given::trusted()] {
            let sent = given.sends_of_client(&parts(Version::HTTP_11, "GET", &[(name, "1")]));
            assert_eq!(!sent.is_empty(), passes, "{name}: {sent:?}");
        }
    }
}

#[test]
fn only_harmless_trailers_are_announced() {
    for (announced, expected) in [
        (&["X-Sum"][..], &["trailer: X-Sum"][..]),
        (&["X-Sum, Host,,X-More"], &["trailer: X-Sum, X-More"]),
        (&["X-Sum", "X-More"], &["trailer: X-Sum", "trailer: X-More"]),
        (&["Authorization, Cookie, Content-Type, If-Match, X-Forwarded-For, X_Sum, TE, Trailer, Via"], &[]),
    ] {
        let fields: Vec<_> = announced.iter().map(|value| ("trailer", *value)).collect();
        let sent = Given::trusted().sends_of_client(&parts(Version::HTTP_11, "GET", &fields));
        assert_eq!(sent, expected, "{announced:?}");
    }
}

#[test]
fn no_trailer_is_announced_that_connection_names() {
    for (connection, expected) in
        [("x-other", &["trailer: X-Sum, X-More"][..]), ("x-sum", &["trailer: X-More"]), ("Trailer", &[])]
    {
        let fields = [("connection", connection), ("trailer", "X-Sum, X-More")];
        let sent = Given::trusted().sends_of_client(&parts(Version::HTTP_11, "GET", &fields));
        assert_eq!(sent, expected, "{connection}");
    }
}

#[test]
fn max_forwards_is_one_less_for_options_alone() {
    for (method, value, expected) in [
        ("OPTIONS", "3", "max-forwards: 2"),
        ("OPTIONS", "99999999999999999999999", "max-forwards: 18446744073709551614"),
        ("GET", "3", "max-forwards: 3"),
    ] {
        let head = parts(Version::HTTP_11, method, &[("max-forwards", value)]);
        assert_eq!(Given::default().sends_of_client(&head), [expected], "{method} {value}");
    }
}

#[test]
fn an_untrusted_peer_is_not_believed_and_a_trusted_one_is_added_to() {
    let said = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-for", "2.2.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "front"),
        ("forwarded", "for=2.2.2.2"),
        ("x-real-ip", "6.6.6.6"),
        ("via", "1.1 front"),
    ];
    let head = parts(Version::HTTP_2, "GET", &said);

    let untrusted = Given { host: "[::1]:80", ..Given::default() };
    assert_eq!(
        untrusted.sends(&head)[1..],
        [
            "via: 1.1 front",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-proto: https",
            "x-forwarded-port: 443",
            "x-real-ip: 192.0.2.1",
            "x-forwarded-host: [::1]:80",
            "forwarded: for=192.0.2.1;proto=https;host=\"[::1]:80\"",
            "via: 2.0 tidegate",
            "x-request-id: id",
        ]
    );
    let trusted = Given { client_ip: "2.2.2.2", ..Given::trusted() };
    assert_eq!(
        trusted.sends(&head)[1..],
        [
            "x-forwarded-proto: https",
            "x-forwarded-host: front",
            "via: 1.1 front",
            "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.0.0.1",
            "x-forwarded-port: 80",
            "x-real-ip: 2.2.2.2",
            "forwarded: for=2.2.2.2, for=10.0.0.1;proto=http;host=example.com",
            "via: 2.0 tidegate",
            "x-request-id: id",
        ]
    );
}

#[test]
fn an_ipv6_peer_is_quoted_in_forwarded() {
    let given = Given {
        peer: Peer::new("2001:db8::1".parse().unwrap(), "http", 80),
        client_ip: "2001:db8::1",
        ..Given::default()
    };
    let sent = given.sends(&parts(Version::HTTP_11, "GET", &[]));

    assert!(sent.contains(&"x-forwarded-for: 2001:db8::1".to_owned()));
    assert!(sent.contains(&"forwarded: for=\"[2001:db8::1]\";proto=http;host=example.com".to_owned()));
}

#[test]
fn the_body_gets_one_framing_of_ours() {
    for (method, body, expected) in [
        ("GET", BodyLength::None, &[][..]),
        ("POST", BodyLength::None, &["content-length: 0"]),
        ("GET", BodyLength::Known(3), &["content-length: 3"]),
        ("GET", BodyLength::Unknown, &["transfer-encoding: chunked"]),
        ("DELETE", BodyLength::Unknown, &["transfer-encoding: chunked"]),
    ] {
        let head =
            parts(Version::HTTP_11, method, &[("content-length", "7"), ("transfer-encoding", "chunked")]);
        assert_eq!(Given { body, ..Given::default() }.sends_of_client(&head), expected, "{method} {body:?}");
    }
}

#[test]
fn crumbs_become_one_cookie_at_the_place_of_the_first() {
    let head =
        parts(Version::HTTP_2, "GET", &[("a", "1"), ("cookie", "b=2"), ("c", "3"), ("cookie", "d=4; e=5")]);
    assert_eq!(Given::default().sends_of_client(&head), ["a: 1", "cookie: b=2; d=4; e=5", "c: 3"]);
}

#[test]
fn a_server_is_asked_for_a_path_whatever_the_target_was() {
    for (target, expected) in [
        ("/a?b", "/a?b"),
        ("http://a/b?c", "/b?c"),
        ("http://a", "/"),
        ("http://a?b", "/?b"),
        ("http://a#b", "/"),
        ("http://a/#b", "/"),
        ("*", "*"),
    ] {
        let uri: http::Uri = target.parse().unwrap();
        assert_eq!(origin_form(uri.path_and_query()).to_string(), expected, "{target}");
    }
    assert_eq!(origin_form(None).to_string(), "/");
}

#[test]
fn websocket_and_trailers_are_asked_for_anew() {
    let head = parts(
        Version::HTTP_11,
        "GET",
        &[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "k")],
    );
    assert_eq!(
        Given { websocket: true, ..Given::default() }.sends_of_client(&head),
        ["sec-websocket-key: k", "connection: upgrade", "upgrade: websocket"]
    );
    let head = parts(Version::HTTP_2, "POST", &[("te", "trailers")]);
    assert_eq!(
        Given { body: BodyLength::Unknown, ..Given::default() }.sends_of_client(&head),
        ["connection: te", "te: trailers", "transfer-encoding: chunked"]
    );
}

#[test]
fn a_request_id_is_kept_only_from_a_trusted_peer_and_only_if_it_is_plain() {
    let id = |given: &Given, value: &str| {
        let head = parts(Version::HTTP_11, "GET", &[("x-request-id", value)]);
        String::from_utf8(RequestId::of(&head.fields, given.peer_kind, 0xabc).as_bytes().to_vec()).unwrap()
    };
    let fresh = "00000000000000000000000000000abc";
    let (trusted, untrusted) = (Given::trusted(), Given::default());

    assert_eq!(id(&trusted, "a-B_9.z"), "a-B_9.z");
    assert_eq!(id(&untrusted, "a"), fresh);
    for odd in ["", "a b", "a\"", "a,b", &"a".repeat(129)] {
        assert_eq!(id(&trusted, odd), fresh, "{odd}");
    }
}

fn answers(status: u16, version: Version, fields: &[(&str, &str)]) -> Vec<String> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let head = response.body(()).unwrap().into_parts().0.into();
    let answer = to_client(&head, version, &RequestId::Theirs(b"id"[..].into()));
    let written = String::from_utf8(answer.into_parts().0.into_text()).unwrap();
    written.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_response_loses_what_belongs_to_the_servers_connection() {
    let fields = [
        ("server", "s"),
        ("connection", "keep-alive, x-mine"),
        ("x-mine", "1"),
        ("close", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2,h2c"),
        ("proxy-authenticate", "Basic"),
        ("set-cookie", "a=1"),
        ("proxy-status", "stays"),
        ("set-cookie", "b=2"),
        ("trailer", "x-sum"),
        ("x-request-id", "theirs"),
    ];
    assert_eq!(
        answers(200, Version::HTTP_2, &fields),
        [
            "server: s",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "proxy-status: stays",
            "trailer: x-sum",
            "via: 1.1 tidegate",
            "x-request-id: id",
        ]
    );
}

#[test]
fn a_length_is_said_once_and_not_where_there_is_no_body() {
    let twice = [("content-length", "3"), ("content-length", "3")];
    for (status, expected) in [(200, true), (304, true), (204, false)] {
        let lengths =
            answers(status, Version::HTTP_11, &twice).iter().filter(|l| *l == "content-length: 3").count();
        assert_eq!(lengths, usize::from(expected), "{status}");
    }
}

#[test]
fn switching_protocols_is_said_anew() {
    let sent =
        answers(101, Version::HTTP_11, &[("connection", "Upgrade, x"), ("upgrade", "WebSocket"), ("x", "1")]);
    assert_eq!(sent, ["connection: upgrade", "upgrade: websocket", "via: 1.1 tidegate", "x-request-id: id"]);
}

#[test]
fn an_interim_response_has_no_length_and_nothing_of_the_servers_connection() {
    let told = |status: u16, fields: &[(&'static str, &'static str)]| {
        let fields = Fields::from_iter(fields.iter().copied());
        let mut text = Vec::new();
        crate::http1::text::interim(
            &mut text,
            StatusCode::from_u16(status).unwrap(),
            &interim_to_client(&fields),
        );
        String::from_utf8(text).unwrap()
    };

    let fields = [
        ("link", "</a>; rel=preload"),
        ("link", "</b>; rel=preload"),
        ("connection", "close, x-mine"),
        ("x-mine", "1"),
        ("content-length", "5"),
        ("transfer-encoding", "chunked"),
        ("x-request-id", "theirs"),
        ("set-cookie", "a=1"),
    ];
    let expected = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>; rel=preload\r\n\
                    set-cookie: a=1\r\n\r\n";
    assert_eq!(told(103, &fields), expected);
    assert_eq!(told(199, &[]), "HTTP/1.1 199 \r\n\r\n");
}

#[test]
fn what_forwarded_says_of_host_and_scheme_is_the_same_byte_for_byte_or_other() {
    for (line, is_other) in [
        ("", false),
        ("for=1.1.1.1;by=2.2.2.2", false),
        ("host=h", false),
        ("for=1.1.1.1;HOST=\"h\";proto=http", false),
        ("host=h, for=1.1.1.1;host=h ;by=x", false),
        ("host=", true),
        ("host=H", true),
        ("host=h:80", true),
        ("host=hh", true),
        ("host = h", true),
        ("host=\"h", false),
        ("host=h;proto=https", true),
        ("proto=httpx", true),
        ("for=\";host=evil\";host=h", true),
        ("for=1.1.1.1, host=h, host=evil", true),
    ] {
        let told = says_other(line.as_bytes(), "host", "h") || says_other(line.as_bytes(), "proto", "http");
        assert_eq!(told, is_other, "{line}");
    }
}
