//! How often a key has been asked for, about: enough to tell what is asked for once from what is not.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use crate::cache::key::Key;

/// Counters; a power of two. Keys that share one are counted together, so that some are stored early.
const COUNTERS: usize = 1 << 16;

/// After so many counts all counters are halved: a use counts for as long as it is recent.
const COUNTS_BETWEEN_HALVINGS: u32 = 4 * COUNTERS as u32;

/// Counts of recent uses.
pub(super) struct Uses {
    counters: Box<[AtomicU8]>,
    counts: AtomicU32,
}

impl Default for Uses {
    fn default() -> Self {
        Self { counters: (0..COUNTERS).map(|_| AtomicU8::new(0)).collect(), counts: AtomicU32::new(0) }
    }
}

impl Uses {
    /// Counts a use of `key`; how many there have been lately, this one included.
    pub(super) fn count(&self, key: &Key) -> u8 {
        if self.counts.fetch_add(1, Relaxed) % COUNTS_BETWEEN_HALVINGS == COUNTS_BETWEEN_HALVINGS - 1 {
            for counter in &self.counters {
                counter.store(counter.load(Relaxed) / 2, Relaxed);
            }
        }
        let counter = &self.counters[key.spread() % COUNTERS];
        let now = counter.load(Relaxed).saturating_add(1);
        counter.store(now, Relaxed);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_counted_by_key_and_forgotten_with_time() {
        let uses = Uses::default();
        let key = Key::new("app", "http", "h", "/");

        assert_eq!([uses.count(&key), uses.count(&key), uses.count(&key)], [1, 2, 3]);
        let other = (0..100).map(|n| Key::new("app", "http", "h", &format!("/{n}")));
        assert!(other.filter(|key| uses.count(key) == 1).count() > 95);

        for _ in 0..COUNTS_BETWEEN_HALVINGS {
            uses.count(&Key::new("app", "http", "h", "/busy"));
        }
        assert!(uses.count(&key) < 4);
    }
}
