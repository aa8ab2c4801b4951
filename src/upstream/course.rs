//! The course of one request through its upstream: which server first, which next, and when to give up.
//!
//! It touches no socket and reads no clock: the proxy drives it with real attempts, the simulation with made-up ones.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config;
use crate::fields;
use crate::observe::Cells;
use crate::upstream::balance::{Answer, Heard};
use crate::upstream::health_state::Outcome;
use crate::upstream::learned;
use crate::upstream::pool::{Upstream, WorkerPool};
use crate::upstream::pool_state::PoolState;
use crate::upstream::queue::Place;
use crate::upstream::retry::{self, Cause, Limits, Request, Spent, Stop, Verdict};
use crate::upstream::server::Server;
use crate::upstream::side::{Asks, Picked, Side, Unpicked};

/// Servers that a retry goes to last, because they fail others: enough to find one that does not, and short to search.
const RATHER_NOT_MAX: usize = 32;

/// A request's course.
pub struct Course<'a> {
    /// The servers it may go to, to its end.
    pub side: Rc<Side>,
    /// Attempts so far.
    pub attempts: u32,
    /// The next attempt is not to use a kept-alive connection: one has turned out closed, and others may have been closed
    /// with it.
    pub afresh: bool,
    upstream: &'a Upstream,
    pool: &'a WorkerPool,
    cells: &'a Cells,
    began: Duration,
    /// They failed it.
    tried: Vec<usize>,
    /// They are tried last.
    avoided: Vec<usize>,
    retrying: Option<Retrying>,
}

/// An attempt without a response.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// What it means.
    pub cause: Cause,
    /// The word for it in logs and metrics.
    pub word: &'static str,
    /// It was the server's fault.
    pub blames_server: bool,
    /// Time from the attempt's beginning.
    pub took: Duration,
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Its status.
    pub status: u16,
    /// What `Retry-After` says.
    pub retry_after: Option<Duration>,
    /// Time to the first byte.
    pub took: Duration,
}

/// What a request gets that asks for a server.
pub enum Placed {
    /// One of them.
    Picked(Picked),
    /// All are full, or others wait already: it is called when it should look again, with [`Course::look`].
    Waits(Place),
}

/// Why a request gets neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unplaced {
    /// No server may serve it.
    NoServer,
    /// As many wait as may.
    QueueFull,
}

/// One of the retries that there may be at once.
struct Retrying(Arc<PoolState>);

impl<'a> Course<'a> {
    /// A request has come. `now` is the time since the process began, here and below.
    pub fn begin(upstream: &'a Upstream, pool: &'a WorkerPool, cells: &'a Cells, now: Duration) -> Self {
        pool.budget.borrow_mut().request(now);
        Course {
            side: pool.side(upstream),
            attempts: 0,
            afresh: false,
            upstream,
            pool,
            cells,
            began: now,
            tried: Vec::new(),
            avoided: Vec::new(),
            retrying: None,
        }
    }

    /// The server for the next attempt, or a place among those who wait for one.
    pub fn place(
        &mut self,
        asks: &Asks<'_>,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Result<Placed, Unplaced> {
        let queue = &self.upstream.state.queue;
        // Nobody overtakes those who wait. Where nothing is limited, they wait under a configuration of before.
        if queue.is_empty() || !self.side.has_limits() {
            match self.pick(asks, now, rng) {
                Err(Unpicked::Full { .. }) => {}
                Err(Unpicked::Nobody) => return Err(Unplaced::NoServer),
                Ok(picked) => return Ok(Placed::Picked(picked)),
            }
        }
        queue.enter(self.upstream.config.queue.size).map(Placed::Waits).ok_or(Unplaced::QueueFull)
    }

    /// It was called at its `place`: what it finds, or `None` when it waits on.
    pub fn look(
        &mut self,
        place: &Place,
        asks: &Asks<'_>,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Result<Picked, Unplaced>> {
        match self.pick(asks, now, rng) {
            Err(Unpicked::Full { is_for_others }) => {
                // What limits it may be limits of before.
                place.wait_on(is_for_others || self.upstream.is_superseded());
                None
            }
            Err(Unpicked::Nobody) => Some(Err(Unplaced::NoServer)),
            Ok(picked) => Some(Ok(picked)),
        }
    }

    /// The server for the next attempt: never one that failed this request.
    fn pick(&mut self, asks: &Asks<'_>, now: Duration, rng: &mut fastrand::Rng) -> Result<Picked, Unpicked> {
        if self.attempts == 0 {
            return self.picked(self.side.pick(asks, &[], &[], now, rng));
        }
        // A session stays where it is: a connection that was closed at rest says nothing against its server, nor do others'
        // failures.
        if self.side.is_at_home(asks, &self.tried, now) {
            return self.picked(self.side.pick(asks, &self.tried, &[], now, rng));
        }
        // It has failed once: rather not on one that failed someone else just now.
        let failing = self.side.failing(RATHER_NOT_MAX, now);
        let both = [&self.tried[..], &self.avoided].concat();
        let elsewhere = self.side.pick(asks, &both, &failing, now, rng);
        // Rather again where it was than a wait for another one.
        let picked = match self.avoided.is_empty() {
            true => elsewhere,
            false => elsewhere.or_else(|_| self.side.pick(asks, &self.tried, &failing, now, rng)),
        };
        self.picked(picked)
    }

    fn picked(&mut self, picked: Result<Picked, Unpicked>) -> Result<Picked, Unpicked> {
        let picked = picked?;
        self.attempts += 1;
        self.cells.inc(self.upstream.picks(picked.reason));
        Ok(picked)
    }

    /// One of its servers.
    pub fn server(&self, index: usize) -> &Arc<Server> {
        &self.side.members.servers[index]
    }

    /// The server answered: what that says of it.
    pub fn answered(&self, server: usize, head: Head, now: Duration) {
        let Head { status, retry_after, took } = head;
        let is_busy = matches!(status, 429 | 503);
        let answer = if is_busy { Answer::Busy { retry_after } } else { Answer::Served };
        let outcome = if status >= 500 { Outcome::Failure } else { Outcome::Success };
        self.side.heard(server, &Heard { took, answer }, outcome, now);
        self.server(server).state.note(matches!(status, 502..=504));
        match status {
            // A gateway's word that the server behind cannot serve.
            502..=504 => self.blame(server, "gateway-error", now),
            _ => self.upstream.praise(self.server(server), now),
        }
    }

    /// The server did not answer: what that says of it.
    pub fn failed(&self, server: usize, failure: &Failure, now: Duration) {
        if failure.blames_server {
            self.server(server).state.note(true);
            let heard = Heard { took: failure.took, answer: Answer::Failed };
            self.side.heard(server, &heard, Outcome::Failure, now);
            self.blame(server, failure.word, now);
        }
    }

    /// Binds the client's session to the server that answered: by a cookie of ours, whose value comes back unless the client
    /// has it already, or by a line in the table of what servers' own cookies mean. `opened` is the session that
    /// the response opens, where those are learnt.
    pub fn bind(&self, asks: &Asks<'_>, server: usize, opened: Option<&str>, now: Duration) -> Option<&str> {
        match self.upstream.config.sticky.as_ref()? {
            config::Sticky::Cookie(sticky) => {
                let value = self.side.members.sticky.as_ref()?.value_of(server)?;
                // Also when it names the server under a key that no longer signs.
                (fields::cookie(asks.fields, &sticky.name) != Some(value)).then_some(value)
            }
            config::Sticky::Learn(rules) => {
                let session = opened.or_else(|| {
                    // It was with another server, which is gone; or we have forgotten.
                    let session = learned::session_of(asks.fields, rules)?;
                    let is_known = self.side.bound_to(asks, now) == Some(server);
                    (!is_known).then_some(session)
                })?;
                self.upstream.state.sessions.learn(session, &self.server(server).id, rules, now);
                None
            }
            config::Sticky::Hash(_) => None,
        }
    }

    /// A server did what ejects it.
    pub fn blame(&self, server: usize, why: &str, now: Duration) {
        self.upstream.blame(&self.side.members, self.server(server), why, now, self.cells);
    }

    /// Whether there may be another attempt after that at `server`, and then it is one of the retries.
    pub fn again(
        &mut self,
        server: usize,
        cause: Cause,
        request: Request,
        now: Duration,
    ) -> Result<(), Stop> {
        let (config, state) = (&self.upstream.config, &self.upstream.state);
        let spent = Spent { attempts: self.attempts, time: now.saturating_sub(self.began) };
        let limits = Limits { retries: config.retries, total: config.total_timeout };
        match retry::verdict(cause, request, spent, &config.retry, limits) {
            Verdict::Stop(stop) => return Err(stop),
            // That one still may, also when it drains and serves only its sessions.
            Verdict::Anywhere => self.avoided.push(server),
            Verdict::Elsewhere => {
                self.tried.push(server);
                if !self.side.may_any_serve(&self.tried, now) {
                    return Err(Stop::NoServer);
                }
            }
        }
        self.afresh |= cause == Cause::Stale;
        self.retrying = None;
        if cause.is_budgeted() && !(cause.is_free() && self.side.does_any_answer(&self.tried, now)) {
            if !state.retries.take(config.retry.concurrent) {
                return Err(Stop::Budget);
            }
            self.retrying = Some(Retrying(state.clone()));
            if !self.pool.budget.borrow_mut().retry(now, self.pool.allowance) {
                return Err(Stop::Budget);
            }
        }
        Ok(())
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.retries.give();
    }
}
