//! The configuration in force, as the control thread knows it: what the admin listener tells of.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::observe::Losses;
use crate::state::Snapshot;

/// The configuration in force, and what came of it.
pub struct InForce {
    snapshot: RefCell<Arc<Snapshot>>,
    addresses: RefCell<Vec<(String, SocketAddr)>>,
    /// Of the access log that there is.
    losses: RefCell<Option<Losses>>,
    /// Lines that earlier ones have lost.
    lost_before: Cell<u64>,
}

impl InForce {
    /// `addresses` are bound, in the order of the snapshot's listeners.
    pub fn new(
        snapshot: Arc<Snapshot>,
        addresses: Vec<(String, SocketAddr)>,
        losses: Option<Losses>,
    ) -> Self {
        InForce {
            snapshot: RefCell::new(snapshot),
            addresses: RefCell::new(addresses),
            losses: RefCell::new(losses),
            lost_before: Cell::new(0),
        }
    }

    /// The configuration.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// What is bound, by listener and in their order.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.addresses.borrow().clone()
    }

    /// Lines of access logs that were lost since the start; `None` where there was never one.
    pub fn lost(&self) -> Option<u64> {
        let (now, before) = (self.losses.borrow().as_ref().map(Losses::total), self.lost_before.get());
        now.map(|now| now + before).or((before > 0).then_some(before))
    }

    /// Another configuration takes the place of this one, which is returned.
    pub fn replace(&self, snapshot: Arc<Snapshot>, addresses: Vec<(String, SocketAddr)>) -> Arc<Snapshot> {
        self.addresses.replace(addresses);
        self.snapshot.replace(snapshot)
    }

    /// There is another access log, or none.
    pub fn replace_losses(&self, losses: Option<Losses>) {
        let before = self.losses.replace(losses);
        self.lost_before.set(self.lost_before.get() + before.map_or(0, |losses| losses.total()));
    }
}
