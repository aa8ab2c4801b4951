//! How many at once. Counted only where there is a limit: the number is shared by all workers, and a request without a
//! limit touches nothing that is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::upstream::pool_state::PoolState;
use crate::upstream::queue::Call;
use crate::upstream::server::ServerState;

/// A number of things at once that never passes its limit.
#[derive(Debug, Default)]
pub struct Ceiling {
    taken: AtomicU32,
    /// Someone found no room: what is kept only in case it is needed should go.
    is_wanted: AtomicBool,
}

impl Ceiling {
    /// One more, if that is within `max`.
    pub fn take(&self, max: u32) -> bool {
        let more = |taken: u32| (taken < max).then(|| taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
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

/// The limits on connections to one server.
pub struct Quota {
    /// The server's limit and the upstream's.
    pub max: (Option<u32>, Option<u32>),
    /// Where the first is counted.
    pub server: Arc<ServerState>,
    /// Where the second is.
    pub pool: Arc<PoolState>,
}

/// Leave for one connection; given back when it is dropped.
pub struct Leave(Arc<Quota>);

impl Quota {
    /// Leave for one more connection; otherwise idle ones are asked for.
    pub fn take(self: &Arc<Self>) -> Option<Leave> {
        let [server, pool] = self.ceilings();
        if let (ceiling, Some(max)) = server
            && !ceiling.take(max)
        {
            ceiling.is_wanted.store(true, Relaxed);
            return None;
        }
        if let (ceiling, Some(max)) = pool
            && !ceiling.take(max)
        {
            ceiling.is_wanted.store(true, Relaxed);
            if server.1.is_some() {
                server.0.give();
            }
            return None;
        }
        Some(Leave(self.clone()))
    }

    /// Whether [`Quota::take`] would work now.
    pub fn has_room(&self) -> bool {
        let [server, pool] = self.ceilings();
        [server, pool].into_iter().all(|(ceiling, max)| max.is_none_or(|max| ceiling.has_room(max)))
    }

    /// Whether someone waits for a connection that another one keeps idle; asking makes it false.
    pub fn is_wanted(&self) -> bool {
        let [server, pool] = self.ceilings();
        [server.0, pool.0]
            .into_iter()
            .any(|ceiling| ceiling.is_wanted.load(Relaxed) && ceiling.is_wanted.swap(false, Relaxed))
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
        self.0.pool.queue.call(Call::Room);
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
