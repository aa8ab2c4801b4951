//! Attempts: their fates, and what comes of them.

use std::time::Duration;

use crate::config::Sticky;
use crate::upstream::course::{Failure, Head};
use crate::upstream::retry::{Cause, Request, Stop};
use crate::upstream::side::Picked;
use crate::upstream::simulation::belief::Due;
use crate::upstream::simulation::plan::chance;
use crate::upstream::simulation::request::{Jar, Live, Trial};
use crate::upstream::simulation::truth::{Fate, Mood};
use crate::upstream::simulation::world::{Checked, Event, World};

impl World<'_> {
    /// What `total-timeout` leaves.
    pub(super) fn time_left(&self, number: usize) -> Option<Duration> {
        let spent = self.now - self.one(number).began;
        self.config.total_timeout.map(|total| total.saturating_sub(spent))
    }

    /// It goes to the server that was picked for it.
    pub(super) fn tries(&mut self, number: usize, picked: Picked) {
        let (now, config) = (self.now, self.config);
        let Picked { server, reason, in_flight, leave } = picked;
        self.at_once.requests[server] += 1;
        self.at_once.connections[server] += u32::from(leave.is_some());
        let limit = config.try_timeout.into_iter().chain(self.time_left(number)).min();
        let rng = &mut self.rng;
        let fate = match self.stage.plan.servers[server].attempt(now, config, rng) {
            _ if leave.is_some() && chance(rng, 2) => Fate::no_leave(),
            Fate::Answers { .. } if chance(rng, self.stage.plan.stale) => Fate::stale(),
            fate => fate,
        };
        let fate = fate.within(limit);
        self.note(|| format!("r{number} to s{server}, {}: {fate:?}", reason.as_str()));
        let live = self.one_mut(number);
        live.attempts += 1;
        live.trial = Some(Trial { server, began: now, fate, in_flight, leave });
        let attempt = live.attempts;
        // In whole milliseconds, as ejections are kept: so both books close at the same moment.
        let at = (now + fate.after()).as_nanos().div_ceil(1_000_000) as u64;
        self.at(Duration::from_millis(at), Event::Heard(number, attempt));
    }

    /// Its attempt is over, or its response has begun.
    pub(super) fn heard(&mut self, number: usize, attempt: u32) -> Checked {
        let is_current = |live: &&Live<'_>| live.attempts == attempt;
        let live = self.live[number].as_ref().filter(is_current);
        let Some(trial) = live.and_then(|live| live.trial.as_ref()) else { return Ok(()) };
        let (server, took) = (trial.server, self.now - trial.began);
        let mut fate = trial.fate;
        // Who dies takes along what it was busy with.
        if let Fate::Answers { after, .. } = fate
            && self.stage.plan.servers[server].mood(self.now) == Mood::Refuses
        {
            fate = Fate::reset(after);
        }
        match fate {
            Fate::Answers { status, retry_after, body, .. } => {
                self.is_answered(number, server, Head { status, retry_after, took }, body)
            }
            Fate::Fails { cause, word, blames_server, .. } => {
                self.puts_down(number);
                self.is_failed(number, server, &Failure { cause, word, blames_server, took })
            }
        }
    }

    /// The head of a response.
    fn is_answered(&mut self, number: usize, server: usize, head: Head, body: Duration) -> Checked {
        let (now, status) = (self.now, head.status);
        self.note(|| format!("r{number} has {status} from s{server}"));
        self.course(number).answered(server, head, now);
        self.beliefs.servers[server].is_failing = matches!(head.status, 502..=504);
        let totals = &mut self.totals[server];
        totals.attempts += 1;
        match status >= 500 {
            true => totals.failures += 1,
            false => {
                (totals.served, totals.served_time) = (totals.served + 1, totals.served_time + head.took)
            }
        }
        match matches!(status, 502..=504) {
            true => self.is_blamed(server)?,
            false => self.beliefs.praised(server, now),
        }
        if self.config.retry.names(status) && self.again(number, server, Cause::Status(status))? {
            self.puts_down(number);
            return self.asks_for_a_server(number);
        }
        self.binds(number, server, status)?;
        self.forgets_course(number);
        self.tally.note(if status == 200 { "served" } else { "served an error" });
        self.at(now + body, Event::Ends(number));
        Ok(())
    }

    /// No response.
    fn is_failed(&mut self, number: usize, server: usize, failure: &Failure) -> Checked {
        self.note(|| format!("r{number} fails at s{server}: {}", failure.word));
        self.course(number).failed(server, failure, self.now);
        if failure.blames_server {
            self.beliefs.servers[server].is_failing = true;
            self.totals[server].attempts += 1;
            self.totals[server].failures += 1;
            self.is_blamed(server)?;
        }
        match self.again(number, server, failure.cause)? {
            true => self.asks_for_a_server(number),
            false => {
                self.fails(number, failure.word);
                Ok(())
            }
        }
    }

    fn is_blamed(&mut self, server: usize) -> Checked {
        let due = self.beliefs.blamed(server, self.now);
        self.check_ejection(server, due == Due::Yes, "a row of failures")
    }

    /// Whether there is another attempt. By the rules as they are written for operators, and by our own books.
    fn again(&mut self, number: usize, server: usize, cause: Cause) -> Checked<bool> {
        let (config, now) = (self.config, self.now);
        let live = self.live[number].as_mut().expect("it is on its way");
        let request = Request { is_idempotent: live.wish.is_idempotent, has_body: live.wish.can_repeat };
        let course = live.course.as_mut().expect("its response has not begun");
        let told = course.again(server, cause, request, now).err();
        self.at_once.retries -= u32::from(std::mem::take(&mut live.is_retry));
        let is_at_rest = matches!(cause, Cause::Stale | Cause::NoLeave);
        let was_seen = cause != Cause::Connect;
        let (is_wanted, was_sent) = match cause {
            Cause::Connect => (config.retry.on_connect, false),
            Cause::Reset => (config.retry.on_reset, true),
            Cause::Timeout => (config.retry.on_timeout, true),
            Cause::Status(status) => (config.retry.on_statuses.contains(&status), true),
            Cause::NoLeave | Cause::Stale | Cause::Other => (is_at_rest, cause != Cause::NoLeave),
        };
        let is_late = config.total_timeout.is_some_and(|total| now - live.began >= total);
        let (attempts, worker) = (live.attempts, live.worker);
        let (may_repeat, can_repeat) = (live.wish.is_idempotent || !was_sent, live.wish.can_repeat);
        if is_at_rest { &mut live.avoided } else { &mut live.tried }.push(server);
        // What no server has seen costs nothing while another one answers.
        let is_free = is_at_rest || !was_seen && self.does_any_answer_but(&self.one(number).tried);
        let expected = if !is_wanted {
            Some(Stop::Cause)
        } else if attempts > config.retries {
            Some(Stop::Limit)
        } else if !may_repeat {
            Some(Stop::NotIdempotent)
        } else if !can_repeat {
            Some(Stop::Body)
        } else if is_late {
            Some(Stop::Time)
        } else if !is_at_rest && !self.has_anybody_but(&self.one(number).tried) {
            Some(Stop::NoServer)
        } else if is_free {
            None
        } else if self.at_once.retries >= config.retry.concurrent
            || self.spending[worker].left(config, self.stage.pools.len(), now) <= 0
        {
            Some(Stop::Budget)
        } else {
            None
        };
        if told != expected {
            return Err(format!("r{number} after {cause:?} at s{server}: {told:?}, not {expected:?}"));
        }
        self.tally.note(told.map_or("retried", Stop::as_str));
        if told.is_none() && !is_free {
            self.spending[worker].retry(now);
            self.at_once.retries += 1;
            self.one_mut(number).is_retry = true;
        }
        Ok(told.is_none())
    }

    /// Its session belongs to who has answered.
    fn binds(&mut self, number: usize, server: usize, status: u16) -> Checked {
        let live = self.one(number);
        let (sent, home) = (live.wish.cookie().map(str::to_owned), live.wish.home);
        let knows = sent.as_ref().and_then(|sent| self.homes.get(sent)) == Some(&server);
        let opens = status == 200 && (sent.is_none() || !knows && self.stage.plan.opens_anew);
        let is_learnt = matches!(self.config.sticky, Some(Sticky::Learn(_)));
        let opened =
            (is_learnt && opens && live.wish.visitor.is_some()).then(|| format!("n{}", self.homes.len()));
        let given = self.course(number).bind(&live.wish.asks(), server, opened.as_deref(), self.now);
        let given = given.map(str::to_owned);
        match &self.config.sticky {
            Some(Sticky::Cookie(_)) if given.is_none() && home != Some(server) => {
                return Err(format!("r{number} is not told that it belongs to s{server}"));
            }
            Some(Sticky::Learn(_)) => {
                if let Some(session) = opened.as_ref().or(sent.as_ref()) {
                    self.homes.insert(session.clone(), server);
                }
            }
            _ => {}
        }
        if let (Some(visitor), Some(cookie)) = (self.one(number).wish.visitor, given.or(opened)) {
            self.jars[visitor] = Jar { cookie: Some(cookie), home: Some(server) };
        }
        Ok(())
    }
}
