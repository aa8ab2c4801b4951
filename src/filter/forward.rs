//! The head that travels on: written anew, in the order of the old one.
//!
//! A new map instead of changes to the old: `HeaderMap::remove` swaps the order of what is left, and a field
//! that nobody decided to pass on is not passed on. One walk over the fields; everything that is the same
//! for a whole connection is made once, in [`Peer`].

mod client_ip;
mod response;

use std::net::IpAddr;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use http::Method;
use http::Uri;
use http::Version;
use http::header;
use http::request::Parts;
use http::uri;
use http::uri::PathAndQuery;

use crate::fields;
use crate::filter::guard;

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

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const TE: HeaderValue = HeaderValue::from_static("te");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const ZERO: HeaderValue = HeaderValue::from_static("0");

/// Fields that we add, at most: the map never grows while it is filled.
const ADDED_MAX: usize = 14;

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
    is_trusted: bool,
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
            is_trusted,
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
        self.is_trusted
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
}

/// The fields for the server.
///
/// Gone are: hop-by-hop fields and those that `Connection` names (RFC 9110 §7.6.1), `Proxy*`, names with `_` and others
/// that look like a field which would be gone (many servers read `X_Forwarded_For` as `X-Forwarded-For`, some also
/// `X.Forwarded.For`), `Expect` (our own side of the connection answers 100 when the body is first polled) and, from
/// peers that are not trusted, all they say about the client. There is one `Host`, one framing, one `Cookie` (RFC 9113
/// §8.2.3), and `Trailer` announces only what may be sent as one: the rest is left out when trailers are written.
pub fn to_server(head: &Parts, ctx: &ForwardContext<'_>) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(head.headers.len() + ADDED_MAX);
    let named = Named::of(&head.headers);
    let mut wants_trailers = false;
    put(&mut out, header::HOST, ctx.host_header.clone());
    for (name, value) in &head.headers {
        let kept = match Fate::of(name.as_str()) {
            Fate::Keep => !named.has(name.as_str()),
            Fate::Drop => false,
            Fate::DropUnlessTrusted => ctx.peer.is_trusted,
            Fate::Te => {
                wants_trailers |= asks_for_trailers(value);
                false
            }
            Fate::Trailer => {
                put_trailer(&mut out, value);
                false
            }
            Fate::MaxForwards if head.method == Method::OPTIONS => {
                put_max_forwards(&mut out, value);
                false
            }
            Fate::MaxForwards => true,
            Fate::Cookie => {
                if !out.contains_key(header::COOKIE) {
                    put(&mut out, header::COOKIE, cookies(&head.headers, value));
                }
                false
            }
        };
        if kept {
            put(&mut out, name.clone(), value.clone());
        }
    }
    put_connection(&mut out, ctx, wants_trailers);
    put_framing(&mut out, head, ctx.body);
    put_origin(&mut out, head, ctx);
    put(&mut out, header::VIA, via(head.version));
    put(&mut out, X_REQUEST_ID, ctx.request_id.clone());
    out
}

/// The target for the server: path and query alone (RFC 9112 §3.2.1).
///
/// A path that is not there becomes `/` in so many words: of `http://a#x` the library keeps nothing, says `/` when asked for
/// the path, and would write nothing.
pub fn origin_form(target: Option<&PathAndQuery>) -> Uri {
    let is_slash = target.is_none_or(|target| target.as_str() == "/");
    let mut parts = uri::Parts::default();
    parts.path_and_query = if is_slash { Some(PathAndQuery::from_static("/")) } else { target.cloned() };
    // Cannot fail: a path needs neither scheme nor authority.
    Uri::from_parts(parts).unwrap_or_default()
}

/// The client's id when its peer is trusted and the id is fit for any log; else `fresh`, 32 hexadecimal digits.
pub fn request_id(headers: &HeaderMap, peer: &Peer, fresh: u128) -> HeaderValue {
    let theirs = if peer.is_trusted { headers.get(X_REQUEST_ID) } else { None };
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
}

impl Fate {
    /// By name, which is in lower case.
    fn of(name: &str) -> Fate {
        match name {
            "connection" | "keep-alive" | "transfer-encoding" | "upgrade" | "http2-settings"
            | "content-length" | "host" | "expect" | "x-real-ip" | "x-request-id" | "x-forwarded-for"
            | "forwarded" => Fate::Drop,
            "te" => Fate::Te,
            "trailer" => Fate::Trailer,
            "max-forwards" => Fate::MaxForwards,
            "cookie" => Fate::Cookie,
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
    name.contains('_') || !matches!(Fate::of(plain.trim_matches('-')), Fate::Keep)
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

/// The fields that `Connection` names, but for the words that everyone says and that name no field to keep.
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

/// Appends; over the 32,768 fields that a map can hold, which no limit of ours allows, drops.
fn put(out: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let fits = out.try_append(name, value).is_ok();
    debug_assert!(fits, "a head of more fields than the guard lets through");
}

fn put_trailer(out: &mut HeaderMap, value: &HeaderValue) {
    let announced = fields::of(value.to_str().unwrap_or_default());
    let allowed: Vec<&str> = announced.filter(|name| may_be_trailer(name)).collect();
    if let (false, Ok(value)) = (allowed.is_empty(), HeaderValue::try_from(allowed.join(", "))) {
        put(out, header::TRAILER, value);
    }
}

/// RFC 9110 §7.6.2: one less, which is this hop. The guard answers where there is none left.
fn put_max_forwards(out: &mut HeaderMap, value: &HeaderValue) {
    let left = guard::max_forwards(value).unwrap_or(0).saturating_sub(1);
    put(out, header::MAX_FORWARDS, HeaderValue::from(left));
}

/// `TE: trailers`, also with other codings and weights; those are not passed on.
fn asks_for_trailers(value: &HeaderValue) -> bool {
    fields::of(value.to_str().unwrap_or_default()).any(|t| t.eq_ignore_ascii_case("trailers"))
}

/// The one `Cookie` of a request: HTTP/2 clients send crumbs.
fn cookies(headers: &HeaderMap, first: &HeaderValue) -> HeaderValue {
    let crumbs = headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return first.clone();
    }
    let mut joined = Vec::with_capacity(crumbs.iter().map(|c| c.len() + 2).sum());
    for crumb in &crumbs {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    let mut value =
        HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)).unwrap_or_else(|_| first.clone());
    value.set_sensitive(first.is_sensitive());
    value
}

/// RFC 9110 §7.8 and §10.1.4: `Upgrade` and `TE` are named in `Connection`.
fn put_connection(out: &mut HeaderMap, ctx: &ForwardContext<'_>, wants_trailers: bool) {
    if ctx.websocket {
        put(out, header::CONNECTION, UPGRADE);
        put(out, header::UPGRADE, WEBSOCKET);
    } else if wants_trailers {
        put(out, header::CONNECTION, TE);
        put(out, header::TE, TRAILERS);
    }
}

/// One framing, our own. hyper's client sends no body for a GET of unknown length unless the field says so.
fn put_framing(out: &mut HeaderMap, head: &Parts, body: BodyLength) {
    let needs_length = || [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
    match body {
        BodyLength::Known(bytes) => put(out, header::CONTENT_LENGTH, HeaderValue::from(bytes)),
        BodyLength::Unknown => put(out, header::TRANSFER_ENCODING, CHUNKED),
        // RFC 9110 §8.6: a method that means a body says that there is none.
        BodyLength::None if needs_length() => put(out, header::CONTENT_LENGTH, ZERO),
        BodyLength::None => {}
    }
}

/// Where the request came from: added to what a trusted peer says, in place of what another says.
fn put_origin(out: &mut HeaderMap, head: &Parts, ctx: &ForwardContext<'_>) {
    let peer = ctx.peer;
    let said = |name: HeaderName| {
        let lines = peer.is_trusted.then(|| head.headers.get_all(name));
        lines.into_iter().flatten()
    };
    // Most requests come from the client itself: then there is nothing to join.
    let chain = match said(X_FORWARDED_FOR).next() {
        Some(_) => joined(said(X_FORWARDED_FOR), peer.address.as_bytes(), &[]),
        None => peer.address.clone(),
    };
    put(out, X_FORWARDED_FOR, chain);
    for (name, value) in
        [(X_FORWARDED_PROTO, &peer.scheme), (X_FORWARDED_HOST, ctx.host), (X_FORWARDED_PORT, &peer.port)]
    {
        if !(peer.is_trusted && head.headers.contains_key(&name)) {
            put(out, name, value.clone());
        }
    }
    let host = ctx.host.as_bytes();
    // RFC 7239 §4: a value that is no token is quoted. A host of the grammar holds no quote itself.
    let is_token = host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b));
    let quote: &[u8] = if is_token { b"" } else { b"\"" };
    put(out, header::FORWARDED, joined(said(header::FORWARDED), &peer.forwarded, &[quote, host, quote]));
    let real = if ctx.client_ip == peer.ip { peer.address.clone() } else { address_value(ctx.client_ip) };
    put(out, X_REAL_IP, real);
}

/// The lines before, then `last` and its `parts`: one line, because many servers read only the first.
fn joined<'a>(before: impl Iterator<Item = &'a HeaderValue>, last: &[u8], parts: &[&[u8]]) -> HeaderValue {
    let mut line = Vec::with_capacity(last.len() + parts.iter().map(|p| p.len()).sum::<usize>());
    for value in before.filter(|v| !v.is_empty()) {
        line.extend_from_slice(value.as_bytes());
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(last);
    parts.iter().for_each(|part| line.extend_from_slice(part));
    // Cannot fail: made of field values and addresses.
    HeaderValue::from_maybe_shared(bytes::Bytes::from(line))
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
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
