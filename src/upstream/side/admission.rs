//! A request's place at a server, within all limits, and its end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::upstream::balance::Pick;
use crate::upstream::limits::Leave;
use crate::upstream::pool;
use crate::upstream::queue::Call;
use crate::upstream::roster::Roster;
use crate::upstream::server::{Condition, Server};
use crate::upstream::side::{Picked, Side, Unpicked};

/// A request that a server is busy with.
pub struct InFlight {
    side: Rc<Side>,
    server: usize,
}

impl Side {
    /// A place at the server, within the limits. The inner option is leave for a connection.
    pub(super) fn admit(&self, server: usize) -> Option<Option<Leave>> {
        if !self.has_limits {
            return Some(None);
        }
        let entry = &self.members.servers[server];
        let requests = |entry: &Server| entry.entry.max_requests;
        if self.config.max_requests.is_some_and(|max| !self.state.requests.take(max)) {
            return None;
        }
        if requests(entry).is_some_and(|max| !entry.state.requests.take(max)) {
            self.config.max_requests.inspect(|_| self.state.requests.give());
            return None;
        }
        match self.conns[server].leave() {
            Some(leave) => Some(leave),
            None => {
                self.release(server);
                None
            }
        }
    }

    pub(super) fn release(&self, server: usize) {
        if self.config.max_requests.is_some() {
            self.state.requests.give();
        }
        let server = &self.members.servers[server];
        if server.entry.max_requests.is_some() {
            server.state.requests.give();
        }
    }

    pub(super) fn picked(self: &Rc<Self>, pick: Pick, leave: Option<Leave>) -> Picked {
        self.members.servers[pick.server].state.begin(self.worker);
        self.state.begin(self.worker);
        let in_flight = InFlight { side: self.clone(), server: pick.server };
        Picked { server: pick.server, reason: pick.reason, in_flight, leave }
    }

    /// Where it is connections that are lacking, idle ones that the request cannot have make room: those of other workers
    /// are asked for, and here is closed what only another server would want. `own` is the one that it must have.
    pub(super) fn full(&self, roster: &Roster, own: Option<usize>, now: Duration) -> Unpicked {
        let ask = |server: usize| self.conns[server].ask_for_room();
        let lacks_connection = match own {
            Some(server) => ask(server),
            None => self.candidates(roster).filter(|&server| ask(server)).count() > 0,
        };
        let is_full = |max: u32| !self.state.connections.has_room(max);
        if lacks_connection && self.config.max_connections.is_some_and(is_full) {
            self.conns.iter().any(|conns| conns.close_one());
        }
        let is_for_others =
            self.candidates(roster).any(|server| self.has_room(server)) || self.has_room_for_sessions(now);
        Unpicked::Full { is_for_others }
    }

    /// Servers that drain have room too, for the sessions that they keep.
    fn has_room_for_sessions(&self, now: Duration) -> bool {
        let are_kept =
            matches!(self.config.sticky, Some(config::Sticky::Cookie(_) | config::Sticky::Learn(_)));
        let drains = |server: &Server| server.state.condition(now) == Condition::Draining;
        let mut servers = self.members.servers.iter().enumerate();
        are_kept && servers.any(|(index, server)| drains(server) && self.has_room(index))
    }

    pub(super) fn has_room(&self, server: usize) -> bool {
        if !self.has_limits {
            return true;
        }
        let at = &self.members.servers[server];
        self.config.max_requests.is_none_or(|max| self.state.requests.has_room(max))
            && at.entry.max_requests.is_none_or(|max| at.state.requests.has_room(max))
            && self.conns[server].has_room()
    }
}

impl InFlight {
    /// Who is busy with it.
    pub fn server(&self) -> &Arc<Server> {
        &self.side.members.servers[self.server]
    }

    /// It broke off its response.
    pub fn cut(&self, now: Duration) {
        let side = &self.side;
        self.server().state.note(true);
        pool::blame_cut(&side.config, &side.members, self.server(), now, &side.cells);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let side = &self.side;
        side.members.servers[self.server].state.end(side.worker);
        side.state.end(side.worker);
        let (group, index) = side.members.place_of(self.server);
        side.groups[group].strategy.borrow_mut().ended(index);
        if side.has_limits {
            side.release(self.server);
            side.state.queue.call(Call::Room);
        }
    }
}
