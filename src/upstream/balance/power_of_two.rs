//! The less busy of two at random (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001):
//! nearly as even as asking all, for the price of two, and no herd when the numbers are a little old.

use super::LeastConnections;
use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;

/// Draws before the servers are walked instead. 16: with half the pool down one in 4,000 picks walks.
const DRAWS_MAX: usize = 16;

/// Two at random, then the one with fewer requests in flight for its weight.
#[derive(Debug, Clone, Default)]
pub struct PowerOfTwo;

impl Strategy for PowerOfTwo {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        if pool.is_empty() {
            return None;
        }
        let server = match draw_two(pool, rng) {
            Some((one, other)) if pool.compare_load(one, other).is_le() => one,
            Some((_, other)) => other,
            // So few may serve that asking them all is the way to find two.
            None => LeastConnections::least(pool, rng)?,
        };
        Some(Pick { server, reason: PickReason::PowerOfTwo })
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(PowerOfTwo)
    }
}

/// Two different ones that may serve.
fn draw_two(pool: &Pool<'_>, rng: &mut fastrand::Rng) -> Option<(usize, usize)> {
    let mut first = None;
    for _ in 0..DRAWS_MAX {
        let drawn = pool.candidates()[rng.usize(..pool.candidates().len())] as usize;
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
