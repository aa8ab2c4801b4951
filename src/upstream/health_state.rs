//! When a server is believed to be well: two small state machines.
//!
//! [`ProbeState`] hears what probes found (active), [`Ejection`] what requests met (passive); a server may serve when
//! both agree. Pure: results and the time come in, what changed and why comes out. Time is a `Duration` since any
//! one moment, so that tests and simulations need no clock.

use std::time::{Duration, Instant};

use crate::config::{Eject, FirstState};

/// What one probe, or one request, found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Outcome {
    Success,
    Failure,
}

impl Outcome {
    /// The word for the status page and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Success => "ok",
            Outcome::Failure => "failed",
        }
    }
}

/// What one probe found, for people; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// Whether it was well.
    pub outcome: Outcome,
    /// What was wrong, if it was not.
    pub failure: Option<String>,
    /// When it came back.
    pub at: Instant,
}

/// What a server's probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeState {
    is_healthy: bool,
    /// It began unhealthy and was never well: the first success is enough.
    is_unproven: bool,
    /// Results in a row that contradict `is_healthy`.
    against: u32,
}

/// A change of mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeChange {
    /// The first success of a server that began unhealthy.
    Proven,
    /// `rise` successes in a row.
    Rose,
    /// `fall` failures in a row.
    Fell,
}

impl ProbeChange {
    /// Whether the server is healthy now.
    pub fn is_rise(self) -> bool {
        self != ProbeChange::Fell
    }
}

impl Default for ProbeState {
    fn default() -> Self {
        ProbeState::starting(FirstState::Healthy)
    }
}

impl ProbeState {
    /// Of a server that was never probed.
    pub fn starting(first: FirstState) -> Self {
        let is_healthy = first == FirstState::Healthy;
        ProbeState { is_healthy, is_unproven: !is_healthy, against: 0 }
    }

    /// Whether the server may serve, as far as probes know.
    pub fn is_healthy(&self) -> bool {
        self.is_healthy
    }

    /// Hears one result. Only an unbroken row of contradictions changes anything.
    pub fn record(&mut self, outcome: Outcome, rise: u32, fall: u32) -> Option<ProbeChange> {
        if (outcome == Outcome::Success) == self.is_healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let (needed, change) = match (self.is_healthy, self.is_unproven) {
            (true, _) => (fall, ProbeChange::Fell),
            (false, false) => (rise, ProbeChange::Rose),
            (false, true) => (1, ProbeChange::Proven),
        };
        if self.against < needed {
            return None;
        }
        *self = ProbeState { is_healthy: !self.is_healthy, is_unproven: false, against: 0 };
        Some(change)
    }
}

/// What requests to a server met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ejection {
    /// Failures in a row.
    failures: u32,
    /// Those before the last success: its response may still break off.
    failures_before: u32,
    /// Ejections whose memory has not faded; the next is this much longer.
    ejections: u32,
    /// End of the current ejection, or of the last one.
    until: Option<Duration>,
    /// From when on quiet counts for fading.
    quiet_since: Duration,
}

/// How many of a pool are out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolCount {
    /// Servers that are ejected now.
    pub ejected: usize,
    /// Servers of the pool.
    pub total: usize,
    /// Servers that are well, without the one that is judged.
    pub others_well: usize,
}

/// What a failure led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EjectVerdict {
    /// One more in the row, which is not long enough.
    Counted,
    /// It is out already: a request that had begun before.
    AlreadyEjected,
    /// The row is long enough: out.
    Ejected {
        /// When it may serve again.
        until: Duration,
    },
    /// The row is long enough, but too many of the pool are out.
    PoolLimit,
}

impl EjectVerdict {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            EjectVerdict::Counted => "counted",
            EjectVerdict::AlreadyEjected => "already-ejected",
            EjectVerdict::Ejected { .. } => "ejected",
            EjectVerdict::PoolLimit => "pool-limit",
        }
    }
}

impl Ejection {
    /// Whether the server is out at `now`.
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When the current ejection ends, or the last one ended.
    pub fn until(&self) -> Option<Duration> {
        self.until
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A request failed through the server's fault (connect, reset, time-out, 502 to 504).
    pub fn failure(&mut self, now: Duration, eject: &Eject, pool: PoolCount) -> EjectVerdict {
        if self.is_ejected(now) {
            return EjectVerdict::AlreadyEjected;
        }
        self.fade(now, eject);
        self.failures = self.failures.saturating_add(1);
        if self.failures < eject.failures {
            return EjectVerdict::Counted;
        }
        self.out(now, eject, pool)
    }

    /// Its numbers stand out from the pool's: out, however its last requests went.
    pub fn eject(&mut self, now: Duration, eject: &Eject, pool: PoolCount) -> EjectVerdict {
        if self.is_ejected(now) {
            return EjectVerdict::AlreadyEjected;
        }
        self.fade(now, eject);
        self.out(now, eject, pool)
    }

    fn out(&mut self, now: Duration, eject: &Eject, pool: PoolCount) -> EjectVerdict {
        if !may_eject(eject.max_percent, pool) {
            return EjectVerdict::PoolLimit;
        }
        self.ejections = self.ejections.saturating_add(1);
        self.failures = 0;
        let until = now + eject.time.saturating_mul(self.ejections).min(eject.max_time.max(eject.time));
        self.until = Some(until);
        self.quiet_since = until;
        EjectVerdict::Ejected { until }
    }

    /// A request succeeded. Does not end an ejection: it may have begun before.
    pub fn success(&mut self, now: Duration, eject: &Eject) {
        if self.is_ejected(now) {
            return;
        }
        self.failures_before = std::mem::take(&mut self.failures);
        self.fade(now, eject);
    }

    /// The response of a request that had succeeded broke off: it was no success.
    pub fn cut(&mut self, now: Duration, eject: &Eject, pool: PoolCount) -> EjectVerdict {
        self.failures = self.failures.max(std::mem::take(&mut self.failures_before));
        self.failure(now, eject, pool)
    }

    /// Each `eject.time` without an ejection makes the next one a step shorter.
    fn fade(&mut self, now: Duration, eject: &Eject) {
        if self.ejections == 0 || eject.time.is_zero() {
            return;
        }
        let steps = now.saturating_sub(self.quiet_since).as_nanos() / eject.time.as_nanos();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).min(self.ejections);
        self.ejections -= steps;
        self.quiet_since += eject.time.saturating_mul(steps);
    }
}

/// Whether one more may go: within `max_percent`, or as the only one of a pool of two or more. The last that may serve is
/// never ejected, whether the others are ejected, unhealthy or draining: with it down or up, there is no better choice.
fn may_eject(max_percent: u32, pool: PoolCount) -> bool {
    if pool.others_well == 0 {
        return false;
    }
    let out = pool.ejected as u64 + 1;
    pool.ejected == 0 || out * 100 <= u64::from(max_percent) * pool.total as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const EJECT: Eject = Eject {
        failures: 3,
        error_rate: None,
        latency_factor: None,
        window: at(10),
        min_requests: 1,
        time: at(10),
        max_time: at(25),
        max_percent: 50,
    };
    const TEN: PoolCount = PoolCount { ejected: 0, total: 10, others_well: 9 };

    /// What each result of a row (`+` is a success) changes, with a rise of 2 and a fall of 3.
    fn changes(mut state: ProbeState, results: &str) -> String {
        let outcome = |c| if c == '+' { Outcome::Success } else { Outcome::Failure };
        let told = results.chars().map(|c| match state.record(outcome(c), 2, 3) {
            None => '.',
            Some(ProbeChange::Proven) => 'P',
            Some(ProbeChange::Rose) => 'R',
            Some(ProbeChange::Fell) => 'F',
        });
        told.collect()
    }

    #[test]
    fn only_an_unbroken_row_of_probes_changes_a_servers_health() {
        assert!(ProbeState::default().is_healthy());
        assert_eq!(changes(ProbeState::default(), "--+---+-++---"), ".....F...R..F");
    }

    #[test]
    fn a_server_that_begins_unhealthy_needs_one_success_once_and_then_as_many_as_any() {
        let unproven = ProbeState::starting(FirstState::Unhealthy);

        assert!(!unproven.is_healthy());
        assert_eq!(changes(unproven, "+---+++"), "P..F.R.");
        assert_eq!(changes(unproven, "------+--+---++"), "......P.....F.R");
    }

    /// Fails as often as it takes, and says until when the server is out.
    fn eject(state: &mut Ejection, now: Duration) -> Duration {
        loop {
            if let EjectVerdict::Ejected { until } = state.failure(now, &EJECT, TEN) {
                return until;
            }
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let mut state = Ejection::default();
        assert_eq!(state.failure(at(0), &EJECT, TEN), EjectVerdict::Counted);
        assert_eq!(state.failure(at(0), &EJECT, TEN), EjectVerdict::Counted);
        state.success(at(0), &EJECT);
        assert_eq!(state.failure(at(0), &EJECT, TEN), EjectVerdict::Counted);
        assert_eq!(state.failure(at(0), &EJECT, TEN), EjectVerdict::Counted);
        assert_eq!(state.failure(at(0), &EJECT, TEN), EjectVerdict::Ejected { until: at(10) });
        assert_eq!(state.failure(at(9), &EJECT, TEN), EjectVerdict::AlreadyEjected);
        state.success(at(9), &EJECT);
        assert!(state.is_ejected(at(9)));
        assert!(!state.is_ejected(at(10)));
    }

    #[test]
    fn each_ejection_is_longer_up_to_the_longest() {
        let mut state = Ejection::default();
        assert_eq!(eject(&mut state, at(0)), at(10));
        assert_eq!(eject(&mut state, at(10)), at(30));
        assert_eq!(eject(&mut state, at(30)), at(55));
        assert_eq!(eject(&mut state, at(55)), at(80));
    }

    #[test]
    fn quiet_makes_the_next_ejection_shorter() {
        let mut state = Ejection::default();
        eject(&mut state, at(0));
        eject(&mut state, at(10));
        // Out until 30. One step of quiet: back to one ejection, so the next is the second.
        state.success(at(41), &EJECT);
        assert_eq!(eject(&mut state, at(45)), at(65));
        // A long quiet forgets everything, also without a success in it.
        assert_eq!(eject(&mut state, at(1000)), at(1010));
    }

    #[test]
    fn a_response_that_breaks_off_was_no_success() {
        let mut state = Ejection::default();
        for _ in 0..2 {
            state.success(at(0), &EJECT);
            assert_eq!(state.cut(at(0), &EJECT, TEN), EjectVerdict::Counted);
        }
        state.success(at(0), &EJECT);
        assert!(matches!(state.cut(at(0), &EJECT, TEN), EjectVerdict::Ejected { .. }));
        state.success(at(20), &EJECT);
        state.success(at(20), &EJECT);
        assert_eq!(state.cut(at(20), &EJECT, TEN), EjectVerdict::Counted, "a whole one came between");
    }

    #[test]
    fn a_pool_keeps_enough_servers() {
        for (max_percent, ejected, total, expected) in [
            (50, 0, 1, false),
            (50, 0, 2, true),
            (10, 0, 2, true),
            (50, 1, 2, false),
            (100, 1, 2, false),
            (50, 1, 4, true),
            (50, 2, 4, false),
            (34, 1, 6, true),
            (10, 0, 10, true),
            (10, 1, 10, false),
            (0, 0, 3, true),
            (0, 1, 3, false),
            (50, 0, 0, false),
        ] {
            let others_well = usize::saturating_sub(total, ejected + 1);
            let found = may_eject(max_percent, PoolCount { ejected, total, others_well });
            assert_eq!(found, expected, "{max_percent} % of {total}, {ejected} out");
        }
        let others_fell = PoolCount { ejected: 0, total: 3, others_well: 0 };
        assert!(!may_eject(100, others_fell), "nobody else may serve");
    }

    #[test]
    fn a_server_that_the_limit_kept_goes_as_soon_as_it_may() {
        let mut state = Ejection::default();
        let full = PoolCount { ejected: 5, total: 10, others_well: 4 };
        let told: Vec<_> = (0..4).map(|_| state.failure(at(0), &EJECT, full).as_str()).collect();

        assert_eq!(told, ["counted", "counted", "pool-limit", "pool-limit"]);
        assert_eq!(state.failure(at(1), &EJECT, TEN), EjectVerdict::Ejected { until: at(11) });
    }
}
