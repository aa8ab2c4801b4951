//! The process: its threads, its signals, its end.
//!
//! One thread per core carries requests; the thread that calls [`run`] does everything else:
//! probes, the admin listener, signals. So nothing that is not a request can delay one.

mod control;
pub mod demo;
mod lookout;
mod worker;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::config::{self, AccessTarget, Config, Mistakes};
use crate::front::accept::Handed;
use crate::net::descriptors::{self, Descriptors, Wants};
use crate::net::listen;
use crate::net::resolve::ResolveError;
use crate::observe::{self, AccessLog, Family};
use crate::runtime::worker::Worker;
use crate::state::{BuildError, Keep, Snapshot, Stage};
use crate::upstream::balance::Registry;
use crate::upstream::probe::PROBES_AT_ONCE;

/// Connections that may wait for a worker to take them over.
const HANDOVERS: usize = 1024;

/// Why the process cannot serve.
#[derive(Debug)]
pub enum RunError {
    /// The file is wrong, or what it names is.
    Build(BuildError),
    /// What DNS servers there are cannot be found out.
    Dns(ResolveError),
    /// An address cannot be listened on.
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The access log cannot be opened.
    AccessLog {
        /// Where it should go.
        target: AccessTarget,
        /// Why.
        source: io::Error,
    },
    /// The system refuses a thread or its event queue.
    Thread(io::Error),
}

/// Reads a configuration; every mistake in it at once.
pub fn load(path: &Path, registry: &Registry) -> Result<Config, Mistakes> {
    config::load(path, &registry.names().collect::<Vec<_>>())
}

/// Serves until a signal ends it. `registry` names the strategies that `balance` may say;
/// `give_back` is called now and then, on each worker's thread: the program's allocator may return to the system what
/// a burst has left behind; `started` is called with the bound addresses, by listener, once connections are accepted.
///
/// # Errors
/// Whatever keeps it from starting. Once it serves, nothing ends it but a signal.
pub fn run(
    config: Config,
    registry: &Registry,
    give_back: fn(),
    started: impl FnOnce(&[(String, SocketAddr)]),
) -> Result<(), RunError> {
    observe::init(config.log.level, config.log.events);
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let workers = config.runtime.workers.unwrap_or_else(cores);
    let descriptors = descriptors(&config, workers);
    let keep = Keep::new(workers, &config.cache, descriptors);
    let clients = i64::try_from(keep.descriptors.clients()).unwrap_or(i64::MAX);
    keep.metrics.set(keep.metrics.gauge(Family::ConnectionsLimit, &[]), clients);
    let snapshot = Snapshot::build(config, &keep, registry).map_err(RunError::Build)?;
    let runtime = control::runtime().map_err(RunError::Thread)?;
    let names = runtime.block_on(lookout::first_names(&snapshot, &keep)).map_err(RunError::Dns)?;
    let access = AccessLog::start(&snapshot.config.log.access, snapshot.config.log.format)
        .map_err(|source| RunError::AccessLog { target: snapshot.config.log.access.clone(), source })?;
    let (mut sockets, mut addresses) = bind(&snapshot.config, workers)?;
    let admin = snapshot.config.admin.as_ref().map(|admin| bind_one(admin.bind)).transpose()?;
    if let Some(admin) = &admin {
        addresses.push(("admin".into(), admin.local_addr().map_err(RunError::Thread)?));
    }

    let (stage_sender, stage) = watch::channel(Stage::Serving);
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| mpsc::channel::<Handed>(HANDOVERS)).unzip();
    let mut threads = Vec::new();
    for (number, inbox) in inboxes.into_iter().enumerate() {
        let worker = Worker {
            number,
            keep: keep.clone(),
            snapshot: snapshot.clone(),
            sockets: sockets.iter_mut().filter_map(Vec::pop).collect(),
            access: access.as_ref().map(AccessLog::writer),
            stage: stage.clone(),
            inbox,
            others: senders.clone(),
            give_back,
        };
        let thread = thread::Builder::new().name(format!("worker-{number}"));
        threads.push(thread.spawn(move || worker.run()).map_err(RunError::Thread)?);
    }
    drop(senders);

    let control = control::Control { keep, snapshot, names, admin, addresses, access, stage: stage_sender };
    control.run(&runtime, threads, |addresses| {
        announce(addresses);
        started(addresses);
    })
}

/// Takes all descriptors that the system gives, and says so where they do not suffice: whoever set a limit counts on it.
fn descriptors(config: &Config, workers: usize) -> Arc<Descriptors> {
    let probed = config.upstreams.iter().filter(|upstream| upstream.health.is_some());
    let wants = Wants {
        clients: config.limits.connections,
        workers,
        listeners: config.listeners.len(),
        probes: probed.map(|upstream| upstream.servers.len()).sum::<usize>().min(PROBES_AT_ONCE),
    };
    let shared = Descriptors::share(descriptors::raise(), wants);
    if shared.clients() < wants.clients {
        warn!(
            limit = shared.limit(),
            enough = wants.enough(),
            connections = shared.clients(),
            "too few file descriptors for limits.connections: there may be fewer; raise the limit (ulimit -n)"
        );
    }
    shared
}

/// One list of sockets per listener, one socket per worker.
fn bind(config: &Config, workers: usize) -> Result<(Vec<Vec<TcpListener>>, Bound), RunError> {
    let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
    for listener in &config.listeners {
        let failed = |source| RunError::Bind { address: listener.bind, source };
        let bound = listen::bind(listener.bind, workers).map_err(failed)?;
        addresses.push((listener.name.clone(), bound[0].local_addr().map_err(failed)?));
        sockets.push(bound);
    }
    Ok((sockets, addresses))
}

fn bind_one(address: SocketAddr) -> Result<TcpListener, RunError> {
    let failed = |source| RunError::Bind { address, source };
    let mut sockets = listen::bind(address, 1).map_err(failed)?;
    sockets.pop().ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))
}

fn announce(addresses: &[(String, SocketAddr)]) {
    for (listener, address) in addresses {
        info!(listener, %address, "listening");
    }
    info!(version = env!("CARGO_PKG_VERSION"), "ready");
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Build(error) => error.fmt(f),
            RunError::Dns(error) => write!(f, "dns: {error}"),
            RunError::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            RunError::AccessLog { target: AccessTarget::File(path), source } => {
                write!(f, "cannot open the access log {}: {source}", path.display())
            }
            RunError::AccessLog { source, .. } => write!(f, "cannot open the access log: {source}"),
            RunError::Thread(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for RunError {}

/// A thread ended by a panic; says so where an operator looks.
fn report_panic(thread: &str) {
    error!(thread, "a thread ended by a panic; this is a bug, please report it");
}

/// What is bound, by listener.
type Bound = Vec<(String, SocketAddr)>;

/// Shared by all threads: what a snapshot is behind.
type SharedSnapshot = Arc<Snapshot>;
