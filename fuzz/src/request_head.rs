//! A request that the guard lets pass reaches the server as exactly one request, which says what was checked.

use http::{HeaderMap, HeaderValue, Method, Version, request};
use httparse::{EMPTY_HEADER, Status};
use tidegate::config::Limits;
use tidegate::fields::RequestHead;
use tidegate::filter::forward::{BodyLength, ForwardContext, Peer, client_ip, origin_form};
use tidegate::filter::guard::{Checked, check_request};

use super::head;

/// Fields that travel on as they are, unless `Connection` names them.
const PASSING: [&str; 7] =
    ["accept", "authorization", "content-type", "range", "user-agent", "x-a", "x-forwardedness"];

/// Fields that no server may get from a client, however it spells them.
const NEVER: [&str; 8] = [
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy",
    "proxy-authorization",
    "proxy-connection",
    "x-forwarded-user",
    "x_forwarded_for",
];

/// Fields about the client, of which there is our word alone.
const OURS: [&str; 8] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// Some of what a server needs before the body.
const OF_THE_HEAD: [&str; 9] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "if-match",
    "te",
    "trailer",
    "transfer-encoding",
];

pub fn holds(data: &[u8]) {
    let Some(head) = head::request(data).map(RequestHead::new) else { return };
    let checked = match check_request(&head, &Limits::default()) {
        Ok(checked) => checked,
        Err(refusal) => return assert!(refusal.status().as_u16() >= 400 && !refusal.as_str().is_empty()),
    };
    is_plain(&head, &checked);
    for body in [BodyLength::None, BodyLength::Known(5), BodyLength::Unknown] {
        let sent = sent(&head, &checked, body);
        let wire = head::written(first_line(&head), &sent);
        let mut fields = [EMPTY_HEADER; 256];
        let mut read = httparse::Request::new(&mut fields);

        let length = read.parse(&wire).expect("what we write is a head");

        assert_eq!(length, Status::Complete(wire.len()), "one head and nothing behind it");
        assert_eq!(read.method, Some(head.method.as_str()));
        assert_eq!(read.path, Some(target(&head).as_str()));
        let one = |name: &str| head::found(read.headers, name);
        assert_eq!(one("host"), [checked.authority_value().as_bytes()]);
        is_framed_once(&head, body, &one("content-length"), &one("transfer-encoding"));
        is_about_this_connection(&checked, &one("connection"), &one("upgrade"), &one("te"));
        assert!(one("cookie").len() <= 1);
        NEVER.iter().for_each(|name| assert!(one(name).is_empty(), "{name}"));
        assert!(read.headers.iter().all(|field| !field.name.contains('_')));
        speaks_for_itself(&head, &sent);
        announces_what_may_pass(&head, &sent);
        keeps_the_rest(&head, &sent);
    }
}

/// What is believed to say one thing only.
fn is_plain(head: &request::Parts, checked: &Checked<'_>) {
    assert!(!matches!(head.method, Method::CONNECT | Method::TRACE));
    assert!(target(head).starts_with('/') || target(head) == "*" && head.method == Method::OPTIONS);
    assert!(target(head).bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
    assert!(!head.uri.path().contains('\\'));
    assert!(head::all(&head.headers, "host").len() <= 1);
    assert!(!checked.host.name.is_empty());
    assert_eq!(checked.authority_value().as_bytes(), checked.authority.as_bytes());
    if checked.wants_websocket {
        assert!(head.version == Version::HTTP_11 && head.method == Method::GET);
        assert!(!head.headers.contains_key("transfer-encoding"));
    }
    if head.version == Version::HTTP_2 {
        let connection = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
        assert!(connection.iter().all(|name| !head.headers.contains_key(*name)));
    }
}

fn sent(request: &request::Parts, checked: &Checked<'_>, body: BodyLength) -> HeaderMap {
    let peer = Peer::new([192, 0, 2, 1].into(), false, "http", 80);
    let (host, id) = (checked.authority_value(), HeaderValue::from_static("id"));
    let ctx = ForwardContext {
        peer: &peer,
        client_ip: client_ip(peer.ip(), &request.headers, &[]),
        host: &host,
        host_header: &host,
        request_id: &id,
        websocket: checked.wants_websocket,
        body,
        conditions: None,
    };
    head::sent(request, &ctx)
}

fn first_line(head: &request::Parts) -> String {
    format!("{} {} HTTP/1.1", head.method, target(head))
}

/// As hyper writes it.
fn target(head: &request::Parts) -> String {
    origin_form(head.uri.path_and_query()).to_string()
}

fn is_framed_once(head: &request::Parts, body: BodyLength, lengths: &[&[u8]], codings: &[&[u8]]) {
    let means_body = [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
    let (length, coding): (&[&[u8]], &[&[u8]]) = match body {
        BodyLength::None if means_body => (&[b"0"], &[]),
        BodyLength::None => (&[], &[]),
        BodyLength::Known(_) => (&[b"5"], &[]),
        BodyLength::Unknown => (&[], &[b"chunked"]),
    };
    assert_eq!((lengths, codings), (length, coding));
}

fn is_about_this_connection(checked: &Checked<'_>, connection: &[&[u8]], upgrade: &[&[u8]], te: &[&[u8]]) {
    let [of_connection, of_upgrade, of_te]: [&[&[u8]]; 3] = match (checked.wants_websocket, te.is_empty()) {
        (true, _) => [&[b"upgrade"], &[b"websocket"], &[]],
        (false, true) => [&[], &[], &[]],
        (false, false) => [&[b"te"], &[], &[b"trailers"]],
    };
    assert_eq!((connection, upgrade, te), (of_connection, of_upgrade, of_te));
}

/// A stranger's word on where it comes from is not passed on.
fn speaks_for_itself(head: &request::Parts, sent: &HeaderMap) {
    for name in OURS.iter().filter(|name| **name != "via") {
        assert_eq!(head::all(sent, name).len(), 1, "{name}");
    }
    assert_eq!(head::all(sent, "x-forwarded-for"), [b"192.0.2.1"]);
    assert_eq!(head::all(sent, "x-real-ip"), [b"192.0.2.1"]);
    assert_eq!(head::all(sent, "via").len(), head::all(&head.headers, "via").len() + 1);
    assert!(sent.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).count() == 4);
    let forwarded = head::all(sent, "forwarded")[0];
    assert!(forwarded.starts_with(b"for=192.0.2.1;proto=http;host="));
    assert!(!forwarded.contains(&b','), "one hop");
}

/// Trailers that the client has announced, without those that would be left out.
fn announces_what_may_pass(head: &request::Parts, sent: &HeaderMap) {
    let names = |headers: &HeaderMap| -> Vec<String> {
        let lines = headers.get_all("trailer").iter().filter_map(|line| line.to_str().ok());
        let names = lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase());
        names.filter(|name| !name.is_empty()).collect()
    };
    let (mut announced, announces) = (names(&head.headers).into_iter(), names(sent));
    assert!(announces.iter().all(|name| announced.any(|before| before == *name)), "{announces:?}");
    assert!(announces.iter().all(|name| http::HeaderName::try_from(name).is_ok() && !name.contains('_')));
    for name in NEVER.iter().chain(&OURS).chain(&OF_THE_HEAD) {
        assert!(!announces.iter().any(|announced| announced == name), "{name}");
    }
    // Neither as a field nor as a trailer (RFC 9110 section 7.6.1).
    let named = head::elements(&head.headers, "connection");
    assert!(!announces.iter().any(|name| named.contains(&name.clone().into_bytes())), "{named:?}");
    let is_kept = !named.iter().any(|name| [&b"trailer"[..], b"x-a"].contains(&&name[..]));
    let count = |names: &[String]| names.iter().filter(|name| *name == "x-a" && is_kept).count();
    assert_eq!(count(&announces), count(&names(&head.headers)), "x-a");
}

fn keeps_the_rest(head: &request::Parts, sent: &HeaderMap) {
    let named = head::elements(&head.headers, "connection");
    for name in PASSING {
        let is_named = named.iter().any(|named| named == name.as_bytes());
        let expected = if is_named { Vec::new() } else { head::all(&head.headers, name) };
        assert_eq!(head::all(sent, name), expected, "{name}");
    }
    for name in named.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
        let is_ours = ["connection", "te", "upgrade"].contains(&name);
        assert!(is_ours || !sent.contains_key(name), "connection names {name}");
    }
    let crumbs = head::all(&head.headers, "cookie");
    if !crumbs.is_empty() {
        let whole: Vec<&[u8]> = crumbs.into_iter().skip_while(|crumb| crumb.is_empty()).collect();
        // Whoever reads a field leaves out the blanks around it (RFC 9112 section 5).
        let whole = whole.join(&b"; "[..]);
        assert_eq!(head::all(sent, "cookie"), [whole.trim_ascii()]);
    }
}
