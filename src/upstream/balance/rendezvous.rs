//! The same key to the same server: for each key the servers draw lots, and the best lot has it.
//!
//! Highest random weight (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Transactions
//! on Networking, 1998), with weights by the logarithmic method (Schindelhauer and Schomaker, "Weighted Distributed Hash
//! Tables", SPAA 2005). Shares are as exact as chance makes them, there is no table, and the keys of a lost server spread over
//! all others.
//!
//! In two steps, so that a large pool need not draw a lot for everyone: the names of the servers put them into fixed groups,
//! the groups draw by the sums of their weights, and then the servers of the winner. In a small pool nearly every
//! server is a group of its own.

use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::KeyKind;
use super::Pick;
use super::Pool;
use super::ServerSpec;
use super::Strategy;
use super::hash::draw;
use super::hash::fold;

/// 128: at 10,000 servers, 128 lots and then about 78. Never another number: it would move every key.
const GROUPS: u64 = 128;

/// Draws of a key whose winner may not serve. 8: with a tenth of the pool down one key in 100 million needs more.
const ATTEMPTS_MAX: u64 = 8;

/// Lots for each key. A server that comes or goes takes or leaves 1/n of the keys, and changes its group's share: of another
/// 1/n some go to, or come from, the others in its group. While it is merely down only its own keys move.
#[derive(Debug, Clone)]
pub struct Rendezvous {
    /// Shared among workers.
    lots: Arc<Lots>,
}

#[derive(Debug)]
struct Lots {
    groups: Vec<Drawer>,
    /// Where each group's servers are among `servers`.
    members: Vec<Range<usize>>,
    servers: Vec<Drawer>,
}

/// Who draws lots: a server, or a group.
#[derive(Debug, Clone, Copy)]
struct Drawer {
    seed: u64,
    /// 1 / weight.
    per_weight: f64,
    /// A server's index in the pool, a group's among the members.
    index: u32,
}

impl Rendezvous {
    /// The lots of `servers`, in the order of the pool.
    pub fn new(servers: &[ServerSpec]) -> Self {
        Rendezvous { lots: Arc::new(Lots::new(servers)) }
    }
}

impl Strategy for Rendezvous {
    fn pick(&mut self, pool: &Pool<'_>, key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        // A request without the header or cookie that is hashed goes anywhere.
        let key = key.unwrap_or_else(|| rng.u64(..));
        draw(pool, key, ATTEMPTS_MAX, |key| self.lots.owner(key))
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(self.clone())
    }

    fn key(&self) -> KeyKind {
        KeyKind::Configured
    }
}

impl Lots {
    fn new(servers: &[ServerSpec]) -> Self {
        let mut by_group = vec![(0_u64, Vec::new()); GROUPS as usize];
        for (index, spec) in (0_u32..).zip(servers).filter(|(_, spec)| spec.weight > 0) {
            let name = spec.name.as_bytes();
            let (weight, drawers) = &mut by_group[(xxh3_64_with_seed(name, 1) % GROUPS) as usize];
            *weight += u64::from(spec.weight);
            drawers.push(Drawer::new(xxh3_64(name), spec.weight.into(), index));
        }
        let mut lots = Lots { groups: Vec::new(), members: Vec::new(), servers: Vec::new() };
        for (group, (weight, drawers)) in (0_u64..).zip(by_group).filter(|(_, (weight, _))| *weight > 0) {
            let (index, begin) = (lots.members.len() as u32, lots.servers.len());
            lots.groups.push(Drawer::new(xxh3_64(&group.to_le_bytes()), weight, index));
            lots.servers.extend(drawers);
            lots.members.push(begin..lots.servers.len());
        }
        lots
    }

    fn owner(&self, key: u64) -> Option<usize> {
        let group = winner(&self.groups, key)?;
        match &self.servers[self.members[group.index as usize].clone()] {
            [alone] => Some(alone.index as usize),
            servers => winner(servers, key).map(|server| server.index as usize),
        }
    }
}

impl Drawer {
    fn new(seed: u64, weight: u64, index: u32) -> Self {
        Drawer { seed, per_weight: 1.0 / weight as f64, index }
    }

    /// Its lot for a key, from 0 up to 1, in steps of 2^-53.
    fn lot(&self, key: u64) -> f64 {
        let lot = fold(key ^ self.seed, self.seed.rotate_left(32) | 1);
        (lot >> 11) as f64 * 2_f64.powi(-53)
    }

    /// What decides: an exponential variable, of which each drawer has the least with the probability of its weight. The
    /// difference to 1 is exact. A logarithm in the last bit different on another machine matters to one key in 10^15.
    fn drawn(&self, key: u64) -> f64 {
        -(1.0 - self.lot(key)).ln() * self.per_weight
    }

    /// Never more than what is drawn, hardly less for a lot that may win, and had without a logarithm.
    fn drawn_at_least(&self, key: u64) -> f64 {
        self.lot(key) * self.per_weight
    }
}

/// Whoever has the least of -ln(1 - lot) / weight.
fn winner(drawers: &[Drawer], key: u64) -> Option<&Drawer> {
    // Whoever is first without logarithms is nearly always ahead of the second by more than one adds: one logarithm for all,
    // and no branch that cannot be foreseen.
    let (mut least, mut second, mut first) = (f64::INFINITY, f64::INFINITY, 0);
    for (at, drawer) in drawers.iter().enumerate() {
        let at_least = drawer.drawn_at_least(key);
        let beaten = if at_least < least { least } else { at_least };
        second = if beaten < second { beaten } else { second };
        first = if at_least < least { at } else { first };
        least = if at_least < least { at_least } else { least };
    }
    let first = drawers.get(first)?;
    let drawn = first.drawn(key);
    if drawn <= second {
        return Some(first);
    }
    let rivals = drawers.iter().filter(|drawer| drawer.drawn_at_least(key) <= drawn);
    rivals.min_by(|one, other| one.drawn(key).total_cmp(&other.drawn(key)))
}
