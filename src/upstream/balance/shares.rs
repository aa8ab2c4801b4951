//! Draws by weight.

use super::Pool;

/// The candidates as pieces of one line, each as long as its weight: a draw is a place on it, found by binary search.
/// Made anew, linearly, when the epoch changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares {
    epoch: Option<u64>,
    /// Where each candidate's piece ends. Empty when all weigh the same, which needs no search.
    ends: Vec<u64>,
}

impl Shares {
    /// Before the draws of a pick.
    pub(super) fn update(&mut self, pool: &Pool<'_>) {
        if self.epoch == Some(pool.epoch()) {
            return;
        }
        self.epoch = Some(pool.epoch());
        self.ends.clear();
        let weights = || pool.candidates().iter().map(|&server| pool.weight(server as usize));
        let first = weights().next();
        if weights().all(|weight| Some(weight) == first) {
            return;
        }
        let mut end = 0_u64;
        self.ends.extend(weights().map(|weight| {
            end += u64::from(weight);
            end
        }));
    }

    /// A candidate, as likely as its weight. It may have been tried, or be full.
    pub(super) fn draw(&self, pool: &Pool<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
        let candidates = pool.candidates();
        let at = match self.ends.last() {
            Some(&total) if total > 0 => {
                let place = rng.u64(..total);
                self.ends.partition_point(|&end| end <= place)
            }
            _ if candidates.is_empty() => return None,
            _ => rng.usize(..candidates.len()),
        };
        candidates.get(at).map(|&server| server as usize)
    }
}
