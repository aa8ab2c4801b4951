//! The head that goes back to the client.

use http::StatusCode;
use http::Version;

use super::Named;
use super::RequestId;
use super::via;
use crate::answer::Answer;
use crate::fields::Field;
use crate::fields::Fields;
use crate::fields::Known;
use crate::fields::ResponseHead;
use crate::filter::guard::content_length;

/// The response for the client, who speaks `version`: without hop-by-hop fields and those that `Connection` names
/// (RFC 9110 §7.6.1), with one `Content-Length` (none in 204, RFC 9110 §8.6) and our `Via` and request id. How the
/// body is framed is decided by whoever writes it, from the length that is left here.
pub fn to_client(head: &ResponseHead, version: Version, request_id: &RequestId) -> Answer {
    let mut answer = Answer::new(head.status, head.reason.as_deref(), head.fields.len());
    answer.to_version(version);
    let named = Named::of(&head.fields);
    let may_have_length = !(head.status == StatusCode::NO_CONTENT || head.status.is_informational());
    for field in head.fields.iter().filter(|field| !is_of_connection(*field)) {
        match field.known() {
            // Repeated ones are equal: the guard saw to it.
            Known::ContentLength if may_have_length && !answer.has_length() => put_length(&mut answer, field),
            Known::ContentLength => {}
            _ if named.has(field.name()) => {}
            _ => answer.pass(field),
        }
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS && version == Version::HTTP_11 {
        answer.append(Known::Connection, b"upgrade");
        answer.append(Known::Upgrade, b"websocket");
    }
    answer.append(Known::Via, via(head.version).as_bytes());
    answer.append(Known::XRequestId, request_id.as_bytes());
    answer
}

/// The fields of an interim response, for the client. They are those of [`to_client`], but never a length: nothing
/// follows it (RFC 9112 §6.3). `Via` and our request id are left to the final response.
pub fn interim_to_client(fields: &Fields) -> Fields {
    let named = Named::of(fields);
    let mut kept = fields.clone();
    kept.retain(|field| {
        !(is_of_connection(field) || field.known() == Known::ContentLength || named.has(field.name()))
    });
    kept
}

/// The number alone: zeros before it are the server's, and some would read it as octal.
fn put_length(answer: &mut Answer, field: Field<'_>) {
    match content_length(field.value()) {
        Some(number) if field.value().starts_with(b"0") => answer.append_number(Known::ContentLength, number),
        _ => answer.pass(field),
    }
}

/// Fields that a server says to us, or that are ours to say.
fn is_of_connection(field: Field<'_>) -> bool {
    matches!(
        field.known(),
        Known::Connection
            | Known::Close
            | Known::KeepAlive
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Te
            | Known::Http2Settings
            | Known::ProxyConnection
            | Known::ProxyAuthenticate
            | Known::ProxyAuthenticationInfo
            | Known::XRequestId
    )
}
