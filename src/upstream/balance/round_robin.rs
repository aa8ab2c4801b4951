//! Each in turn.

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;
use super::hash::GOLDEN;

/// Each candidate in turn, weights aside. O(1), except over those that were tried or are full: they are stepped over,
/// so that a neighbour serves twice in that round.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    epoch: Option<u64>,
    /// Whose turn is next, as a place among the candidates.
    next: usize,
    /// Who served last: where the round goes on when the candidates have changed.
    last: Option<u32>,
}

impl RoundRobin {
    fn update(&mut self, pool: &Pool<'_>) {
        if self.epoch == Some(pool.epoch()) {
            return;
        }
        self.epoch = Some(pool.epoch());
        if let Some(last) = self.last {
            self.next = pool.candidates().partition_point(|&server| server <= last);
        }
    }
}

impl Strategy for RoundRobin {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, _rng: &mut fastrand::Rng) -> Option<Pick> {
        self.update(pool);
        let candidates = pool.candidates();
        let start = self.next.checked_rem(candidates.len())?;
        let mut round = (start..candidates.len()).chain(0..start);
        let turn = round.find(|&turn| pool.may_serve(candidates[turn] as usize))?;
        (self.next, self.last) = (turn + 1, Some(candidates[turn]));
        Some(Pick { server: candidates[turn] as usize, reason: PickReason::RoundRobin })
    }

    fn for_worker(&self, seed: u64) -> Box<dyn Strategy> {
        // The high bits: neighbours in seed must not be neighbours in start.
        let next = (seed.wrapping_mul(GOLDEN) >> 40) as usize;
        Box::new(RoundRobin { next, ..RoundRobin::default() })
    }
}
