//! The head that travels on: written anew, in the order of the old one.
//!
//! For a server it is written as text at once, with no map in between. For a client it is a new map instead of changes to the
//! old: `HeaderMap::remove` swaps the order of what is left. Either way a field that nobody decided to pass on is not passed
//! on. One walk over the fields; everything that is the same for a whole connection is made once, in [`Peer`].

mod client_ip;
mod response;

use std::cell::Cell;
use std::net::IpAddr;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Version;
use http::header;
use http::request::Parts;
use http::uri::PathAndQuery;
use ipnet::IpNet;

use crate::fields;
use crate::filter::guard;
use crate::http1::text;

pub use client_ip::client_ip;
pub use response::interim_to_client;
pub use response::to_client;

/// Who the address in front of us believes the client to be, and came through whom.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The port the client connected to.
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// The client, one address.
pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// One word for one request, in everyone's logs.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const ZERO: HeaderValue = HeaderValue::from_static("0");

/// Longest request id that is kept from a trusted peer. 128: W3C and vendor formats need less than 70.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What is known of a request's body before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// The client's number, parsed.
    Known(u64),
    /// It ends when it ends.
    Unknown,
}

/// What all requests of one connection say about where they came from.
#[derive(Debug, Clone)]
pub struct Peer {
    ip: IpAddr,
    is_trusted: Cell<bool>,
    address: HeaderValue,
    scheme: HeaderValue,
    port: HeaderValue,
    /// `for=…;proto=…;host=`
    forwarded: Box<[u8]>,
}

impl Peer {
    /// `ip` is the other end of the connection (or what its PROXY header said), `port` our end.
    pub fn new(ip: IpAddr, is_trusted: bool, scheme: &'static str, port: u16) -> Self {
        let ip = ip.to_canonical();
        // RFC 7239 §6: IPv6 in brackets, and so in quotes.
        let node = match ip {
            IpAddr::V4(ip) => format!("for={ip};proto={scheme};host="),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\";proto={scheme};host="),
        };
        Peer {
            ip,
            is_trusted: Cell::new(is_trusted),
            address: address_value(ip),
            scheme: HeaderValue::from_static(scheme),
            port: HeaderValue::from(port),
            forwarded: node.into_bytes().into(),
        }
    }

    /// The other end of the connection.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether it is believed what it says about the client.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted.get()
    }

    /// From now on it is believed if it is in one of `trusted`: its connection may outlive a configuration.
    pub fn trust(&self, trusted: &[IpNet]) {
        self.is_trusted.set(trusted.iter().any(|net| net.contains(&self.ip)));
    }
}

/// All that [`to_server`] needs besides the head.
#[derive(Debug, Clone, Copy)]
pub struct ForwardContext<'a> {
    /// The connection.
    pub peer: &'a Peer,
    /// As [`client_ip`] found it.
    pub client_ip: IpAddr,
    /// As the client sent it: `Checked::authority_value`.
    pub host: &'a HeaderValue,
    /// The `Host` that the server gets.
    pub host_header: &'a HeaderValue,
    /// As [`request_id`] made it.
    pub request_id: &'a HeaderValue,
    /// `Checked::wants_websocket`.
    pub websocket: bool,
    /// The body that will follow.
    pub body: BodyLength,
    /// Ours in place of the client's `If-*` and `Range`; `None`: those are the server's to judge.
    pub conditions: Option<&'a HeaderMap>,
}

/// The fields for the server.
///
/// Gone are: hop-by-hop fields and those that `Connection` names (RFC 9110 §7.6.1), `Proxy*`, names with `_` and others
/// that look like a field which would be gone (many servers read `X_Forwarded_For` as `X-Forwarded-For`, some also
/// `X.Forwarded.For`), `Expect` (our own side of the connection answers 100 when the body is first polled) and, from
/// peers that are not trusted, all they say about the client. There is one `Host`, one framing, one `Cookie` (RFC 9113
/// §8.2.3), and `Trailer` announces only what may be sent as one: the rest is left out when trailers are written.
///
/// They are written to `out` as HTTP/1.1 writes them, a line each. Comes to the names of the trailers that are announced.
pub fn to_server(head: &Parts, ctx: &ForwardContext<'_>, out: &mut Vec<u8>) -> Vec<HeaderName> {
    let named = Named::of(&head.headers);
    let (mut wants_trailers, mut has_cookie, mut trailers) = (false, false, Vec::new());
    text::field(out, &header::HOST, ctx.host_header.as_bytes());
    for (name, value) in &head.headers {
        match Fate::of(name.as_str()) {
            Fate::Keep | Fate::Condition | Fate::Trailer if named.has(name.as_str()) => {}
            Fate::Keep => text::field(out, name, value.as_bytes()),
            Fate::Drop => {}
            Fate::DropUnlessTrusted if ctx.peer.is_trusted() => text::field(out, name, value.as_bytes()),
            Fate::DropUnlessTrusted => {}
            Fate::Condition if ctx.conditions.is_some() => {}
            Fate::Condition => text::field(out, name, value.as_bytes()),
            Fate::Te => wants_trailers |= asks_for_trailers(value),
            Fate::Trailer => put_trailer(out, value, &named, &mut trailers),
            Fate::MaxForwards if head.method == Method::OPTIONS => put_max_forwards(out, value),
            Fate::MaxForwards => text::field(out, name, value.as_bytes()),
            Fate::Cookie if std::mem::replace(&mut has_cookie, true) => {}
            Fate::Cookie => put_cookies(out, &head.headers),
        }
    }
    ctx.conditions.into_iter().flatten().for_each(|(name, value)| text::field(out, name, value.as_bytes()));
    put_connection(out, ctx, wants_trailers);
    put_framing(out, head, ctx.body);
    put_origin(out, head, ctx);
    text::field(out, &header::VIA, via(head.version).as_bytes());
    text::field(out, &X_REQUEST_ID, ctx.request_id.as_bytes());
    trailers
}

/// The target for the server: path and query alone (RFC 9112 §3.2.1).
///
/// A path that is not there becomes `/` in so many words: of `http://a#x` the library keeps nothing, says `/` when asked for
/// the path, and would write nothing.
pub fn origin_form(target: Option<&PathAndQuery>) -> PathAndQuery {
    let is_whole = |target: &&PathAndQuery| target.as_str().starts_with(['/', '*']);
    match target {
        None => PathAndQuery::from_static("/"),
        Some(target) if is_whole(&target) => target.clone(),
        // What it writes is what it would read.
        Some(target) => target.to_string().parse().unwrap_or(PathAndQuery::from_static("/")),
    }
}

/// The client's id when its peer is trusted and the id is fit for any log; else `fresh`, 32 hexadecimal digits.
pub fn request_id(headers: &HeaderMap, peer: &Peer, fresh: u128) -> HeaderValue {
    let theirs = if peer.is_trusted() { headers.get(X_REQUEST_ID) } else { None };
    if let Some(id) = theirs.filter(|id| is_request_id(id.as_bytes())) {
        return id.clone();
    }
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [b'0'; 32];
    for (byte, digits) in fresh.to_be_bytes().into_iter().zip(hex.as_chunks_mut().0) {
        *digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    // Cannot fail: digits.
    HeaderValue::from_bytes(&hex).unwrap_or(ZERO)
}

/// What happens to a request's field.
enum Fate {
    Keep,
    Drop,
    DropUnlessTrusted,
    Te,
    Trailer,
    MaxForwards,
    Cookie,
    Condition,
}

impl Fate {
    /// By name, which is in lower case.
    fn of(name: &str) -> Fate {
        match name {
            "connection" | "close" | "keep-alive" | "transfer-encoding" | "upgrade" | "http2-settings"
            | "content-length" | "host" | "expect" | "x-real-ip" | "x-request-id" | "x-forwarded-for"
            | "forwarded" => Fate::Drop,
            "te" => Fate::Te,
            "trailer" => Fate::Trailer,
            "max-forwards" => Fate::MaxForwards,
            "cookie" => Fate::Cookie,
            "if-none-match" | "if-modified-since" | "if-range" | "range" => Fate::Condition,
            // Also plain `Proxy`, which CGI turns into HTTP_PROXY (CVE-2016-5385).
            _ if name.starts_with("proxy") && matches!(name.as_bytes().get(5), None | Some(b'-')) => {
                Fate::Drop
            }
            _ if is_look_alike(name) => Fate::Drop,
            "x-forwarded" => Fate::DropUnlessTrusted,
            _ if name.starts_with("x-forwarded-") => Fate::DropUnlessTrusted,
            _ => Fate::Keep,
        }
    }
}

/// Whether some server may read `name`, which is in lower case, as another: CGI and what came after it make `_` of a `-`,
/// and some make it of whatever is no letter or digit.
fn is_look_alike(name: &str) -> bool {
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return false;
    }
    let plain = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    name.contains('_') || !matches!(Fate::of(plain.trim_matches('-')), Fate::Keep | Fate::Condition)
}

/// What a request may announce as a trailer: nothing that a server needs before the body, nothing that says who
/// sends it or whether it may (RFC 9110 §6.5.1), and nothing that does not pass as a field.
fn may_be_trailer(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_of_the_head = matches!(
        name.as_str(),
        "authorization"
            | "cache-control"
            | "date"
            | "origin"
            | "pragma"
            | "range"
            | "set-cookie"
            | "via"
            | "vary"
    );
    let is_kept = matches!(Fate::of(&name), Fate::Keep);
    is_kept && !is_of_the_head && !name.starts_with("content-") && !name.starts_with("if-")
}

/// The fields and trailers that `Connection` names, but for the words that everyone says and that name no field to keep.
struct Named<'a>(Vec<&'a str>);

impl<'a> Named<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let usual = |t: &str| {
            ["keep-alive", "close", "upgrade", "te"].iter().any(|usual| t.eq_ignore_ascii_case(usual))
        };
        // An empty vector, the usual case, does not allocate.
        Named(fields::elements(headers, header::CONNECTION).filter(|t| !usual(t)).collect())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

fn put_trailer(out: &mut Vec<u8>, value: &HeaderValue, named: &Named<'_>, names: &mut Vec<HeaderName>) {
    let may_pass = |name: &&str| may_be_trailer(name) && !named.has(name);
    let announced = fields::of(value.to_str().unwrap_or_default()).filter(may_pass);
    let allowed: Vec<&str> =
        announced.filter(|name| name.parse().map(|name| names.push(name)).is_ok()).collect();
    if !allowed.is_empty() {
        text::field(out, &header::TRAILER, allowed.join(", ").as_bytes());
    }
}

/// RFC 9110 §7.6.2: one less, which is this hop. The guard answers where there is none left.
fn put_max_forwards(out: &mut Vec<u8>, value: &HeaderValue) {
    let left = guard::max_forwards(value).unwrap_or(0).saturating_sub(1);
    text::put(out, format_args!("max-forwards: {left}\r\n"));
}

/// `TE: trailers`, also with other codings and weights; those are not passed on.
fn asks_for_trailers(value: &HeaderValue) -> bool {
    fields::of(value.to_str().unwrap_or_default()).any(|t| t.eq_ignore_ascii_case("trailers"))
}

/// The one `Cookie` of a request: HTTP/2 clients send crumbs.
fn put_cookies(out: &mut Vec<u8>, headers: &HeaderMap) {
    out.extend_from_slice(b"cookie: ");
    let crumbs = headers.get_all(header::COOKIE).iter().skip_while(|crumb| crumb.is_empty());
    for (index, crumb) in crumbs.enumerate() {
        if index > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(crumb.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 §7.8 and §10.1.4: `Upgrade` and `TE` are named in `Connection`.
fn put_connection(out: &mut Vec<u8>, ctx: &ForwardContext<'_>, wants_trailers: bool) {
    if ctx.websocket {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    } else if wants_trailers {
        out.extend_from_slice(b"connection: te\r\nte: trailers\r\n");
    }
}

/// One framing, our own.
fn put_framing(out: &mut Vec<u8>, head: &Parts, body: BodyLength) {
    let needs_length = || [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
    match body {
        BodyLength::Known(bytes) => text::put(out, format_args!("content-length: {bytes}\r\n")),
        BodyLength::Unknown => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // RFC 9110 §8.6: a method that means a body says that there is none.
        BodyLength::None if needs_length() => out.extend_from_slice(b"content-length: 0\r\n"),
        BodyLength::None => {}
    }
}

/// Where the request came from: added to what a trusted peer says, in place of what another says.
fn put_origin(out: &mut Vec<u8>, head: &Parts, ctx: &ForwardContext<'_>) {
    let peer = ctx.peer;
    let said = |name: &HeaderName| {
        let lines = peer.is_trusted().then(|| head.headers.get_all(name));
        lines.into_iter().flatten()
    };
    put_joined(out, &X_FORWARDED_FOR, said(&X_FORWARDED_FOR), &[peer.address.as_bytes()]);
    for (name, value) in
        [(X_FORWARDED_PROTO, &peer.scheme), (X_FORWARDED_HOST, ctx.host), (X_FORWARDED_PORT, &peer.port)]
    {
        if !(peer.is_trusted() && head.headers.contains_key(&name)) {
            text::field(out, &name, value.as_bytes());
        }
    }
    let host = ctx.host.as_bytes();
    // RFC 7239 §4: a value that is no token is quoted. A host of the grammar holds no quote itself.
    let is_token = host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b));
    let quote: &[u8] = if is_token { b"" } else { b"\"" };
    let own = [&peer.forwarded, quote, host, quote];
    put_joined(out, &header::FORWARDED, said(&header::FORWARDED), &own);
    match ctx.client_ip == peer.ip {
        true => text::field(out, &X_REAL_IP, peer.address.as_bytes()),
        false => text::put(out, format_args!("x-real-ip: {}\r\n", ctx.client_ip)),
    }
}

/// The lines before, then `parts`, which are the last element: one line, because many servers read only the first.
fn put_joined<'a>(
    out: &mut Vec<u8>,
    name: &HeaderName,
    before: impl Iterator<Item = &'a HeaderValue>,
    parts: &[&[u8]],
) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    for value in before.filter(|v| !v.is_empty()) {
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b", ");
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(b"\r\n");
}

fn address_value(ip: IpAddr) -> HeaderValue {
    // Cannot fail: an address is visible ASCII.
    HeaderValue::try_from(ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// RFC 9110 §7.6.3: the version in which the message came to us.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0 tidegate",
        Version::HTTP_2 => "2.0 tidegate",
        Version::HTTP_3 => "3.0 tidegate",
        _ => "1.1 tidegate",
    })
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

#[cfg(test)]
mod tests;
