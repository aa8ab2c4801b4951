//! Which server gets the next request.
//!
//! Pure: servers, their live numbers, a key, the time and a random source come in; an index and a reason go out.
//! Health, draining, priority, slow start, limits and the servers already tried are applied once, around every strategy:
//! here by [`Pool`], above by `upstream::roster` and `upstream::pool`. To add a strategy: a file, a line in
//! [`Registry::builtin`], a word in the reference configuration. An embedder adds theirs with [`Registry::register`].
//!
//! A strategy belongs to one worker and is never shared: what it remembers needs no lock.

mod consistent_hash;
mod hash;
mod ip_hash;
mod least_connections;
mod load;
mod load_tree;
mod maglev;
mod peak_ewma;
mod power_of_two;
mod random;
mod registry;
mod rendezvous;
mod round_robin;
mod shares;
mod turns;
mod weighted_round_robin;

pub use consistent_hash::ConsistentHash;
pub use ip_hash::IpHash;
pub use least_connections::LeastConnections;
pub use load::Load;
pub use maglev::Maglev;
pub use peak_ewma::PeakEwma;
pub use power_of_two::PowerOfTwo;
pub use random::Random;
pub use registry::Factory;
pub use registry::LOAD_FACTOR_PERCENT;
pub use registry::PoolSpec;
pub use registry::Registry;
pub use registry::ServerSpec;
pub use rendezvous::Rendezvous;
pub use round_robin::RoundRobin;
pub use weighted_round_robin::WeightedRoundRobin;

use std::any::Any;
use std::time::Duration;

/// A way to choose.
pub trait Strategy: Send {
    /// One of the servers that `pool` says may serve; `None` exactly when there is none. `key` is there when
    /// [`Strategy::key`] asks for one.
    fn pick(&mut self, pool: &Pool<'_>, key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick>;

    /// The same strategy for one worker. `seed` differs between workers, so that they do not all begin with
    /// the same server.
    fn for_worker(&self, seed: u64) -> Box<dyn Strategy>;

    /// What `pick` wants to have hashed; making a key costs a hash.
    fn key(&self) -> KeyKind {
        KeyKind::None
    }

    /// What became of a request that this worker sent to `server`: once for each attempt, at the head of its response
    /// or its failure. `now` is the time since any one moment, here and in [`Pool::now`].
    fn learn(&mut self, _server: usize, _heard: &Heard, _now: Duration) {}

    /// A request of this worker to `server` is over, body and all: it is less busy by one.
    fn ended(&mut self, _server: usize) {}

    /// What it has learned of `server`, for the strategy that comes after it when there are other servers, or another
    /// configuration.
    fn memory(&self, _server: usize) -> Option<Memory> {
        None
    }

    /// What the strategy before it had learned of its servers. It may have been one of another kind.
    fn remember(&mut self, _servers: Vec<Option<Memory>>) {}
}

/// What a strategy has learned of a server. Only a strategy of its kind can make something of it.
pub type Memory = Box<dyn Any>;

/// What a strategy hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Nothing.
    None,
    /// What `hash = …` says.
    Configured,
    /// The client's IPv4 address or IPv6 /64, whatever `hash` says.
    ClientNetwork,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// From the attempt's beginning to the response's head, or to the failure.
    pub took: Duration,
    /// Which of them.
    pub answer: Answer,
}

/// How a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With a response.
    Served,
    /// With 429 or 503: it has too much to do. `retry_after` is what it says of when it will have less.
    Busy {
        /// `Retry-After` (RFC 9110 section 10.2.3).
        retry_after: Option<Duration>,
    },
    /// Not at all.
    Failed,
}

/// A chosen server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Index into the pool.
    pub server: usize,
    /// What made it this one.
    pub reason: PickReason,
}

/// Why a server was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PickReason {
    /// Its turn.
    RoundRobin,
    /// Its turn, by weight.
    WeightedRoundRobin,
    /// The fewest requests in flight for its weight.
    LeastConnections,
    /// The less busy of two.
    PowerOfTwo,
    /// The one of two that is expected to answer sooner.
    PeakEwma,
    /// Chance.
    Random,
    /// The key's own server.
    Hash,
    /// The key's own server may not serve: the next for this key.
    HashNext,
    /// The key's own server has more than its share to do: the next for this key.
    HashBounded,
    /// The client's session is with it.
    Sticky,
    /// It has just come back, and there is no other.
    SlowStart,
    /// Too few are healthy: health is ignored.
    Panic,
    /// A word of an embedder's strategy.
    Custom(&'static str),
}

impl PickReason {
    /// All of them, in the order of the metric's labels; an embedder's words are one.
    pub const ALL: [PickReason; 13] = [
        PickReason::RoundRobin,
        PickReason::WeightedRoundRobin,
        PickReason::LeastConnections,
        PickReason::PowerOfTwo,
        PickReason::PeakEwma,
        PickReason::Random,
        PickReason::Hash,
        PickReason::HashNext,
        PickReason::HashBounded,
        PickReason::Sticky,
        PickReason::SlowStart,
        PickReason::Panic,
        PickReason::Custom("custom"),
    ];

    /// Its place in [`PickReason::ALL`].
    pub fn index(self) -> usize {
        match self {
            PickReason::RoundRobin => 0,
            PickReason::WeightedRoundRobin => 1,
            PickReason::LeastConnections => 2,
            PickReason::PowerOfTwo => 3,
            PickReason::PeakEwma => 4,
            PickReason::Random => 5,
            PickReason::Hash => 6,
            PickReason::HashNext => 7,
            PickReason::HashBounded => 8,
            PickReason::Sticky => 9,
            PickReason::SlowStart => 10,
            PickReason::Panic => 11,
            PickReason::Custom(_) => 12,
        }
    }

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            PickReason::RoundRobin => "round-robin",
            PickReason::WeightedRoundRobin => "weighted-round-robin",
            PickReason::LeastConnections => "least-connections",
            PickReason::PowerOfTwo => "power-of-two",
            PickReason::PeakEwma => "peak-ewma",
            PickReason::Random => "random",
            PickReason::Hash => "hash",
            PickReason::HashNext => "hash-next",
            PickReason::HashBounded => "hash-bounded",
            PickReason::Sticky => "sticky",
            PickReason::SlowStart => "slow-start",
            PickReason::Panic => "panic",
            PickReason::Custom(word) => word,
        }
    }
}

/// Servers of one priority group and their live numbers, as indices from 0.
pub trait Servers {
    /// How many there are; indices below it are valid.
    fn len(&self) -> usize;

    /// Those that may serve as far as health, draining and weight go, in rising order. A list that is made when
    /// something changes, not for each pick.
    fn candidates(&self) -> &[u32];

    /// Another number whenever the candidates or a weight are others than before: a strategy that has made something of
    /// them makes it anew.
    fn epoch(&self) -> u64;

    /// Whether it is among [`Servers::candidates`]. Constant time; false for an index that is out of range.
    fn is_candidate(&self, server: usize) -> bool;

    /// Its share; not 0 for a candidate.
    fn weight(&self, server: usize) -> u32;

    /// Requests it is serving now, for all workers.
    fn in_flight(&self, server: usize) -> u32;

    /// Requests that all of them are serving now. Asked at each pick of `consistent-hash`: whoever can keep the sum does.
    fn in_flight_of_all(&self) -> u64 {
        (0..self.len()).map(|server| u64::from(self.in_flight(server))).sum()
    }

    /// Whether its limits leave room for one more request.
    fn has_room(&self, _server: usize) -> bool {
        true
    }

    /// A group without servers.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a strategy sees: the servers, and who of them may have this request.
#[derive(Clone, Copy)]
pub struct Pool<'a> {
    servers: &'a dyn Servers,
    tried: &'a [usize],
    /// What is index 0 here, as `tried` counts.
    first: usize,
    now: Duration,
}

impl<'a> Pool<'a> {
    /// The servers without those `tried`, which is short: it is searched. `now` is the time since any one moment.
    pub fn new(servers: &'a dyn Servers, tried: &'a [usize], now: Duration) -> Self {
        Pool { servers, tried, first: 0, now }
    }

    /// The same, where `tried` counts the first of `servers` as `first`.
    pub fn starting_at(self, first: usize) -> Self {
        Pool { first, ..self }
    }

    /// How many servers there are, whether they may serve or not.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Nobody may serve. Linear when many were tried or are full, else constant.
    pub fn is_empty(&self) -> bool {
        self.eligible().next().is_none()
    }

    /// The time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// See [`Servers::candidates`]: those who may serve are among them.
    pub fn candidates(&self) -> &'a [u32] {
        self.servers.candidates()
    }

    /// See [`Servers::epoch`].
    pub fn epoch(&self) -> u64 {
        self.servers.epoch()
    }

    /// Whether `server` may have this request: it is a candidate, was not tried and has room. False for an index
    /// that is out of range.
    pub fn may_serve(&self, server: usize) -> bool {
        self.servers.is_candidate(server)
            && !self.tried.contains(&(self.first + server))
            && self.servers.has_room(server)
    }

    /// Whether health, draining and weight let `server` serve. False for an index that is out of range.
    pub fn is_candidate(&self, server: usize) -> bool {
        self.servers.is_candidate(server)
    }

    /// Whether the limits of `server` leave room for one more request.
    pub fn has_room(&self, server: usize) -> bool {
        self.servers.has_room(server)
    }

    /// Its share.
    pub fn weight(&self, server: usize) -> u32 {
        self.servers.weight(server)
    }

    /// Requests it is serving now.
    pub fn in_flight(&self, server: usize) -> u32 {
        self.servers.in_flight(server)
    }

    /// Requests that all servers are serving now.
    pub fn in_flight_of_all(&self) -> u64 {
        self.servers.in_flight_of_all()
    }

    /// Those who may serve, in order. Linear in servers: for when a few draws among the candidates found nobody.
    pub fn eligible(&self) -> impl Iterator<Item = usize> + '_ {
        let may_serve =
            |server: &usize| !self.tried.contains(&(self.first + server)) && self.servers.has_room(*server);
        self.candidates().iter().map(|&server| server as usize).filter(may_serve)
    }

    /// How busy it is for its weight.
    pub fn load(&self, server: usize) -> Load {
        Load { in_flight: self.in_flight(server), weight: self.weight(server) }
    }
}

#[cfg(test)]
pub(crate) mod tests;
