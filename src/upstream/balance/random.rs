//! Chance, by weight.

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;

/// Draws before the servers are walked instead.
const DRAWS_MAX: usize = 16;

/// Any server, as likely as its weight.
#[derive(Debug, Clone)]
pub struct Random {
    /// No server weighs more; slow start only makes them lighter.
    weight_max: u32,
}

impl Random {
    /// For servers of at most `weight_max`.
    pub fn new(weight_max: u32) -> Self {
        Random { weight_max: weight_max.max(1) }
    }
}

impl Strategy for Random {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        if pool.is_empty() {
            return None;
        }
        let server = draw(pool, self.weight_max, rng).or_else(|| walk(pool, rng))?;
        Some(Pick { server, reason: PickReason::Random })
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(self.clone())
    }
}

/// Any server, kept as often as its weight says: no sum over all of them, and no table to keep true.
fn draw(pool: &Pool<'_>, weight_max: u32, rng: &mut fastrand::Rng) -> Option<usize> {
    for _ in 0..DRAWS_MAX {
        let server = pool.candidates()[rng.usize(..pool.candidates().len())] as usize;
        if pool.may_serve(server) && rng.u32(..weight_max) < pool.weight(server) {
            return Some(server);
        }
    }
    None
}

/// Exactly by weight, in one walk (a weighted reservoir of one).
fn walk(pool: &Pool<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    let (mut kept, mut total) = (None, 0_u64);
    for server in pool.eligible() {
        let weight = u64::from(pool.weight(server));
        total += weight;
        if rng.u64(..total) < weight {
            kept = Some(server);
        }
    }
    kept
}
