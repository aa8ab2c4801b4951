//! nginx's smooth weighted round robin: three of a heavy server do not come in a row.
//!
//! At each pick every eligible server gains its weight, the richest is chosen and pays what all have gained together
//! (nginx commit 52327e0627f4). Over a cycle of the sum of weights each is chosen exactly
//! its weight's times. Linear in servers: at 10,000 of them `power-of-two` is the better choice.

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;

/// Each server in turn, by weight.
#[derive(Debug, Clone, Default)]
pub struct WeightedRoundRobin {
    /// By server; those that may not serve neither gain nor pay.
    credit: Vec<i64>,
    /// Where the walk begins, which decides between equals.
    start: usize,
}

impl Strategy for WeightedRoundRobin {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, _rng: &mut fastrand::Rng) -> Option<Pick> {
        let len = pool.len();
        if pool.is_empty() {
            return None;
        }
        self.credit.resize(len, 0);
        let start = self.start % len;
        let (mut total, mut richest) = (0, None);
        for server in (start..len).chain(0..start).filter(|&server| pool.may_serve(server)) {
            let weight = i64::from(pool.weight(server));
            total += weight;
            self.credit[server] += weight;
            if richest.is_none_or(|other: usize| self.credit[server] > self.credit[other]) {
                richest = Some(server);
            }
        }
        let server = richest?;
        self.credit[server] -= total;
        Some(Pick { server, reason: PickReason::WeightedRoundRobin })
    }

    fn for_worker(&self, seed: u64) -> Box<dyn Strategy> {
        let start = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize;
        Box::new(WeightedRoundRobin { credit: Vec::new(), start })
    }
}
