//! Chance, by weight.

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;
use super::shares::Shares;

/// Draws before the servers are walked instead. 16: with half the weight full one in 65,000 picks walks.
const DRAWS_MAX: usize = 16;

/// Any server, exactly as likely as its weight: by inversion of the cumulative weights (Devroye, "Non-Uniform Random
/// Variate Generation", 1986, section III.2). Who was drawn and may not serve is drawn again, which leaves the others'
/// proportions as they are. O(log n); of equal weights O(1).
#[derive(Debug, Clone, Default)]
pub struct Random {
    shares: Shares,
}

impl Strategy for Random {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        self.shares.update(pool);
        let mut draws = (0..DRAWS_MAX).map_while(|_| self.shares.draw(pool, rng));
        let drawn = draws.find(|&server| pool.may_serve(server));
        let server = drawn.or_else(|| walk(pool, rng))?;
        Some(Pick { server, reason: PickReason::Random })
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(Random::default())
    }
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
