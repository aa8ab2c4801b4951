//! Whether a failed attempt may be made again. Pure.

use std::time::Duration;

use http::Method;

use crate::config::Retry;
use crate::net::dial::DialError;
use crate::upstream::attempt::{AttemptError, Awaited};

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No connection came about: nothing was sent.
    Connect,
    /// There may be no connection just now: nothing was sent.
    NoLeave,
    /// A kept-alive connection was closed.
    Stale,
    /// The server broke off before its response.
    Reset,
    /// No response in time.
    Timeout,
    /// A response that says that the server cannot serve.
    Status(u16),
    /// What cannot get better: nonsense for a response, or the client's own fault.
    Other,
}

/// What the request allows.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// RFC 9110 section 9.2.2.
    pub is_idempotent: bool,
    /// Its body, if it has one, can be sent again from the beginning.
    pub has_body: bool,
}

/// What was spent on it.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// Attempts.
    pub attempts: u32,
    /// Time since it came.
    pub time: Duration,
}

/// What there is to spend.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Further attempts after the first.
    pub retries: u32,
    /// For all attempts together.
    pub total: Option<Duration>,
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Again, on a server that was not tried.
    Elsewhere,
    /// Again, on another server, or on the same one where there is no other: it did not fail,
    /// it only closed a connection that was at rest.
    Anywhere,
    /// No.
    Stop(Stop),
}

/// Why there is no retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// `retries` are used up.
    Limit,
    /// `retry-on` does not name the cause.
    Cause,
    /// The server may have begun, and doing it twice is not the same as once.
    NotIdempotent,
    /// The body cannot be sent again.
    Body,
    /// `total-timeout` has passed.
    Time,
    /// There are too many retries already.
    Budget,
    /// No other server may serve.
    NoServer,
}

impl Stop {
    /// All of them, in the order of the metric's labels.
    pub const ALL: [Stop; 7] =
        [Stop::Limit, Stop::Cause, Stop::NotIdempotent, Stop::Body, Stop::Time, Stop::Budget, Stop::NoServer];

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Stop::Limit => "limit",
            Stop::Cause => "cause",
            Stop::NotIdempotent => "not-idempotent",
            Stop::Body => "body",
            Stop::Time => "time",
            Stop::Budget => "budget",
            Stop::NoServer => "no-server",
        }
    }
}

/// Causes of retries: the values of the metric's label.
pub const REASONS: [&str; 11] = [
    "connect-failed",
    "connect-timed-out",
    "tls-failed",
    "tls-timed-out",
    "connection-limit",
    "no-descriptor",
    "stale-connection",
    "reset",
    "first-byte-timed-out",
    "try-timed-out",
    "status",
];

impl Cause {
    /// Of an attempt without a response.
    pub fn of(error: &AttemptError) -> Self {
        match error {
            AttemptError::Dial(
                DialError::Connect(_)
                | DialError::ConnectTimedOut { .. }
                | DialError::Tls(_)
                | DialError::TlsTimedOut { .. },
            ) => Cause::Connect,
            AttemptError::Dial(DialError::Shortage(_)) | AttemptError::NoLeave => Cause::NoLeave,
            AttemptError::Stale(_) => Cause::Stale,
            AttemptError::Reset(_) => Cause::Reset,
            AttemptError::FirstByteTimedOut { .. }
            | AttemptError::TryTimedOut { on: Awaited::Server, .. } => Cause::Timeout,
            // Another server would wait for the same client.
            AttemptError::TryTimedOut { on: Awaited::Client, .. }
            | AttemptError::Malformed(_)
            | AttemptError::InterimFlood
            | AttemptError::RequestBody(_) => Cause::Other,
        }
    }

    fn was_sent(self) -> bool {
        !matches!(self, Cause::Connect | Cause::NoLeave)
    }

    /// A connection that was closed at rest, or is not to be had, says nothing against trying: it is always tried again.
    fn is_wanted(self, rules: &Retry) -> bool {
        match self {
            Cause::NoLeave | Cause::Stale => true,
            Cause::Connect => rules.on_connect,
            Cause::Reset => rules.on_reset,
            Cause::Timeout => rules.on_timeout,
            Cause::Status(status) => rules.names(status),
            Cause::Other => false,
        }
    }

    /// Whether a retry counts against the budget: what says nothing of the pool's health does not.
    pub fn is_budgeted(self) -> bool {
        !matches!(self, Cause::NoLeave | Cause::Stale)
    }

    /// Whether a retry may be had for nothing while another server answers: no server has seen the request, so it is not
    /// work done twice. Where none answers, the pool is dead, and gets no storm of connections.
    pub fn is_free(self) -> bool {
        self == Cause::Connect
    }
}

// RFC 9110 section 9.2.2, first that applies:
// - nothing was sent: any method may be sent elsewhere;
// - the server may have begun: only idempotent methods, and only with a body that can be sent again.

/// Whether `cause` allows a retry, as far as the request goes; the budget and the servers that are left come after.
pub fn verdict(cause: Cause, request: Request, spent: Spent, rules: &Retry, limits: Limits) -> Verdict {
    if !cause.is_wanted(rules) {
        return Verdict::Stop(Stop::Cause);
    }
    if spent.attempts > limits.retries {
        return Verdict::Stop(Stop::Limit);
    }
    if cause.was_sent() && !request.is_idempotent {
        return Verdict::Stop(Stop::NotIdempotent);
    }
    if !request.has_body {
        return Verdict::Stop(Stop::Body);
    }
    if limits.total.is_some_and(|total| spent.time >= total) {
        return Verdict::Stop(Stop::Time);
    }
    match cause {
        Cause::NoLeave | Cause::Stale => Verdict::Anywhere,
        _ => Verdict::Elsewhere,
    }
}

/// RFC 9110 section 9.2.2, without TRACE, which is never forwarded.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const LIMITS: Limits = Limits { retries: 1, total: None };
    const FIRST: Spent = Spent { attempts: 1, time: Duration::ZERO };
    const GET: Request = Request { is_idempotent: true, has_body: true };
    const POST: Request = Request { is_idempotent: false, has_body: true };

    fn rules() -> Retry {
        Retry {
            on_connect: true,
            on_reset: true,
            on_timeout: false,
            on_statuses: vec![502, 503],
            budget_percent: 20,
            budget_per_second: 10,
            concurrent: 100,
            body: 1 << 16,
        }
    }

    fn of(cause: Cause, request: Request) -> Verdict {
        verdict(cause, request, FIRST, &rules(), LIMITS)
    }

    #[test]
    fn what_was_never_sent_may_be_sent_elsewhere_whatever_it_is() {
        assert_eq!(of(Cause::Connect, GET), Verdict::Elsewhere);
        assert_eq!(of(Cause::Connect, POST), Verdict::Elsewhere);
        assert_eq!(of(Cause::NoLeave, POST), Verdict::Anywhere);
    }

    #[test]
    fn what_a_server_may_have_begun_is_repeated_only_when_twice_is_as_good_as_once() {
        for cause in [Cause::Stale, Cause::Reset, Cause::Status(503)] {
            assert_ne!(of(cause, GET), Verdict::Stop(Stop::NotIdempotent));
            assert_eq!(of(cause, POST), Verdict::Stop(Stop::NotIdempotent), "{cause:?}");
        }
        assert_eq!(of(Cause::Stale, GET), Verdict::Anywhere);
        assert_eq!(of(Cause::Reset, GET), Verdict::Elsewhere);
    }

    #[test]
    fn only_the_causes_that_the_operator_names_are_retried() {
        assert_eq!(of(Cause::Timeout, GET), Verdict::Stop(Stop::Cause));
        assert_eq!(of(Cause::Status(500), GET), Verdict::Stop(Stop::Cause));
        assert_eq!(of(Cause::Other, GET), Verdict::Stop(Stop::Cause));
        let rules = Retry { on_timeout: true, on_connect: false, on_reset: false, ..rules() };
        let of = |cause| verdict(cause, GET, FIRST, &rules, LIMITS);
        assert_eq!(of(Cause::Timeout), Verdict::Elsewhere);
        assert_eq!(of(Cause::Connect), Verdict::Stop(Stop::Cause));
        assert_eq!(of(Cause::Reset), Verdict::Stop(Stop::Cause));
        assert_eq!(of(Cause::Stale), Verdict::Anywhere);
    }

    #[test]
    fn nothing_is_tried_again_without_its_body_or_beyond_a_limit() {
        let no_body = Request { has_body: false, ..GET };
        assert_eq!(of(Cause::Connect, no_body), Verdict::Stop(Stop::Body));
        let spent = Spent { attempts: 2, ..FIRST };
        assert_eq!(verdict(Cause::Connect, GET, spent, &rules(), LIMITS), Verdict::Stop(Stop::Limit));
        let (second, total) = (Duration::from_secs(1), Some(Duration::from_secs(1)));
        let spent = Spent { time: second, ..FIRST };
        let limits = Limits { total, ..LIMITS };
        assert_eq!(verdict(Cause::Connect, GET, spent, &rules(), limits), Verdict::Stop(Stop::Time));
    }

    #[test]
    fn every_reason_that_can_be_retried_has_its_label() {
        let refused = AttemptError::Dial(DialError::Connect(io::ErrorKind::ConnectionRefused.into()));
        let slow = AttemptError::FirstByteTimedOut { after: Duration::ZERO };
        let slower = AttemptError::TryTimedOut { after: Duration::ZERO, on: Awaited::Server };
        let short = AttemptError::Dial(DialError::Shortage(io::ErrorKind::Other.into()));
        for error in [refused, short, slow, slower, AttemptError::NoLeave] {
            assert!(REASONS.contains(&error.as_str()), "{error}");
        }
    }
}
