//! RFC 9111 for all workers: what may be stored, what may be served, who waits for whom.
//!
//! `policy` decides and touches nothing; `store` keeps; `flight` lets requests
//! share a fetch. The room decides and stores, it never fetches. No lock is
//! held across an await, and no function here asks what time it is.

mod combine;
pub mod directives;
mod entry;
mod flight;
mod invalidations;
mod key;
pub mod policy;
pub mod purge;
pub mod range;
mod respond;
mod status;
mod store;
pub mod tags;
mod uses;
mod vary;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Method;

pub use crate::cache::entry::Entry;
pub use crate::cache::entry::Head;
pub use crate::cache::entry::Refreshed;
pub use crate::cache::entry::StoredBody;
pub use crate::cache::entry::update_from_304;
pub use crate::cache::flight::Closed;
pub use crate::cache::flight::CutShort;
pub use crate::cache::flight::Epoch;
pub use crate::cache::flight::Followed;
pub use crate::cache::flight::Follower;
pub use crate::cache::flight::Leader;
pub use crate::cache::flight::Reader;
pub use crate::cache::flight::Sweep;
pub use crate::cache::flight::Writer;
pub use crate::cache::key::Key;
pub use crate::cache::key::keyed_authority;
pub use crate::cache::key::keyed_target;
pub use crate::cache::policy::Meta;
pub use crate::cache::policy::RequestPlan;
pub use crate::cache::policy::StaleAllowed;
pub use crate::cache::policy::Times;
pub use crate::cache::policy::plan_request;
pub use crate::cache::respond::respond;
pub use crate::cache::respond::respond_first;
pub use crate::cache::respond::respond_stream;
pub use crate::cache::status::CacheReason;
pub use crate::cache::status::CacheStatus;
pub use crate::cache::status::Forward;
pub use crate::cache::vary::Choosing;
pub use crate::cache::vary::Selection;
use crate::config;
use crate::config::CacheMode;
use crate::config::QueryKey;
use crate::config::RouteCache;
use crate::fields;
use crate::fields::RequestHead;
use crate::fields::ResponseHead;

use crate::cache::flight::Flights;
use crate::cache::policy::Assessment;
use crate::cache::purge::How;
use crate::cache::purge::Selector;
use crate::cache::range::Slice;
use crate::cache::store::Store;
use crate::cache::uses::Uses;

/// Entity tags that are sent with one request: a dozen of usual length fit into half a KiB.
const CANDIDATES_MAX: usize = 12;

/// The process's cache: one store and one table of flights for all workers.
pub struct Cache {
    flights: Arc<Flights>,
    uses: Uses,
    /// In milliseconds.
    collapse_wait: AtomicU64,
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
        let collapse_wait = AtomicU64::new(millis(config.collapse_wait));
        Self { flights, uses: Uses::default(), collapse_wait }
    }

    /// How long a follower should wait.
    pub fn collapse_wait(&self) -> Duration {
        Duration::from_millis(self.collapse_wait.load(Relaxed))
    }

    /// A follower should wait so long from now on.
    pub fn set_collapse_wait(&self, wait: Duration) {
        self.collapse_wait.store(millis(wait), Relaxed);
    }

    /// What is stored for this request (RFC 9111 §4).
    pub fn lookup(&self, key: &Key, req: &RequestHead, now: u64, rules: &RouteCache) -> Lookup {
        let found = self.find(key, req, now, rules);
        let asks_server = !matches!(found, Lookup::Hit { .. });
        let is_forbidden = asks_server && policy::asks(req, rules).only_if_cached;
        if is_forbidden { Lookup::OnlyIfCached } else { found }
    }

    /// Stored responses of `key` that some other request selected, and that the server may name by their
    /// entity tags; the newest first. Not those that vary on Accept-Encoding: a server that compresses on the
    /// way has one tag for all codings, and would have everyone served the one that came first.
    pub fn candidates(&self, key: &Key) -> Vec<Arc<Entry>> {
        let variants = self.flights.get(key);
        let entries = variants.iter().flat_map(|variants| variants.iter());
        let is_candidate = |entry: &&Arc<Entry>| {
            let meta = &entry.head.meta;
            meta.part.is_none()
                && !meta.is_observed
                && meta.etag.is_some()
                && !meta.selection.varies_on(&http::header::ACCEPT_ENCODING)
        };
        entries.filter(is_candidate).take(CANDIDATES_MAX).cloned().collect()
    }

    /// Leads or follows the fetch of `key`; for GET only, since the answer to HEAD has no body.
    /// `epoch` is [`Self::epoch`] from before the look-up.
    pub fn join(&self, key: &Key, req: &RequestHead, now: u64, rules: &RouteCache, epoch: Epoch) -> Join {
        let leader = match self.flights.join(key, now, epoch) {
            Ok(leader) => leader,
            Err(follower) => return Join::Follow(follower),
        };
        // A flight may have landed between our look-up and now. Mostly not: then the request is not counted twice
        // as a use of the key, which would make the newest objects look popular.
        if !self.flights.store().contains(key) {
            return Join::Lead(leader);
        }
        match self.find(key, req, now, rules) {
            Lookup::Hit { entry, age, ttl } => {
                // Whoever follows already may have asked for something else than this part.
                if entry.head.meta.part.is_none() {
                    leader.hand_on(entry.clone());
                }
                Join::Hit { entry, age, ttl }
            }
            _ => Join::Lead(leader),
        }
    }

    /// A leader whom nobody follows, for those who went alone: what they fetch is stored too.
    pub fn alone(&self, key: &Key, epoch: Epoch) -> Leader {
        self.flights.alone(key, epoch)
    }

    /// This moment among the key's invalidations and purges. Whoever takes it before looking into the store, or before
    /// asking a server, stores nothing that has been invalidated or purged since.
    pub fn epoch(&self, key: &Key) -> Epoch {
        self.flights.epoch(key)
    }

    /// True when a stored response that was found at `epoch` has been neither invalidated nor purged since.
    pub fn is_current(&self, key: &Key, entry: &Entry, epoch: Epoch) -> bool {
        self.flights.is_current(key, epoch, &entry.head.meta.tags)
    }

    /// Judges a response and makes the head to publish (RFC 9111 §3).
    pub fn judge(
        &self,
        key: &Key,
        req: &RequestHead,
        res: &ResponseHead,
        times: Times,
        rules: &RouteCache,
    ) -> Result<Head, CacheReason> {
        let meta = policy::judge_response(req, res, times, rules)?;
        if meta.content_length.is_some_and(|length| length > self.flights.store().object_max()) {
            return Err(CacheReason::TooLarge);
        }
        if rules.min_uses > 1 && self.uses.count(key) < rules.min_uses {
            return Err(CacheReason::MinUses);
        }
        Ok(Head::new(meta, res.status, &res.fields))
    }

    /// Brings what is stored under `key` up to date with the answer to a HEAD (RFC 9111 §4.3.5): its
    /// fields, when it speaks of the same representation; else nothing of it may be used unvalidated.
    pub fn freshen_by_head(
        &self,
        key: &Key,
        req: &RequestHead,
        res: &ResponseHead,
        times: Times,
        rules: &RouteCache,
        epoch: Epoch,
    ) {
        let Some(variants) = self.flights.get(key) else { return };
        let choosing = Choosing::of(&req.fields);
        let selected = variants.iter().find(|e| {
            e.head.meta.part.is_none()
                && !e.head.meta.is_observed
                // Of what was stored meanwhile it knows nothing.
                && e.head.meta.received <= times.asked
                && e.head.status == res.status
                && policy::select(&e.head.meta, req, &choosing, rules).is_ok()
        });
        let Some(entry) = selected else { return };
        if !policy::is_same_representation(&entry.head.meta, res) {
            self.invalidate(key, epoch);
            return;
        }
        if entry.head.meta.is_doubted && !policy::is_confirmed_by(res) {
            return;
        }
        let refreshed = update_from_304(entry, req, res, times, rules);
        if refreshed.storable.is_ok() {
            let _ = self.flights.renew(key, &refreshed, epoch);
        }
    }

    /// The server has given another answer than `entry`, which is not stored: nobody is served the old one any more
    /// while it is asked again (RFC 9111 §4.3.3: it is not suitable). It may stand in for an error as before.
    pub fn outdate(&self, key: &Key, entry: &Entry) {
        self.flights.outdate(key, entry);
    }

    /// Forgets every variant of `key`, and keeps fetches that began before from storing it. What its epoch is then, if
    /// nothing else has invalidated it since `began`.
    pub fn invalidate(&self, key: &Key, began: Epoch) -> Option<Epoch> {
        self.flights.invalidate(key, began)
    }

    /// Forgets what is selected, or makes it stale; how many responses there were. No worker serves them any more
    /// from the moment when it has begun. Then, to count them and to free their memory, it looks at all that is
    /// stored if the selector names more than keys: not for a worker's thread.
    pub fn purge(&self, selector: &Selector, how: How) -> u64 {
        self.flights.purge(how, selector)
    }

    /// What is in these groups of the key's origin is validated before it is used again (RFC 9875 §3).
    pub fn invalidate_groups(&self, key: &Key, groups: Vec<String>) {
        if !groups.is_empty() {
            self.flights.invalidate_groups(key, groups);
        }
    }

    /// A walk through all that is stored, when something has been invalidated since the last one: what is swept costs
    /// no look-up a thought any more.
    pub fn sweep(&self) -> Option<Sweep<'_>> {
        self.flights.sweep()
    }

    /// After every exchange whose method may change something: what it made worthless is forgotten, the target and
    /// what Location and Content-Location name in the same origin (RFC 9111 §4.4), however a route reads their
    /// queries; and its groups are invalidated. If the key's own responses are stored, it began at `began`, and
    /// what comes back is as of [`Self::invalidate`]; `began` if it made nothing worthless.
    pub fn invalidate_after(
        &self,
        key: &Key,
        method: &Method,
        res: &ResponseHead,
        keyed_by: &[QueryKey],
        began: Option<Epoch>,
    ) -> Option<Epoch> {
        if !policy::invalidates(method, res.status) {
            return began;
        }
        let own = began.and_then(|began| self.invalidate(key, began));
        let is_other = |other: &Key| began.is_none() || other != key;
        let told = |name: &str| res.fields.get(name).and_then(fields::visible);
        for query in keyed_by {
            let target = key.with_target(&keyed_target(key.target(), query));
            let locations = [told("location"), told("content-location")].into_iter().flatten();
            let named = locations.filter_map(|location| key.same_origin(&keyed_target(location, query)));
            for other in named.chain(target).filter(is_other) {
                self.flights.forget_all(&other);
            }
        }
        self.invalidate_groups(key, tags::invalidated_groups(&res.fields));
        own
    }

    /// Keys that had to make room or found none, approximately.
    pub fn evicted(&self) -> u64 {
        self.flights.store().evicted()
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

    fn find(&self, key: &Key, req: &RequestHead, now: u64, rules: &RouteCache) -> Lookup {
        let Some(variants) = self.flights.get(key) else {
            return Lookup::Miss(CacheReason::UriMiss);
        };
        let mut refusal = CacheReason::UriMiss;
        let choosing = Choosing::of(&req.fields);
        // What was only observed is for those who only observe.
        let is_for_us =
            |entry: &&Arc<Entry>| !entry.head.meta.is_observed || rules.mode == CacheMode::Observe;
        for entry in variants.iter().filter(is_for_us) {
            if let Err(reason) = policy::select(&entry.head.meta, req, &choosing, rules) {
                let is_first = refusal == CacheReason::UriMiss;
                refusal = if is_first || reason != CacheReason::VaryMiss { reason } else { refusal };
                continue;
            }
            let assessed = policy::assess(&entry.head.meta, req, now, rules);
            if entry.head.meta.part.is_some() {
                let is_fresh = matches!(assessed, Assessment::Fresh { .. });
                if !is_fresh || range::slice(entry, req) == Slice::Absent {
                    refusal = CacheReason::Partial;
                    continue;
                }
            }
            let entry = entry.clone();
            return match assessed {
                Assessment::Fresh { age, ttl } => Lookup::Hit { entry, age, ttl },
                Assessment::Stale { age, ttl, reason, allowed } => {
                    Lookup::Stale { entry, age, ttl, reason, allowed }
                }
            };
        }
        Lookup::Miss(refusal)
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
