//! The least busy of all.

use std::cmp::Ordering;

use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;

/// The server with the fewest requests in flight for its weight; chance decides between equals, so that workers that
/// see the same numbers do not all choose the same one. Linear in servers.
#[derive(Debug, Clone, Default)]
pub struct LeastConnections;

impl LeastConnections {
    /// Also the last resort of strategies that sample.
    pub(super) fn least(pool: &Pool<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
        let (mut least, mut equals) = (None, 0_u32);
        for server in pool.eligible() {
            match least.map_or(Ordering::Less, |other| pool.compare_load(server, other)) {
                Ordering::Less => (least, equals) = (Some(server), 1),
                Ordering::Equal => {
                    // A reservoir of one: each of k equals stays with 1/k.
                    equals += 1;
                    if rng.u32(..equals) == 0 {
                        least = Some(server);
                    }
                }
                Ordering::Greater => {}
            }
        }
        least
    }
}

impl Strategy for LeastConnections {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        let server = LeastConnections::least(pool, rng)?;
        Some(Pick { server, reason: PickReason::LeastConnections })
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(LeastConnections)
    }
}
