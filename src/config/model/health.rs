//! `health` of an upstream: what its servers are asked, and what their answers lead to.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use regex::bytes::{Regex, RegexBuilder};

/// Bytes that a compiled pattern may take. A tenth of what `regex` allows by itself, and room for a dozen `\w`,
/// each of which stands for all letters of all scripts: a page of health needs no more.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// `[upstream.NAME.health]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// Where, when it is not the port of requests.
    pub port: Option<u16>,
    /// Between two probes of one server; each waits 90 to 110 % of it.
    pub interval: Duration,
    /// For one whole probe.
    pub timeout: Duration,
    /// Successes in a row that make a server healthy.
    pub rise: u32,
    /// Failures in a row that make it unhealthy.
    pub fall: u32,
    /// What it is before its first probe.
    pub start: FirstState,
}

/// What a server is believed to be before it was ever asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FirstState {
    /// It serves at once: a proxy that starts must not refuse everyone for `rise` intervals.
    #[default]
    Healthy,
    /// It serves after its first success, for which one is enough.
    Unhealthy,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// That a connection can be made; in the clear whatever the server speaks.
    Tcp,
    /// That a TLS handshake is done, and the certificate good.
    Tls,
    /// A request over HTTP/1.1.
    Http(Box<HttpProbe>),
    /// `grpc.health.v1.Health/Check` over HTTP/2.
    Grpc(GrpcProbe),
}

/// A request, and what its answer must be.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// GET, HEAD or OPTIONS: a probe changes nothing.
    pub method: Method,
    /// Begins with `/`.
    pub path: String,
    /// The `Host` header; `None`: the server's address.
    pub host: Option<String>,
    /// Further fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Which statuses are well: inclusive ranges.
    pub expect: Vec<(u16, u16)>,
    /// `None`: the body is not looked at.
    pub body: Option<BodyPattern>,
}

/// A question to a gRPC server.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcProbe {
    /// Empty: the server as a whole.
    pub service: String,
    /// The `:authority`; `None`: the server's address.
    pub host: Option<String>,
    /// Further fields: gRPC's metadata.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a body must have in it. Two are equal when they were written alike.
#[derive(Clone)]
pub struct BodyPattern(Regex);

impl BodyPattern {
    /// Over bytes: a body need not be text.
    ///
    /// # Errors
    /// In one line, what is wrong with the pattern.
    pub fn new(text: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
        compiled.map(BodyPattern).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            // The error draws the pattern over several lines; its last one is the reason.
            other => {
                let drawn = other.to_string();
                let reason = drawn.lines().next_back().unwrap_or_default();
                reason.trim_start_matches("error: ").to_owned()
            }
        })
    }

    /// Whether it is anywhere in these bytes.
    pub fn is_in(&self, body: &[u8]) -> bool {
        self.0.is_match(body)
    }
}

impl PartialEq for BodyPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for BodyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_also_beside_bytes_that_are_no_text() {
        let pattern = BodyPattern::new(r#""status":\s*"(ok|(?i:pässt))""#).unwrap();

        for (body, is_in) in [
            (&b"{\"status\": \"ok\"}"[..], true),
            ("{\"status\":\"PÄSST\"}".as_bytes(), true),
            (b"\xff\xfe\"status\":\"ok\"\xff", true),
            (b"{\"status\": \"down\"}", false),
            (b"", false),
        ] {
            assert_eq!(pattern.is_in(body), is_in, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_pattern_that_is_none_or_too_large_says_so_in_one_line() {
        for (text, reason) in [
            ("(", "unclosed group"),
            ("a{2", "unclosed counted repetition"),
            (r"\w{200}", "it is too large"),
            ("(?P<x", "unclosed capture group name"),
        ] {
            assert_eq!(BodyPattern::new(text).unwrap_err(), reason, "{text}");
        }
        assert!(BodyPattern::new(r"\w\s\w\d\w\W\w\b\w\w\w").is_ok());
    }

    #[test]
    fn patterns_are_equal_when_they_were_written_alike() {
        let pattern = |text| BodyPattern::new(text).unwrap();

        assert_eq!(pattern("ok"), pattern("ok"));
        assert_ne!(pattern("ok"), pattern("o(?:k)"));
    }
}
