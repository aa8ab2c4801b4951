//! Each in turn.

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;

/// Each server in turn, weights aside. One that may not serve is stepped over, so its neighbour serves twice in that round;
/// `weighted-round-robin` spreads it evenly.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    next: usize,
}

impl Strategy for RoundRobin {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, _rng: &mut fastrand::Rng) -> Option<Pick> {
        let len = pool.len();
        if pool.is_empty() {
            return None;
        }
        let start = self.next % len;
        let server = (start..len).chain(0..start).find(|&server| pool.may_serve(server))?;
        self.next = server + 1;
        Some(Pick { server, reason: PickReason::RoundRobin })
    }

    fn for_worker(&self, seed: u64) -> Box<dyn Strategy> {
        // The high bits: neighbours in seed must not be neighbours in start.
        Box::new(RoundRobin { next: (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize })
    }
}
