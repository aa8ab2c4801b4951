//! The process: its threads, its signals, its end.
//!
//! One thread per core carries requests; the thread that calls [`run`] does everything else:
//! probes, the admin listener, signals. So nothing that is not a request can delay one.

mod control;
pub mod demo;
mod lookout;
mod reload;
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
use crate::front::accept::Message;
use crate::net::descriptors::{self, Descriptors, Wants};
use crate::net::listen;
use crate::net::resolve::ResolveError;
use crate::observe::{self, AccessLog, Family};
use crate::runtime::worker::Worker;
use crate::state::changes::Lasting;
use crate::state::{BuildErrors, Keep, Snapshot, SocketId, Stage};
use crate::upstream::balance::Registry;
use crate::upstream::probe::PROBES_AT_ONCE;

/// Connections that may wait for a worker to take them over.
const MESSAGES: usize = 1024;

/// Why the process cannot serve.
#[derive(Debug)]
pub enum RunError {
    /// The file is wrong, or what it names is.
    Build(BuildErrors),
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

/// Serves until a signal ends it. `registry` names the strategies that `balance` may say; `file` is what `config` was read
/// from, and is read again at SIGHUP and when the admin listener is told to: `None` where there is none. `give_back` is called now and then, on each worker's thread: the program's allocator may return to the system what
/// a burst has left behind; `started` is called with the bound addresses, by listener, once connections are accepted.
///
/// # Errors
/// Whatever keeps it from starting. Once it serves, nothing ends it but a signal.
pub fn run(
    config: Config,
    registry: &Registry,
    file: Option<&Path>,
    give_back: fn(),
    started: impl FnOnce(&[(String, SocketAddr)]),
) -> Result<(), RunError> {
    let events = observe::init(config.log.level, config.log.events);
    let lasting = Lasting::of(&config);
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let workers = config.runtime.workers.unwrap_or_else(cores);
    let descriptors = Descriptors::share(descriptors::raise(), wants(&config, workers));
    let keep = Keep::new(workers, &config.cache, descriptors);
    note_descriptors(&config, &keep);
    let snapshot = Snapshot::build(config, &keep, registry, None).map_err(RunError::Build)?;
    let runtime = control::runtime().map_err(RunError::Thread)?;
    let names = runtime.block_on(lookout::first_names(&snapshot, &keep, None)).map_err(RunError::Dns)?;
    let access = AccessLog::start(&snapshot.config.log.access, snapshot.config.log.format)
        .map_err(|source| RunError::AccessLog { target: snapshot.config.log.access.clone(), source })?;
    let (mut sockets, mut addresses) = bind(snapshot.listeners_to_bind(&[]), workers)?;
    let admin = snapshot.config.admin.as_ref().map(|admin| bind_one(admin.bind)).transpose()?;
    if let Some(admin) = &admin {
        addresses.push(("admin".into(), admin.local_addr().map_err(RunError::Thread)?));
    }

    let (stage_sender, stage) = watch::channel(Stage::Serving);
    let (senders, inboxes): (Vec<_>, Vec<_>) =
        (0..workers).map(|_| mpsc::channel::<Message>(MESSAGES)).unzip();
    let mut threads = Vec::new();
    for (number, inbox) in inboxes.into_iter().enumerate() {
        let worker = Worker {
            number,
            keep: keep.clone(),
            snapshot: snapshot.clone(),
            sockets: one_of_each(&mut sockets),
            access: access.as_ref().map(AccessLog::writer),
            stage: stage.clone(),
            inbox,
            inboxes: senders.clone(),
            give_back,
        };
        let thread = thread::Builder::new().name(format!("worker-{number}"));
        threads.push(thread.spawn(move || worker.run()).map_err(RunError::Thread)?);
    }

    let source =
        file.map(|file| reload::Source { file: file.to_owned(), registry: registry.clone(), lasting });
    let control = control::Control {
        keep,
        snapshot,
        names,
        admin,
        addresses,
        access,
        stage: stage_sender,
        inboxes: senders,
        events,
        source,
    };
    control.run(&runtime, threads, |addresses| {
        announce(addresses);
        started(addresses);
    })
}

/// What a configuration wants of descriptors.
fn wants(config: &Config, workers: usize) -> Wants {
    let probed = config.upstreams.iter().filter(|upstream| upstream.health.is_some());
    Wants {
        clients: config.limits.connections,
        workers,
        listeners: config.listeners.len(),
        probes: probed.map(|upstream| upstream.servers.len()).sum::<usize>().min(PROBES_AT_ONCE),
    }
}

/// Says how many clients there may be, also where that is fewer than was asked for: whoever set a limit counts on it.
fn note_descriptors(config: &Config, keep: &Keep) {
    let (shared, wants) = (&keep.descriptors, wants(config, keep.workers()));
    let clients = i64::try_from(shared.clients()).unwrap_or(i64::MAX);
    keep.metrics.set(keep.metrics.gauge(Family::ConnectionsLimit, &[]), clients);
    if shared.clients() < wants.clients {
        warn!(
            limit = shared.limit(),
            enough = wants.enough(),
            connections = shared.clients(),
            "too few file descriptors for limits.connections: there may be fewer; raise the limit (ulimit -n)"
        );
    }
}

/// Binds listeners: a list of sockets for each, one for each worker.
fn bind<'a>(
    listeners: impl Iterator<Item = (SocketId, &'a config::Listener)>,
    workers: usize,
) -> Result<(Sockets, Bound), RunError> {
    let (mut sockets, mut addresses) = (Vec::new(), Vec::new());
    for (id, listener) in listeners {
        let failed = |source| RunError::Bind { address: listener.bind, source };
        let bound = listen::bind(listener.bind, workers).map_err(failed)?;
        addresses.push((listener.name.clone(), bound[0].local_addr().map_err(failed)?));
        sockets.push((id, bound));
    }
    Ok((sockets, addresses))
}

/// A worker's sockets.
fn one_of_each(sockets: &mut Sockets) -> Vec<(SocketId, TcpListener)> {
    sockets.iter_mut().filter_map(|(id, of_all)| Some((*id, of_all.pop()?))).collect()
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
                write!(f, "log.access: cannot open the access log {}: {source}", path.display())
            }
            RunError::AccessLog { source, .. } => {
                write!(f, "log.access: cannot open the access log: {source}")
            }
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

/// The sockets of listeners, one for each worker.
type Sockets = Vec<(SocketId, Vec<TcpListener>)>;

/// Shared by all threads: what a snapshot is behind.
type SharedSnapshot = Arc<Snapshot>;
