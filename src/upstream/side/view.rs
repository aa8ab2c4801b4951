//! What a strategy sees of one group of servers.

use crate::upstream::balance::Servers;
use crate::upstream::roster::Rank;
use crate::upstream::side::Side;

/// What a strategy sees of one group.
pub(super) struct View<'a> {
    pub side: &'a Side,
    pub rank: &'a Rank,
    pub first: usize,
    pub epoch: u64,
}

impl Servers for View<'_> {
    fn len(&self) -> usize {
        self.rank.is_candidate.len()
    }

    fn candidates(&self) -> &[u32] {
        &self.rank.candidates
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn is_candidate(&self, server: usize) -> bool {
        self.rank.is_candidate.get(server).is_some_and(|is| *is)
    }

    fn weight(&self, server: usize) -> u32 {
        self.side.members.servers[self.first + server].weight
    }

    fn in_flight(&self, server: usize) -> u32 {
        self.side.members.servers[self.first + server].state.in_flight()
    }

    fn in_flight_of_all(&self) -> u64 {
        self.side.state.in_flight()
    }

    fn has_room(&self, server: usize) -> bool {
        self.side.has_room(self.first + server)
    }
}
