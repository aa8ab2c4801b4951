//! Our own answers: one `match` turns whatever went wrong into a status, a reason and a word for
//! `Proxy-Status` (RFC 9209).

use bytes::Bytes;
use http::{StatusCode, Version};

use crate::answer::Answer;
use crate::body::{Body, End};
use crate::fields::Known;
use crate::filter::guard::{BadResponse, Refusal};
use crate::net::dial::DialError;
use crate::proxy::exchange::Exchange;
use crate::upstream::attempt::AttemptError;

/// What a client may expect when no server may serve: about the time a probe takes to see one rise.
const RETRY_AFTER_SECONDS: u64 = 5;

/// What passes here; others do too, but for CONNECT and TRACE.
const ALLOWED: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Fields of such an answer, at most.
const FIELDS: usize = 8;

/// Why a request is not answered by a server.
#[derive(Debug)]
pub enum Failure {
    /// The client's fault.
    Refused(Refusal),
    /// No route takes it.
    NoRoute,
    /// Larger than the route allows.
    BodyTooLarge,
    /// No server of the upstream may serve.
    NoServer,
    /// All that may serve are full, and so is the queue before them.
    QueueFull,
    /// All that may serve were full for too long.
    QueueTimedOut,
    /// The request as a whole took too long.
    TotalTimedOut,
    /// The last attempt failed.
    Attempt(AttemptError),
    /// A server answered what may not be passed on.
    BadResponse(BadResponse),
    /// Not stored, and the client wants nothing else.
    OnlyIfCached,
    /// A server changed the protocol of a client that cannot.
    Upgrade,
}

struct Words {
    status: StatusCode,
    /// For the log and the metrics.
    reason: &'static str,
    /// RFC 9209 section 2.3.
    error: &'static str,
}

impl Failure {
    /// True when a server is to blame, not the client or the configuration.
    pub fn blames_server(&self) -> bool {
        matches!(
            self,
            Failure::NoServer
                | Failure::QueueFull
                | Failure::QueueTimedOut
                | Failure::TotalTimedOut
                | Failure::Attempt(_)
                | Failure::BadResponse(_)
        )
    }

    fn words(&self) -> Words {
        let (status, reason, error) = match self {
            Failure::Refused(refusal) => (refusal.status(), refusal.as_str(), "http_request_error"),
            Failure::NoRoute => (StatusCode::NOT_FOUND, "no-route", "destination_not_found"),
            Failure::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "http_request_error"),
            Failure::NoServer => (StatusCode::SERVICE_UNAVAILABLE, "no-server", "destination_unavailable"),
            Failure::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "queue-full", "connection_limit_reached"),
            Failure::QueueTimedOut => {
                (StatusCode::SERVICE_UNAVAILABLE, "queue-timed-out", "connection_limit_reached")
            }
            Failure::TotalTimedOut => {
                (StatusCode::GATEWAY_TIMEOUT, "total-timed-out", "http_response_timeout")
            }
            Failure::Attempt(error) => return attempt(error),
            Failure::BadResponse(bad) => (StatusCode::BAD_GATEWAY, bad.as_str(), "http_protocol_error"),
            Failure::OnlyIfCached => (StatusCode::GATEWAY_TIMEOUT, "only-if-cached", "http_request_denied"),
            Failure::Upgrade => (StatusCode::BAD_GATEWAY, "upgrade-failed", "http_upgrade_failed"),
        };
        Words { status, reason, error }
    }

    /// True when what the client goes on to send can no longer be understood, or is not worth reading.
    fn closes(&self) -> bool {
        matches!(
            self,
            Failure::Refused(_) | Failure::BodyTooLarge | Failure::Attempt(AttemptError::RequestBody(_))
        )
    }
}

fn attempt(error: &AttemptError) -> Words {
    let (status, error_type) = match error {
        AttemptError::Dial(DialError::Connect(_)) => (StatusCode::BAD_GATEWAY, "connection_refused"),
        AttemptError::Dial(DialError::Shortage(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached")
        }
        AttemptError::Dial(DialError::ConnectTimedOut { .. }) => {
            (StatusCode::GATEWAY_TIMEOUT, "connection_timeout")
        }
        AttemptError::Dial(DialError::Tls(_)) => (StatusCode::BAD_GATEWAY, "tls_protocol_error"),
        AttemptError::Dial(DialError::TlsTimedOut { .. }) => {
            (StatusCode::GATEWAY_TIMEOUT, "connection_timeout")
        }
        AttemptError::NoLeave => (StatusCode::SERVICE_UNAVAILABLE, "connection_limit_reached"),
        AttemptError::Stale(_) | AttemptError::Reset(_) => (StatusCode::BAD_GATEWAY, "connection_terminated"),
        AttemptError::Malformed(_) | AttemptError::InterimFlood => {
            (StatusCode::BAD_GATEWAY, "http_protocol_error")
        }
        AttemptError::FirstByteTimedOut { .. } | AttemptError::TryTimedOut { .. } => {
            (StatusCode::GATEWAY_TIMEOUT, "http_response_timeout")
        }
        AttemptError::RequestBody(end) => return request_body(*end),
    };
    Words { status, reason: error.as_str(), error: error_type }
}

fn request_body(end: End) -> Words {
    let (status, reason) = match end {
        End::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
        End::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "body-too-slow"),
        End::Cut | End::Dropped | End::Whole => (StatusCode::BAD_REQUEST, "body-cut"),
    };
    Words { status, reason, error: "http_request_error" }
}

/// A short plain answer that says what happened, to whom to mention it, and no secret.
pub fn answer(x: &mut Exchange, failure: &Failure) -> Answer {
    let words = failure.words();
    x.facts.reason = words.reason;
    let mut answer = plain(&words, x.request_id.as_bytes());
    answer.append(Known::CacheControl, b"no-store");
    match words.status {
        StatusCode::SERVICE_UNAVAILABLE => answer.append_number("retry-after", RETRY_AFTER_SECONDS),
        StatusCode::METHOD_NOT_ALLOWED => answer.append("allow", ALLOWED),
        _ => {}
    }
    // RFC 9113 section 8.2.2: HTTP/2 has no such field; its streams end by themselves.
    if failure.closes() && x.head.version <= Version::HTTP_11 {
        answer.append(Known::Connection, b"close");
    }
    answer
}

/// The answer to OPTIONS that goes no further (RFC 9110 sections 7.6.2 and 9.3.7): what may be asked here.
pub fn options(x: &Exchange) -> Answer {
    let mut answer = Answer::new(StatusCode::NO_CONTENT, None, FIELDS);
    answer.append("allow", ALLOWED);
    answer.append(Known::CacheControl, b"no-store");
    answer.append(Known::XRequestId, x.request_id.as_bytes());
    answer.append("proxy-status", b"tidegate; details=\"max-forwards\"");
    answer
}

/// Why a head that is not even a request is refused with `status`.
pub fn raw_reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::REQUEST_TIMEOUT => "slow-head",
        StatusCode::URI_TOO_LONG => "uri-too-long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "head-too-large",
        _ => "malformed",
    }
}

/// That refusal, as bytes of HTTP/1.1.
pub fn raw_refusal(status: StatusCode) -> Bytes {
    let id = format!("{:032x}", fastrand::u128(..));
    let words = Words { status, reason: raw_reason(status), error: "http_request_error" };
    let text = text(status, words.reason, &id);
    Bytes::from(format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\nx-request-id: {id}\r\nproxy-status: {}\r\n\r\n{text}",
        text.len(),
        proxy_status(&words),
    ))
}

/// The same as an answer, for a protocol that has another form. It ends its request and not the connection.
pub fn early_refusal(status: StatusCode) -> Answer {
    let id = format!("{:032x}", fastrand::u128(..));
    let words = Words { status, reason: raw_reason(status), error: "http_request_error" };
    plain(&words, id.as_bytes())
}

/// What every answer of ours says that says what went wrong.
fn plain(words: &Words, id: &[u8]) -> Answer {
    let mut answer = Answer::new(words.status, None, FIELDS);
    answer.append(Known::ContentType, b"text/plain; charset=utf-8");
    answer.append(Known::XRequestId, id);
    answer.append("proxy-status", proxy_status(words).as_bytes());
    answer.body = Body::full(text(words.status, words.reason, &String::from_utf8_lossy(id)));
    answer
}

fn text(status: StatusCode, reason: &str, id: &str) -> String {
    format!("{status}\nreason: {reason}\nrequest: {id}\n")
}

fn proxy_status(words: &Words) -> String {
    format!("tidegate; error={}; details=\"{}\"", words.error, words.reason)
}
