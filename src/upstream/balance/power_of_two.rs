//! The less busy of two at random (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001):
//! nearly as even as asking all, for the price of two, and no herd when the numbers are a little old.

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;
use super::load::least;
use super::shares::Shares;

/// Draws before the servers are walked instead. 16: with half the pool full one in 4,000 picks walks.
const DRAWS_MAX: usize = 16;

/// Two at random, drawn by weight, then the one with fewer requests in flight for its weight.
#[derive(Debug, Clone, Default)]
pub struct PowerOfTwo {
    shares: Shares,
}

impl Strategy for PowerOfTwo {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        let server = less_of_two(&mut self.shares, pool, rng, |server| pool.load(server))?;
        Some(Pick { server, reason: PickReason::PowerOfTwo })
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(PowerOfTwo::default())
    }
}

/// The one of two at random that measures less. They are drawn by weight: were they not, a server as heavy as all others
/// together would still be one of many to draw from.
pub(super) fn less_of_two<M: Ord>(
    shares: &mut Shares,
    pool: &Pool<'_>,
    rng: &mut fastrand::Rng,
    mut measure: impl FnMut(usize) -> M,
) -> Option<usize> {
    // Of two, both would be drawn.
    if pool.candidates().len() <= 2 {
        return least(pool, rng, measure);
    }
    shares.update(pool);
    match draw_two(shares, pool, rng) {
        Some((one, other)) if measure(one) <= measure(other) => Some(one),
        Some((_, other)) => Some(other),
        // So few may serve, or one is so heavy, that asking them all is the way to find two.
        None => least(pool, rng, measure),
    }
}

/// Two different ones that may serve.
fn draw_two(shares: &Shares, pool: &Pool<'_>, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
    let mut first = None;
    for _ in 0..DRAWS_MAX {
        let drawn = shares.draw(pool, rng)?;
        if first == Some(drawn) || !pool.may_serve(drawn) {
            continue;
        }
        match first {
            None => first = Some(drawn),
            Some(first) => return Some((first, drawn)),
        }
    }
    None
}
