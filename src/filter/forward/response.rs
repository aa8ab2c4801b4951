//! The head that goes back to the client.

use http::HeaderMap;
use http::HeaderValue;
use http::StatusCode;
use http::Version;
use http::header;
use http::response::Parts;

use super::Named;
use super::UPGRADE;
use super::WEBSOCKET;
use super::X_REQUEST_ID;
use super::put;
use super::via;

/// Fields that we add, at most.
const ADDED_MAX: usize = 4;

/// The fields for the client, who speaks `version`: without hop-by-hop fields and those that `Connection` names
/// (RFC 9110 §7.6.1), with one `Content-Length` (none in 204, RFC 9110 §8.6) and our `Via` and request id. How the
/// body is framed is decided by whoever writes it, from the length that is left here.
pub fn to_client(head: &Parts, version: Version, request_id: &HeaderValue) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(head.headers.len() + ADDED_MAX);
    let named = Named::of(&head.headers);
    let may_have_length = !(head.status == StatusCode::NO_CONTENT || head.status.is_informational());
    for (name, value) in &head.headers {
        let kept = match name.as_str() {
            "connection"
            | "keep-alive"
            | "transfer-encoding"
            | "upgrade"
            | "te"
            | "http2-settings"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "x-request-id" => false,
            // Repeated ones are equal: the guard saw to it.
            "content-length" => may_have_length && !out.contains_key(header::CONTENT_LENGTH),
            name => !named.has(name),
        };
        if kept {
            put(&mut out, name.clone(), value.clone());
        }
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS && version == Version::HTTP_11 {
        put(&mut out, header::CONNECTION, UPGRADE);
        put(&mut out, header::UPGRADE, WEBSOCKET);
    }
    put(&mut out, header::VIA, via(head.version));
    put(&mut out, X_REQUEST_ID, request_id.clone());
    out
}
