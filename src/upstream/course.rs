//! The course of one request through its upstream: which server first, which next, and when to give up.
//!
//! It touches no socket and reads no clock: the proxy drives it with real attempts, the simulation with made-up ones.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::upstream::pool::{Upstream, WorkerPool};
use crate::upstream::pool_state::PoolState;
use crate::upstream::retry::{self, Cause, Limits, Request, Spent, Stop, Verdict};
use crate::upstream::side::{Asks, Picked, Side, Unpicked};

/// A request's course.
pub struct Course {
    /// The servers it may go to, to its end.
    pub side: Rc<Side>,
    /// Attempts so far.
    pub attempts: u32,
    /// The next attempt is not to use a kept-alive connection: one has turned out closed, and others may have been closed
    /// with it.
    pub afresh: bool,
    began: Duration,
    /// They failed it.
    tried: Vec<usize>,
    /// They are tried last.
    avoided: Vec<usize>,
    retrying: Option<Retrying>,
}

/// One of the retries that there may be at once.
struct Retrying(Arc<PoolState>);

impl Course {
    /// A request has come. `now` is the time since the process began, here and below.
    pub fn begin(upstream: &Upstream, pool: &WorkerPool, now: Duration) -> Self {
        pool.budget.borrow_mut().request(now);
        Course {
            side: pool.side(upstream),
            attempts: 0,
            afresh: false,
            began: now,
            tried: Vec::new(),
            avoided: Vec::new(),
            retrying: None,
        }
    }

    /// The server for the next attempt: never one that failed this request.
    pub fn pick(
        &mut self,
        asks: &Asks<'_>,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Result<Picked, Unpicked> {
        let picked = match self.avoided.is_empty() {
            true => self.side.pick(asks, &self.tried, now, rng),
            false => {
                let both = [&self.tried[..], &self.avoided].concat();
                match self.side.pick(asks, &both, now, rng) {
                    Err(Unpicked::Nobody) => self.side.pick(asks, &self.tried, now, rng),
                    picked => picked,
                }
            }
        };
        self.attempts += u32::from(picked.is_ok());
        picked
    }

    /// An attempt at `server` failed: whether there may be another.
    pub fn failed(
        &mut self,
        upstream: &Upstream,
        pool: &WorkerPool,
        server: usize,
        cause: Cause,
        request: Request,
        now: Duration,
    ) -> Result<(), Stop> {
        let spent = Spent { attempts: self.attempts, time: now.saturating_sub(self.began) };
        let limits = Limits { retries: upstream.config.retries, total: upstream.config.total_timeout };
        match retry::verdict(cause, request, spent, &upstream.config.retry, limits) {
            Verdict::Stop(stop) => return Err(stop),
            Verdict::Anywhere => self.avoided.push(server),
            Verdict::Elsewhere => self.tried.push(server),
        }
        self.afresh |= cause == Cause::Stale;
        if !self.side.may_any_serve(&self.tried, now) {
            return Err(Stop::NoServer);
        }
        self.retrying = None;
        if cause.is_budgeted() {
            if !upstream.state.retries.take(upstream.config.retry.concurrent) {
                return Err(Stop::Budget);
            }
            self.retrying = Some(Retrying(upstream.state.clone()));
            if !pool.budget.borrow_mut().retry(now, pool.allowance) {
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
