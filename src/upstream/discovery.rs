//! Which servers a name stands for, as DNS answers or fails to.
//!
//! Pure: what was known, an answer and randomness come in; what is known now, what changed and when to ask again come
//! out. `watch` does the asking.
//!
//! The last good set stays until a whole answer replaces it. A failure changes nothing, half an answer only adds, and
//! "there is nothing" counts as a failure: it is what a zone says while it is being reloaded, or a cluster's DNS that
//! has just started, far more often than it is meant. Servers that are gone indeed are found by probes and ejection.

mod watch;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config;
use crate::net::resolve::{ResolveError, Service};

pub use self::watch::{Entry, Meters, Watch};

/// Servers that one entry of `servers` may come to; the others are left out. More than any answer over UDP holds:
/// who has more of them has a load balancer before us, or an answer that was made to hurt.
pub const ADDRESSES_MAX: usize = 256;
/// The longest wait after a failure: how long nobody notices that DNS is well again.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A wait is up to a tenth longer, so that many proxies do not ask at once. Not shorter: until its TTL is over, a cache on
/// the way gives the same answer.
const JITTER: f64 = 0.1;
/// As in the configuration.
const WEIGHT_MAX: u32 = 1000;

/// One server that DNS names. In the order in which sets are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The lowest serves first; 0 where there are no priorities.
    pub priority: u16,
    /// Where to connect.
    pub address: SocketAddr,
    /// Its share among those of its priority, 1 to 1000.
    pub weight: u32,
}

/// What one look at DNS brought.
#[derive(Debug)]
pub struct Answer {
    /// In any order.
    pub endpoints: Vec<Endpoint>,
    /// The least TTL of it.
    pub valid_for: Duration,
    /// Why a part is not in it; `None`: this is all there is.
    pub missing: Option<ResolveError>,
}

/// The bounds on a TTL.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The least wait.
    pub min: Duration,
    /// The longest; not less than `min`.
    pub max: Duration,
}

/// What is known of one entry.
#[derive(Debug, Default)]
pub struct Known {
    /// In order, each address once; empty until the first good answer.
    endpoints: Vec<Endpoint>,
    /// In a row.
    failures: u32,
}

/// What came of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// `None`: the set is what it was.
    pub change: Option<Change>,
    /// When to ask again.
    pub wait: Duration,
    /// How DNS is doing.
    pub trouble: Trouble,
    /// Servers beyond [`ADDRESSES_MAX`].
    pub left_out: usize,
}

/// How one set differs from the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// New addresses.
    pub added: Vec<Endpoint>,
    /// Addresses that are gone.
    pub removed: Vec<Endpoint>,
    /// Addresses that stay, with another weight or priority.
    pub altered: Vec<Endpoint>,
}

/// How DNS is doing: only its beginning and its end are worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It answers, as it did before.
    None,
    /// The first failure.
    Began,
    /// One more.
    Lasts,
    /// The first answer after failures.
    Ended,
}

impl Known {
    /// What an earlier configuration knew.
    pub fn of(endpoints: &[Endpoint]) -> Self {
        Known { endpoints: in_order(endpoints, &[]).0, failures: 0 }
    }

    /// The servers, in order: by priority, then by address.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Hears one answer. `random` is from 0 to 1.
    pub fn learn(&mut self, answer: &Result<Answer, ResolveError>, limits: Limits, random: f64) -> Lesson {
        let (found, is_whole) = match answer {
            Ok(answer) => (answer.endpoints.as_slice(), answer.missing.is_none()),
            Err(_) => (&[][..], false),
        };
        let is_whole = is_whole && !found.is_empty();
        // What was just found comes first: of two with one address it is the newer.
        let kept = if is_whole { &[][..] } else { &self.endpoints };
        let (endpoints, left_out) = in_order(found, kept);
        let change = Change::between(&self.endpoints, &endpoints);
        let trouble = self.count(is_whole);
        let ttl = answer.as_ref().map_or(limits.max, |answer| answer.valid_for).clamp(limits.min, limits.max);
        let wait = if is_whole { ttl } else { ttl.min(self.backoff(limits)) };
        self.endpoints = endpoints;
        Lesson { change, wait: wait.mul_f64(1.0 + JITTER * random), trouble, left_out }
    }

    fn count(&mut self, is_whole: bool) -> Trouble {
        let before = self.failures;
        self.failures = if is_whole { 0 } else { before.saturating_add(1) };
        match (before, is_whole) {
            (0, true) => Trouble::None,
            (0, false) => Trouble::Began,
            (_, false) => Trouble::Lasts,
            (_, true) => Trouble::Ended,
        }
    }

    /// Twice as long after each failure.
    fn backoff(&self, limits: Limits) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        limits.min.saturating_mul(1 << doublings).min(RETRY_MAX.max(limits.min))
    }
}

impl Change {
    /// `None`: there is no difference. Both are in order.
    fn between(old: &[Endpoint], new: &[Endpoint]) -> Option<Change> {
        if old == new {
            return None;
        }
        let addresses = |set: &[Endpoint]| -> HashSet<SocketAddr> { set.iter().map(|e| e.address).collect() };
        let (before, now) = (addresses(old), addresses(new));
        let whole: HashSet<&Endpoint> = old.iter().collect();
        let of = |set: &[Endpoint], fits: &dyn Fn(&Endpoint) -> bool| -> Vec<Endpoint> {
            set.iter().filter(|endpoint| fits(endpoint)).copied().collect()
        };
        Some(Change {
            added: of(new, &|e| !before.contains(&e.address)),
            removed: of(old, &|e| !now.contains(&e.address)),
            altered: of(new, &|e| before.contains(&e.address) && !whole.contains(e)),
        })
    }
}

impl From<&config::Dns> for Limits {
    fn from(dns: &config::Dns) -> Self {
        Limits { min: dns.min_ttl, max: dns.max_ttl }
    }
}

/// One set, each address once, and how many it has no room for. The order does not depend on the answer's, which name
/// servers turn with each question: the same answer is the same set, and the same servers are left out of it.
fn in_order(found: &[Endpoint], kept: &[Endpoint]) -> (Vec<Endpoint>, usize) {
    let (mut set, mut seen) = (Vec::with_capacity(found.len() + kept.len()), HashSet::new());
    for part in [found, kept] {
        let mut part = part.to_vec();
        // An address that is named twice counts with the better priority.
        part.sort_unstable();
        set.extend(part.into_iter().filter(|endpoint| seen.insert(endpoint.address)));
    }
    let left_out = set.len().saturating_sub(ADDRESSES_MAX);
    set.truncate(ADDRESSES_MAX);
    set.sort_unstable();
    (set, left_out)
}

/// The servers of a host name: each address with the port and the weight of the configuration.
fn of_name(addresses: &[IpAddr], port: u16, weight: u32) -> Vec<Endpoint> {
    let endpoint = |ip: &IpAddr| Endpoint { priority: 0, address: SocketAddr::new(*ip, port), weight };
    addresses.iter().map(endpoint).collect()
}

/// The servers of a service: each address of a target with the target's port, priority and weight.
fn of_services(services: &[(Service, Vec<IpAddr>)]) -> Vec<Endpoint> {
    let weight = |of: &Service| {
        let peers = services.iter().filter(|(other, _)| other.priority == of.priority);
        weight_among(of.weight, peers.map(|(other, _)| other.weight))
    };
    let endpoints = |(service, addresses): &(Service, Vec<IpAddr>)| {
        let (of_target, priority) = (of_name(addresses, service.port, weight(service)), service.priority);
        of_target.into_iter().map(move |endpoint| Endpoint { priority, ..endpoint })
    };
    services.iter().flat_map(endpoints).collect()
}

/// A weight of ours for one of an SRV record, 0 to 65535. RFC 2782, the cases:
/// - all weights are 0: there is no selection to do; all are equal;
/// - some are 0: they have "a very small chance" beside the others, so those are raised to leave room for it;
/// - more than we can say: all are lowered alike;
/// - otherwise they are as they are.
fn weight_among(weight: u16, peers: impl Iterator<Item = u16>) -> u32 {
    let (least, most) = peers.fold((weight, weight), |(least, most), peer| (least.min(peer), most.max(peer)));
    let most = u32::from(most);
    if most == 0 {
        return 1;
    }
    if least > 0 && most <= WEIGHT_MAX {
        return weight.into();
    }
    (u32::from(weight) * WEIGHT_MAX / most).max(1)
}

#[cfg(test)]
mod tests;
