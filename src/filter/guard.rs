//! What is refused before anyone acts on it.
//!
//! What two readers of a request could read in two ways stops here. Every head passes once, in both directions,
//! and the rules are the same for HTTP/1.1 and HTTP/2. What is merely not to be passed
//! on (hop-by-hop fields, names with `_`) is left out by `forward` and not refused here.

mod framing;
mod path;
mod response;

use std::fmt;

use http::Method;
use http::StatusCode;
use http::Version;

use crate::body::LENGTH_MAX;
use crate::config::Limits;
use crate::fields;
use crate::fields::Field;
use crate::fields::Known;
use crate::fields::RequestHead;
use crate::filter::authority::Authority;

pub use framing::Framing;
pub use framing::framing;
pub use response::BadResponse;
pub use response::check_response;

/// Bytes of a method. Twice as many as the longest registered has, which is UPDATEREDIRECTREF.
pub const METHOD_BYTES_MAX: usize = 32;

/// What a head says, now that it may be believed to say one thing only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<'a> {
    /// Host and port, apart.
    pub host: Authority<'a>,
    /// Host and port as the client sent them: of the target when it has an authority, else of `Host`.
    pub authority: &'a str,
    /// The client asks for a websocket, over HTTP/1.1, properly.
    pub wants_websocket: bool,
    /// OPTIONS that `Max-Forwards` lets go no further: it is ours to answer (RFC 9110 §7.6.2).
    pub ends_here: bool,
}

/// Why a request is not served. Always the client's fault, and never worth a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// CONNECT or TRACE.
    Method,
    /// Longer than any method there is.
    MethodTooLong,
    /// Longer than `limits.uri-bytes`.
    UriTooLong,
    /// Neither origin-form nor absolute-form (nor `OPTIONS *`), or characters no target may have.
    Target,
    /// A path that some server would read as another one.
    Path,
    /// No `Host` and no `:authority`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// Not a host and a port.
    HostInvalid,
    /// HTTP/2: `host` and `:authority` differ.
    HostDiffers,
    /// `Content-Length` that is not one number, or together with `Transfer-Encoding`.
    ContentLength,
    /// `Transfer-Encoding` that is not one `chunked`, or in HTTP/1.0.
    TransferEncoding,
    /// A transfer coding that we do not speak.
    TransferCoding,
    /// More than `limits.headers` fields.
    FieldsTooMany,
    /// More than `limits.header-bytes` of fields.
    FieldsTooLarge,
    /// `Connection` names a field that must reach the server.
    Connection,
    /// HTTP/2: a field that belongs to an HTTP/1.1 connection.
    ConnectionSpecific,
    /// HTTP/2: a name or a value that HTTP/1.1 cannot say.
    FieldInvalid,
    /// `Expect` something other than `100-continue`.
    Expectation,
    /// A websocket handshake with a body: what follows it is ambiguous.
    UpgradeWithBody,
    /// OPTIONS with a `Max-Forwards` that is not one number.
    MaxForwards,
}

impl Refusal {
    /// Every refusal, for the label values of a metric; `refusal as usize` is its place here.
    pub const ALL: [Refusal; 20] = [
        Refusal::Method,
        Refusal::MethodTooLong,
        Refusal::UriTooLong,
        Refusal::Target,
        Refusal::Path,
        Refusal::HostMissing,
        Refusal::HostRepeated,
        Refusal::HostInvalid,
        Refusal::HostDiffers,
        Refusal::ContentLength,
        Refusal::TransferEncoding,
        Refusal::TransferCoding,
        Refusal::FieldsTooMany,
        Refusal::FieldsTooLarge,
        Refusal::Connection,
        Refusal::ConnectionSpecific,
        Refusal::FieldInvalid,
        Refusal::Expectation,
        Refusal::UpgradeWithBody,
        Refusal::MaxForwards,
    ];

    /// What the client gets.
    pub fn status(self) -> StatusCode {
        match self {
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
            // RFC 9112 §3: what is longer than any method we know is none that we know.
            Refusal::TransferCoding | Refusal::MethodTooLong => StatusCode::NOT_IMPLEMENTED,
            Refusal::FieldsTooMany | Refusal::FieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Method => "method",
            Refusal::MethodTooLong => "method-too-long",
            Refusal::UriTooLong => "uri-too-long",
            Refusal::Target => "target",
            Refusal::Path => "path",
            Refusal::HostMissing => "host-missing",
            Refusal::HostRepeated => "host-repeated",
            Refusal::HostInvalid => "host-invalid",
            Refusal::HostDiffers => "host-differs",
            Refusal::ContentLength => "content-length",
            Refusal::TransferEncoding => "transfer-encoding",
            Refusal::TransferCoding => "transfer-coding",
            Refusal::FieldsTooMany => "fields-too-many",
            Refusal::FieldsTooLarge => "fields-too-large",
            Refusal::Connection => "connection",
            Refusal::ConnectionSpecific => "connection-specific",
            Refusal::FieldInvalid => "field-invalid",
            Refusal::Expectation => "expectation",
            Refusal::UpgradeWithBody => "upgrade-with-body",
            Refusal::MaxForwards => "max-forwards",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Method => "method is not allowed here",
            Refusal::MethodTooLong => "method is too long",
            Refusal::UriTooLong => "target is too long",
            Refusal::Target => "target is malformed",
            Refusal::Path => "path is ambiguous",
            Refusal::HostMissing => "host is missing",
            Refusal::HostRepeated => "more than one host",
            Refusal::HostInvalid => "host is malformed",
            Refusal::HostDiffers => "host and :authority differ",
            Refusal::ContentLength => "content-length is ambiguous",
            Refusal::TransferEncoding => "transfer-encoding is not one chunked",
            Refusal::TransferCoding => "transfer coding is unknown",
            Refusal::FieldsTooMany => "too many header fields",
            Refusal::FieldsTooLarge => "header fields are too large",
            Refusal::Connection => "connection names a field that must not be removed",
            Refusal::ConnectionSpecific => "connection-specific field in http/2",
            Refusal::FieldInvalid => "field name or value is malformed",
            Refusal::Expectation => "expectation is unknown",
            Refusal::UpgradeWithBody => "upgrade with a body",
            Refusal::MaxForwards => "max-forwards is not one number",
        })
    }
}

impl std::error::Error for Refusal {}

/// Looks at a request's head, cheapest and most telling first: method; size; target; fields; host.
pub fn check_request<'a>(head: &'a RequestHead, limits: &Limits) -> Result<Checked<'a>, Refusal> {
    // CONNECT would make us an open tunnel; TRACE shows credentials to scripts (RFC 9110 §9.3.8).
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Refusal::Method);
    }
    if head.method.as_str().len() > METHOD_BYTES_MAX {
        return Err(Refusal::MethodTooLong);
    }
    check_target(head, limits)?;
    let said = check_fields(head, limits)?;
    let host_field =
        said.host.map(|host| std::str::from_utf8(host).map_err(|_| Refusal::HostInvalid)).transpose()?;
    let authority = authority(head, host_field)?;
    let host = Authority::parse(authority).ok_or(Refusal::HostInvalid)?;
    Ok(Checked {
        host,
        authority,
        wants_websocket: check_websocket(head)?,
        ends_here: said.max_forwards == Some(0),
    })
}

// RFC 9112 §3.2: origin-form; absolute-form (http, https); `*`, for OPTIONS alone.
fn check_target(head: &RequestHead, limits: &Limits) -> Result<(), Refusal> {
    let uri = &head.uri;
    let target = uri.path_and_query().map_or("", |p| p.as_str());
    let authority = uri.authority().map_or(0, |a| a.as_str().len());
    if target.len() + authority > limits.uri_bytes {
        return Err(Refusal::UriTooLong);
    }
    match uri.scheme_str() {
        None if uri.authority().is_some() => return Err(Refusal::Target),
        None | Some("http" | "https") => {}
        // RFC 3986 §3.1: in any letters.
        Some(scheme) if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) => {}
        Some(_) => return Err(Refusal::Target),
    }
    // Above HTTP/1.1 there is a scheme with every target, also with `*`; and http::Uri says `/` for a path
    // that is not there.
    let path = uri.path();
    if path == "*" {
        return if head.method == Method::OPTIONS { Ok(()) } else { Err(Refusal::Target) };
    }
    // http::Uri takes raw UTF-8, and drops fragments: who makes one has looked for `#` before.
    let is_odd = |b: u8| !(0x21..0x7f).contains(&b) || b == b'#';
    // http::Uri says `/` for the path of `?x`, which only a URL may have (RFC 9112 §3.2.2).
    let is_url = head.version <= Version::HTTP_11 && uri.authority().is_some();
    let has_path = target.starts_with('/') || (is_url && path.starts_with('/'));
    if !has_path || path.contains('\\') || target.bytes().any(is_odd) {
        return Err(Refusal::Target);
    }
    if path::is_ambiguous(path) { Err(Refusal::Path) } else { Ok(()) }
}

/// What the walk over the fields remembers.
#[derive(Default)]
struct Said<'a> {
    host: Option<&'a [u8]>,
    /// Of OPTIONS alone.
    max_forwards: Option<u64>,
}

/// Whether a connection of HTTP/1.1 is to become a tunnel (RFC 6455 §4.1 and RFC 9110 §7.8). Another protocol than
/// websocket, or HTTP/1.0, is no error: the server may ignore `Upgrade`, and curl sends `h2c` with any body.
pub fn wants_websocket(head: &RequestHead) -> bool {
    head.version == Version::HTTP_11
        && head.fields.get_all(Known::Upgrade).any(names_websocket)
        && head.fields.elements(Known::Connection).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// The same, of a request that may.
fn check_websocket(head: &RequestHead) -> Result<bool, Refusal> {
    if !wants_websocket(head) {
        return Ok(false);
    }
    match framing(head)? {
        Framing::None | Framing::Length(0) => Ok(head.method == Method::GET),
        _ => Err(Refusal::UpgradeWithBody),
    }
}

fn check_fields<'a>(head: &'a RequestHead, limits: &Limits) -> Result<Said<'a>, Refusal> {
    if head.fields.len() > limits.headers {
        return Err(Refusal::FieldsTooMany);
    }
    let mut said = Said::default();
    let mut bytes = 0;
    for field in head.fields.iter() {
        bytes += field.line().len();
        if bytes > limits.header_bytes {
            return Err(Refusal::FieldsTooLarge);
        }
        check_field(head, &mut said, field)?;
    }
    framing(head)?;
    Ok(said)
}

fn check_field<'a>(head: &RequestHead, said: &mut Said<'a>, field: Field<'a>) -> Result<(), Refusal> {
    let is_http2 = head.version > Version::HTTP_11;
    // What the parser of HTTP/1.1 would have cut off (RFC 9113 §8.2.1).
    if is_http2 && fields::is_padded(field.value()) {
        return Err(Refusal::FieldInvalid);
    }
    let value = field.value();
    match field.known() {
        Known::Host if said.host.replace(value).is_some() => return Err(Refusal::HostRepeated),
        // RFC 9113 §8.2.2: those, and TE but for trailers.
        known if is_http2 && known.is_connection_specific() => return Err(Refusal::ConnectionSpecific),
        Known::Te if is_http2 && !value.eq_ignore_ascii_case(b"trailers") => {
            return Err(Refusal::ConnectionSpecific);
        }
        Known::Connection => {
            for token in fields::of(value) {
                if is_protected(token) || !token.iter().all(|b| fields::is_token_byte(*b)) {
                    return Err(Refusal::Connection);
                }
            }
        }
        // For any other method it may be ignored (RFC 9110 §7.6.2), and is; TRACE does not come here.
        Known::MaxForwards if head.method == Method::OPTIONS => {
            let hops = max_forwards(value).ok_or(Refusal::MaxForwards)?;
            if said.max_forwards.replace(hops).is_some() {
                return Err(Refusal::MaxForwards);
            }
        }
        Known::Expect if !value.eq_ignore_ascii_case(b"100-continue") => {
            return Err(Refusal::Expectation);
        }
        _ => {}
    }
    Ok(())
}

// RFC 9112 §6.1: exactly `chunked`; known but not so, 400; unknown, 501.
fn check_transfer_encoding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    if fields::visible(value).is_none() {
        return Err(Refusal::TransferEncoding);
    }
    match fields::of(value).find(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
        Some(_) => Err(Refusal::TransferCoding),
        None => Err(Refusal::TransferEncoding),
    }
}

/// The host that counts. An authority in the target wins over `Host` (RFC 9112 §3.2.2), but `Host` must be there
/// and well formed all the same; HTTP/2 clients need not send it, and must not send another (RFC 9113 §8.3.1).
fn authority<'a>(head: &'a RequestHead, host: Option<&'a str>) -> Result<&'a str, Refusal> {
    let target = head.uri.authority().map(|a| a.as_str());
    let is_http2 = head.version > Version::HTTP_11;
    match (target, host) {
        (None, None) => Err(Refusal::HostMissing),
        (None, Some(host)) => Ok(host),
        (Some(target), None) if is_http2 => Ok(target),
        (Some(_), None) => Err(Refusal::HostMissing),
        (Some(target), Some(host)) => {
            let host = Authority::parse(host).ok_or(Refusal::HostInvalid)?;
            let parsed = Authority::parse(target).ok_or(Refusal::HostInvalid)?;
            if is_http2 && !parsed.is_same(host) { Err(Refusal::HostDiffers) } else { Ok(target) }
        }
    }
}

/// Fields that `Connection` must not name, because without them the server would read another request
/// (framing, host), or a more trusted one (what we and the proxies before us say about the client).
fn is_protected(token: &[u8]) -> bool {
    const NAMES: [&str; 18] = [
        "host",
        "content-length",
        "transfer-encoding",
        "content-type",
        "content-encoding",
        "content-range",
        "range",
        "authorization",
        "cookie",
        "forwarded",
        "via",
        "x-real-ip",
        "x-request-id",
        "cache-control",
        "expect",
        "max-forwards",
        "origin",
        "x-forwarded",
    ];
    let begins =
        |with: &str| token.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()));
    // Conditions are part of what is asked: without If-Match, a write that must not happen does.
    NAMES.iter().any(|name| token.eq_ignore_ascii_case(name.as_bytes()))
        || begins("x-forwarded-")
        || begins("if-")
}

/// `Max-Forwards = 1*DIGIT` (RFC 9110 §7.6.2). More than can be counted is as many as can be.
pub fn max_forwards(value: &[u8]) -> Option<u64> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| fields::number(value).unwrap_or(u64::MAX))
}

/// `Content-Length = 1*DIGIT` (RFC 9110 §8.6), of no more than [`LENGTH_MAX`].
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    fields::number(value).filter(|length| *length <= LENGTH_MAX)
}

/// Whether an `Upgrade` is for websocket, and for nothing else.
fn names_websocket(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"websocket")
}

#[cfg(test)]
mod tests;
