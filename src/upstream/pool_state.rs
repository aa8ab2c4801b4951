//! What workers share of an upstream, found again by the next configuration.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crossbeam_utils::CachePadded;

use crate::upstream::learned::Sessions;
use crate::upstream::limits::Ceiling;
use crate::upstream::queue::Queue;

/// An upstream's state, as long as the process lives.
pub struct PoolState {
    /// Grows whenever a server's condition changes.
    epoch: CachePadded<AtomicU64>,
    /// One per worker, written by that worker alone.
    in_flight: Box<[CachePadded<AtomicU32>]>,
    /// Requests at once, counted where there is a limit.
    pub requests: Ceiling,
    /// Connections at once, counted where there is a limit.
    pub connections: Ceiling,
    /// Retries at once.
    pub retries: Ceiling,
    /// Requests that wait for a server.
    pub queue: Arc<Queue>,
    /// Sessions that servers have opened.
    pub sessions: Sessions,
}

impl PoolState {
    /// Nothing has happened yet.
    pub fn new(workers: usize) -> Self {
        PoolState {
            epoch: CachePadded::default(),
            in_flight: (0..workers).map(|_| CachePadded::default()).collect(),
            requests: Ceiling::default(),
            connections: Ceiling::default(),
            retries: Ceiling::default(),
            queue: Arc::default(),
            sessions: Sessions::new(),
        }
    }

    /// Another number since a server's condition has changed.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// A server's condition has changed: workers look again at who may serve. Whoever sees the new number sees the condition.
    pub fn changed(&self) {
        self.epoch.fetch_add(1, Release);
    }

    /// Requests that its servers are busy with.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.iter().map(|cell| u64::from(cell.load(Relaxed))).sum()
    }

    /// A request of this worker begins.
    pub fn begin(&self, worker: usize) {
        let cell = &self.in_flight[worker];
        cell.store(cell.load(Relaxed) + 1, Relaxed);
    }

    /// A request of this worker has ended.
    pub fn end(&self, worker: usize) {
        let cell = &self.in_flight[worker];
        cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
    }
}
