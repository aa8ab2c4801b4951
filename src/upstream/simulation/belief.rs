//! What a proxy may believe of its servers, kept a second time: from the outcomes alone, by the rules as an operator
//! reads them. Where the code believes something else, one of the two is wrong.

use std::time::Duration;

use crate::config;
use crate::upstream::server::Condition;

/// What may be believed of all servers; they are in the order of the upstream's members.
pub(super) struct Beliefs {
    pub servers: Vec<Belief>,
    slow_start: Duration,
    spill_over: u32,
    panic_threshold: u32,
    eject: Option<config::Eject>,
    /// At least one of them changed then.
    pub changed: Duration,
}

/// What may be believed of one.
#[derive(Debug, Clone, Default)]
pub(super) struct Belief {
    pub weight: u32,
    pub priority: u32,
    is_unhealthy: bool,
    /// Probes in a row that say otherwise.
    against: u32,
    /// The last attempt at it failed, by its fault.
    pub is_failing: bool,
    /// Failures in a row.
    row: u32,
    /// It is ejected until then.
    until: Duration,
    pub is_draining: bool,
    /// When it last came back.
    came_back: Option<Duration>,
}

/// Whether a row of failures must have ejected a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Yes,
    No,
}

impl Belief {
    fn is_out(&self, now: Duration) -> bool {
        now < self.until
    }

    /// In the order of what weighs most.
    pub(super) fn condition(&self, now: Duration) -> Condition {
        match (self.is_unhealthy, self.is_out(now), self.is_draining) {
            (true, ..) => Condition::Unhealthy,
            (_, true, _) => Condition::Ejected,
            (.., true) => Condition::Draining,
            _ => Condition::Healthy,
        }
    }

    fn is_well(&self, now: Duration) -> bool {
        self.condition(now) == Condition::Healthy
    }
}

impl Beliefs {
    /// Nothing has happened yet.
    pub(super) fn new(config: &config::Upstream) -> Self {
        let belief = |server: &config::Server| Belief {
            weight: server.weight,
            priority: u32::from(server.priority),
            is_draining: server.drain,
            ..Belief::default()
        };
        Beliefs {
            servers: config.servers.iter().map(belief).collect(),
            slow_start: config.slow_start,
            spill_over: config.spill_over,
            panic_threshold: config.panic_threshold,
            eject: config.eject.clone(),
            changed: Duration::ZERO,
        }
    }

    /// A probe ended.
    pub(super) fn probed(&mut self, server: usize, is_well: bool, health: &config::Health, now: Duration) {
        let belief = &mut self.servers[server];
        if is_well != belief.is_unhealthy {
            belief.against = 0;
            return;
        }
        belief.against += 1;
        if belief.against >= if is_well { health.rise } else { health.fall } {
            belief.is_unhealthy = !is_well;
            belief.against = 0;
            self.changed = now;
            if is_well {
                self.comes_back(server, now);
            }
        }
    }

    /// The operator said so.
    pub(super) fn drained(&mut self, server: usize, is_draining: bool, now: Duration) {
        if self.servers[server].is_draining && !is_draining {
            self.comes_back(server, now);
        }
        self.servers[server].is_draining = is_draining;
        self.changed = now;
    }

    /// A request was answered.
    pub(super) fn praised(&mut self, server: usize, now: Duration) {
        if !self.servers[server].is_out(now) {
            self.servers[server].row = 0;
        }
    }

    /// A request failed by its fault. Whether that ejects it.
    pub(super) fn blamed(&mut self, server: usize, now: Duration) -> Due {
        let Some(eject) = &self.eject else { return Due::No };
        if self.servers[server].is_out(now) {
            return Due::No;
        }
        self.servers[server].row += 1;
        match self.servers[server].row >= eject.failures && self.may_eject(server, now) {
            true => Due::Yes,
            false => Due::No,
        }
    }

    /// Whether one more may be ejected: within the limit, or as the first; and never the last that is well.
    pub(super) fn may_eject(&self, server: usize, now: Duration) -> bool {
        let Some(eject) = &self.eject else { return false };
        let others = || self.servers.iter().enumerate().filter(|(other, _)| *other != server);
        let out = others().filter(|(_, belief)| belief.is_out(now)).count();
        let is_within = out == 0 || (out + 1) * 100 <= self.servers.len() * eject.max_percent as usize;
        is_within && others().any(|(_, belief)| belief.is_well(now))
    }

    /// It is ejected, for as long as may be.
    pub(super) fn ejected(&mut self, server: usize, until: Duration, now: Duration) -> Result<(), String> {
        let Some(eject) = &self.eject else { return Err(format!("s{server} is ejected without rules")) };
        if !self.may_eject(server, now) {
            return Err(format!("s{server} is ejected beyond the limit of {} %", eject.max_percent));
        }
        let time = until.saturating_sub(now);
        let slack = Duration::from_millis(1);
        if time + slack < eject.time || time > eject.max_time.max(eject.time) {
            return Err(format!("s{server} is ejected for {time:?}"));
        }
        let belief = &mut self.servers[server];
        (belief.until, belief.row) = (until, 0);
        self.changed = now;
        self.comes_back(server, until);
        Ok(())
    }

    /// The end of its ejection.
    pub(super) fn out_until(&self, server: usize) -> Duration {
        self.servers[server].until
    }

    fn comes_back(&mut self, server: usize, at: Duration) {
        let belief = &mut self.servers[server];
        // Of two things that it waits for, the later one counts.
        belief.came_back = belief.came_back.max(Some(at));
    }

    /// It has not its whole share yet.
    pub(super) fn is_ramping(&self, server: usize, now: Duration) -> bool {
        self.servers[server].came_back.is_some_and(|at| now < at + self.slow_start)
    }

    /// How much of its share it has: a tenth at first, all of it after `slow-start`.
    pub(super) fn ramp(&self, server: usize, now: Duration) -> f64 {
        match self.servers[server].came_back {
            Some(at) if now < at + self.slow_start && !self.slow_start.is_zero() => {
                0.1 + 0.9 * now.saturating_sub(at).as_secs_f64() / self.slow_start.as_secs_f64()
            }
            _ => 1.0,
        }
    }

    /// For how long it is back, while it has not its whole share.
    pub(super) fn back_since(&self, server: usize, now: Duration) -> Option<Duration> {
        let since = now.checked_sub(self.servers[server].came_back?)?;
        (since < self.slow_start).then_some(since)
    }

    /// So few are well that health is ignored. Those that drain are nobody's loss.
    pub(super) fn is_panicking(&self, now: Duration) -> bool {
        let staying = self.servers.iter().filter(|belief| !belief.is_draining);
        let well = staying.clone().filter(|belief| belief.is_well(now)).count();
        well * 100 < staying.count() * self.panic_threshold as usize
    }

    /// Whether it may have any request.
    pub(super) fn is_candidate(&self, server: usize, now: Duration) -> bool {
        let belief = &self.servers[server];
        belief.is_well(now) || self.is_panicking(now) && !belief.is_draining
    }

    /// Whether it may have a request of its session.
    pub(super) fn may_keep(&self, server: usize, now: Duration) -> bool {
        self.is_candidate(server, now) || self.servers[server].condition(now) == Condition::Draining
    }

    /// What each priority gets of the requests, from 0 to 1; priorities rise.
    pub(super) fn shares(&self, now: Duration) -> Vec<(u32, f64)> {
        let mut priorities: Vec<_> = self.servers.iter().map(|belief| belief.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let mut left = 1.0;
        let mut shares = Vec::new();
        for priority in priorities {
            let share = self.capacity(priority, now).min(left);
            left -= share;
            shares.push((priority, share));
        }
        let carried = 1.0 - left;
        shares.iter_mut().for_each(|(_, share)| *share /= if carried > 0.0 { carried } else { 1.0 });
        shares
    }

    /// How much of all requests the servers of one priority can carry.
    fn capacity(&self, priority: u32, now: Duration) -> f64 {
        let weight = |of: &dyn Fn(&Belief) -> bool| -> u32 {
            let group =
                self.servers.iter().filter(|belief| belief.priority == priority && !belief.is_draining);
            group.filter(|belief| of(belief)).map(|belief| belief.weight).sum()
        };
        let total = weight(&|_| true);
        let well = if self.is_panicking(now) { total } else { weight(&|belief| belief.is_well(now)) };
        if well == 0 {
            return 0.0;
        }
        let percent = (f64::from(well) * 100.0 / f64::from(total)).ceil();
        if self.spill_over == 0 { 1.0 } else { (percent / f64::from(self.spill_over)).min(1.0) }
    }
}
