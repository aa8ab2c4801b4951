//! The same key to the same server, and when a server comes or goes only its share of the keys moves.
//!
//! A ring (Karger et al., "Consistent Hashing and Random Trees", STOC 1997) as ketama's: each server stands at many points, a
//! key belongs to the next point. The points come from xxh3 over the server's name, which is the same on every
//! machine and in every version, so that several proxies agree. Not compatible with nginx's ring, which hashes with crc32.
//!
//! With bounded loads (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018): a server
//! that has more than its share of the requests in flight is passed by, so that one popular key does not drown one server.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::KeyKind;
use super::Pick;
use super::PickReason;
use super::Pool;
use super::ServerSpec;
use super::Strategy;
use super::hash::anyone;

/// Points of a server for each unit of weight. 160: ketama's number; shares are then even to about 8 %.
const POINTS_PER_WEIGHT: u64 = 160;

/// Points of one ring, 32 MiB. Above, every server gets fewer for its weight, at least one.
const POINTS_MAX: u64 = 4 << 20;

/// Points that one pick passes by. With nine servers of ten down or at their bound one in 500 billion keys needs more.
const STEPS_MAX: usize = 256;

/// The key's place on a ring of servers.
#[derive(Debug, Clone)]
pub struct ConsistentHash {
    /// Shared among workers.
    ring: Arc<Ring>,
    /// What a server may have of its share, in percent; `None` without bound.
    load_factor: Option<u32>,
    epoch: Option<u64>,
    /// Of all candidates together.
    weight: u64,
}

#[derive(Debug)]
struct Ring {
    /// Sorted by place.
    points: Vec<Point>,
    /// By the high bits of a place: the first point that has these or higher ones. A search by halves through a large ring
    /// would miss the processor's cache at each step.
    firsts: Vec<u32>,
    shift: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    place: u32,
    server: u32,
}

/// What each may have.
struct Bound {
    /// The request to come among those of all, times the factor.
    percent_of_all: u128,
    weight_of_all: u128,
}

impl ConsistentHash {
    /// The ring of `servers`, in the order of the pool. `load_factor` is in percent of a server's share of all requests, at
    /// least 100; `None` never moves a key because of load.
    pub fn new(servers: &[ServerSpec], load_factor: Option<u32>) -> Self {
        ConsistentHash { ring: Arc::new(Ring::new(servers)), load_factor, epoch: None, weight: 0 }
    }

    fn update(&mut self, pool: &Pool<'_>) {
        if self.epoch == Some(pool.epoch()) {
            return;
        }
        self.epoch = Some(pool.epoch());
        self.weight = pool.candidates().iter().map(|&server| u64::from(pool.weight(server as usize))).sum();
    }

    /// From the key's place on: the first server that may serve and has not more than its share.
    fn walk(&self, pool: &Pool<'_>, key: u64) -> Option<Pick> {
        let bound = self.load_factor.map(|percent| Bound::new(percent, self.weight, pool));
        // Why it is not the key's own; the first cause counts.
        let mut reason = PickReason::Hash;
        let mut over = None;
        for server in self.ring.from(key).take(STEPS_MAX) {
            let is_own = reason == PickReason::Hash;
            if !pool.may_serve(server) {
                reason = if is_own { PickReason::HashNext } else { reason };
            } else if bound.as_ref().is_none_or(|bound| bound.allows(pool, server)) {
                return Some(Pick { server, reason });
            } else {
                over = over.or(Some(Pick { server, reason }));
                reason = if is_own { PickReason::HashBounded } else { reason };
            }
        }
        // Everyone near is over: then rather the key's own, or whoever stands in for it.
        over
    }
}

impl Strategy for ConsistentHash {
    fn pick(&mut self, pool: &Pool<'_>, key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        self.update(pool);
        // A request without the header or cookie that is hashed goes anywhere.
        let key = key.unwrap_or_else(|| rng.u64(..));
        let next = || anyone(pool, key).map(|server| Pick { server, reason: PickReason::HashNext });
        self.walk(pool, key).or_else(next)
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(ConsistentHash { epoch: None, ..self.clone() })
    }

    fn key(&self) -> KeyKind {
        KeyKind::Configured
    }
}

impl Ring {
    fn new(servers: &[ServerSpec]) -> Self {
        let total: u64 = servers.iter().map(|s| u64::from(s.weight)).sum();
        let per_weight = POINTS_PER_WEIGHT.min(POINTS_MAX / total.max(1)).max(1);
        let mut points = Vec::with_capacity((total * per_weight) as usize);
        for (server, spec) in (0_u32..).zip(servers) {
            let place = |seed| (xxh3_64_with_seed(spec.name.as_bytes(), seed) >> 32) as u32;
            let seeds = 0..u64::from(spec.weight) * per_weight;
            points.extend(seeds.map(|seed| Point { place: place(seed), server }));
        }
        points.sort_unstable();
        // About four points to an entry: they lie in one line of the cache.
        let bits = (points.len() / 4).max(2).ilog2();
        let shift = u32::BITS - bits;
        let mut first = 0;
        let firsts = (0..1 << bits).map(|high| {
            first += points[first..].iter().take_while(|point| point.place >> shift < high).count();
            first as u32
        });
        let firsts = firsts.collect();
        Ring { points, firsts, shift }
    }

    /// The servers of the points from the key's place on, once around.
    fn from(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let place = (key >> 32) as u32;
        let first = self.firsts[(place >> self.shift) as usize] as usize;
        let past = self.points[first..].iter().take_while(|point| point.place < place).count();
        let (before, after) = self.points.split_at(first + past);
        after.iter().chain(before).map(|point| point.server as usize)
    }
}

impl Bound {
    fn new(percent: u32, weight: u64, pool: &Pool<'_>) -> Self {
        let requests = u128::from(pool.in_flight_of_all()) + 1;
        // Below 100 all could be at their bounds.
        Bound { percent_of_all: requests * u128::from(percent.max(100)), weight_of_all: u128::from(weight) }
    }

    /// In flight < ⌈factor × (all + 1) × weight / weight of all⌉, where rounding up changes nothing for a whole number.
    fn allows(&self, pool: &Pool<'_>, server: usize) -> bool {
        let in_flight = u128::from(pool.in_flight(server)) * 100 * self.weight_of_all;
        in_flight < self.percent_of_all * u128::from(pool.weight(server))
    }
}
