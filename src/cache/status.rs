//! Why the cache did what it did, and how it says so (RFC 9211).

use http::StatusCode;

use crate::answer::Answer;
use crate::fields::digits;

const CACHE_STATUS: &str = "cache-status";

/// Why a request was forwarded, a response not stored, or a wait ended. A label of bounded
/// cardinality and a word in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheReason {
    /// The route does not cache.
    Disabled,
    /// Only GET and HEAD are answered from the store.
    Method,
    /// A GET with content: the key does not know its bytes.
    RequestBody,
    /// `Range`: forwarded.
    Range,
    /// A field by which some servers let the request be about something else; it is in no key.
    UnkeyedInput,
    /// The operator's own condition.
    Configured,
    /// `If-Match` and the like are for the server to judge (RFC 9111 §4.3.2).
    Precondition,
    /// The request wants another protocol.
    Upgrade,
    /// The request said `no-store`.
    RequestNoStore,
    /// Nothing under this key.
    UriMiss,
    /// Something under this key, but no variant for these request fields.
    VaryMiss,
    /// `Authorization`, and the response may not be shared (RFC 9111 §3.5).
    Authorization,
    /// The entry is no longer fresh.
    Stale,
    /// The entry said `no-cache`: every use is validated.
    MustValidate,
    /// The request's `Cache-Control` refuses the entry.
    RequestDirective,
    /// `only-if-cached`, and nothing usable: 504 (RFC 9111 §5.2.1.7).
    OnlyIfCached,
    /// The response said `no-store`.
    NoStore,
    /// The response said `private`.
    Private,
    /// The response sets a cookie.
    SetCookie,
    /// `Vary: *`.
    VaryAny,
    /// `Vary` names more fields than are kept.
    VaryTooLong,
    /// A part of a representation.
    Partial,
    /// A status that cannot be stored or, with `must-understand`, is not known.
    Status,
    /// No lifetime, and no validator to ask the server with.
    NoFreshness,
    /// Larger than the route allows.
    TooLarge,
    /// Fetches under way hold as much as they may: larger bodies pass without being stored.
    Crowded,
    /// The route wants to see more requests for it first.
    MinUses,
    /// The answer to HEAD has no content to store.
    HeadOnly,
    /// The fetch that was waited for broke off.
    CutShort,
    /// The fetch that was waited for ended without a response to share.
    LeaderGone,
    /// The response is stored, but each request must validate it itself.
    NotShareable,
    /// Served stale while it is validated (RFC 5861 §3).
    StaleWhileRevalidate,
    /// Served stale because the server failed (RFC 5861 §4, RFC 9111 §4.2.4).
    StaleIfError,
    /// The key was invalidated while the response arrived.
    Invalidated,
    /// What was validated is not what is stored by now.
    Superseded,
    /// The wait for another's fetch took longer than `collapse-wait`.
    WaitedTooLong,
}

impl CacheReason {
    /// Every reason, in the order of the enum.
    pub const ALL: [CacheReason; 36] = [
        Self::Disabled,
        Self::Method,
        Self::RequestBody,
        Self::Range,
        Self::UnkeyedInput,
        Self::Configured,
        Self::Precondition,
        Self::Upgrade,
        Self::RequestNoStore,
        Self::UriMiss,
        Self::VaryMiss,
        Self::Authorization,
        Self::Stale,
        Self::MustValidate,
        Self::RequestDirective,
        Self::OnlyIfCached,
        Self::NoStore,
        Self::Private,
        Self::SetCookie,
        Self::VaryAny,
        Self::VaryTooLong,
        Self::Partial,
        Self::Status,
        Self::NoFreshness,
        Self::TooLarge,
        Self::Crowded,
        Self::MinUses,
        Self::HeadOnly,
        Self::CutShort,
        Self::LeaderGone,
        Self::NotShareable,
        Self::StaleWhileRevalidate,
        Self::StaleIfError,
        Self::Invalidated,
        Self::Superseded,
        Self::WaitedTooLong,
    ];

    /// True for a reason to have no part in a request.
    pub fn is_bypass(&self) -> bool {
        matches!(self, Self::Method | Self::RequestNoStore)
            || self.forward() == "bypass" && *self != Self::Disabled
    }

    /// True for a reason not to store a response.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::RequestNoStore
                | Self::Authorization
                | Self::NoStore
                | Self::Private
                | Self::SetCookie
                | Self::VaryAny
                | Self::VaryTooLong
                | Self::Partial
                | Self::Status
                | Self::NoFreshness
                | Self::TooLarge
                | Self::Crowded
                | Self::MinUses
                | Self::HeadOnly
                | Self::CutShort
                | Self::Invalidated
                | Self::Superseded
        )
    }

    /// The word in logs, metrics and `detail`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Method => "method",
            Self::RequestBody => "request-body",
            Self::Range => "range",
            Self::UnkeyedInput => "unkeyed-input",
            Self::Configured => "configured",
            Self::Precondition => "precondition",
            Self::Upgrade => "upgrade",
            Self::RequestNoStore => "request-no-store",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Authorization => "authorization",
            Self::Stale => "stale",
            Self::MustValidate => "must-validate",
            Self::RequestDirective => "request-directive",
            Self::OnlyIfCached => "only-if-cached",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::VaryAny => "vary-any",
            Self::VaryTooLong => "vary-too-long",
            Self::Partial => "partial",
            Self::Status => "status",
            Self::NoFreshness => "no-freshness",
            Self::TooLarge => "too-large",
            Self::Crowded => "crowded",
            Self::MinUses => "min-uses",
            Self::HeadOnly => "head-only",
            Self::CutShort => "cut-short",
            Self::LeaderGone => "leader-gone",
            Self::NotShareable => "not-shareable",
            Self::StaleWhileRevalidate => "stale-while-revalidate",
            Self::StaleIfError => "stale-if-error",
            Self::Invalidated => "invalidated",
            Self::Superseded => "superseded",
            Self::WaitedTooLong => "waited-too-long",
        }
    }

    /// The `fwd` parameter that this reason is told with (RFC 9211 §2.2).
    pub fn forward(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale | Self::MustValidate => "stale",
            Self::RequestDirective | Self::RequestNoStore | Self::OnlyIfCached => "request",
            Self::Disabled
            | Self::RequestBody
            | Self::Range
            | Self::Precondition
            | Self::Upgrade
            | Self::UnkeyedInput
            | Self::Configured => "bypass",
            _ => "miss",
        }
    }
}

/// What the cache did with one request: our member of `Cache-Status` (RFC 9211 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered from the store; `ttl` is negative when stale (RFC 9211 §2.1, §2.5).
    Hit {
        /// Seconds of freshness left.
        ttl: i64,
        /// Why it may be used though it is stale.
        detail: Option<CacheReason>,
    },
    /// Forwarded (RFC 9211 §2.2).
    Forward(Forward),
}

/// The parameters of a forwarded request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Why it was forwarded.
    pub why: CacheReason,
    /// The server's status, when it is not the one that the client gets (RFC 9211 §2.3).
    pub status: Option<StatusCode>,
    /// The response is being stored (RFC 9211 §2.6).
    pub stored: bool,
    /// Answered by another request's fetch (RFC 9211 §2.7).
    pub collapsed: bool,
    /// What else is to be told, mostly why it was not stored (RFC 9211 §2.9).
    pub detail: Option<CacheReason>,
}

impl Forward {
    /// Forwarded because of `why`, nothing else known yet.
    pub fn new(why: CacheReason) -> Self {
        Self { why, status: None, stored: false, collapsed: false, detail: None }
    }
}

impl CacheStatus {
    /// Adds our member after those of caches nearer to the server (RFC 9211 §2).
    pub fn append(&self, answer: &mut Answer) {
        answer.append_with(CACHE_STATUS, |text| self.write(text));
    }

    fn write(&self, text: &mut Vec<u8>) {
        match self {
            Self::Hit { ttl, detail } => {
                text.extend_from_slice(b"tidegate; hit; ttl=");
                text.extend_from_slice(if *ttl < 0 { b"-" } else { b"" });
                digits(text, ttl.unsigned_abs(), 1);
                if let Some(why) = detail {
                    parameter(text, "detail", why.as_str());
                }
            }
            Self::Forward(forward) => forward.write(text),
        }
    }
}

impl Forward {
    fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"tidegate");
        parameter(text, "fwd", self.why.forward());
        if let Some(status) = &self.status {
            parameter(text, "fwd-status", status.as_str());
        }
        text.extend_from_slice(if self.stored { b"; stored" } else { b"" });
        text.extend_from_slice(if self.collapsed { b"; collapsed" } else { b"" });
        if let Some(detail) = self.told_detail() {
            parameter(text, "detail", detail.as_str());
        }
    }

    fn told_detail(&self) -> Option<CacheReason> {
        self.detail.or((self.why.forward() != self.why.as_str()).then_some(self.why))
    }
}

fn parameter(text: &mut Vec<u8>, name: &str, value: &str) {
    for part in ["; ", name, "=", value] {
        text.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn every_reason_has_its_place_and_its_word() {
        let mut words = std::collections::BTreeSet::new();
        for (index, reason) in CacheReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{reason:?}");
            assert!(words.insert(reason.as_str()), "{reason:?}");
        }
    }

    #[test]
    fn cache_status_is_written_as_rfc_9211_says() {
        let miss = Forward::new(CacheReason::UriMiss);
        for (status, expected) in [
            (CacheStatus::Hit { ttl: 30, detail: None }, "tidegate; hit; ttl=30"),
            (
                CacheStatus::Hit { ttl: -5, detail: Some(CacheReason::StaleIfError) },
                "tidegate; hit; ttl=-5; detail=stale-if-error",
            ),
            (CacheStatus::Forward(Forward { stored: true, ..miss }), "tidegate; fwd=uri-miss; stored"),
            (CacheStatus::Forward(Forward { collapsed: true, ..miss }), "tidegate; fwd=uri-miss; collapsed"),
            (
                CacheStatus::Forward(Forward { detail: Some(CacheReason::SetCookie), ..miss }),
                "tidegate; fwd=uri-miss; detail=set-cookie",
            ),
            (
                CacheStatus::Forward(Forward {
                    status: Some(StatusCode::NOT_MODIFIED),
                    stored: true,
                    ..Forward::new(CacheReason::Stale)
                }),
                "tidegate; fwd=stale; fwd-status=304; stored",
            ),
            (CacheStatus::Forward(Forward::new(CacheReason::Range)), "tidegate; fwd=bypass; detail=range"),
        ] {
            let mut text = Vec::new();
            status.write(&mut text);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    #[test]
    fn our_member_comes_after_the_servers() {
        let mut answer = Answer::new(StatusCode::OK, None, 0);
        answer.append(CACHE_STATUS, b"origin; hit");

        CacheStatus::Hit { ttl: 1, detail: None }.append(&mut answer);

        let head = answer.into_parts().0;
        let lines: Vec<_> = head.fields().map(|field| std::str::from_utf8(field.value()).unwrap()).collect();
        assert_eq!(lines, ["origin; hit", "tidegate; hit; ttl=1"]);
    }
}
