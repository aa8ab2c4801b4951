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
use super::via;
use crate::answer::Answer;
use crate::filter::guard::content_length;

/// The response for the client, who speaks `version`: without hop-by-hop fields and those that `Connection` names
/// (RFC 9110 §7.6.1), with one `Content-Length` (none in 204, RFC 9110 §8.6) and our `Via` and request id. How the
/// body is framed is decided by whoever writes it, from the length that is left here.
pub fn to_client(head: &Parts, version: Version, request_id: &HeaderValue) -> Answer {
    let mut answer = Answer::new(head.status, head.extensions.get(), head.headers.len());
    let named = Named::of(&head.headers);
    let may_have_length = !(head.status == StatusCode::NO_CONTENT || head.status.is_informational());
    for (name, value) in &head.headers {
        match name.as_str() {
            name if is_of_connection(name) => {}
            // Repeated ones are equal: the guard saw to it.
            "content-length" if may_have_length && !answer.has_length() => {
                answer.append(name, &length(value));
            }
            "content-length" => {}
            other if named.has(other) => {}
            _ => answer.append(name, value),
        }
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS && version == Version::HTTP_11 {
        answer.append(&header::CONNECTION, &UPGRADE);
        answer.append(&header::UPGRADE, &WEBSOCKET);
    }
    answer.append(&header::VIA, &via(head.version));
    answer.append(&X_REQUEST_ID, request_id);
    answer
}

/// The fields of an interim response, for the client. They are those of [`to_client`], but never a length: nothing
/// follows it (RFC 9112 §6.3). `Via` and our request id are left to the final response.
pub fn interim_to_client(headers: &HeaderMap) -> HeaderMap {
    let named = Named::of(headers);
    let is_kept = |name: &str| !(is_of_connection(name) || name == "content-length" || named.has(name));
    let mut out = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_kept(name.as_str())) {
        out.append(name.clone(), value.clone());
    }
    out
}

/// The number alone: zeros before it are the server's, and some would read it as octal.
fn length(value: &HeaderValue) -> HeaderValue {
    match content_length(value) {
        Some(number) if value.as_bytes().starts_with(b"0") => number.into(),
        _ => value.clone(),
    }
}

/// Fields that a server says to us, or that are ours to say.
fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "close"
            | "keep-alive"
            | "transfer-encoding"
            | "upgrade"
            | "te"
            | "http2-settings"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "x-request-id"
    )
}
