//! One worker's side of an upstream's servers: who may serve, who is next, and its connections to them.

mod admission;
mod view;

use std::cell::{Cell, Ref, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config;
use crate::fields::Fields;
use crate::net::tls::Connector;
use crate::observe::Cells;
use crate::upstream::balance::{Heard, KeyKind, Memory, Pick, PickReason, Pool, Strategy};
use crate::upstream::conns::Conns;
use crate::upstream::health_state::Outcome;
use crate::upstream::key;
use crate::upstream::learned;
use crate::upstream::limits::{Leave, Quota};
use crate::upstream::members::Members;
use crate::upstream::pool_state::PoolState;
use crate::upstream::queue::Call;
use crate::upstream::roster::{self, Roster};
use crate::upstream::server::{Condition, Server};
use crate::upstream::side::view::View;

pub use admission::InFlight;

/// Draws again when a server that has just come back is spared; then it gets the request after all.
pub(super) const SPARED_MAX: usize = 3;

/// One worker's side of [`Members`].
pub struct Side {
    /// The servers.
    pub members: Arc<Members>,
    /// One per server.
    pub conns: Vec<Rc<Conns>>,
    config: Arc<config::Upstream>,
    state: Arc<PoolState>,
    cells: Cells,
    worker: usize,
    groups: Vec<GroupSide>,
    roster: RefCell<Roster>,
    /// Of the roster: [`PoolState::epoch`] when it was made.
    made_at: Cell<u64>,
    /// Grows with every roster.
    epoch: Cell<u64>,
    has_limits: bool,
}

struct GroupSide {
    strategy: RefCell<Box<dyn Strategy>>,
    key: KeyKind,
    by_hash: Option<RefCell<Box<dyn Strategy>>>,
}

/// What a pick looks at.
#[derive(Clone, Copy)]
pub struct Asks<'a> {
    /// The client, as believed.
    pub client: IpAddr,
    /// The request's path.
    pub path: &'a str,
    /// Its query, without the question mark.
    pub query: &'a str,
    /// The host it asks for, perhaps with a port.
    pub authority: &'a str,
    /// The request's fields.
    pub fields: &'a Fields,
}

/// Connections that are closed as soon as they are at rest.
pub struct Leaving {
    /// To whom.
    pub server: Arc<Server>,
    /// Them.
    pub conns: Rc<Conns>,
}

/// A server for a request, and its place there.
pub struct Picked {
    /// Index into [`Members::servers`].
    pub server: usize,
    /// Why this one.
    pub reason: PickReason,
    /// The server is busy with the request until this is dropped.
    pub in_flight: InFlight,
    /// Leave for a connection, where they are limited and none is idle.
    pub leave: Option<Leave>,
}

/// Why there is no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpicked {
    /// None may serve.
    Nobody,
    /// Those that may serve have as much to do as they may.
    Full {
        /// There is room that this request may not have.
        is_for_others: bool,
    },
}

impl Side {
    /// `worker`'s side. Connections of `before` to servers that stay are kept. `seed` differs between workers.
    pub fn new(
        members: Arc<Members>,
        config: &Arc<config::Upstream>,
        state: &Arc<PoolState>,
        cells: Cells,
        worker: usize,
        seed: u64,
        before: Option<&Side>,
    ) -> Rc<Self> {
        let groups = members.groups.iter().map(|group| {
            let (mut strategy, by_hash) = group.for_worker(seed);
            if let Some(before) = before {
                strategy.remember(before.memories(&members.servers[group.range.clone()]));
            }
            let key = strategy.key();
            GroupSide { strategy: RefCell::new(strategy), key, by_hash: by_hash.map(RefCell::new) }
        });
        let has_limits = config.max_requests.is_some()
            || config.max_connections.is_some()
            || members
                .servers
                .iter()
                .any(|s| s.entry.max_requests.is_some() || s.entry.max_connections.is_some());
        let conns = members.servers.iter().map(|server| {
            let known = before.and_then(|side| side.conns_that_fit(server, config));
            known.unwrap_or_else(|| {
                let quota = quota(config, state, server);
                Conns::new(worker, config.idle_connections, config.idle_timeout, quota)
            })
        });
        Rc::new(Side {
            conns: conns.collect(),
            groups: groups.collect(),
            config: config.clone(),
            state: state.clone(),
            cells,
            worker,
            roster: RefCell::new(Roster { groups: Vec::new(), is_panicking: false, until: Duration::ZERO }),
            made_at: Cell::new(0),
            epoch: Cell::new(0),
            has_limits,
            members,
        })
    }

    /// Its connections to `server`, where `config` would have them as they are.
    fn conns_that_fit(&self, server: &Server, config: &config::Upstream) -> Option<Rc<Conns>> {
        let index = self.members.index_of(&server.id)?;
        let (own, conns) = (&self.members.servers[index], &self.conns[index]);
        let trust = |server: &Server| server.entry.tls.as_ref().map(Connector::mark);
        // The same name may have got another address.
        let is_same = own.address == server.address && trust(own) == trust(server);
        let max = (server.entry.max_connections, config.max_connections);
        let fits = conns.has_limits(config.idle_connections, config.idle_timeout, max);
        (is_same && fits).then(|| conns.clone())
    }

    /// Whether a request may have to wait for others.
    pub fn has_limits(&self) -> bool {
        self.has_limits
    }

    /// What its strategies have learned of `servers`.
    fn memories(&self, servers: &[Arc<Server>]) -> Vec<Option<Memory>> {
        let memory = |server: &Arc<Server>| {
            let (group, index) = self.members.place_of(self.members.index_of(&server.id)?);
            self.groups[group].strategy.borrow().memory(index)
        };
        servers.iter().map(memory).collect()
    }

    /// Connections that `next` has not taken over are closed when they are at rest.
    pub fn retire(&self, next: Option<&Side>) -> Vec<Leaving> {
        let stays = |server: &Server, conns: &Rc<Conns>| {
            let index = next.and_then(|next| next.members.index_of(&server.id));
            index.zip(next).is_some_and(|(index, next)| Rc::ptr_eq(&next.conns[index], conns))
        };
        let all = self.members.servers.iter().zip(&self.conns);
        let gone = all.filter(|(server, conns)| !stays(server, conns));
        gone.map(|(server, conns)| {
            conns.retire();
            Leaving { server: server.clone(), conns: conns.clone() }
        })
        .collect()
    }

    /// A server for a request that none of `tried` may have, and its place there. Those of `rather_not` come last of their
    /// group.
    pub fn pick(
        self: &Rc<Self>,
        asks: &Asks<'_>,
        tried: &[usize],
        rather_not: &[usize],
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Result<Picked, Unpicked> {
        let roster = self.roster(now);
        // A name that does not resolve stands for nobody.
        if roster.groups.is_empty() {
            return Err(Unpicked::Nobody);
        }
        if let Some(server) = self.home(&roster, asks, tried, now) {
            return match self.admit(server) {
                Some(leave) => Ok(self.picked(Pick { server, reason: PickReason::Sticky }, leave)),
                None => Err(self.full(&roster, Some(server), now)),
            };
        }
        // Beside those that were tried: those that another worker was quicker for, and then those that are spared.
        let (mut out, mut spared) = (Vec::new(), 0);
        loop {
            let without = if out.is_empty() { tried } else { &out };
            let Some(pick) = self.next(&roster, asks, [without, rather_not], now, rng) else {
                // One that is spared is better than nobody.
                let last = &out[out.len() - spared..];
                let last = last.iter().find_map(|&server| Some((server, self.admit(server)?)));
                return match last {
                    Some((server, leave)) => {
                        Ok(self.picked(Pick { server, reason: PickReason::SlowStart }, leave))
                    }
                    None if self.candidates(&roster).any(|server| !tried.contains(&server)) => {
                        Err(self.full(&roster, None, now))
                    }
                    None => Err(Unpicked::Nobody),
                };
            };
            // In a panic all are to carry what few cannot, those too that were ejected a moment ago.
            let is_spared =
                spared < SPARED_MAX && !roster.is_panicking && self.is_spared(pick.server, asks, now, rng);
            if !is_spared && let Some(leave) = self.admit(pick.server) {
                return Ok(self.picked(pick, leave));
            }
            if out.is_empty() {
                out.extend_from_slice(tried);
            }
            let at = if is_spared { out.len() } else { out.len() - spared };
            out.insert(at, pick.server);
            spared += usize::from(is_spared);
        }
    }

    /// The server that the client belongs to, while that one may have a request that `tried` may not have.
    fn home(&self, roster: &Roster, asks: &Asks<'_>, tried: &[usize], now: Duration) -> Option<usize> {
        let server = self.bound_to(asks, now)?;
        let may_stay = self.is_candidate(roster, server)
            || self.members.servers[server].state.condition(now) == Condition::Draining;
        (may_stay && !tried.contains(&server)).then_some(server)
    }

    /// Whether the client has a session, and with a server that may have its request.
    pub fn is_at_home(&self, asks: &Asks<'_>, tried: &[usize], now: Duration) -> bool {
        self.session_key(asks).is_some() || self.home(&self.roster(now), asks, tried, now).is_some()
    }

    /// The server that the client belongs to.
    pub fn bound_to(&self, asks: &Asks<'_>, now: Duration) -> Option<usize> {
        match self.config.sticky.as_ref()? {
            config::Sticky::Cookie(sticky) => {
                let value = crate::fields::cookie(asks.fields, &sticky.name)?;
                self.members.sticky.as_ref()?.server_of(value)
            }
            config::Sticky::Learn(rules) => {
                let session = learned::session_of(asks.fields, rules)?;
                let id = self.state.sessions.server_of(session, rules, now)?;
                self.members.index_of(&id)
            }
            config::Sticky::Hash(_) => None,
        }
    }

    /// Whether anyone but `tried` may serve, now or when there is room.
    pub fn may_any_serve(&self, tried: &[usize], now: Duration) -> bool {
        self.candidates(&self.roster(now)).any(|server| !tried.contains(&server))
    }

    /// Those that may serve, but failed whoever asked them last; at most `count`.
    pub fn failing(&self, count: usize, now: Duration) -> Vec<usize> {
        let roster = self.roster(now);
        let is_failing = |server: &usize| self.members.servers[*server].state.is_failing();
        self.candidates(&roster).filter(is_failing).take(count).collect()
    }

    /// Whether anyone but `tried` may serve and answered whoever asked last.
    pub fn does_any_answer(&self, tried: &[usize], now: Duration) -> bool {
        self.candidates(&self.roster(now))
            .any(|server| !tried.contains(&server) && !self.members.servers[server].state.is_failing())
    }

    /// An attempt was answered, or failed; `outcome` says whether that was the server's fault.
    pub fn heard(&self, server: usize, heard: &Heard, outcome: Outcome, now: Duration) {
        self.members.servers[server].state.tally(self.worker, outcome, heard.took);
        let (group, index) = self.members.place_of(server);
        self.groups[group].strategy.borrow_mut().learn(index, heard, now);
    }

    /// Closes connections that have been idle for too long, and those that others wait for.
    pub fn sweep(&self, now: Instant) {
        self.conns.iter().for_each(|conns| conns.sweep(now));
    }

    /// Called each [`crate::clock::TICK`]: time may have made room.
    pub fn tick(&self) {
        if self.has_limits && !self.state.queue.is_empty() {
            self.conns.iter().for_each(|conns| conns.make_room());
            self.state.queue.call(Call::Look);
        }
    }

    /// Without the first of `without`, and rather without the others.
    fn next(
        &self,
        roster: &Roster,
        asks: &Asks<'_>,
        without: [&[usize]; 2],
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Pick> {
        let first = self.group(roster, asks, rng);
        // A retry, or a full group, goes on to the others in the order of their priority.
        let others = (0..self.groups.len()).filter(|&group| group != first);
        std::iter::once(first)
            .chain(others)
            .find_map(|group| self.next_in(roster, group, asks, without, now, rng))
    }

    fn next_in(
        &self,
        roster: &Roster,
        group: usize,
        asks: &Asks<'_>,
        without: [&[usize]; 2],
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Pick> {
        let (side, first) = (&self.groups[group], self.members.groups[group].range.start);
        let view = View { side: self, rank: &roster.groups[group], first, epoch: self.epoch.get() };
        let mut choose =
            |tried: &[usize]| self.choose(side, &Pool::new(&view, tried, now).starting_at(first), asks, rng);
        let rather = match without[1] {
            [] => None,
            rather_not => choose(&[without[0], rather_not].concat()),
        };
        let pick = rather.or_else(|| choose(without[0]))?;
        let reason = if roster.is_panicking { PickReason::Panic } else { pick.reason };
        Some(Pick { server: pick.server + first, reason })
    }

    fn choose(
        &self,
        side: &GroupSide,
        pool: &Pool<'_>,
        asks: &Asks<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<Pick> {
        let session = side.by_hash.as_ref().and_then(|strategy| Some((strategy, self.session_key(asks)?)));
        if let Some((strategy, key)) = session {
            let pick = strategy.borrow_mut().pick(pool, Some(key), rng)?;
            return Some(Pick { reason: PickReason::Sticky, ..pick });
        }
        side.strategy.borrow_mut().pick(pool, self.strategy_key(side, asks), rng)
    }

    /// The group whose turn it is. Where keys are hashed, the key decides: it belongs to one group, as to one server.
    fn group(&self, roster: &Roster, asks: &Asks<'_>, rng: &mut fastrand::Rng) -> usize {
        if roster.is_undivided() {
            return roster.groups.iter().position(|rank| rank.share > 0).unwrap_or(0);
        }
        let draw = match self.key(asks) {
            Some(key) => of_whole(key::mix(key)),
            None => rng.u32(..roster::WHOLE),
        };
        roster.group_of(draw)
    }

    fn session_key(&self, asks: &Asks<'_>) -> Option<u64> {
        match self.config.sticky.as_ref()? {
            config::Sticky::Hash(what) => key::of(what, asks),
            _ => None,
        }
    }

    /// What a request is told by, where keys are hashed: its session first, as in a group.
    fn key(&self, asks: &Asks<'_>) -> Option<u64> {
        self.session_key(asks).or_else(|| self.strategy_key(&self.groups[0], asks))
    }

    fn strategy_key(&self, side: &GroupSide, asks: &Asks<'_>) -> Option<u64> {
        match side.key {
            KeyKind::None => None,
            KeyKind::Configured => key::of(&self.config.hash, asks),
            KeyKind::ClientNetwork => Some(key::network(asks.client)),
        }
    }

    /// Whether a server that has just come back is not to get this request yet. Where keys are hashed, the key decides: it
    /// goes back to its server once, and stays.
    fn is_spared(&self, server: usize, asks: &Asks<'_>, now: Duration, rng: &mut fastrand::Rng) -> bool {
        let ramp = self.members.servers[server].state.ramp(now, self.config.slow_start);
        if ramp >= roster::WHOLE {
            return false;
        }
        let draw = match self.key(asks) {
            // Mixed twice: the group's keys are not to be those that come back last.
            Some(key) => of_whole(key::mix(key)),
            None => rng.u32(..roster::WHOLE),
        };
        draw >= ramp
    }

    fn is_candidate(&self, roster: &Roster, server: usize) -> bool {
        let (group, index) = self.members.place_of(server);
        roster.groups[group].is_candidate[index]
    }

    fn candidates(&self, roster: &Roster) -> impl Iterator<Item = usize> {
        self.members
            .groups
            .iter()
            .zip(&roster.groups)
            .flat_map(|(group, rank)| rank.candidates.iter().map(|index| group.range.start + *index as usize))
    }

    fn roster(&self, now: Duration) -> Ref<'_, Roster> {
        let epoch = self.state.epoch();
        if self.made_at.get() != epoch || now >= self.roster.borrow().until {
            self.roster.replace(self.members.roster(&self.config, now));
            self.made_at.set(epoch);
            self.epoch.set(self.epoch.get() + 1);
        }
        self.roster.borrow()
    }
}

fn of_whole(hash: u64) -> u32 {
    (hash % u64::from(roster::WHOLE)) as u32
}

fn quota(config: &config::Upstream, state: &Arc<PoolState>, server: &Arc<Server>) -> Option<Arc<Quota>> {
    let max = (server.entry.max_connections, config.max_connections);
    let is_limited = max.0.is_some() || max.1.is_some();
    is_limited.then(|| Arc::new(Quota { max, server: server.state.clone(), pool: state.clone() }))
}
