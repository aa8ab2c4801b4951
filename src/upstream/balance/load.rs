//! How busy a server is for its weight.

use std::cmp::Ordering;

use super::Pool;

/// Requests in flight against weight. The request to come counts, so that of two idle servers the heavier is the less busy.
/// Compared without a division: exact, and equal fractions are equal.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests it is serving.
    pub in_flight: u32,
    /// Its share. With 0 it is busier than everyone who has one.
    pub weight: u32,
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> Ordering {
        // At most 2^32 times 2^32 - 1.
        let product = |one: &Load, other: &Load| (u64::from(one.in_flight) + 1) * u64::from(other.weight);
        product(self, other).cmp(&product(other, self))
    }
}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}

/// Of those who may serve the one that measures least; chance decides between equals, so that workers that see the same
/// numbers do not all choose the same one. Linear in servers.
pub(super) fn least<M: Ord>(
    pool: &Pool<'_>,
    rng: &mut fastrand::Rng,
    mut measure: impl FnMut(usize) -> M,
) -> Option<usize> {
    let mut eligible = pool.eligible();
    let mut least = eligible.next()?;
    let (mut lowest, mut equals) = (measure(least), 1_u32);
    for server in eligible {
        let measured = measure(server);
        match measured.cmp(&lowest) {
            Ordering::Less => (least, lowest, equals) = (server, measured, 1),
            Ordering::Equal => {
                // A reservoir of one: each of k equals stays with 1/k.
                equals += 1;
                if rng.u32(..equals) == 0 {
                    least = server;
                }
            }
            Ordering::Greater => {}
        }
    }
    Some(least)
}
