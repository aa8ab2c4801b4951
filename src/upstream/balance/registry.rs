//! Strategies by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::ConsistentHash;
use super::IpHash;
use super::LeastConnections;
use super::Maglev;
use super::PeakEwma;
use super::PowerOfTwo;
use super::Random;
use super::Rendezvous;
use super::RoundRobin;
use super::Strategy;
use super::WeightedRoundRobin;

/// How much more than its share of all requests a server may have before a hash moves keys away from it, in percent.
/// 125: the paper's example, where a request meets a full server rarely and no server is over by more than a quarter.
pub const LOAD_FACTOR_PERCENT: u32 = 125;

/// What a strategy may know of an upstream while a configuration lasts.
#[derive(Debug, Clone, Copy)]
pub struct PoolSpec<'a> {
    /// In the order of the pool.
    pub servers: &'a [ServerSpec],
    /// For `consistent-hash`, in percent of a server's share; `None` never moves a key because of load.
    pub load_factor: Option<u32>,
}

impl<'a> PoolSpec<'a> {
    /// `servers`, and the defaults for the rest.
    pub fn new(servers: &'a [ServerSpec]) -> Self {
        PoolSpec { servers, load_factor: Some(LOAD_FACTOR_PERCENT) }
    }
}

/// What of a server does not change while a configuration lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSpec {
    /// Its address, as configured; what strategies that hash keys to servers hash.
    pub name: String,
    /// As configured.
    pub weight: u32,
}

/// Makes a strategy for the servers of an upstream.
pub type Factory = Arc<dyn Fn(&PoolSpec<'_>) -> Box<dyn Strategy> + Send + Sync>;

/// What `balance = "…"` may say.
#[derive(Clone)]
pub struct Registry {
    factories: BTreeMap<String, Factory>,
}

impl Registry {
    /// The strategies of the house.
    pub fn builtin() -> Self {
        let mut registry = Registry { factories: BTreeMap::new() };
        registry.register("round-robin", Arc::new(|_| Box::new(RoundRobin::default())));
        registry.register("weighted-round-robin", Arc::new(|_| Box::new(WeightedRoundRobin::default())));
        registry.register("least-connections", Arc::new(|_| Box::new(LeastConnections::default())));
        registry.register("power-of-two", Arc::new(|_| Box::new(PowerOfTwo::default())));
        registry.register("peak-ewma", Arc::new(|_| Box::new(PeakEwma::default())));
        registry.register("random", Arc::new(|_| Box::new(Random::default())));
        registry.register(
            "consistent-hash",
            Arc::new(|pool| Box::new(ConsistentHash::new(pool.servers, pool.load_factor))),
        );
        registry.register("maglev", Arc::new(|pool| Box::new(Maglev::new(pool.servers))));
        registry.register("rendezvous", Arc::new(|pool| Box::new(Rendezvous::new(pool.servers))));
        registry.register("ip-hash", Arc::new(|pool| Box::new(IpHash::new(pool.servers))));
        registry
    }

    /// Adds a strategy, or puts it in the place of the one of that name.
    pub fn register(&mut self, name: impl Into<String>, factory: Factory) {
        self.factories.insert(name.into(), factory);
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.factories.keys().map(String::as_str)
    }

    /// Makes strategies of that name; `None` when nobody registered it.
    pub fn factory(&self, name: &str) -> Option<Factory> {
        self.factories.get(name).cloned()
    }

    /// A strategy for `pool`; `None` when nobody registered `name`. Each worker takes its own from it with
    /// [`Strategy::for_worker`].
    pub fn build(&self, name: &str, pool: &PoolSpec<'_>) -> Option<Box<dyn Strategy>> {
        self.factories.get(name).map(|factory| factory(pool))
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry::builtin()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
