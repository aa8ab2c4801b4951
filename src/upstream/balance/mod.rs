//! Which server gets the next request.
//!
//! Pure: servers, their live numbers, a key and a random source come in; an index and a reason go out. Health,
//! draining, backups and the servers already tried are applied once, by [`Pool`], for every strategy. To add one: a
//! file, a line in [`Registry::builtin`], a word in the reference configuration. An embedder adds theirs with
//! [`Registry::register`].
//!
//! A strategy belongs to one worker and is never shared: what it remembers needs no lock.

mod consistent_hash;
mod least_connections;
mod power_of_two;
mod random;
mod registry;
mod round_robin;
mod weighted_round_robin;

pub use consistent_hash::ConsistentHash;
pub use least_connections::LeastConnections;
pub use power_of_two::PowerOfTwo;
pub use random::Random;
pub use registry::Factory;
pub use registry::Registry;
pub use registry::ServerSpec;
pub use round_robin::RoundRobin;
pub use weighted_round_robin::WeightedRoundRobin;

/// A way to choose.
pub trait Strategy: Send {
    /// One of the servers that `pool` says may serve; `None` exactly when there is none.
    fn pick(&mut self, pool: &Pool<'_>, key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick>;

    /// The same strategy for one worker. `seed` differs between workers, so that they do not all begin with
    /// the same server.
    fn for_worker(&self, seed: u64) -> Box<dyn Strategy>;

    /// Whether `pick` looks at the key; making one costs a hash.
    fn needs_key(&self) -> bool {
        false
    }
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
    /// Chance.
    Random,
    /// The key's own server.
    Hash,
    /// The key's own server may not serve: the next on the ring.
    HashNext,
    /// The client's cookie names it.
    Sticky,
    /// A word of an embedder's strategy.
    Custom(&'static str),
}

impl PickReason {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            PickReason::RoundRobin => "round-robin",
            PickReason::WeightedRoundRobin => "weighted-round-robin",
            PickReason::LeastConnections => "least-connections",
            PickReason::PowerOfTwo => "power-of-two",
            PickReason::Random => "random",
            PickReason::Hash => "hash",
            PickReason::HashNext => "hash-next",
            PickReason::Sticky => "sticky",
            PickReason::Custom(word) => word,
        }
    }
}

/// The live numbers of an upstream's servers.
pub trait Servers {
    /// How many there are; indices below it are valid.
    fn len(&self) -> usize;

    /// Healthy, not ejected, not draining.
    fn may_serve(&self, server: usize) -> bool;

    /// Its share, slow start included; 0 gets nothing.
    fn weight(&self, server: usize) -> u32;

    /// Requests it is serving now.
    fn in_flight(&self, server: usize) -> u32;

    /// Used only when no other may serve.
    fn is_backup(&self, _server: usize) -> bool {
        false
    }

    /// An upstream without servers.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a strategy sees: the servers, and who of them may have this request.
///
/// When nobody is healthy nobody may serve, and the client gets a 503; there is no "panic mode" that would
/// send requests to servers known to be down.
#[derive(Clone, Copy)]
pub struct Pool<'a> {
    servers: &'a dyn Servers,
    tried: &'a [usize],
    tier: Option<Tier>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tier {
    Primary,
    Backup,
}

impl<'a> Pool<'a> {
    /// The servers without those `tried`; backups when no primary is left. `tried` is short: it is searched.
    pub fn new(servers: &'a dyn Servers, tried: &'a [usize]) -> Self {
        let mut pool = Pool { servers, tried, tier: Some(Tier::Primary) };
        // Ends at the first server when all is well.
        for tier in [Some(Tier::Primary), Some(Tier::Backup), None] {
            pool.tier = tier;
            if (0..servers.len()).any(|server| pool.may_serve(server)) {
                break;
            }
        }
        pool
    }

    /// How many servers there are, whether they may serve or not.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Nobody may serve.
    pub fn is_empty(&self) -> bool {
        self.tier.is_none()
    }

    /// Whether `server` may have this request. False for an index that is out of range.
    pub fn may_serve(&self, server: usize) -> bool {
        let Some(tier) = self.tier else { return false };
        server < self.servers.len()
            && self.servers.may_serve(server)
            && self.servers.is_backup(server) == (tier == Tier::Backup)
            && self.servers.weight(server) > 0
            && !self.tried.contains(&server)
    }

    /// Its share.
    pub fn weight(&self, server: usize) -> u32 {
        self.servers.weight(server)
    }

    /// Requests it is serving now.
    pub fn in_flight(&self, server: usize) -> u32 {
        self.servers.in_flight(server)
    }

    /// Those who may serve, in order.
    pub fn eligible(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).filter(|&server| self.may_serve(server))
    }

    /// Whether `one` is less busy for its weight than `other`. The request to come counts, so that of two idle servers
    /// the heavier is the less busy.
    pub fn compare_load(&self, one: usize, other: usize) -> std::cmp::Ordering {
        // one / weight(one) against other / weight(other), without a division.
        let load = |server| u64::from(self.in_flight(server)) + 1;
        let left = load(one) * u64::from(self.weight(other));
        left.cmp(&(load(other) * u64::from(self.weight(one))))
    }
}

#[cfg(test)]
pub(crate) mod tests;
