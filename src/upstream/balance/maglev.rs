//! The same key to the same server, by one look into a table.
//!
//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4):
//! each server has a preference among the places of a table, by its name, and they take turns to claim the best that is
//! left. Shares are more even than a ring's. For it a few keys move between servers that stay when one comes or goes for
//! good; none do while one is merely down.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::KeyKind;
use super::Pick;
use super::Pool;
use super::ServerSpec;
use super::Strategy;
use super::hash::draw;
use super::hash::scale;

/// Places for each server: shares are then even to 1 %, as in the paper.
const PLACES_PER_SERVER: usize = 100;

/// The smallest table is the smallest prime from here on: 65,537, the paper's.
const PLACES_MIN: usize = 1 << 16;

/// 64 MiB.
const PLACES_MAX: usize = 1 << 24;

/// Times that a key is hashed again when its server may not serve. 16: with half the pool down one key in 65,000 needs more.
const ATTEMPTS_MAX: u64 = 16;

/// The key's place in a table of servers. A table grows in steps, at 656 servers, 1,311 and so on by doubling: a pool that
/// crosses one sends nearly every key elsewhere.
#[derive(Debug, Clone)]
pub struct Maglev {
    /// Shared among workers.
    table: Arc<[u32]>,
}

/// A server that claims places.
struct Claimant {
    /// The next place it would like, and how far the one after it lies.
    place: usize,
    skip: usize,
    /// Turns it has had.
    turns: u64,
    /// Where its turns lie, in 2^-32 of the time between two: by its name, so that they do not depend on the others.
    phase: u64,
    weight: u64,
}

const EMPTY: u32 = u32::MAX;

impl Maglev {
    /// The table of `servers`, in the order of the pool.
    pub fn new(servers: &[ServerSpec]) -> Self {
        let wanted = servers.len().saturating_mul(PLACES_PER_SERVER).clamp(PLACES_MIN, PLACES_MAX);
        let size = prime_from(wanted.next_power_of_two());
        Maglev { table: populate(servers, size).into() }
    }

    fn owner(&self, key: u64) -> Option<usize> {
        self.table.get(scale(key, self.table.len())).map(|&server| server as usize)
    }
}

impl Strategy for Maglev {
    fn pick(&mut self, pool: &Pool<'_>, key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        // A request without the header or cookie that is hashed goes anywhere.
        let key = key.unwrap_or_else(|| rng.u64(..));
        draw(pool, key, ATTEMPTS_MAX, |key| self.owner(key))
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(self.clone())
    }

    fn key(&self) -> KeyKind {
        KeyKind::Configured
    }
}

/// Every place claimed, by turns: a server of weight w has w of them while one of weight 1 has one.
fn populate(servers: &[ServerSpec], size: usize) -> Vec<u32> {
    let mut table = vec![EMPTY; size];
    let mut claimants: Vec<_> = servers.iter().map(|spec| Claimant::new(spec, size)).collect();
    let with_weight = (0_u32..).zip(&claimants).filter(|(_, claimant)| claimant.weight > 0);
    let mut turns: BinaryHeap<_> =
        with_weight.map(|(server, claimant)| Reverse((claimant.time(), server))).collect();
    for _ in 0..size {
        let Some(mut turn) = turns.peek_mut() else { break };
        let server = turn.0.1;
        let claimant = &mut claimants[server as usize];
        let place = claimant.claim(&table);
        table[place] = server;
        *turn = Reverse((claimant.time(), server));
    }
    table
}

impl Claimant {
    fn new(spec: &ServerSpec, size: usize) -> Self {
        let hash = |seed| xxh3_64_with_seed(spec.name.as_bytes(), seed);
        Claimant {
            place: scale(hash(1), size),
            skip: scale(hash(2), size - 1) + 1,
            turns: 0,
            phase: hash(3) >> 32,
            weight: u64::from(spec.weight),
        }
    }

    /// When its next turn is.
    fn time(&self) -> u64 {
        ((self.turns << 32) | self.phase) / self.weight
    }

    /// The best place that is left; there is one.
    fn claim(&mut self, table: &[u32]) -> usize {
        while table[self.place] != EMPTY {
            self.step(table.len());
        }
        let claimed = self.place;
        self.step(table.len());
        self.turns += 1;
        claimed
    }

    fn step(&mut self, size: usize) {
        self.place += self.skip;
        // The size is a prime, so that any step leads through all places.
        if self.place >= size {
            self.place -= size;
        }
    }
}

fn prime_from(least: usize) -> usize {
    let is_prime = |n: &usize| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (least..).find(is_prime).unwrap_or(least)
}
