//! The same key to the same server, and when a server comes or goes only its share of the keys moves.
//!
//! A ring as ketama's: each server stands at many points, a key belongs to the next point. The points come
//! from xxh3 over the server's name, which is the same on every machine and in every version, so that several
//! proxies agree. Not compatible with nginx's ring, which hashes with crc32.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::KeyKind;
use super::Pick;
use super::PickReason;
use super::Pool;
use super::ServerSpec;
use super::Strategy;

/// Points of a server for each unit of weight. 160: ketama's number; shares are then even to about 8 %.
const POINTS_PER_WEIGHT: u64 = 160;

/// Points of one ring, 64 MiB. Above, every server gets fewer for its weight, at least one.
const POINTS_MAX: u64 = 4 << 20;

/// The key's place on a ring of servers.
#[derive(Debug, Clone)]
pub struct ConsistentHash {
    /// Sorted by place; shared among workers.
    ring: Arc<[Point]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    place: u64,
    server: u32,
}

impl ConsistentHash {
    /// The ring of `servers`, in the order of the pool.
    pub fn new(servers: &[ServerSpec]) -> Self {
        let total: u64 = servers.iter().map(|s| u64::from(s.weight)).sum();
        let per_weight = POINTS_PER_WEIGHT.min(POINTS_MAX / total.max(1)).max(1);
        let mut ring = Vec::with_capacity((total * per_weight) as usize);
        for (server, spec) in (0_u32..).zip(servers) {
            let points = 0..u64::from(spec.weight) * per_weight;
            ring.extend(
                points.map(|seed| Point { place: xxh3_64_with_seed(spec.name.as_bytes(), seed), server }),
            );
        }
        ring.sort_unstable();
        ConsistentHash { ring: ring.into() }
    }

    /// From the key's place on, once around: the first server that may serve.
    fn walk(&self, pool: &Pool<'_>, key: u64) -> Option<Pick> {
        let start = self.ring.partition_point(|point| point.place < key);
        let (before, after) = self.ring.split_at(start);
        let mut reason = PickReason::Hash;
        for point in after.iter().chain(before) {
            let server = point.server as usize;
            if pool.may_serve(server) {
                return Some(Pick { server, reason });
            }
            reason = PickReason::HashNext;
        }
        None
    }
}

impl Strategy for ConsistentHash {
    fn pick(&mut self, pool: &Pool<'_>, key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        if pool.is_empty() {
            return None;
        }
        // A request without the header or cookie that is hashed goes anywhere.
        let key = key.unwrap_or_else(|| rng.u64(..));
        // A server that joined after the ring was made is on no point of it.
        self.walk(pool, key)
            .or_else(|| pool.eligible().next().map(|server| Pick { server, reason: PickReason::HashNext }))
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(self.clone())
    }

    fn key(&self) -> KeyKind {
        KeyKind::Configured
    }
}
