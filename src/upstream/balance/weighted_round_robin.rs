//! Each in turn, by weight, and those of a heavy server not in a row.

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;
use super::hash::GOLDEN;
use super::turns::Turns;

/// Turns of servers that may not serve, before the others are walked instead. 32: with three quarters of the weight full
/// one in 10,000 picks walks.
const LOST_MAX: usize = 32;

/// Each server in turn, by weight: stride scheduling (Waldspurger and Weihl 1995), O(log n). Whoever was tried or is full
/// when its turn comes loses it.
#[derive(Debug, Clone, Default)]
pub struct WeightedRoundRobin {
    epoch: Option<u64>,
    turns: Turns,
}

impl WeightedRoundRobin {
    fn update(&mut self, pool: &Pool<'_>) {
        if self.epoch == Some(pool.epoch()) {
            return;
        }
        self.epoch = Some(pool.epoch());
        self.turns.update(pool.candidates().iter().map(|&server| (server, pool.weight(server as usize))));
    }
}

impl Strategy for WeightedRoundRobin {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, _rng: &mut fastrand::Rng) -> Option<Pick> {
        self.update(pool);
        let may_serve = |server: usize| pool.may_serve(server);
        let mut turns = (0..LOST_MAX).map_while(|_| self.turns.take());
        let server = turns
            .find(|&server| may_serve(server))
            .or_else(|| self.turns.take_from(may_serve))
            .or_else(|| pool.eligible().next())?;
        Some(Pick { server, reason: PickReason::WeightedRoundRobin })
    }

    fn for_worker(&self, seed: u64) -> Box<dyn Strategy> {
        let offset = (seed.wrapping_mul(GOLDEN).wrapping_mul(GOLDEN) >> 32) as u32;
        Box::new(WeightedRoundRobin { epoch: None, turns: Turns::new(offset) })
    }
}
