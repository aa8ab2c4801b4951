//! A request that the guard lets pass reaches the server as exactly one request, which says what was checked.

use http::{HeaderName, Method, Version};
use httparse::{EMPTY_HEADER, Status};
use tidegate::config::Limits;
use tidegate::fields::{Fields, RequestHead};
use tidegate::filter::forward::{
    BodyLength, ForwardContext, Peer, PeerKind, RequestId, client_ip, origin_form,
};
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
    let Some(head) = head::request(data) else { return };
    let checked = match check_request(&head, &Limits::default()) {
        Ok(checked) => checked,
        Err(refusal) => return assert!(refusal.status().as_u16() >= 400 && !refusal.as_str().is_empty()),
    };
    is_plain(&head, &checked);
    for body in [BodyLength::None, BodyLength::Known(5), BodyLength::Unknown] {
        let (sent, lines) = sent(&head, &checked, body);
        let wire = [first_line(&head).as_bytes(), &lines].concat();
        let mut fields = [EMPTY_HEADER; 256];
        let mut read = httparse::Request::new(&mut fields);

        let length = read.parse(&wire).expect("what we write is a head");

        assert_eq!(length, Status::Complete(wire.len()), "one head and nothing behind it");
        assert_eq!(read.method, Some(head.method.as_str()));
        assert_eq!(read.path, Some(target(&head).as_str()));
        assert_eq!(head::found_pairs(read.headers), head::pairs(&sent), "all readers find the same");
        let one = |name: &str| head::found(read.headers, name);
        assert_eq!(one("host"), [checked.authority.as_bytes()]);
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
fn is_plain(head: &RequestHead, checked: &Checked<'_>) {
    assert!(!matches!(head.method, Method::CONNECT | Method::TRACE));
    assert!(target(head).starts_with('/') || target(head) == "*" && head.method == Method::OPTIONS);
    assert!(target(head).bytes().all(|b| b.is_ascii_graphic() && b != b'#'));
    assert!(!head.uri.path().contains('\\'));
    let hosts = head::all(&head.fields, "host");
    assert!(hosts.len() <= 1);
    assert!(!checked.host.name.is_empty());
    let target = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    assert_eq!(Some(checked.authority.as_bytes()), target.or(hosts.first().copied()));
    if checked.wants_websocket {
        assert!(head.version == Version::HTTP_11 && head.method == Method::GET);
        assert!(head::all(&head.fields, "transfer-encoding").is_empty());
    }
    if head.version == Version::HTTP_2 {
        let connection = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
        assert!(connection.iter().all(|name| head::all(&head.fields, name).is_empty()));
    }
}

/// As a strict reader reads it, and as it is written.
fn sent(request: &RequestHead, checked: &Checked<'_>, body: BodyLength) -> (Fields, Vec<u8>) {
    let peer = Peer::new([192, 0, 2, 1].into(), "http", 80);
    let ctx = ForwardContext {
        peer: &peer,
        peer_kind: PeerKind::Client,
        client_ip: client_ip(peer.ip(), &request.fields, &[]),
        host: checked.authority,
        host_header: checked.authority.as_bytes(),
        request_id: &RequestId::Theirs(b"id"[..].into()),
        websocket: checked.wants_websocket,
        body,
        conditions: None,
    };
    (head::sent(request, &ctx), head::sent_lines(request, &ctx))
}

fn first_line(head: &RequestHead) -> String {
    format!("{} {} HTTP/1.1\r\n", head.method, target(head))
}

/// As it is written.
fn target(head: &RequestHead) -> String {
    origin_form(head.uri.path_and_query()).to_string()
}

fn is_framed_once(head: &RequestHead, body: BodyLength, lengths: &[&[u8]], codings: &[&[u8]]) {
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
fn speaks_for_itself(head: &RequestHead, sent: &Fields) {
    for name in OURS.iter().filter(|name| **name != "via") {
        assert_eq!(head::all(sent, name).len(), 1, "{name}");
    }
    assert_eq!(head::all(sent, "x-forwarded-for"), [b"192.0.2.1"]);
    assert_eq!(head::all(sent, "x-real-ip"), [b"192.0.2.1"]);
    assert_eq!(head::all(sent, "via").len(), head::all(&head.fields, "via").len() + 1);
    assert!(sent.iter().filter(|field| field.name().starts_with(b"x-forwarded-")).count() == 4);
    let forwarded = head::all(sent, "forwarded")[0];
    assert!(forwarded.starts_with(b"for=192.0.2.1;proto=http;host="));
    assert!(!forwarded.contains(&b','), "one hop");
}

/// Trailers that the client has announced, without those that would be left out.
fn announces_what_may_pass(head: &RequestHead, sent: &Fields) {
    let names = |fields: &Fields| head::elements(fields, "trailer");
    let (mut announced, announces) = (names(&head.fields).into_iter(), names(sent));
    assert!(announces.iter().all(|name| announced.any(|before| before == *name)), "{announces:?}");
    let is_plain = |name: &Vec<u8>| HeaderName::from_bytes(name).is_ok() && !name.contains(&b'_');
    assert!(announces.iter().all(is_plain), "{announces:?}");
    for name in NEVER.iter().chain(&OURS).chain(&OF_THE_HEAD) {
        assert!(!announces.iter().any(|announced| announced == name.as_bytes()), "{name}");
    }
    // Neither as a field nor as a trailer (RFC 9110 section 7.6.1).
    let named = head::elements(&head.fields, "connection");
    assert!(!announces.iter().any(|name| named.contains(name)), "{named:?}");
    let is_kept = !named.iter().any(|name| [&b"trailer"[..], b"x-a"].contains(&&name[..]));
    let count = |names: &[Vec<u8>]| names.iter().filter(|name| *name == b"x-a" && is_kept).count();
    assert_eq!(count(&announces), count(&names(&head.fields)), "x-a");
}

fn keeps_the_rest(head: &RequestHead, sent: &Fields) {
    let named = head::elements(&head.fields, "connection");
    for name in PASSING {
        let is_named = named.iter().any(|named| named == name.as_bytes());
        let expected = if is_named { Vec::new() } else { head::all(&head.fields, name) };
        assert_eq!(head::all(sent, name), expected, "{name}");
    }
    let passes = |(name, _): &(Vec<u8>, Vec<u8>)| {
        !named.contains(name) && PASSING.iter().any(|passing| passing.as_bytes() == name)
    };
    let in_order = |fields: &Fields| head::pairs(fields).into_iter().filter(passes).collect::<Vec<_>>();
    assert_eq!(in_order(sent), in_order(&head.fields), "each in its place");
    for name in named.iter().filter_map(|name| std::str::from_utf8(name).ok()) {
        let is_ours = ["connection", "te", "upgrade"].contains(&name);
        assert!(is_ours || head::all(sent, name).is_empty(), "connection names {name}");
    }
    let crumbs = head::all(&head.fields, "cookie");
    if !crumbs.is_empty() {
        let whole: Vec<&[u8]> = crumbs.into_iter().skip_while(|crumb| crumb.is_empty()).collect();
        // Whoever reads a field leaves out the blanks around it (RFC 9112 section 5).
        let whole = whole.join(&b"; "[..]);
        assert_eq!(head::all(sent, "cookie"), [whole.trim_ascii()]);
    }
}
