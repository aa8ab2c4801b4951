//! What a server may not answer.

use std::fmt;

use http::StatusCode;
use http::Version;

use super::content_length;
use super::names_websocket;
use crate::fields::Known;
use crate::fields::ResponseHead;

/// Fields of one response: as many as the parser of servers' heads takes, which is the first to count them.
const FIELDS_MAX: usize = 100;

/// Bytes of one response's fields. 64 KiB: cookies and policies of real servers reach 16 KiB.
const FIELD_BYTES_MAX: usize = 64 * 1024;

/// Why a response is not passed on: 502, the server's fault, and no word to the client about the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadResponse {
    /// Not 100 to 599, or an interim status where the last one was due.
    Status,
    /// 101 that nobody asked for, or to another protocol, or with a body.
    Upgrade,
    /// `Content-Length` that is not one number, or together with `Transfer-Encoding`.
    ContentLength,
    /// A transfer coding other than one `chunked`, or any in HTTP/1.0.
    TransferEncoding,
    /// Too many fields.
    FieldsTooMany,
    /// Too many bytes of fields.
    FieldsTooLarge,
}

impl BadResponse {
    /// Every one, for the label values of a metric; `bad as usize` is its place here.
    pub const ALL: [BadResponse; 6] = [
        BadResponse::Status,
        BadResponse::Upgrade,
        BadResponse::ContentLength,
        BadResponse::TransferEncoding,
        BadResponse::FieldsTooMany,
        BadResponse::FieldsTooLarge,
    ];

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            BadResponse::Status => "response-status",
            BadResponse::Upgrade => "response-upgrade",
            BadResponse::ContentLength => "response-content-length",
            BadResponse::TransferEncoding => "response-transfer-encoding",
            BadResponse::FieldsTooMany => "response-fields-too-many",
            BadResponse::FieldsTooLarge => "response-fields-too-large",
        }
    }
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadResponse::Status => "status is out of range",
            BadResponse::Upgrade => "upgrade that was not asked for",
            BadResponse::ContentLength => "content-length is ambiguous",
            BadResponse::TransferEncoding => "transfer-encoding is not one chunked",
            BadResponse::FieldsTooMany => "too many header fields",
            BadResponse::FieldsTooLarge => "header fields are too large",
        })
    }
}

impl std::error::Error for BadResponse {}

/// Looks at a server's final response, or at its 101 when the client `wants_websocket`.
pub fn check_response(head: &ResponseHead, wants_websocket: bool) -> Result<(), BadResponse> {
    match head.status.as_u16() {
        101 if wants_websocket && is_websocket(head) && !has_body(head) => {}
        101 => return Err(BadResponse::Upgrade),
        200..=599 => {}
        _ => return Err(BadResponse::Status),
    }
    if head.fields.len() > FIELDS_MAX {
        return Err(BadResponse::FieldsTooMany);
    }
    let (mut bytes, mut length, mut chunked) = (0, None, false);
    for field in head.fields.iter() {
        bytes += field.line().len();
        if bytes > FIELD_BYTES_MAX {
            return Err(BadResponse::FieldsTooLarge);
        }
        if field.known() == Known::ContentLength {
            let found = content_length(field.value()).ok_or(BadResponse::ContentLength)?;
            if length.replace(found).is_some_and(|before| before != found) {
                return Err(BadResponse::ContentLength);
            }
        } else if field.known() == Known::TransferEncoding {
            // We undo the chunks and nothing else: any other coding would reach the client undeclared.
            // HTTP/1.0 has none (RFC 9112 §6.1).
            let is_known = head.version == Version::HTTP_11 && field.value().eq_ignore_ascii_case(b"chunked");
            if chunked || !is_known {
                return Err(BadResponse::TransferEncoding);
            }
            chunked = true;
        }
    }
    // RFC 9112 §6.3: "ought to be handled as an error".
    if chunked && length.is_some() { Err(BadResponse::ContentLength) } else { Ok(()) }
}

fn is_websocket(head: &ResponseHead) -> bool {
    debug_assert_eq!(head.status, StatusCode::SWITCHING_PROTOCOLS);
    let mut upgrades = head.fields.get_all(Known::Upgrade);
    head.version == Version::HTTP_11
        && upgrades.next().is_some_and(names_websocket)
        && upgrades.next().is_none()
        && head.fields.elements(Known::Connection).any(|t| t.eq_ignore_ascii_case(b"upgrade"))
}

/// What follows a 101 is the other protocol (RFC 9112 §6.3); one that says otherwise is not understood by all alike.
fn has_body(head: &ResponseHead) -> bool {
    head.fields.has(Known::TransferEncoding)
        || !head.fields.get_all(Known::ContentLength).all(|length| length == b"0")
}
