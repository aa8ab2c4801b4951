//! Requests that are malformed, and what could be injected into a request of HTTP/1.1 (RFC 9113 sections 8.2 and 8.3).

use super::*;
use Then::*;

/// Played here before Tidegate alone, and in [`crate::pairs`] behind another proxy.
pub const TABLES: &[fn()] = &[
    pseudo_fields_are_those_of_a_request_once_each_and_first,
    connect_and_trace_are_not_served,
    a_method_is_a_token,
    a_path_is_a_path,
    a_scheme_is_http_or_https,
    an_authority_is_a_host_and_a_port,
    names_are_tokens_in_lower_case,
    values_hold_no_line_and_no_space_at_their_ends,
    no_field_of_a_connection_comes_over_http_2,
    many_references_to_one_field_cost_what_they_stand_for,
];

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "test");

/// A good request, and these fields behind its own.
fn with(further: &[(&str, &str)]) -> Vec<u8> {
    request(&[&[METHOD, SCHEME, PATH, AUTHORITY], further].concat())
}

fn with_bytes(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut fields = block(&[METHOD, SCHEME, PATH, AUTHORITY]);
    literal(&mut fields, name, value);
    frame(HEADERS, END_HEADERS | END_STREAM, 1, fields)
}

/// A good request, but for one pseudo-field.
fn but(name: &str, value: &str) -> Vec<u8> {
    request(
        &[METHOD, SCHEME, PATH, AUTHORITY].map(|field| if field.0 == name { (name, value) } else { field }),
    )
}

/// RFC 9113 section 8.1.1.
fn malformed() -> Then {
    Stream(&[PROTOCOL_ERROR])
}

#[test]
fn pseudo_fields_are_those_of_a_request_once_each_and_first() {
    check(vec![
        ("no :method", request(&[SCHEME, PATH, AUTHORITY]), malformed()),
        ("no :scheme", request(&[METHOD, PATH, AUTHORITY]), malformed()),
        ("no :path", request(&[METHOD, SCHEME, AUTHORITY]), malformed()),
        ("none at all", request(&[("x", "1")]), malformed()),
        ("an empty block", request(&[]), malformed()),
        (":method twice", request(&[METHOD, METHOD, SCHEME, PATH, AUTHORITY]), malformed()),
        (":scheme twice", request(&[METHOD, SCHEME, SCHEME, PATH, AUTHORITY]), malformed()),
        (":path twice", request(&[METHOD, SCHEME, PATH, PATH, AUTHORITY]), malformed()),
        (":path twice, differing", request(&[METHOD, SCHEME, PATH, (":path", "/b"), AUTHORITY]), malformed()),
        (":authority twice", request(&[METHOD, SCHEME, PATH, AUTHORITY, AUTHORITY]), malformed()),
        (":status", request(&[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200")]), malformed()),
        (":path behind a field", request(&[METHOD, SCHEME, AUTHORITY, ("x", "1"), PATH]), malformed()),
        (":authority behind a field", request(&[METHOD, SCHEME, PATH, ("x", "1"), AUTHORITY]), malformed()),
        (":method behind a field", request(&[SCHEME, PATH, AUTHORITY, ("x", "1"), METHOD]), malformed()),
        ("an unknown one", request(&[METHOD, SCHEME, PATH, AUTHORITY, (":x", "1")]), malformed()),
        ("an unknown one behind a field", with(&[("x", "1"), (":x", "1")]), malformed()),
        ("a colon alone", with(&[(":", "1")]), malformed()),
        (":method in upper case", request(&[(":METHOD", "GET"), SCHEME, PATH, AUTHORITY]), malformed()),
        (":protocol", request(&[METHOD, SCHEME, PATH, AUTHORITY, (":protocol", "websocket")]), malformed()),
        (
            "extended CONNECT",
            request(&[(":method", "CONNECT"), SCHEME, PATH, AUTHORITY, (":protocol", "websocket")]),
            malformed(),
        ),
    ]);
}

#[test]
fn connect_and_trace_are_not_served() {
    let connect = (":method", "CONNECT");
    check(vec![
        ("CONNECT", request(&[connect, (":authority", "test:443")]), Refused(&[405])),
        ("CONNECT with :path", request(&[connect, PATH, (":authority", "test:443")]), malformed()),
        ("CONNECT with :scheme", request(&[connect, SCHEME, (":authority", "test:443")]), malformed()),
        ("CONNECT without :authority", request(&[connect]), malformed()),
        (
            "CONNECT and a body",
            all(&[
                frame(HEADERS, END_HEADERS, 1, block(&[connect, (":authority", "test:443")])),
                frame(DATA, END_STREAM, 1, b"GET / HTTP/1.1\r\n\r\n"),
            ]),
            Refused(&[405]),
        ),
        ("TRACE", but(":method", "TRACE"), Refused(&[405])),
        (
            "TRACE and a body",
            all(&[
                frame(HEADERS, END_HEADERS, 1, block(&[(":method", "TRACE"), SCHEME, PATH, AUTHORITY])),
                frame(DATA, END_STREAM, 1, b"x"),
            ]),
            Refused(&[405]),
        ),
    ]);
}

#[test]
fn a_method_is_a_token() {
    let mut cases = vec![
        ("another one", but(":method", "BREW"), Served),
        ("of marks", but(":method", "M-SEARCH"), Served),
        ("in lower case", but(":method", "get"), Served),
    ];
    for (name, method) in [
        ("empty", ""),
        ("with a space", "GET /x HTTP/1.1"),
        ("with CR LF", "GET / HTTP/1.1\r\nHost: evil\r\n\r\nGET"),
        ("with LF", "GET\n"),
        ("with NUL", "GET\0"),
        ("with a tab", "GET\t/"),
        ("with a colon", "GET:"),
        ("with a slash", "GET/"),
        ("beyond ASCII", "GÉT"),
        ("with space before", " GET"),
    ] {
        cases.push((name, but(":method", method), malformed()));
    }
    check(cases);
}

#[test]
fn a_path_is_a_path() {
    let mut cases = Vec::new();
    for (name, path) in [
        ("empty", ""),
        ("with a space", "/a b"),
        ("with a request line's end", "/ HTTP/1.1"),
        ("with CR LF", "/ HTTP/1.1\r\nHost: evil\r\nX: "),
        ("with CR", "/a\rb"),
        ("with LF", "/a\nb"),
        ("with NUL", "/a\0b"),
        ("with a tab", "/a\tb"),
        ("with DEL", "/a\x7fb"),
        ("with a control character in its query", "/?a\x01"),
        ("with a space before", " /"),
        ("with a space behind", "/ "),
        ("with a fragment", "/a#b"),
        ("with a fragment behind a query", "/a?b#c"),
    ] {
        cases.push((name, but(":path", path), malformed()));
    }
    for (name, path) in [
        ("without a slash", "a"),
        ("a query alone", "?a=b"),
        ("a whole URL", "http://evil/"),
        ("a host", "evil:80"),
        ("a star, with GET", "*"),
        ("beyond ASCII", "/é"),
        ("beyond ASCII in its query", "/?é"),
        ("with a backslash", "/a\\b"),
        ("that climbs", "/../a"),
        ("with an escaped NUL", "/%00"),
        ("a user", "@evil/"),
    ] {
        cases.push((name, but(":path", path), REFUSED_OR_RESET));
    }
    cases.push((
        "a star, with OPTIONS",
        request(&[(":method", "OPTIONS"), SCHEME, (":path", "*"), AUTHORITY]),
        Served,
    ));
    cases.push(("two slashes", but(":path", "//evil/"), Served));
    cases.push(("with a query", but(":path", "/a?b=c&d=%20"), Served));
    cases.push(("that is too long", but(":path", &format!("/{}", "a".repeat(9000))), Refused(&[414])));
    check(cases);
}

const REFUSED_OR_RESET: Then = Either(&[400], &[PROTOCOL_ERROR]);

#[test]
fn a_scheme_is_http_or_https() {
    let mut cases =
        vec![("https", but(":scheme", "https"), Served), ("in upper case", but(":scheme", "HTTP"), Served)];
    for (name, scheme) in [
        ("empty", ""),
        ("another one", "ftp"),
        ("of digits", "1"),
        ("with a space", "http "),
        ("a whole URL", "http://evil/?"),
        ("with CR LF", "http\r\nx: y"),
        ("with NUL", "http\0"),
        ("with a colon", "http:"),
    ] {
        cases.push((name, but(":scheme", scheme), REFUSED_OR_RESET));
    }
    check(cases);
}

#[test]
fn an_authority_is_a_host_and_a_port() {
    let mut cases = Vec::new();
    for (name, authority) in [
        ("empty", ""),
        ("with a user", "user@test"),
        ("with a user and a password", "u:p@test"),
        ("with a path", "test/x"),
        ("with a query", "test?x"),
        ("with a fragment", "test#x"),
        ("with a space", "test evil"),
        ("with CR LF", "test\r\nx: y"),
        ("with NUL", "test\0"),
        ("with a tab", "test\t"),
        ("with a comma", "test,evil"),
        ("with a backslash", "test\\evil"),
        ("with a quote", "te\"st"),
        ("a port of letters", "test:x"),
        ("a port beyond all", "test:99999"),
        ("two ports", "test:1:2"),
        ("a port alone", ":80"),
        ("half a bracket", "[::1"),
        ("beyond ASCII", "tést"),
        ("with a space before", " test"),
        ("with a space behind", "test "),
    ] {
        cases.push((name, but(":authority", authority), REFUSED_OR_RESET));
    }
    let host = |value| request(&[METHOD, SCHEME, PATH, ("host", value)]);
    cases.extend([
        ("host alone", host("test"), Served),
        ("neither", request(&[METHOD, SCHEME, PATH]), Refused(&[400])),
        ("host, empty", host(""), Refused(&[400])),
        ("host with a user", host("user@test"), Refused(&[400])),
        ("host with a path", host("test/x"), Refused(&[400])),
        ("host with a comma", host("test,evil"), Refused(&[400])),
        ("host twice", request(&[METHOD, SCHEME, PATH, ("host", "test"), ("host", "test")]), Refused(&[400])),
        ("both, alike", with(&[("host", "test")]), Served),
        ("both, in other letters", with(&[("host", "TEST")]), Served),
        ("both, differing", with(&[("host", "evil")]), Refused(&[400])),
        ("both, differing by port", with(&[("host", "test:81")]), Refused(&[400])),
        ("both, host empty", with(&[("host", "")]), Refused(&[400])),
        ("both, host twice", with(&[("host", "test"), ("host", "test")]), Refused(&[400])),
        ("both, host twice, differing", with(&[("host", "test"), ("host", "evil")]), Refused(&[400])),
        (
            ":authority empty, host good",
            request(&[METHOD, SCHEME, PATH, (":authority", ""), ("host", "test")]),
            REFUSED_OR_RESET,
        ),
    ]);
    check(cases);
}

#[test]
fn a_server_gets_one_host_and_it_is_the_authority() {
    let stage = Stage::new();
    for (fields, host) in [
        (&[METHOD, SCHEME, PATH, (":authority", "Test:81")][..], "Test:81"),
        (&[METHOD, SCHEME, PATH, (":authority", "Test:81"), ("host", "tEST:81")], "Test:81"),
        (&[METHOD, SCHEME, PATH, ("host", "other")], "other"),
    ] {
        stage.server.forget();
        let mut client = stage.client();
        client.send(request(fields));
        assert_eq!(client.answer(1), 200);
        assert_eq!(stage.server.only().all("host"), [host]);
    }
}

#[test]
fn names_are_tokens_in_lower_case() {
    let mut cases = Vec::new();
    for (name, field) in [
        ("upper case", &b"X-Upper"[..]),
        ("one letter in upper case", b"x-uppeR"),
        ("empty", b""),
        ("with a space", b"x y"),
        ("with a space behind", b"x "),
        ("with a colon", b"x:y"),
        ("with a colon behind", b"transfer-encoding:"),
        ("with CR LF", b"x: y\r\nz"),
        ("with LF", b"x\n"),
        ("with CR", b"x\r"),
        ("with NUL", b"x\0"),
        ("with a tab", b"x\t"),
        ("with DEL", b"x\x7f"),
        ("beyond ASCII", b"x\xe9"),
        ("with a bracket", b"x(y)"),
        ("with a comma", b"x,y"),
        ("with a slash", b"x/y"),
        ("with a quote", b"x\"y"),
    ] {
        cases.push((name, with_bytes(field, b"1"), malformed()));
    }
    cases.push(("of every mark", with_bytes(b"!#$%&'*+-.^`|~0a", b"1"), Served));
    check(cases);
}

#[test]
fn values_hold_no_line_and_no_space_at_their_ends() {
    let mut cases = Vec::new();
    for (name, value) in [
        ("CR LF", &b"a\r\nx: y"[..]),
        ("CR LF alone", b"\r\n"),
        ("a whole request", b"a\r\n\r\nGET /evil HTTP/1.1\r\nHost: evil\r\n\r\n"),
        ("CR", b"a\rb"),
        ("LF", b"a\nb"),
        ("NUL", b"a\0b"),
        ("BEL", b"a\x07b"),
        ("DEL", b"a\x7fb"),
        ("ESC", b"\x1b[2J"),
    ] {
        cases.push((name, with_bytes(b"x", value), malformed()));
    }
    for (name, value) in [
        ("a space before", &b" a"[..]),
        ("a space behind", b"a "),
        ("a tab before", b"\ta"),
        ("a tab behind", b"a\t"),
        ("a space alone", b" "),
    ] {
        cases.push((name, with_bytes(b"x", value), REFUSED_OR_RESET));
    }
    cases.push(("a length with a space", with(&[("content-length", " 0")]), REFUSED_OR_RESET));
    cases.push(("a host with a space", with(&[("host", "test ")]), REFUSED_OR_RESET));
    cases.push(("a tab within", with_bytes(b"x", b"a\tb"), Served));
    cases.push(("beyond ASCII", with_bytes(b"x", b"\xe9\xff"), Served));
    cases.push(("empty", with_bytes(b"x", b""), Served));
    check(cases);
}

#[test]
fn no_field_of_a_connection_comes_over_http_2() {
    check(vec![
        ("connection", with(&[("connection", "close")]), malformed()),
        ("connection, empty", with(&[("connection", "")]), malformed()),
        ("connection: keep-alive", with(&[("connection", "keep-alive")]), malformed()),
        ("connection that names a field", with(&[("connection", "x-a"), ("x-a", "1")]), malformed()),
        ("keep-alive", with(&[("keep-alive", "timeout=5")]), malformed()),
        ("proxy-connection", with(&[("proxy-connection", "keep-alive")]), malformed()),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), malformed()),
        ("transfer-encoding: identity", with(&[("transfer-encoding", "identity")]), malformed()),
        (
            "transfer-encoding, and a length",
            with(&[("content-length", "0"), ("transfer-encoding", "chunked")]),
            malformed(),
        ),
        ("upgrade", with(&[("upgrade", "websocket")]), malformed()),
        ("upgrade: h2c", with(&[("upgrade", "h2c")]), malformed()),
        ("te: gzip", with(&[("te", "gzip")]), malformed()),
        ("te: trailers and more", with(&[("te", "trailers, gzip")]), malformed()),
        ("te, empty", with(&[("te", "")]), malformed()),
        ("te: trailers", with(&[("te", "trailers")]), Served),
        ("te: trailers twice", with(&[("te", "trailers"), ("te", "trailers")]), Served),
        (
            "transfer-encoding in trailers",
            all(&[
                post(1, "/", &[]),
                frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&[("transfer-encoding", "chunked")])),
            ]),
            malformed(),
        ),
        ("expect: 100-continue", with(&[("expect", "100-continue")]), Served),
        ("expect: something else", with(&[("expect", "200-ok")]), Refused(&[417])),
    ]);
}

#[test]
fn what_a_server_could_misread_does_not_reach_it() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(with(&[
        ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
        ("x_forwarded_for", "10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("proxy", "http://evil/"),
        ("proxy-authorization", "Basic x"),
        ("expect", "100-continue"),
        ("te", "trailers"),
        ("x-plain", "stays"),
    ]));
    assert_eq!(client.answer(1), 200);

    let seen = stage.server.only();
    for gone in ["http2-settings", "x_forwarded_for", "proxy", "proxy-authorization", "expect", "upgrade"] {
        assert_eq!(seen.field(gone), None, "{seen:?}");
    }
    for (name, value) in &seen.fields {
        assert!(!value.contains("10.0.0.1"), "{name}: {value}");
    }
    assert_eq!((seen.field("x-plain"), seen.field("te")), (Some("stays"), Some("trailers")));
}

#[test]
fn the_crumbs_of_a_cookie_are_put_together() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(with(&[("cookie", "a=b"), ("x", "1"), ("cookie", "c=d; e=f"), ("cookie", "g=h")]));
    assert_eq!(client.answer(1), 200);
    assert_eq!(stage.server.only().all("cookie"), ["a=b; c=d; e=f; g=h"]);
}

#[test]
fn more_fields_than_may_be_are_answered_431_and_the_connection_goes_on() {
    let stage = Stage::new();
    let many: Vec<(String, &str)> = (0..150).map(|n| (format!("x-{n}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let crumbs = [("cookie", "a=b"); 150];
    let large = "a".repeat(40_000);
    let head = block(&[METHOD, SCHEME, PATH, AUTHORITY, ("x", &large)]);
    let (first, rest) = head.split_at(16_000);
    let (second, third) = rest.split_at(16_000);
    let large = all(&[
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, 0, 1, second),
        frame(CONTINUATION, END_HEADERS, 1, third),
    ]);
    stage.play(vec![
        ("many fields", with(&many), Refused(&[431])),
        ("many crumbs of a cookie", with(&crumbs), Refused(&[431])),
        ("a large field", large, Refused(&[431])),
    ]);
}

#[test]
fn many_references_to_one_field_cost_what_they_stand_for() {
    // 4000 bytes in the table, named 60 times by one byte each: 240 KB of fields.
    let mut fields = block(&[METHOD, SCHEME, PATH, AUTHORITY]);
    fields.extend(b"\x40\x01x");
    integer(&mut fields, 0, 7, 4000);
    fields.extend([b'a'; 4000]);
    fields.extend([0xbe; 60]);
    check(vec![(
        "a bomb",
        frame(HEADERS, END_HEADERS | END_STREAM, 1, fields),
        Connection(&[ENHANCE_YOUR_CALM]),
    )]);
}
