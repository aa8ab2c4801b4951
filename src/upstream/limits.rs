//! How many at once. Counted only where there is a limit: the number is shared by all workers, and a request without a
//! limit touches nothing that is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::upstream::pool_state::PoolState;
use crate::upstream::queue::Call;
use crate::upstream::server::ServerState;

/// A number of things at once that never passes its limit.
#[derive(Debug, Default)]
pub struct Ceiling {
    taken: AtomicU32,
    /// The last who found no room, until someone finds some: a worker, counted from 1. What the others keep only in case
    /// it is needed should go.
    wanted_by: AtomicU32,
}

impl Ceiling {
    /// One more, if that is within `max`.
    pub fn take(&self, max: u32) -> bool {
        let more = |taken: u32| (taken < max).then(|| taken + 1);
        let is_taken = self.taken.fetch_update(Relaxed, Relaxed, more).is_ok();
        if is_taken && self.wanted_by.load(Relaxed) != 0 {
            self.wanted_by.store(0, Relaxed);
        }
        is_taken
    }

    /// One less.
    pub fn give(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }

    /// How many there are.
    pub fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    /// Whether [`Ceiling::take`] would work now.
    pub fn has_room(&self, max: u32) -> bool {
        self.taken() < max
    }
}

/// A server's limit and its upstream's.
pub type QuotaMax = (Option<u32>, Option<u32>);

/// The limits on connections to one server.
pub struct Quota {
    /// Those that are configured.
    pub max: QuotaMax,
    /// Where the first is counted.
    pub server: Arc<ServerState>,
    /// Where the second is.
    pub pool: Arc<PoolState>,
}

/// Leave for one connection; given back when it is dropped.
pub struct Leave(Arc<Quota>);

impl Quota {
    /// Leave for one more connection.
    pub fn take(self: &Arc<Self>) -> Option<Leave> {
        let [server, pool] = self.ceilings();
        if server.1.is_some_and(|max| !server.0.take(max)) {
            return None;
        }
        if pool.1.is_some_and(|max| !pool.0.take(max)) {
            server.1.inspect(|_| server.0.give());
            return None;
        }
        Some(Leave(self.clone()))
    }

    /// Whether [`Quota::take`] would work now.
    pub fn has_room(&self) -> bool {
        let [server, pool] = self.ceilings();
        [server, pool].into_iter().all(|(ceiling, max)| max.is_none_or(|max| ceiling.has_room(max)))
    }

    /// Other workers are asked to give up what they keep idle, for a request of `worker`.
    pub fn want(&self, worker: usize) {
        for (ceiling, max) in self.ceilings() {
            if max.is_some_and(|max| !ceiling.has_room(max)) {
                ceiling.wanted_by.store(worker as u32 + 1, Relaxed);
            }
        }
    }

    /// Whether a request of another worker than `worker` waits for what that keeps idle.
    pub fn is_wanted(&self, worker: usize) -> bool {
        let is_other = |(ceiling, _): (&Ceiling, _)| {
            let by = ceiling.wanted_by.load(Relaxed);
            by != 0 && by != worker as u32 + 1
        };
        // Whoever wanted it may have gone without it.
        !self.pool.queue.is_empty() && self.ceilings().into_iter().any(is_other)
    }

    fn ceilings(&self) -> [(&Ceiling, Option<u32>); 2] {
        [(&self.server.connections, self.max.0), (&self.pool.connections, self.max.1)]
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        for (ceiling, max) in self.0.ceilings() {
            if max.is_some() {
                ceiling.give();
            }
        }
        // The request that had it makes room too: that is one room, not two.
        self.0.pool.queue.call(Call::Look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_is_never_passed_and_what_is_given_back_can_be_taken_again() {
        let ceiling = Ceiling::default();
        assert!(ceiling.take(2) && ceiling.take(2));
        assert!(!ceiling.has_room(2) && !ceiling.take(2));
        ceiling.give();
        assert!(ceiling.has_room(2) && ceiling.take(2));
        assert_eq!(ceiling.taken(), 2);
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let ceiling = Ceiling::default();
        let taken: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1000).filter(|_| ceiling.take(777)).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(0) as u32).sum()
        });
        assert_eq!((taken, ceiling.taken()), (777, 777));
    }
}
