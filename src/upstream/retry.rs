//! Whether a failed attempt may be made again. Pure.

use http::Method;

use crate::upstream::attempt::AttemptError;

/// What an attempt's failure allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Again, on a server that was not tried.
    Elsewhere,
    /// Again, on another server, or on the same one where there is no other: it did not fail,
    /// it only closed a connection that was at rest.
    Anywhere,
    /// No: the reason is the attempt's.
    Stop,
}

/// Causes of retries: the values of the metric's label.
pub const REASONS: [&str; 6] =
    ["connect-failed", "connect-timed-out", "tls-failed", "tls-timed-out", "stale-connection", "reset"];

// RFC 9110 section 9.2.2, first that applies:
// - nothing was sent: any method may be sent elsewhere;
// - the server may have begun: only idempotent methods, and only with a body that can be sent again;
// - the server is at work (slow), or answered (nonsense): never, it would do the work twice.

/// `has_body` tells whether there is, or was, a body that must be sent: one that was sent in part cannot be again.
pub fn verdict(error: &AttemptError, method: &Method, has_body_back: bool, left: u32) -> Verdict {
    if left == 0 || !has_body_back {
        return Verdict::Stop;
    }
    match error {
        AttemptError::Dial(_) => Verdict::Elsewhere,
        AttemptError::Stale(_) if is_idempotent(method) => Verdict::Anywhere,
        AttemptError::Reset(_) if is_idempotent(method) => Verdict::Elsewhere,
        _ => Verdict::Stop,
    }
}

/// RFC 9110 section 9.2.2, without TRACE, which is never forwarded.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;
    use crate::net::dial::DialError;

    fn refused() -> AttemptError {
        AttemptError::Dial(DialError::Connect(io::ErrorKind::ConnectionRefused.into()))
    }

    #[test]
    fn a_refused_connection_is_tried_elsewhere_for_any_method() {
        for method in [Method::GET, Method::POST, Method::PATCH] {
            assert_eq!(verdict(&refused(), &method, true, 1), Verdict::Elsewhere);
        }
    }

    #[test]
    fn nothing_is_tried_again_without_its_body_or_beyond_the_limit() {
        assert_eq!(verdict(&refused(), &Method::GET, false, 1), Verdict::Stop);
        assert_eq!(verdict(&refused(), &Method::GET, true, 0), Verdict::Stop);
    }

    #[test]
    fn a_server_that_is_at_work_is_not_doubled() {
        let slow = AttemptError::FirstByteTimedOut { after: Duration::from_secs(1) };
        assert_eq!(verdict(&slow, &Method::GET, true, 2), Verdict::Stop);
    }

    #[test]
    fn every_reason_that_can_be_retried_has_its_label() {
        assert!(REASONS.contains(&refused().as_str()));
    }
}
