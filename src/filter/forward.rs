//! The head that travels on: written anew, in the order of the old one.
//!
//! It is made of what is passed on, instead of left over from what is not: a field that nobody decided about goes nowhere. One
//! walk over the fields; everything that is the same for a whole connection is made once, in [`Peer`].

mod client_ip;
mod response;

use std::net::IpAddr;

use http::HeaderName;
use http::Method;
use http::Version;
use http::uri::PathAndQuery;
use ipnet::IpNet;

use crate::fields;
use crate::fields::Field;
use crate::fields::Fields;
use crate::fields::Known;
use crate::fields::Name;
use crate::fields::RequestHead;
use crate::filter::guard;
use crate::http1::text;

pub use client_ip::client_ip;
pub use response::interim_to_client;
pub use response::to_client;

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
    scheme: &'static str,
    port: u16,
    /// All that servers are told where it is believed nothing itself, but for the host that it asks for: lines, and then of
    /// `Forwarded` what comes before that. One piece of memory, which a connection at rest has too.
    text: Box<[u8]>,
    /// Bytes of the lines.
    lines: usize,
}

/// What the text of a [`Peer`] begins with; its address comes next.
const FORWARDED_FOR: &str = "x-forwarded-for: ";

impl Peer {
    /// `ip` is the other end of the connection (or what its PROXY header said), `port` our end.
    pub fn new(ip: IpAddr, scheme: &'static str, port: u16) -> Self {
        let ip = ip.to_canonical();
        let mut text = format!(
            "{FORWARDED_FOR}{ip}\r\nx-forwarded-proto: {scheme}\r\nx-forwarded-port: {port}\r\nx-real-ip: {ip}\r\n"
        );
        let lines = text.len();
        // RFC 7239 §6: IPv6 in brackets, and so in quotes.
        text += &match ip {
            IpAddr::V4(ip) => format!("for={ip};proto={scheme};host="),
            IpAddr::V6(ip) => format!("for=\"[{ip}]\";proto={scheme};host="),
        };
        Peer { ip, scheme, port, text: text.into_bytes().into(), lines }
    }

    fn address(&self) -> &[u8] {
        let address = &self.text[FORWARDED_FOR.len()..];
        &address[..memchr::memchr(b'\r', address).unwrap_or(address.len())]
    }

    /// The other end of the connection.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// What it is, where these are trusted: its connection may outlive a configuration.
    pub fn kind(&self, trusted: &[IpNet]) -> PeerKind {
        match trusted.iter().any(|net| net.contains(&self.ip)) {
            true => PeerKind::TrustedProxy,
            false => PeerKind::Client,
        }
    }
}

/// What the other end of a connection is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKind {
    /// The client itself, as far as we know; what it says about where a request came from is not believed.
    Client,
    /// One that is believed what it says about its client.
    TrustedProxy,
}

/// All that [`to_server`] needs besides the head.
#[derive(Debug, Clone, Copy)]
pub struct ForwardContext<'a> {
    /// The connection.
    pub peer: &'a Peer,
    /// What it is to be taken for.
    pub peer_kind: PeerKind,
    /// As [`client_ip`] found it.
    pub client_ip: IpAddr,
    /// As the client sent it: `Checked::authority`.
    pub host: &'a str,
    /// The `Host` that the server gets.
    pub host_header: &'a [u8],
    /// One word for this request.
    pub request_id: &'a RequestId,
    /// `Checked::wants_websocket`.
    pub websocket: bool,
    /// The body that will follow.
    pub body: BodyLength,
    /// Ours in place of the client's `If-*` and `Range`; `None`: those are the server's to judge.
    pub conditions: Option<&'a Fields>,
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
pub fn to_server(head: &RequestHead, ctx: &ForwardContext<'_>, out: &mut Vec<u8>) -> Vec<HeaderName> {
    let named = Named::of(&head.fields);
    let (mut wants_trailers, mut has_cookie, mut trailers) = (false, false, Vec::new());
    text::field(out, Known::Host, ctx.host_header);
    for field in head.fields.iter() {
        match Fate::of(field) {
            Fate::Keep | Fate::Condition | Fate::Trailer if named.has(field.name()) => {}
            Fate::Keep => out.extend_from_slice(field.line()),
            Fate::Drop => {}
            Fate::DropUnlessTrusted if ctx.peer_kind == PeerKind::TrustedProxy => {
                out.extend_from_slice(field.line())
            }
            Fate::DropUnlessTrusted => {}
            Fate::Condition if ctx.conditions.is_some() => {}
            Fate::Condition => out.extend_from_slice(field.line()),
            Fate::Te => wants_trailers |= asks_for_trailers(field.value()),
            Fate::Trailer => put_trailer(out, field.value(), &named, &mut trailers),
            Fate::MaxForwards if head.method == Method::OPTIONS => put_max_forwards(out, field.value()),
            Fate::MaxForwards => out.extend_from_slice(field.line()),
            Fate::Cookie if std::mem::replace(&mut has_cookie, true) => {}
            Fate::Cookie => put_cookies(out, &head.fields),
        }
    }
    let conditions = ctx.conditions.into_iter().flat_map(Fields::iter);
    conditions.for_each(|field| out.extend_from_slice(field.line()));
    put_connection(out, ctx, wants_trailers);
    put_framing(out, head, ctx.body);
    put_origin(out, head, ctx);
    text::field(out, Known::Via, via(head.version).as_bytes());
    text::field(out, Known::XRequestId, ctx.request_id.as_bytes());
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

/// Whether a line of `Forwarded` (RFC 7239) says anything else than `value` of `name` anywhere. Not a parser: servers
/// differ in what they read out of quotes, blanks and letters of either case, so it must be these bytes.
pub fn says_other(line: &[u8], name: &str, value: &str) -> bool {
    let is_same = |rest: &[u8]| {
        let rest = rest.strip_prefix(b"=").map(|rest| rest.strip_prefix(b"\"").unwrap_or(rest));
        let rest = rest.and_then(|rest| rest.strip_prefix(value.as_bytes()));
        let rest = rest.map(|rest| rest.strip_prefix(b"\"").unwrap_or(rest));
        rest.is_some_and(|rest| matches!(rest, [] | [b' ' | b'\t' | b',' | b';', ..]))
    };
    let places = line.windows(name.len()).enumerate();
    let mut named = places.filter(|(_, word)| word.eq_ignore_ascii_case(name.as_bytes()));
    named.any(|(at, _)| !is_same(&line[at + name.len()..]))
}

/// One word for one request, in everyone's logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestId {
    /// Ours: 32 hexadecimal digits.
    Fresh([u8; 32]),
    /// That of a trusted peer: letters, digits, dots, underscores and hyphens.
    Theirs(Box<[u8]>),
}

impl RequestId {
    /// The client's when its peer is trusted and the id is fit for any log; else `fresh`.
    pub fn of(fields: &Fields, peer_kind: PeerKind, fresh: u128) -> Self {
        let theirs = match peer_kind {
            PeerKind::TrustedProxy => fields.get(Known::XRequestId),
            PeerKind::Client => None,
        };
        if let Some(id) = theirs.filter(|id| is_request_id(id)) {
            return RequestId::Theirs(id.into());
        }
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [b'0'; 32];
        for (byte, digits) in fresh.to_be_bytes().into_iter().zip(hex.as_chunks_mut().0) {
            *digits = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        RequestId::Fresh(hex)
    }

    /// As a field's value.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Fresh(digits) => digits,
            RequestId::Theirs(id) => id,
        }
    }
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
    fn of(field: Field<'_>) -> Fate {
        Fate::of_known(field.known()).unwrap_or_else(|| Fate::of_other(field.name()))
    }

    /// By name, which is in lower case.
    fn of_name(name: &[u8]) -> Fate {
        Fate::of_known(Known::of(name)).unwrap_or_else(|| Fate::of_other(name))
    }

    fn of_known(known: Known) -> Option<Fate> {
        Some(match known {
            Known::Other => return None,
            Known::Connection
            | Known::Close
            | Known::KeepAlive
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings
            | Known::ContentLength
            | Known::Host
            | Known::Expect
            | Known::XRealIp
            | Known::XRequestId
            | Known::XForwardedFor
            | Known::Forwarded
            | Known::ProxyAuthenticate
            | Known::ProxyAuthenticationInfo
            | Known::ProxyAuthorization
            | Known::ProxyConnection => Fate::Drop,
            Known::Te => Fate::Te,
            Known::Trailer => Fate::Trailer,
            Known::MaxForwards => Fate::MaxForwards,
            Known::Cookie => Fate::Cookie,
            Known::IfNoneMatch | Known::IfModifiedSince | Known::IfRange | Known::Range => Fate::Condition,
            Known::XForwarded | Known::XForwardedHost | Known::XForwardedPort | Known::XForwardedProto => {
                Fate::DropUnlessTrusted
            }
            _ => Fate::Keep,
        })
    }

    fn of_other(name: &[u8]) -> Fate {
        match name {
            // Also plain `Proxy`, which CGI turns into HTTP_PROXY (CVE-2016-5385).
            [b'p', b'r', b'o', b'x', b'y'] | [b'p', b'r', b'o', b'x', b'y', b'-', ..] => Fate::Drop,
            _ if is_look_alike(name) => Fate::Drop,
            _ if name.starts_with(b"x-forwarded-") => Fate::DropUnlessTrusted,
            _ => Fate::Keep,
        }
    }
}

/// Whether some server may read `name`, which is in lower case, as another: CGI and what came after it make `_` of a `-`,
/// and some make it of whatever is no letter or digit.
fn is_look_alike(name: &[u8]) -> bool {
    if name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') {
        return false;
    }
    let plain: Vec<u8> = name.iter().map(|b| if b.is_ascii_alphanumeric() { *b } else { b'-' }).collect();
    let is_edge = |b: &u8| *b != b'-';
    let begin = plain.iter().position(is_edge).unwrap_or(plain.len());
    let end = plain.iter().rposition(is_edge).map_or(begin, |last| last + 1);
    name.contains(&b'_') || !matches!(Fate::of_name(&plain[begin..end]), Fate::Keep | Fate::Condition)
}

/// What a request may announce as a trailer: nothing that a server needs before the body, nothing that says who
/// sends it or whether it may (RFC 9110 §6.5.1), and nothing that does not pass as a field.
fn may_be_trailer(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    let is_of_the_head = matches!(
        Known::of(&name),
        Known::Authorization
            | Known::CacheControl
            | Known::Date
            | Known::Origin
            | Known::Pragma
            | Known::Range
            | Known::SetCookie
            | Known::Via
            | Known::Vary
    );
    let is_kept = matches!(Fate::of_name(&name), Fate::Keep);
    is_kept && !is_of_the_head && !name.starts_with(b"content-") && !name.starts_with(b"if-")
}

/// The fields and trailers that `Connection` names, but for the words that everyone says and that name no field to keep.
struct Named<'a>(Vec<&'a [u8]>);

impl<'a> Named<'a> {
    fn of(fields: &'a Fields) -> Self {
        let usual = |t: &[u8]| {
            [&b"keep-alive"[..], b"close", b"upgrade", b"te"]
                .iter()
                .any(|usual| t.eq_ignore_ascii_case(usual))
        };
        // An empty vector, the usual case, does not allocate.
        Named(fields.elements(Known::Connection).filter(|t| !usual(t)).collect())
    }

    fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

fn put_trailer(out: &mut Vec<u8>, value: &[u8], named: &Named<'_>, names: &mut Vec<HeaderName>) {
    let may_pass = |name: &&[u8]| may_be_trailer(name) && !named.has(name);
    let announced = fields::of(value).filter(may_pass);
    let allowed: Vec<&[u8]> =
        announced.filter(|name| HeaderName::from_bytes(name).map(|name| names.push(name)).is_ok()).collect();
    if !allowed.is_empty() {
        text::field(out, Known::Trailer, &allowed.join(&b", "[..]));
    }
}

/// RFC 9110 §7.6.2: one less, which is this hop. The guard answers where there is none left.
fn put_max_forwards(out: &mut Vec<u8>, value: &[u8]) {
    let left = guard::max_forwards(value).unwrap_or(0).saturating_sub(1);
    text::put(out, format_args!("max-forwards: {left}\r\n"));
}

/// `TE: trailers`, also with other codings and weights; those are not passed on.
fn asks_for_trailers(value: &[u8]) -> bool {
    fields::of(value).any(|t| t.eq_ignore_ascii_case(b"trailers"))
}

/// The one `Cookie` of a request: HTTP/2 clients send crumbs.
fn put_cookies(out: &mut Vec<u8>, fields: &Fields) {
    let crumbs = fields.get_all(Known::Cookie).skip_while(|crumb| crumb.is_empty());
    Name::from(Known::Cookie).put_line(out, |out| {
        for (index, crumb) in crumbs.enumerate() {
            if index > 0 {
                out.extend_from_slice(b"; ");
            }
            out.extend_from_slice(crumb);
        }
    });
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
fn put_framing(out: &mut Vec<u8>, head: &RequestHead, body: BodyLength) {
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
fn put_origin(out: &mut Vec<u8>, head: &RequestHead, ctx: &ForwardContext<'_>) {
    let (peer, host) = (ctx.peer, ctx.host.as_bytes());
    let is_proxy = ctx.peer_kind == PeerKind::TrustedProxy;
    let said = |name: Known| {
        let lines = is_proxy.then(|| head.fields.get_all(name));
        lines.into_iter().flatten()
    };
    if is_proxy {
        put_joined(out, Known::XForwardedFor, said(Known::XForwardedFor), &[peer.address()]);
        if !head.fields.has(Known::XForwardedProto) {
            text::field(out, Known::XForwardedProto, peer.scheme.as_bytes());
        }
        if !head.fields.has(Known::XForwardedPort) {
            text::put(out, format_args!("x-forwarded-port: {}\r\n", peer.port));
        }
        text::put(out, format_args!("x-real-ip: {}\r\n", ctx.client_ip));
    } else {
        out.extend_from_slice(&peer.text[..peer.lines]);
    }
    if said(Known::XForwardedHost).next().is_none() {
        text::field(out, Known::XForwardedHost, host);
    }
    // RFC 7239 §4: a value that is no token is quoted. A host of the grammar holds no quote itself.
    let is_token = host.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let quote: &[u8] = if is_token { b"" } else { b"\"" };
    put_joined(
        out,
        Known::Forwarded,
        said(Known::Forwarded),
        &[&peer.text[peer.lines..], quote, host, quote],
    );
}

/// The lines before, then `parts`, which are the last element: one line, because many servers read only the first.
fn put_joined<'a>(out: &mut Vec<u8>, name: Known, before: impl Iterator<Item = &'a [u8]>, parts: &[&[u8]]) {
    Name::from(name).put_line(out, |out| {
        for value in before.filter(|v| !v.is_empty()) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        parts.iter().for_each(|part| out.extend_from_slice(part));
    });
}

/// RFC 9110 §7.6.3: the version in which the message came to us.
fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => "1.0 tidegate",
        Version::HTTP_2 => "2.0 tidegate",
        Version::HTTP_3 => "3.0 tidegate",
        _ => "1.1 tidegate",
    }
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

#[cfg(test)]
mod tests;
