//! What must hold at each step.

use std::time::Duration;

use crate::clock::TICK;
use crate::config::Sticky;
use crate::upstream::balance::PickReason;
use crate::upstream::server::Condition;
use crate::upstream::side::Picked;
use crate::upstream::simulation::world::{Checked, World};

/// Beyond a tick: a call that goes through a whole queue wakes one after the other.
const SLACK: Duration = Duration::from_millis(20);

impl World<'_> {
    fn servers(&self) -> std::ops::Range<usize> {
        0..self.beliefs.servers.len()
    }

    /// The server that a request's session belongs to, while it may have the request.
    fn home(&self, number: usize) -> Option<usize> {
        let live = self.one(number);
        let home = match &self.config.sticky {
            Some(Sticky::Cookie(_)) => live.wish.home,
            Some(Sticky::Learn(_)) => live.wish.cookie().and_then(|cookie| self.homes.get(cookie)).copied(),
            Some(Sticky::Hash(_)) | None => None,
        };
        home.filter(|&home| self.beliefs.may_keep(home, self.now) && !live.tried.contains(&home))
    }

    /// Whether someone but `tried` may serve, now or when there is room.
    pub(super) fn has_anybody_but(&self, tried: &[usize]) -> bool {
        self.servers().any(|server| self.beliefs.is_candidate(server, self.now) && !tried.contains(&server))
    }

    /// Whether someone may serve who answered whoever asked last.
    pub(super) fn does_any_answer_but(&self, tried: &[usize]) -> bool {
        self.servers().any(|server| {
            self.beliefs.is_candidate(server, self.now)
                && !tried.contains(&server)
                && !self.beliefs.servers[server].is_failing
        })
    }

    /// Whether someone may serve this request, now or when there is room.
    pub(super) fn has_anybody_for(&self, number: usize) -> bool {
        self.home(number).is_some() || self.has_anybody_but(&self.one(number).tried)
    }

    /// Who may have this request at once, unless it is bound to one.
    pub(super) fn eligible(&self, number: usize) -> Vec<usize> {
        let tried = &self.one(number).tried;
        let may = |&server: &usize| {
            self.beliefs.is_candidate(server, self.now)
                && !tried.contains(&server)
                && self.at_once.has_room(self.config, server)
        };
        self.servers().filter(may).collect()
    }

    /// Whether this request could be with a server at once.
    pub(super) fn has_room_for(&self, number: usize) -> bool {
        match self.home(number) {
            Some(home) => self.at_once.has_room(self.config, home),
            None => !self.eligible(number).is_empty(),
        }
    }

    /// A server was picked. Nothing has been counted for it yet.
    pub(super) fn check_pick(&mut self, number: usize, picked: &Picked) -> Checked {
        let (now, server) = (self.now, picked.server);
        let who =
            |why: &str| Err(format!("r{number} is given to s{server} ({}): {why}", picked.reason.as_str()));
        if self.one(number).tried.contains(&server) {
            return who("it has failed this request");
        }
        if !self.at_once.has_room(self.config, server) {
            return who("it is full");
        }
        if self.beliefs.is_panicking(now) {
            self.tally.note("panicked");
        }
        if picked.reason == PickReason::SlowStart {
            self.tally.note("last resort");
        }
        if let Some(home) = self.home(number) {
            if self.beliefs.servers[server].is_draining && home == server {
                self.tally.note("kept by a draining server");
            }
            self.tally.note("stayed");
            return if home == server { Ok(()) } else { who(&format!("its session is at s{home}")) };
        }
        if self.one(number).wish.cookie().is_some() && self.config.sticky.is_some() {
            self.tally.note("moved");
        }
        if !self.beliefs.is_candidate(server, now) {
            return who("it may not serve");
        }
        let eligible = self.eligible(number);
        self.check_last(number, server, &eligible)?;
        self.check_group(number, server, &eligible)?;
        self.check_hash(number, server, &eligible)?;
        self.count_share(number, server);
        Ok(())
    }

    /// Those that a request avoids are the last.
    fn check_last(&self, number: usize, server: usize, eligible: &[usize]) -> Checked {
        let avoided = &self.one(number).avoided;
        let is_hashed = matches!(self.config.sticky, Some(Sticky::Hash(_)));
        if is_hashed || !avoided.contains(&server) {
            return Ok(());
        }
        match eligible.iter().find(|other| !avoided.contains(other)) {
            Some(other) => Err(format!("r{number} avoids s{server}, and there is s{other}")),
            None => Ok(()),
        }
    }

    /// A group serves when it has a share, or when nobody is left of those that have one and of those before it.
    fn check_group(&mut self, number: usize, server: usize, eligible: &[usize]) -> Checked {
        let own = self.beliefs.servers[server].priority;
        let shares = self.beliefs.shares(self.now);
        let share =
            |priority: u32| shares.iter().find(|(other, _)| *other == priority).map_or(0.0, |(_, s)| *s);
        if share(own) > 0.001 {
            return Ok(());
        }
        self.tally.note("helped out");
        let avoided = &self.one(number).avoided;
        let is_passed_over =
            |other: usize| !avoided.contains(&other) && !self.beliefs.is_ramping(other, self.now);
        // Of one group that has a share everybody is gone.
        let is_gone = |priority: u32| {
            !eligible.iter().any(|&o| self.beliefs.servers[o].priority == priority && is_passed_over(o))
        };
        let sharing = shares.iter().filter(|(_, share)| *share > 0.001);
        let is_right = sharing.clone().any(|(priority, _)| is_gone(*priority))
            && shares.iter().filter(|(priority, _)| *priority < own).all(|(priority, _)| is_gone(*priority));
        match is_right {
            true => Ok(()),
            false => {
                Err(format!("r{number} is given to s{server}, a backup of {shares:?}, {eligible:?} could"))
            }
        }
    }

    /// Of those who wait without any bond, nobody is overtaken who sleeps and could have had the same server.
    pub(super) fn check_turn(&self, number: usize, server: usize) -> Checked {
        // Whoever came back a moment ago is offered to the first at the next tick.
        let is_settled = |other: usize| self.now.saturating_sub(self.beliefs.out_until(other)) > TICK + SLACK;
        if self.now.saturating_sub(self.beliefs.changed) < TICK + SLACK || !self.servers().all(is_settled) {
            return Ok(());
        }
        let mut before = self.waiting.iter().take_while(|other| **other != number);
        // A call that is passed on may meet room that came free on its way: then it races with whoever was called for that.
        if before.clone().any(|&other| self.one(other).is_woken) {
            return Ok(());
        }
        let is_free = |number: usize| {
            let live = self.one(number);
            live.tried.is_empty() && live.avoided.is_empty() && self.home(number).is_none()
        };
        match before.find(|&&other| is_free(other) && self.beliefs.is_candidate(server, self.now)) {
            Some(other) => Err(format!("r{number} overtakes r{other}, who sleeps")),
            None => Ok(()),
        }
    }

    /// Where room came free, somebody is on the way to it; the tick is for what nobody calls for.
    pub(super) fn check_offer(&mut self) -> Checked {
        if !std::mem::take(&mut self.is_offered)
            || self.waiting.iter().any(|&number| self.one(number).is_woken)
        {
            return Ok(());
        }
        match self.waiting.iter().find(|&&number| self.has_room_for(number)) {
            Some(number) => Err(format!("nobody is called, and there is room for r{number}")),
            None => Ok(()),
        }
    }

    /// Nobody sleeps while there is room for it for longer than a tick.
    pub(super) fn check_who_waits(&mut self) -> Checked {
        for index in 0..self.waiting.len() {
            let number = self.waiting[index];
            let is_idle = !self.one(number).is_woken && self.has_room_for(number);
            let now = self.now;
            let Some(live) = self.live[number].as_mut() else { continue };
            live.room_since = if is_idle { live.room_since.or(Some(now)) } else { None };
            if live.room_since.is_some_and(|since| now - since > TICK + SLACK) {
                return Err(format!(
                    "r{number} sleeps since {:?}, and there is room for it",
                    live.room_since
                ));
            }
        }
        Ok(())
    }

    /// After what may have ejected a server: it is so exactly when it is due.
    pub(super) fn check_ejection(&mut self, server: usize, is_due: bool, why: &str) -> Checked {
        let state = &self.stage.upstream.members().servers[server].state;
        let until = state.changes_at(self.now).filter(|until| *until != self.beliefs.out_until(server));
        if is_due != until.is_some() {
            return Err(format!("s{server} after {why}: ejected until {until:?}, due: {is_due}"));
        }
        if let Some(until) = until {
            self.tally.note("ejected");
            self.note(|| format!("s{server} is ejected until {until:?}: {why}"));
            self.beliefs.ejected(server, until, self.now)?;
        }
        self.check_condition(server)
    }

    /// The code believes what may be believed.
    pub(super) fn check_condition(&self, server: usize) -> Checked {
        let (now, state) = (self.now, &self.stage.upstream.members().servers[server].state);
        let (found, expected) = (state.condition(now), self.beliefs.servers[server].condition(now));
        if found != expected {
            return Err(format!("s{server} is {found:?}, not {expected:?}"));
        }
        let ramp = (f64::from(state.ramp(now, self.config.slow_start)), self.beliefs.ramp(server, now));
        // It is kept in milliseconds, and in thousandths.
        match (ramp.0 - 1000.0 * ramp.1).abs() < 5.0 {
            true => Ok(()),
            false => Err(format!("s{server} has {ramp:?} of its share")),
        }
    }

    /// Both books agree on what there is at once.
    pub(super) fn check_counts(&self) -> Checked {
        let (state, config) = (&self.stage.upstream.state, self.config);
        let (requests, connections) = (&self.at_once.requests, &self.at_once.connections);
        let mut pairs = vec![
            ("requests in flight", state.in_flight() as u32, requests.iter().sum()),
            ("retries", state.retries.taken(), self.at_once.retries),
            ("who waits", state.queue.len() as u32, self.waiting.len() as u32),
        ];
        let mut limited = |max: Option<u32>, what, taken: u32, own: u32| {
            pairs.push((what, taken, if max.is_some() { own } else { 0 }));
        };
        limited(config.max_requests, "requests", state.requests.taken(), requests.iter().sum());
        limited(config.max_connections, "connections", state.connections.taken(), connections.iter().sum());
        for (index, server) in self.stage.upstream.members().servers.iter().enumerate() {
            let (of, at) = (&config.servers[index], &server.state);
            limited(of.max_requests, "a server's requests", at.requests.taken(), requests[index]);
            limited(of.max_connections, "a server's connections", at.connections.taken(), connections[index]);
            limited(Some(0), "a server's requests in flight", at.in_flight(), requests[index]);
            self.check_condition(index)?;
            let (found, own) = (at.tallies(), self.totals[index]);
            if (found.attempts, found.failures) != (own.attempts, own.failures) {
                return Err(format!("s{index} has {found:?}, not {own:?}"));
            }
        }
        match pairs.iter().find(|(_, found, own)| found != own) {
            Some((what, found, own)) => Err(format!("{what}: {found}, not {own}")),
            None => Ok(()),
        }
    }

    /// At the end there is nothing left.
    pub(super) fn is_over(&self) -> Checked {
        self.check_counts()?;
        let left = self.live.iter().flatten().count() + self.waiting.len();
        if left > 0 || self.at_once.requests.iter().sum::<u32>() > 0 || self.at_once.retries > 0 {
            return Err(format!("{left} requests are left"));
        }
        let servers = &self.stage.upstream.members().servers;
        if servers.iter().any(|server| server.state.condition(Duration::MAX) == Condition::Ejected) {
            return Err("an ejection never ends".to_owned());
        }
        self.check_shares()
    }
}
