//! One server: where it is, how it is doing, how busy it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use http::HeaderValue;

use crate::config;
use crate::net::tls::Connector;
use crate::observe::{ClassCounters, Counter, Gauge, Histogram};
use crate::upstream::health_state::{
    EjectVerdict, Ejection, Outcome, PoolCount, ProbeChange, ProbeResult, ProbeState,
};
use crate::upstream::limits::Ceiling;
use crate::upstream::pool_state::PoolState;

/// What all addresses of one entry of `servers` have in common.
pub struct Entry {
    /// Host and port, as configured; in metrics.
    pub name: String,
    /// What `host = "server"` sends.
    pub host: HeaderValue,
    /// `None`: in the clear.
    pub tls: Option<Connector>,
    /// It is a name that may stand for several addresses.
    pub is_name: bool,
    /// How its servers begin: as their probes want it, and perhaps draining.
    pub first: (ProbeState, bool),
    /// Lower ones come first.
    pub priority: u32,
    /// Requests at once, for each of its addresses.
    pub max_requests: Option<u32>,
    /// Connections at once, for each of its addresses.
    pub max_connections: Option<u32>,
    /// Where its numbers are counted.
    pub handles: ServerHandles,
}

/// A server as a snapshot knows it.
pub struct Server {
    /// What it has from the configuration.
    pub entry: Arc<Entry>,
    /// Its name, the entry's, with the address where the entry is a name that stands for several; in logs, cookies
    /// and hashes.
    pub id: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// Its share.
    pub weight: u32,
    /// Lower ones come first.
    pub priority: u32,
    /// What outlives the snapshot.
    pub state: Arc<ServerState>,
}

/// Where a server's numbers are counted.
#[derive(Clone)]
#[allow(missing_docs, reason = "named as the families are")]
pub struct ServerHandles {
    pub requests: ClassCounters,
    pub connect: Histogram,
    pub first_byte: Histogram,
    pub ejections: Counter,
    pub probes: ProbeHandles,
    pub healthy: Gauge,
    pub in_flight: Gauge,
    pub active: Gauge,
    pub idle: Gauge,
}

/// Where a server's probes and their changes are counted. The default ones, of a server without probes, are read by nobody.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the families' labels are")]
pub struct ProbeHandles {
    pub ok: Counter,
    pub failed: Counter,
    pub rose: Counter,
    pub fell: Counter,
}

/// A server's health and load. Workers read it for every pick, so what they read is plain atomics;
/// the locks are for changes, which are rare.
pub struct ServerState {
    /// One per worker, written by that worker alone.
    tallies: Box<[CachePadded<Tally>]>,
    /// Requests at once, counted where there is a limit.
    pub requests: Ceiling,
    /// Connections at once, counted where there is a limit.
    pub connections: Ceiling,
    is_probed_healthy: AtomicBool,
    is_draining: AtomicBool,
    /// Milliseconds since the process began; 0: never ejected.
    ejected_until: AtomicU64,
    /// Milliseconds since the process began: when it last came (back); 0: it was always there.
    came_back: AtomicU64,
    /// The last attempt at it failed by its fault.
    is_failing: AtomicBool,
    /// The ejection has failures to forget: a success must take the lock.
    is_uneasy: AtomicBool,
    probe: Mutex<ProbeState>,
    last_probe: Mutex<Option<ProbeResult>>,
    ejection: Mutex<Ejection>,
    pool: Arc<PoolState>,
}

/// What one worker has seen of a server.
#[derive(Default)]
struct Tally {
    in_flight: AtomicU32,
    attempts: AtomicU64,
    failures: AtomicU64,
    first_byte_us: AtomicU64,
}

/// What all workers have seen of a server since it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Attempts that were answered or failed.
    pub attempts: u64,
    /// Those that failed by the server's fault, gateway errors included.
    pub failures: u64,
    /// Sum of the times to the first byte of those that did not fail, in microseconds.
    pub first_byte_us: u64,
}

/// What the status page calls a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Condition {
    Healthy,
    Unhealthy,
    Ejected,
    /// Well, but only for the sessions it has.
    Draining,
}

impl ServerState {
    /// Not ejected, and for its probes in the state that they begin with.
    pub fn new(workers: usize, pool: Arc<PoolState>, probe: ProbeState, is_draining: bool) -> Self {
        ServerState {
            tallies: (0..workers).map(|_| CachePadded::default()).collect(),
            requests: Ceiling::default(),
            connections: Ceiling::default(),
            is_probed_healthy: AtomicBool::new(probe.is_healthy()),
            is_draining: AtomicBool::new(is_draining),
            ejected_until: AtomicU64::new(0),
            came_back: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            is_uneasy: AtomicBool::new(false),
            probe: Mutex::new(probe),
            last_probe: Mutex::default(),
            ejection: Mutex::default(),
            pool,
        }
    }

    /// How it is doing. `now` is the time since the process began, here and below.
    pub fn condition(&self, now: Duration) -> Condition {
        if !self.is_probed_healthy.load(Relaxed) {
            Condition::Unhealthy
        } else if self.ejected_until.load(Relaxed) > millis(now) {
            Condition::Ejected
        } else if self.is_draining() {
            Condition::Draining
        } else {
            Condition::Healthy
        }
    }

    /// Whether it is to get requests of its sessions only, however it is doing.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// When its condition changes by itself.
    pub fn changes_at(&self, now: Duration) -> Option<Duration> {
        let until = self.ejected_until.load(Relaxed);
        (until > millis(now)).then(|| Duration::from_millis(until))
    }

    /// How much of its share it gets, of 1000: a tenth when it has just come back, all of it after `slow_start`,
    /// linearly between.
    pub fn ramp(&self, now: Duration, slow_start: Duration) -> u32 {
        const WHOLE: u64 = 1000;
        const FIRST: u64 = 100;
        let came_back = self.came_back.load(Relaxed);
        let (since, whole) = (millis(now).saturating_sub(came_back), slow_start.as_millis() as u64);
        if came_back == 0 || since >= whole {
            return WHOLE as u32;
        }
        (FIRST + (WHOLE - FIRST) * since / whole) as u32
    }

    /// It is new in a pool that serves already, or serves again. Of two things that it waits for (its probes and the end of
    /// an ejection) the later one counts.
    pub fn comes_back(&self, at: Duration) {
        self.came_back.fetch_max(millis(at).max(1), Relaxed);
    }

    /// Requests it is busy with, for all workers.
    pub fn in_flight(&self) -> u32 {
        self.tallies.iter().map(|tally| tally.in_flight.load(Relaxed)).sum()
    }

    /// What all workers have seen of it.
    pub fn tallies(&self) -> Tallies {
        self.tallies.iter().fold(Tallies::default(), |sum, tally| Tallies {
            attempts: sum.attempts + tally.attempts.load(Relaxed),
            failures: sum.failures + tally.failures.load(Relaxed),
            first_byte_us: sum.first_byte_us + tally.first_byte_us.load(Relaxed),
        })
    }

    /// A request of this worker begins.
    pub fn begin(&self, worker: usize) {
        let cell = &self.tallies[worker].in_flight;
        cell.store(cell.load(Relaxed) + 1, Relaxed);
    }

    /// A request of this worker has ended.
    pub fn end(&self, worker: usize) {
        let cell = &self.tallies[worker].in_flight;
        cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// An attempt of this worker was answered, or failed, after `took`.
    pub fn tally(&self, worker: usize, outcome: Outcome, took: Duration) {
        let tally = &self.tallies[worker];
        let add = |cell: &AtomicU64, by: u64| cell.store(cell.load(Relaxed) + by, Relaxed);
        add(&tally.attempts, 1);
        match outcome {
            Outcome::Failure => add(&tally.failures, 1),
            Outcome::Success => add(&tally.first_byte_us, took.as_micros() as u64),
        }
    }

    /// Whether the last attempt at it failed by its fault.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Relaxed)
    }

    /// Whether an attempt at it has failed by its fault. Written only when that is news: all workers read it.
    pub fn note(&self, is_failing: bool) {
        if self.is_failing() != is_failing {
            self.is_failing.store(is_failing, Relaxed);
        }
    }

    /// A probe came back.
    pub fn probed(&self, result: ProbeResult, rise: u32, fall: u32, now: Duration) -> Option<ProbeChange> {
        let outcome = result.outcome;
        *lock(&self.last_probe) = Some(result);
        let change = lock(&self.probe).record(outcome, rise, fall)?;
        if change.is_rise() {
            self.comes_back(now);
        }
        self.is_probed_healthy.store(change.is_rise(), Relaxed);
        self.pool.changed();
        Some(change)
    }

    /// What the last probe found; `None` before the first.
    pub fn last_probe(&self) -> Option<ProbeResult> {
        lock(&self.last_probe).clone()
    }

    /// Whether it is to get requests of its sessions only. False when it was so already.
    pub fn drain(&self, is_draining: bool, now: Duration) -> bool {
        if self.is_draining.swap(is_draining, Relaxed) == is_draining {
            return false;
        }
        if !is_draining {
            self.comes_back(now);
        }
        self.pool.changed();
        true
    }

    /// It is not probed any more: it is as well as requests find it.
    pub fn forget_probes(&self) {
        *lock(&self.probe) = ProbeState::default();
        *lock(&self.last_probe) = None;
        self.is_probed_healthy.store(true, Relaxed);
        self.pool.changed();
    }

    /// Nobody is ejected any more.
    pub fn forget_ejection(&self, now: Duration) {
        let mut ejection = lock(&self.ejection);
        *ejection = Ejection::default();
        self.ejected_until.store(0, Relaxed);
        self.is_uneasy.store(false, Relaxed);
        drop(ejection);
        // It was to come back later.
        self.came_back.fetch_min(millis(now), Relaxed);
        self.pool.changed();
    }

    /// A request failed by the server's fault.
    pub fn failed(&self, now: Duration, eject: &config::Eject, pool: PoolCount) -> EjectVerdict {
        self.out(&mut lock(&self.ejection), |ejection| ejection.failure(now, eject, pool))
    }

    /// The response of a request that had succeeded broke off.
    pub fn cut(&self, now: Duration, eject: &config::Eject, pool: PoolCount) -> EjectVerdict {
        self.out(&mut lock(&self.ejection), |ejection| ejection.cut(now, eject, pool))
    }

    /// Its numbers stand out from the pool's.
    pub fn stands_out(&self, now: Duration, eject: &config::Eject, pool: PoolCount) -> EjectVerdict {
        self.out(&mut lock(&self.ejection), |ejection| ejection.eject(now, eject, pool))
    }

    fn out(
        &self,
        ejection: &mut Ejection,
        judge: impl FnOnce(&mut Ejection) -> EjectVerdict,
    ) -> EjectVerdict {
        let verdict = judge(ejection);
        self.is_uneasy.store(true, Relaxed);
        if let EjectVerdict::Ejected { until } = verdict {
            self.ejected_until.store(millis(until), Relaxed);
            self.comes_back(until);
            self.pool.changed();
        }
        verdict
    }

    /// A request was answered.
    pub fn succeeded(&self, now: Duration, eject: &config::Eject) {
        if self.is_uneasy.load(Relaxed) {
            let mut ejection = lock(&self.ejection);
            ejection.success(now, eject);
            self.is_uneasy.store(*ejection != Ejection::default(), Relaxed);
        }
    }
}

impl Condition {
    /// The word for the status page and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Healthy => "healthy",
            Condition::Unhealthy => "unhealthy",
            Condition::Ejected => "ejected",
            Condition::Draining => "draining",
        }
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// The state behind it is a few numbers, valid after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_two_things_comes_back_with_the_later_one() {
        let (at, slow_start) = (Duration::from_secs, Duration::from_secs(10));
        let state = ServerState::new(1, Arc::new(PoolState::new(1)), ProbeState::default(), false);
        state.comes_back(at(100));
        state.comes_back(at(50));

        assert_eq!(state.ramp(at(100), slow_start), 100);
        assert_eq!(state.ramp(at(105), slow_start), 550);
        assert_eq!(state.ramp(at(110), slow_start), 1000);
    }
}
