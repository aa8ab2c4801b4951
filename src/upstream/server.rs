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
    EjectVerdict, Ejection, PoolCount, ProbeChange, ProbeResult, ProbeState,
};

/// A server as a snapshot knows it.
pub struct Server {
    /// Its address, as configured; in logs, metrics and hashes.
    pub name: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// What `host = "server"` sends.
    pub host: HeaderValue,
    /// `None`: in the clear.
    pub tls: Option<Connector>,
    /// Its share.
    pub weight: u32,
    /// Used only when no other server may serve.
    pub is_backup: bool,
    /// What outlives the snapshot.
    pub state: Arc<ServerState>,
    /// Where its numbers are counted.
    pub handles: ServerHandles,
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
#[derive(Clone, Copy, Default)]
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
    /// One cell per worker, written by that worker alone.
    in_flight: Box<[CachePadded<AtomicU32>]>,
    is_probed_healthy: AtomicBool,
    /// Milliseconds since the process began; 0: never ejected.
    ejected_until: AtomicU64,
    /// The ejection has failures to forget: a success must take the lock.
    is_uneasy: AtomicBool,
    probe: Mutex<ProbeState>,
    last_probe: Mutex<Option<ProbeResult>>,
    ejection: Mutex<Ejection>,
}

/// A request that a server is busy with.
pub struct InFlight {
    state: Arc<ServerState>,
    worker: usize,
}

/// What the status page calls a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Condition {
    Healthy,
    Unhealthy,
    Ejected,
}

impl ServerState {
    /// Not ejected, and for its probes in the state that they begin with.
    pub fn new(workers: usize, probe: ProbeState) -> Self {
        ServerState {
            in_flight: (0..workers).map(|_| CachePadded::default()).collect(),
            is_probed_healthy: AtomicBool::new(probe.is_healthy()),
            ejected_until: AtomicU64::new(0),
            is_uneasy: AtomicBool::new(false),
            probe: Mutex::new(probe),
            last_probe: Mutex::default(),
            ejection: Mutex::default(),
        }
    }

    /// Neither failed by probes nor ejected.
    pub fn may_serve(&self, now: Duration) -> bool {
        self.condition(now) == Condition::Healthy
    }

    /// How it is doing. `now` is the time since the process began, here and below.
    pub fn condition(&self, now: Duration) -> Condition {
        if !self.is_probed_healthy.load(Relaxed) {
            Condition::Unhealthy
        } else if self.ejected_until.load(Relaxed) > now.as_millis() as u64 {
            Condition::Ejected
        } else {
            Condition::Healthy
        }
    }

    /// Requests it is busy with, for all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.iter().map(|cell| cell.load(Relaxed)).sum()
    }

    /// A request of this worker begins.
    pub fn begin(self: &Arc<Self>, worker: usize) -> InFlight {
        let cell = &self.in_flight[worker];
        cell.store(cell.load(Relaxed) + 1, Relaxed);
        InFlight { state: self.clone(), worker }
    }

    /// A probe came back.
    pub fn probed(&self, result: ProbeResult, rise: u32, fall: u32) -> Option<ProbeChange> {
        let outcome = result.outcome;
        *lock(&self.last_probe) = Some(result);
        let change = lock(&self.probe).record(outcome, rise, fall)?;
        self.is_probed_healthy.store(change.is_rise(), Relaxed);
        Some(change)
    }

    /// What the last probe found; `None` before the first.
    pub fn last_probe(&self) -> Option<ProbeResult> {
        lock(&self.last_probe).clone()
    }

    /// A request failed by the server's fault.
    pub fn failed(&self, now: Duration, eject: &config::Eject, pool: PoolCount) -> EjectVerdict {
        let mut ejection = lock(&self.ejection);
        let verdict = ejection.failure(now, eject, pool);
        self.is_uneasy.store(true, Relaxed);
        if let EjectVerdict::Ejected { until } = verdict {
            self.ejected_until.store(until.as_millis() as u64, Relaxed);
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
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let cell = &self.state.in_flight[self.worker];
        cell.store(cell.load(Relaxed).saturating_sub(1), Relaxed);
    }
}

/// The state behind it is a few numbers, valid after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
