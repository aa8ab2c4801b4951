//! Tables of heads and of what is said to them.

use http::Request;
use http::Response;

use super::*;

fn limits() -> Limits {
    Limits { headers: 20, header_bytes: 1000, uri_bytes: 100, ..Limits::default() }
}

fn head(version: Version, method: &str, uri: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut request = Request::builder().version(version).method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request.body(()).unwrap().into_parts().0.into()
}

/// `None` is served.
fn verdict(version: Version, method: &str, uri: &str, fields: &[(&str, &str)]) -> Option<Refusal> {
    check_request(&head(version, method, uri, fields), &limits()).err()
}

fn over_http1(fields: &[(&str, &str)]) -> Option<Refusal> {
    let fields: Vec<_> = [("host", "a")].iter().chain(fields).copied().collect();
    verdict(Version::HTTP_11, "GET", "/", &fields)
}

fn over_http2(fields: &[(&str, &str)]) -> Option<Refusal> {
    verdict(Version::HTTP_2, "GET", "http://a/", fields)
}

#[test]
fn host_and_target_must_agree_on_one_host() {
    use Refusal::*;
    let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
    type Case<'a> = (Version, &'a str, &'a [(&'a str, &'a str)], Option<Refusal>);
    let cases: &[Case<'_>] = &[
        (v11, "/", &[("host", "a")], None),
        (v11, "/", &[], Some(HostMissing)),
        (v10, "/", &[], Some(HostMissing)),
        (v10, "/", &[("host", "a")], None),
        (v11, "/", &[("host", "a"), ("host", "a")], Some(HostRepeated)),
        (v11, "/", &[("host", "a b")], Some(HostInvalid)),
        (v11, "/", &[("host", "")], Some(HostInvalid)),
        (v11, "/", &[("host", "u@a")], Some(HostInvalid)),
        (v11, "/", &[("host", "é")], Some(HostInvalid)),
        (v11, "http://b/", &[("host", "a")], None),
        (v11, "http://b/", &[], Some(HostMissing)),
        (v11, "http://b/", &[("host", "a/b")], Some(HostInvalid)),
        (v11, "http://u@b/", &[("host", "b")], Some(HostInvalid)),
        (v11, "b:80", &[("host", "b")], Some(Target)),
        (v11, "ftp://b/", &[("host", "b")], Some(Target)),
        (v2, "http://b/", &[], None),
        (v2, "http://b/", &[("host", "B")], None),
        (v2, "http://b/", &[("host", "a")], Some(HostDiffers)),
        (v2, "http://b/", &[("host", "b:80")], Some(HostDiffers)),
        (v2, "/", &[("host", "b")], None),
        (v2, "/", &[], Some(HostMissing)),
    ];
    for (version, uri, fields, expected) in cases {
        assert_eq!(verdict(*version, "GET", uri, fields), *expected, "{version:?} {uri} {fields:?}");
    }
}

#[test]
fn a_body_has_one_length() {
    use Refusal::*;
    for (fields, expected) in [
        (&[("content-length", "3")][..], None),
        (&[("content-length", "3"), ("content-length", "3")], Some(ContentLength)),
        (&[("content-length", "3"), ("content-length", "4")], Some(ContentLength)),
        (&[("content-length", "3, 3")], Some(ContentLength)),
        (&[("content-length", "+3")], Some(ContentLength)),
        (&[("content-length", "")], Some(ContentLength)),
        (&[("content-length", "99999999999999999999")], Some(ContentLength)),
        (&[("content-length", "9223372036854775808")], Some(ContentLength)),
        (&[("content-length", "9223372036854775807")], None),
        (&[("transfer-encoding", "chunked")], None),
        (&[("transfer-encoding", "Chunked")], None),
        (&[("transfer-encoding", "chunked"), ("content-length", "3")], Some(ContentLength)),
        (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Some(TransferEncoding)),
        (&[("transfer-encoding", "chunked, chunked")], Some(TransferEncoding)),
        (&[("transfer-encoding", "")], Some(TransferEncoding)),
        (&[("transfer-encoding", ",chunked")], Some(TransferEncoding)),
        (&[("transfer-encoding", "gzip, chunked")], Some(TransferCoding)),
        (&[("transfer-encoding", "identity")], Some(TransferCoding)),
    ] {
        assert_eq!(over_http1(fields), expected, "{fields:?}");
    }
    let old = verdict(Version::HTTP_10, "POST", "/", &[("host", "a"), ("transfer-encoding", "chunked")]);
    assert_eq!(old, Some(TransferEncoding));
}

#[test]
fn connection_and_expect_may_not_reach_too_far() {
    use Refusal::*;
    for (fields, expected) in [
        (&[("connection", "keep-alive, x-mine")][..], None),
        (&[("connection", "close, Host")], Some(Connection)),
        (&[("connection", "X-Forwarded-Anything")], Some(Connection)),
        (&[("connection", "authorization")], Some(Connection)),
        (&[("connection", "If-Match")], Some(Connection)),
        (&[("connection", "x-a x-b")], Some(Connection)),
        (&[("connection", "\"x-a\"")], Some(Connection)),
        (&[("connection", "close"), ("connection", "cookie")], Some(Connection)),
        (&[("expect", "100-Continue")], None),
        (&[("expect", "more")], Some(Expectation)),
        (&[("te", "gzip")], None),
        (&[("x_under", "1")], None),
    ] {
        assert_eq!(over_http1(fields), expected, "{fields:?}");
    }
}

#[test]
fn http2_has_no_connection_fields() {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert_eq!(over_http2(&[(name, "x")]), Some(Refusal::ConnectionSpecific), "{name}");
    }
    assert_eq!(over_http2(&[("te", "trailers")]), None);
    assert_eq!(over_http2(&[("te", "gzip")]), Some(Refusal::ConnectionSpecific));
}

#[test]
fn http2_says_nothing_that_http1_cannot() {
    for (name, value, expected) in [
        ("x", "a b\tc", None),
        ("x", "", None),
        ("x", " a", Some(Refusal::FieldInvalid)),
        ("x", "a\t", Some(Refusal::FieldInvalid)),
        ("x", " ", Some(Refusal::FieldInvalid)),
    ] {
        assert_eq!(over_http2(&[(name, value)]), expected, "{name}: {value:?}");
    }
    assert_eq!(verdict(Version::HTTP_2, "GET", "HTTPS://a/", &[]), None);
    assert_eq!(verdict(Version::HTTP_2, "GET", "http://a?x", &[]), Some(Refusal::Target));
    assert_eq!(verdict(Version::HTTP_11, "GET", "http://a?x", &[("host", "a")]), None);
}

#[test]
fn targets_are_plain() {
    use Refusal::*;
    let long = format!("/{}", "a".repeat(100));
    for (method, uri, expected) in [
        ("GET", "/a?b=\\", None),
        ("GET", "/a\\b", Some(Target)),
        ("GET", "/é", Some(Target)),
        ("GET", "/?é", Some(Target)),
        ("GET", "/../a", Some(Path)),
        ("GET", "/a/%2e%2E/%2e./b", Some(Path)),
        ("GET", "/a/../b", None),
        ("GET", "/?x=../../..", None),
        ("GET", "*", Some(Target)),
        ("OPTIONS", "*", None),
        ("CONNECT", "a:80", Some(Method)),
        ("TRACE", "/", Some(Method)),
        ("BREW", "/", None),
        ("GET", long.as_str(), Some(UriTooLong)),
    ] {
        assert_eq!(verdict(Version::HTTP_11, method, uri, &[("host", "a")]), expected, "{method} {uri}");
    }
}

#[test]
fn a_method_has_at_most_32_bytes() {
    let of = |bytes: usize| verdict(Version::HTTP_11, &"M".repeat(bytes), "/", &[("host", "a")]);
    assert_eq!((of(32), of(33)), (None, Some(Refusal::MethodTooLong)));
}

#[test]
fn max_forwards_counts_for_options_alone() {
    let ends = |method: &str, values: &[&str]| {
        let fields: Vec<_> =
            values.iter().map(|value| ("max-forwards", *value)).chain([("host", "a")]).collect();
        check_request(&head(Version::HTTP_11, method, "/", &fields), &limits())
            .map(|checked| checked.ends_here)
    };
    for (values, expected) in [
        (&[][..], Ok(false)),
        (&["0"], Ok(true)),
        (&["000"], Ok(true)),
        (&["1"], Ok(false)),
        (&["99999999999999999999999"], Ok(false)),
        (&[""], Err(Refusal::MaxForwards)),
        (&["+1"], Err(Refusal::MaxForwards)),
        (&["0", "0"], Err(Refusal::MaxForwards)),
    ] {
        assert_eq!(ends("OPTIONS", values), expected, "{values:?}");
        assert_eq!(ends("GET", values), Ok(false), "{values:?}");
    }
}

#[test]
fn fields_are_counted_and_weighed() {
    assert_eq!(over_http1(&[("x", "1"); 19]), None);
    assert_eq!(over_http1(&[("x", "1"); 20]), Some(Refusal::FieldsTooMany));
    // host + a + 4, x + 4: 986 bytes are left.
    assert_eq!(over_http1(&[("x", &"1".repeat(986))]), None);
    assert_eq!(over_http1(&[("x", &"1".repeat(987))]), Some(Refusal::FieldsTooLarge));
}

#[test]
fn only_a_proper_handshake_wants_a_websocket() {
    let asks = [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
    let wants = |method: &str, version, fields: &[(&str, &str)]| {
        check_request(&head(version, method, "/", fields), &limits()).map(|c| c.wants_websocket)
    };
    let with = |extra| [&asks[..], &[extra]].concat();

    assert_eq!(wants("GET", Version::HTTP_11, &asks), Ok(true));
    assert_eq!(wants("GET", Version::HTTP_10, &asks), Ok(false));
    assert_eq!(wants("POST", Version::HTTP_11, &asks), Ok(false));
    assert_eq!(wants("GET", Version::HTTP_11, &[asks[0], asks[2]]), Ok(false));
    assert_eq!(wants("GET", Version::HTTP_11, &with(("content-length", "0"))), Ok(true));
    let refused = Err(Refusal::UpgradeWithBody);
    assert_eq!(wants("GET", Version::HTTP_11, &with(("content-length", "1"))), refused);
    assert_eq!(wants("GET", Version::HTTP_11, &with(("transfer-encoding", "chunked"))), refused);
    // What `curl --http2 -d x http://…` sends.
    let curl = [
        ("host", "a"),
        ("connection", "Upgrade, HTTP2-Settings"),
        ("upgrade", "h2c"),
        ("content-length", "1"),
    ];
    assert_eq!(wants("POST", Version::HTTP_11, &curl), Ok(false));
}

#[test]
fn the_host_is_ready_for_the_router() {
    let of = |uri: &str, host: &str| {
        let head = head(Version::HTTP_11, "GET", uri, &[("host", host)]);
        let checked = check_request(&head, &limits()).unwrap();
        (checked.host.normal_name().into_owned(), checked.host.port, checked.authority.to_owned())
    };
    assert_eq!(
        of("/", "Www.Example.com.:81"),
        ("www.example.com".into(), Some(81), "Www.Example.com.:81".to_owned())
    );
    assert_eq!(of("http://B/", "a:1"), ("b".into(), None, "B".to_owned()));
    assert_eq!(of("/", "[::A]:1").0, "[::a]");
}

#[test]
fn every_reason_stands_at_its_place() {
    for (place, refusal) in Refusal::ALL.iter().enumerate() {
        assert_eq!(*refusal as usize, place);
        let is_unknown = matches!(refusal, Refusal::TransferCoding | Refusal::MethodTooLong);
        assert_eq!(refusal.status().is_client_error(), !is_unknown);
    }
    assert!(BadResponse::ALL.iter().enumerate().all(|(place, bad)| *bad as usize == place));
}

#[test]
fn hostile_responses_are_refused() {
    use BadResponse::*;
    let answer = |status: u16, asked: bool, fields: &[(&str, &str)]| {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        check_response(&response.body(()).unwrap().into_parts().0.into(), asked).err()
    };
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    for (status, asked, fields, expected) in [
        (200, false, &[][..], None),
        (599, false, &[], None),
        (600, false, &[], Some(Status)),
        (999, false, &[], Some(Status)),
        (100, false, &[], Some(Status)),
        (103, true, &[], Some(Status)),
        (101, true, &upgrade, None),
        (101, false, &upgrade, Some(Upgrade)),
        (101, true, &upgrade[..1], Some(Upgrade)),
        (101, true, &[("connection", "upgrade"), ("upgrade", "h2c")], Some(Upgrade)),
        (101, true, &[upgrade[0], upgrade[1], ("content-length", "0")], None),
        (101, true, &[upgrade[0], upgrade[1], ("content-length", "5")], Some(Upgrade)),
        (101, true, &[upgrade[0], upgrade[1], ("transfer-encoding", "chunked")], Some(Upgrade)),
        (200, false, &[("content-length", "1"), ("content-length", "1")], None),
        (200, false, &[("content-length", "1"), ("content-length", "2")], Some(ContentLength)),
        (200, false, &[("content-length", "-1")], Some(ContentLength)),
        (200, false, &[("content-length", "1"), ("transfer-encoding", "chunked")], Some(ContentLength)),
        (200, false, &[("transfer-encoding", "chunked")], None),
        (200, false, &[("transfer-encoding", "gzip, chunked")], Some(TransferEncoding)),
        (200, false, &[("x", "1"); 201], Some(FieldsTooMany)),
    ] {
        assert_eq!(answer(status, asked, fields), expected, "{status} {fields:?}");
    }
    assert_eq!(answer(200, false, &[("x", &"1".repeat(FIELD_LIMIT))]), Some(FieldsTooLarge));
}

const FIELD_LIMIT: usize = 64 * 1024;
