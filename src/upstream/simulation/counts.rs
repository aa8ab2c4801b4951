//! What there is at once, counted a second time, and what was counted within a window.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config;
use crate::upstream::outlier::Cause;

/// At once.
#[derive(Default)]
pub(super) struct AtOnce {
    /// By server.
    pub requests: Vec<u32>,
    /// By server, with leave.
    pub connections: Vec<u32>,
    /// Retries that the budget counts.
    pub retries: u32,
}

impl AtOnce {
    pub(super) fn new(servers: usize) -> Self {
        AtOnce { requests: vec![0; servers], connections: vec![0; servers], retries: 0 }
    }

    /// Whether `server` may have one more.
    pub(super) fn has_room(&self, config: &config::Upstream, server: usize) -> bool {
        let of = &config.servers[server];
        let within = |max: Option<u32>, taken: u32| max.is_none_or(|max| taken < max);
        within(of.max_requests, self.requests[server])
            && within(config.max_requests, self.requests.iter().sum())
            && within(of.max_connections, self.connections[server])
            && within(config.max_connections, self.connections.iter().sum())
    }
}

/// One worker's requests and retries, by the second.
#[derive(Default)]
pub(super) struct Spending {
    requests: Vec<u64>,
    retries: Vec<u64>,
}

impl Spending {
    /// What the budget looks back at, with the second that is not over yet.
    const SECONDS: usize = 10;

    fn count(column: &mut Vec<u64>, now: Duration) {
        let second = now.as_secs() as usize;
        if column.len() <= second {
            column.resize(second + 1, 0);
        }
        column[second] += 1;
    }

    /// A request has come.
    pub(super) fn request(&mut self, now: Duration) {
        Self::count(&mut self.requests, now);
    }

    /// A retry was granted.
    pub(super) fn retry(&mut self, now: Duration) {
        Self::count(&mut self.retries, now);
    }

    /// Retries that may still be granted.
    pub(super) fn left(&self, config: &config::Upstream, workers: usize, now: Duration) -> i64 {
        let second = now.as_secs() as usize;
        let from = (second + 1).saturating_sub(Self::SECONDS);
        let within = |column: &[u64]| -> u64 { column.iter().skip(from).sum() };
        let retry = &config.retry;
        let all = u64::from(retry.budget_per_second) * Self::SECONDS as u64;
        let besides = (all / workers as u64).max(u64::from(retry.budget_per_second > 0));
        let earned = within(&self.requests) * u64::from(retry.budget_percent) / 100;
        (earned + besides) as i64 - within(&self.retries) as i64
    }
}

/// What a server's attempts came to since the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    pub attempts: u64,
    pub failures: u64,
    /// Those that were answered well, and their times to the head.
    pub served: u64,
    pub served_time: Duration,
}

impl Totals {
    fn since(self, before: Totals) -> Totals {
        Totals {
            attempts: self.attempts - before.attempts,
            failures: self.failures - before.failures,
            served: self.served - before.served,
            served_time: self.served_time - before.served_time,
        }
    }

    /// To the head of what was served.
    fn mean(&self) -> Option<Duration> {
        (self.served > 0).then(|| self.served_time / self.served as u32)
    }
}

/// Means are kept in whole microseconds, and multiplied.
const ROUNDED: Duration = Duration::from_micros(200);

/// What the totals were at each look for outliers.
#[derive(Default)]
pub(super) struct Looks {
    /// By look, by server.
    marks: Vec<Vec<Totals>>,
    /// By server: the look at which it last stood out.
    reset: Vec<usize>,
}

impl Looks {
    /// Another look; returns why `found` is wrong, if it is.
    pub(super) fn look(
        &mut self,
        totals: &[Totals],
        found: &[(usize, Cause)],
        eject: &config::Eject,
    ) -> Result<(), String> {
        self.reset.resize(totals.len(), 0);
        self.marks.push(totals.to_vec());
        let last = self.marks.len() - 1;
        let first = last.saturating_sub(eject.window.as_secs().max(1) as usize);
        let windows: Vec<_> = (0..totals.len())
            .map(|server| totals[server].since(self.marks[first.max(self.reset[server])][server]))
            .collect();
        let fails = |window: &Totals| {
            let percent = window.failures * 100 / window.attempts.max(1);
            let is_known = window.attempts >= u64::from(eject.min_requests);
            is_known && eject.error_rate.is_some_and(|rate| percent >= u64::from(rate))
        };
        for (server, window) in windows.iter().enumerate() {
            let cause = found.iter().find(|(other, _)| *other == server).map(|(_, cause)| *cause);
            let is_right = match cause {
                Some(Cause::ErrorRate { .. }) => fails(window),
                Some(Cause::Latency { .. }) => !fails(window) && is_slow(&windows, server, eject),
                None => !fails(window) && !is_far_slower(&windows, server, eject),
            };
            if !is_right {
                return Err(format!("s{server} stands out as {cause:?}, among {windows:?}"));
            }
            if cause.is_some() {
                self.reset[server] = last;
            }
        }
        Ok(())
    }
}

/// Whether it was so many times slower than another one that serves, which is less than what it must be to be ejected.
fn is_slow(windows: &[Totals], server: usize, eject: &config::Eject) -> bool {
    let others = windows.iter().enumerate().filter(|(other, _)| *other != server);
    let quickest = others.filter_map(|(_, window)| window.mean()).min();
    let (Some(own), Some(quickest)) = (windows[server].mean(), quickest) else { return false };
    own + ROUNDED > quickest * eject.latency_factor.unwrap_or(u32::MAX)
}

/// Whether it was so many times slower than every other one, and all are known well: then it must be ejected.
fn is_far_slower(windows: &[Totals], server: usize, eject: &config::Eject) -> bool {
    let Some(factor) = eject.latency_factor else { return false };
    let others =
        || windows.iter().enumerate().filter(|(other, _)| *other != server).map(|(_, window)| window);
    let is_known = |window: &Totals| window.served >= u64::from(eject.min_requests);
    let slowest = others().filter_map(Totals::mean).max().map(|mean| mean.max(Duration::from_millis(1)));
    let (Some(own), Some(slowest)) = (windows[server].mean(), slowest) else { return false };
    windows.iter().all(is_known) && own > slowest * factor + ROUNDED
}

/// What happened how often, for those who ask whether anything happened at all.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    /// It happened.
    pub(super) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Both together.
    pub(super) fn add(&mut self, other: &Tally) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}
