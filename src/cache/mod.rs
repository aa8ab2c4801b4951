//! RFC 9111 for all workers: what may be stored, what may be served, who waits for whom.
//!
//! `policy` decides and touches nothing; `store` keeps; `flight` lets requests
//! share a fetch. The room decides and stores, it never fetches. No lock is
//! held across an await, and no function here asks what time it is.

pub mod directives;
mod entry;
mod flight;
mod key;
pub mod policy;
mod respond;
mod status;
mod store;
mod vary;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header;
use http::request;
use http::response;

pub use crate::cache::entry::Entry;
pub use crate::cache::entry::Head;
pub use crate::cache::entry::Refreshed;
pub use crate::cache::entry::StoredBody;
pub use crate::cache::entry::update_from_304;
pub use crate::cache::flight::Closed;
pub use crate::cache::flight::CutShort;
pub use crate::cache::flight::Followed;
pub use crate::cache::flight::Follower;
pub use crate::cache::flight::Leader;
pub use crate::cache::flight::Reader;
pub use crate::cache::flight::Writer;
pub use crate::cache::key::Key;
pub use crate::cache::policy::Meta;
pub use crate::cache::policy::RequestPlan;
pub use crate::cache::policy::StaleAllowed;
pub use crate::cache::policy::Times;
pub use crate::cache::policy::plan_request;
pub use crate::cache::respond::respond;
pub use crate::cache::respond::respond_stream;
pub use crate::cache::status::CacheReason;
pub use crate::cache::status::CacheStatus;
pub use crate::cache::status::Forward;
pub use crate::cache::vary::Selection;
use crate::config;

use crate::cache::directives::CacheControl;
use crate::cache::flight::Flights;
use crate::cache::policy::Assessment;
use crate::cache::store::Store;

/// The process's cache: one store and one table of flights for all workers.
pub struct Cache {
    flights: Arc<Flights>,
    collapse_wait: Duration,
}

/// What the store has for a request.
#[derive(Debug)]
pub enum Lookup {
    /// Use it as it is.
    Hit {
        /// What to answer with.
        entry: Arc<Entry>,
        /// Its age in seconds.
        age: u64,
        /// Seconds of freshness left; negative when the client accepted a stale one.
        ttl: i64,
    },
    /// Use it when the server has validated it.
    Stale {
        /// What to validate.
        entry: Arc<Entry>,
        /// Its age in seconds.
        age: u64,
        /// Seconds of freshness left, mostly negative.
        ttl: i64,
        /// Why it may not be used as it is.
        reason: CacheReason,
        /// When it may be used nevertheless.
        allowed: StaleAllowed,
    },
    /// Nothing: fetch it.
    Miss(CacheReason),
    /// Nothing, and the client forbids a fetch: 504 (RFC 9111 §5.2.1.7).
    OnlyIfCached,
}

/// A request's part in the fetch of its key.
pub enum Join {
    /// Fetch it, for all.
    Lead(Leader),
    /// Another request fetches it: wait.
    Follow(Follower),
    /// It was stored since the look-up.
    Hit {
        /// What to answer with.
        entry: Arc<Entry>,
        /// Its age in seconds.
        age: u64,
        /// Seconds of freshness left.
        ttl: i64,
    },
}

impl Cache {
    /// An empty cache.
    pub fn new(config: &config::Cache) -> Self {
        let flights = Arc::new(Flights::new(Store::new(config.max_size), config.max_size));
        Self { flights, collapse_wait: config.collapse_wait }
    }

    /// How long a follower should wait.
    pub fn collapse_wait(&self) -> Duration {
        self.collapse_wait
    }

    /// What is stored for this request (RFC 9111 §4).
    pub fn lookup(&self, key: &Key, req: &request::Parts, now: u64) -> Lookup {
        let found = self.find(key, req, now);
        let asks_server = !matches!(found, Lookup::Hit { .. });
        let is_forbidden = asks_server && CacheControl::of_request(&req.headers).only_if_cached;
        if is_forbidden { Lookup::OnlyIfCached } else { found }
    }

    /// Leads or follows the fetch of `key`; for GET only, since the answer to HEAD has no body.
    pub fn join(&self, key: &Key, req: &request::Parts, now: u64) -> Join {
        let leader = match self.flights.join(key, now) {
            Ok(leader) => leader,
            Err(follower) => return Join::Follow(follower),
        };
        // A flight may have landed between our look-up and now. Mostly not: then the request is not counted twice
        // as a use of the key, which would make the newest objects look popular.
        if !self.flights.store().contains(key) {
            return Join::Lead(leader);
        }
        match self.find(key, req, now) {
            Lookup::Hit { entry, age, ttl } => Join::Hit { entry, age, ttl },
            _ => Join::Lead(leader),
        }
    }

    /// A leader whom nobody follows, for those who went alone: what they fetch is stored too.
    pub fn alone(&self, key: &Key) -> Leader {
        self.flights.alone(key)
    }

    /// Judges a response and makes the head to publish (RFC 9111 §3).
    pub fn judge(
        &self,
        req: &request::Parts,
        res: &response::Parts,
        times: Times,
        object_max: u64,
    ) -> Result<Head, CacheReason> {
        let object_max = object_max.min(self.flights.store().object_max());
        let meta = policy::judge_response(req, res, times, object_max)?;
        Ok(Head::new(meta, res.status, &res.headers))
    }

    /// Forgets every variant of `key`, and keeps fetches that began before from storing it.
    pub fn invalidate(&self, key: &Key) {
        self.flights.invalidate(key);
    }

    /// After every exchange that was not a GET or HEAD: forgets what it made worthless, the target
    /// and what Location and Content-Location name in the same origin (RFC 9111 §4.4).
    pub fn invalidate_after(&self, key: &Key, method: &Method, res: &response::Parts) {
        if !policy::invalidates(method, res.status) {
            return;
        }
        self.invalidate(key);
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let reference = res.headers.get(name).and_then(|value| value.to_str().ok());
            if let Some(other) = reference.and_then(|reference| key.same_origin(reference)) {
                self.invalidate(&other);
            }
        }
    }

    /// Keys that are stored, approximately.
    pub fn len(&self) -> u64 {
        self.flights.store().len()
    }

    /// True when nothing is stored, approximately.
    pub fn is_empty(&self) -> bool {
        self.flights.store().is_empty()
    }

    /// Bytes that are stored, approximately.
    pub fn bytes(&self) -> u64 {
        self.flights.store().bytes()
    }

    fn find(&self, key: &Key, req: &request::Parts, now: u64) -> Lookup {
        let Some(variants) = self.flights.store().get(key) else {
            return Lookup::Miss(CacheReason::UriMiss);
        };
        let mut refusal = CacheReason::VaryMiss;
        for entry in variants.iter() {
            if let Err(reason) = policy::select(&entry.head.meta, req) {
                refusal = if reason == CacheReason::VaryMiss { refusal } else { reason };
                continue;
            }
            let entry = entry.clone();
            return match policy::assess(&entry.head.meta, req, now) {
                Assessment::Fresh { age, ttl } => Lookup::Hit { entry, age, ttl },
                Assessment::Stale { age, ttl, reason, allowed } => {
                    Lookup::Stale { entry, age, ttl, reason, allowed }
                }
            };
        }
        Lookup::Miss(refusal)
    }
}

#[cfg(test)]
mod tests;
