//! Active health checks: one prober for the process, on the control thread.
//!
//! [`watch`] asks one server again and again, and tells its state, the log and the numbers what came of it. `timing`
//! says when, `http` and `grpc` how; `bounded` keeps a server from answering without end, `failure` says what went
//! wrong.

pub use failure::causes;
pub use grpc::status_in;

mod timing;

mod bounded;
mod failure;
mod grpc;
mod http;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use crate::clock::Timers;
use crate::config::{FirstState, Health, Probe};
use crate::net::dial::{DialError, DialLimits, dial};
use crate::net::tls::Connector;
use crate::observe::Cells;
use crate::upstream::health_state::{Outcome, ProbeChange, ProbeResult};
use crate::upstream::pool::Upstream;
use crate::upstream::probe::failure::Failure;
use crate::upstream::server::{ProbeHandles, Server, ServerState};

/// Probes at once, of all servers. A probe is a socket: with ten thousand servers that do not answer, the process
/// keeps the file descriptors that its clients need, and is late with its probes instead.
pub const PROBES_AT_ONCE: usize = 256;

/// A server as its probes see it: all they need, so that they can outlive what it was taken from.
pub struct Subject {
    /// The upstream's name, for the log.
    pub upstream: String,
    /// The server's name, for the log.
    pub server: String,
    /// Where to ask: with the port of the probes, if they have their own.
    pub address: SocketAddr,
    /// The host to ask for, with its port.
    pub host: String,
    /// `None`: in the clear. Made for probes: see [`Connector::afresh`].
    pub tls: Option<Connector>,
    /// What to ask, and how often.
    pub health: Health,
    /// The upstream's own; `health.timeout` is for them together and for the answer.
    pub limits: DialLimits,
    /// Who is told.
    pub state: Arc<ServerState>,
    /// Where it is counted.
    pub handles: ProbeHandles,
}

/// What all probes of the process share.
pub struct Prober {
    timers: Rc<Timers>,
    cells: Cells,
    /// What times count from.
    epoch: Instant,
    /// Fair: who waits longest is next.
    turns: Semaphore,
}

/// The task that drives a connection; it ends with whoever asked. By itself it would first say goodbye, and wait until
/// the server takes it.
struct Driven(AbortHandle);

impl Subject {
    /// `None` when the upstream's servers are not probed.
    pub fn of(upstream: &Upstream, server: &Server) -> Option<Subject> {
        let config = &upstream.config;
        let health = config.health.clone()?;
        let own_host = match &health.probe {
            Probe::Http(probe) => probe.host.clone(),
            Probe::Grpc(probe) => probe.host.clone(),
            Probe::Tcp | Probe::Tls => None,
        };
        let port = health.port.unwrap_or(server.address.port());
        let protocols: &[&str] = if matches!(health.probe, Probe::Grpc(_)) { &[grpc::ALPN] } else { &[] };
        let tls = server.entry.tls.as_ref().filter(|_| health.probe != Probe::Tcp);
        Some(Subject {
            upstream: config.name.clone(),
            server: server.id.clone(),
            address: SocketAddr::new(server.address.ip(), port),
            host: own_host.unwrap_or_else(|| with_port(&server.entry.name, health.port)),
            tls: tls.map(|connector| connector.afresh(protocols)),
            limits: DialLimits { connect: config.connect_timeout, tls: config.tls_timeout },
            state: server.state.clone(),
            handles: server.entry.handles.probes,
            health,
        })
    }

    /// Whether it is the same server, asked in the same way by the same state.
    pub fn is_same(&self, other: &Subject) -> bool {
        let trust = |subject: &Subject| subject.tls.as_ref().map(Connector::mark);
        self.address == other.address
            && self.host == other.host
            && trust(self) == trust(other)
            && self.health == other.health
            && self.limits == other.limits
            && self.handles == other.handles
            && Arc::ptr_eq(&self.state, &other.state)
    }

    /// One whole probe, but for its time limit.
    async fn ask(&self, timers: &Rc<Timers>) -> Result<(), Failure> {
        let dialled = dial(self.address, self.tls.as_ref(), self.limits, timers).await;
        let stream = dialled.map_err(Failure::Dial)?;
        match &self.health.probe {
            Probe::Tcp | Probe::Tls => Ok(()),
            Probe::Http(probe) => http::ask(stream, probe, &self.host).await,
            Probe::Grpc(probe) => grpc::ask(stream, probe, &self.host, self.health.timeout).await,
        }
    }

    /// Tells everyone what came of a probe; `nth` counts this subject's from 0.
    fn tell(&self, nth: u64, outcome: Outcome, failure: Option<String>, prober: &Prober) {
        let cells = &prober.cells;
        let (upstream, server, health) = (&self.upstream, &self.server, &self.health);
        let cause = failure.clone().unwrap_or_default();
        match outcome {
            Outcome::Success => cells.inc(self.handles.ok),
            Outcome::Failure => {
                cells.inc(self.handles.failed);
                debug!(upstream, server, cause, "probe failed");
            }
        }
        let result = ProbeResult { outcome, failure, at: Instant::now() };
        let now = prober.epoch.elapsed();
        match self.state.probed(result, health.rise, health.fall, now) {
            Some(ProbeChange::Fell) => {
                cells.inc(self.handles.fell);
                warn!(upstream, server, cause, failures = health.fall, "server is unhealthy");
            }
            Some(change @ (ProbeChange::Rose | ProbeChange::Proven)) => {
                cells.inc(self.handles.rose);
                let cause = match change {
                    ProbeChange::Proven => "its first good probe".to_owned(),
                    _ => format!("good probes in a row: {}", health.rise),
                };
                info!(upstream, server, cause, "server is healthy");
            }
            // No change, but the only word on why a server that was never well does not serve.
            None if nth == 0 && outcome == Outcome::Failure && health.start == FirstState::Unhealthy => {
                warn!(upstream, server, cause, "server is not healthy yet");
            }
            None => {}
        }
    }
}

impl Prober {
    /// `cells` are the control thread's; `epoch` is when the process began.
    pub fn new(timers: Rc<Timers>, cells: Cells, epoch: Instant) -> Rc<Self> {
        Rc::new(Prober { timers, cells, epoch, turns: Semaphore::new(PROBES_AT_ONCE) })
    }

    /// Waits for a turn and asks. The wait is ours, so it does not count as the server's.
    async fn probe(&self, subject: &Subject) -> Result<(), Failure> {
        let _turn = self.turns.acquire().await;
        let after = subject.health.timeout;
        let asked = self.timers.timeout(after, subject.ask(&self.timers));
        let answer = self.timers.in_time(asked).await;
        answer.unwrap_or(Err(Failure::TimedOut { after }))
    }
}

/// Probes one server until its task is aborted. `crowd` is how many servers begin to be probed together with it.
pub async fn watch(subject: Rc<Subject>, crowd: usize, prober: Rc<Prober>, mut rng: fastrand::Rng) {
    for nth in 0.. {
        tokio::time::sleep(timing::wait(nth, crowd, subject.health.interval, rng.f64())).await;
        let (outcome, failure) = match prober.probe(&subject).await {
            Ok(()) => (Outcome::Success, None),
            // Nobody has asked, so nothing is known.
            Err(Failure::Dial(DialError::Shortage(error))) => {
                debug!(upstream = subject.upstream, server = subject.server, %error, "probe left out");
                continue;
            }
            Err(failure) => (Outcome::Failure, Some(causes(&failure))),
        };
        subject.tell(nth, outcome, failure, &prober);
    }
}

impl Driven {
    /// Errors reach whoever waits for the answer; there is nobody else to tell.
    fn spawn<E: 'static>(connection: impl Future<Output = Result<(), E>> + 'static) -> Driven {
        Driven(tokio::task::spawn_local(async move { connection.await.is_ok() }).abort_handle())
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A server's name, which ends in its port, with the port of its probes instead.
fn with_port(name: &str, port: Option<u16>) -> String {
    match (port, name.rsplit_once(':')) {
        (Some(port), Some((host, _))) => format!("{host}:{port}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_ends_with_whoever_asked() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let held = Rc::new(());
        let stays = held.clone();

        tokio::task::LocalSet::new().block_on(&runtime, async {
            let driven = Driven::spawn(async move {
                let _stays = stays;
                std::future::pending::<Result<(), ()>>().await
            });
            tokio::task::yield_now().await;
            assert_eq!(Rc::strong_count(&held), 2);
            drop(driven);
            tokio::task::yield_now().await;
            assert_eq!(Rc::strong_count(&held), 1);
        });
    }

    #[test]
    fn the_host_that_is_asked_for_has_the_port_that_is_asked() {
        for (name, port, expected) in [
            ("app:80", None, "app:80"),
            ("app:80", Some(9000), "app:9000"),
            ("[::1]:80", Some(9000), "[::1]:9000"),
        ] {
            assert_eq!(with_port(name, port), expected);
        }
    }
}
