//! Why a probe failed, in words that the log and the status page repeat.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::net::dial::DialError;

/// Bytes of a cause: parts of it are the server's own words, and it stands on a line of the log.
const CAUSE_BYTES_MAX: usize = 256;

/// Why a probe failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// All of it took too long.
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// There is no connection, or no TLS on it.
    Dial(DialError),
    /// What was to be asked is no request.
    Request(http::Error),
    /// HTTP/1.1 broke off, or was none.
    Http(hyper::Error),
    /// A status that was not expected.
    Status(u16),
    /// The pattern is not in the body.
    Body,
    /// ALPN agreed on something else.
    NoHttp2,
    /// HTTP/2 broke off, or was none.
    Http2(h2::Error),
    /// An answer that is not gRPC's.
    NotGrpc(String),
    /// gRPC says that the question itself went wrong.
    Grpc {
        /// `grpc-status`.
        code: String,
        /// `grpc-message`, as it was sent.
        message: String,
    },
    /// The service says that it does not serve.
    NotServing(&'static str),
}

/// An error and all that it came from, on one line.
pub fn causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some errors say what their cause says.
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line.truncate(line.floor_char_boundary(CAUSE_BYTES_MAX));
    line.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::TimedOut { after } => write!(f, "no answer within {after:?}"),
            Failure::Dial(error) => error.fmt(f),
            Failure::Request(_) => f.write_str("the request cannot be made"),
            Failure::Http(_) => f.write_str("http"),
            Failure::Status(status) => write!(f, "status {status}"),
            Failure::Body => f.write_str("the pattern is not in the body"),
            Failure::NoHttp2 => f.write_str("tls handshake: the server does not offer h2 by ALPN"),
            Failure::Http2(_) => f.write_str("http/2"),
            Failure::NotGrpc(why) => write!(f, "the answer is not gRPC: {why}"),
            Failure::Grpc { code, message } if message.is_empty() => write!(f, "grpc-status {code}"),
            Failure::Grpc { code, message } => write!(f, "grpc-status {code}: {message}"),
            Failure::NotServing(status) => write!(f, "the service says {status}"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // It speaks through us, so its cause is ours.
            Failure::Dial(error) => error.source(),
            Failure::Request(error) => Some(error),
            Failure::Http(error) => Some(error),
            Failure::Http2(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_one_line_with_its_own_causes() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        for (failure, expected) in [
            (Failure::Dial(DialError::Connect(refused)), "connect: connection refused"),
            (Failure::TimedOut { after: Duration::from_millis(1500) }, "no answer within 1.5s"),
            (
                Failure::Grpc { code: "12".to_owned(), message: "no\nsuch".to_owned() },
                "grpc-status 12: no\u{fffd}such",
            ),
        ] {
            assert_eq!(causes(&failure), expected);
        }
    }

    #[test]
    fn a_cause_in_a_servers_words_is_cut_off_between_two_letters() {
        let failure = Failure::NotGrpc("ä".repeat(1000));

        let cause = causes(&failure);

        assert!((CAUSE_BYTES_MAX - 1..=CAUSE_BYTES_MAX).contains(&cause.len()), "{}", cause.len());
    }
}
