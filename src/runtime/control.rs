//! The control thread: everything that is not a request.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::admin::{self, Admin, ReloadOrder};
use crate::clock::{TICK, Timers};
use crate::front::accept::Message;
use crate::observe::{AccessLog, Events};
use crate::runtime::lookout::{Lookouts, Name};
use crate::runtime::reload::{Meters, Reloader, Source, WAITING_MAX};
use crate::runtime::{RunError, SharedSnapshot, report_panic};
use crate::state::{InForce, Keep, Stage};
use crate::upstream::probe::Prober;

/// How often the control thread looks whether the workers have ended.
const LOOK: Duration = Duration::from_millis(10);

/// How often it looks whether anything has been invalidated.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How many keys of the cache it looks at without a pause, a millisecond's work, and how long the pause is: a tenth
/// of one processor at most, and ten seconds for a million responses.
const SWEEP_KEYS: usize = 1000;
const SWEEP_PAUSE: Duration = Duration::from_millis(9);

/// What the control thread is given.
pub struct Control {
    pub keep: Arc<Keep>,
    pub snapshot: SharedSnapshot,
    pub names: Vec<Name>,
    pub admin: Option<TcpListener>,
    pub addresses: Vec<(String, SocketAddr)>,
    pub access: Option<AccessLog>,
    pub stage: watch::Sender<Stage>,
    pub inboxes: Vec<mpsc::Sender<Message>>,
    pub events: Events,
    /// `None`: there is no file, and nothing to reload.
    pub source: Option<Source>,
}

/// The control thread's event loop.
pub fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

impl Control {
    /// Runs until a signal, and then until the workers have ended. `ready` is called when signals are heard:
    /// whoever is told that the process is up may end it the next moment.
    pub fn run(
        self,
        runtime: &LocalRuntime,
        workers: Vec<JoinHandle<io::Result<()>>>,
        ready: impl FnOnce(&[(String, SocketAddr)]),
    ) -> Result<(), RunError> {
        let access = runtime.block_on(self.serve(workers, ready)).map_err(RunError::Thread)?;
        if let Some(access) = access {
            access.close();
        }
        Ok(())
    }

    async fn serve(
        self,
        workers: Vec<JoinHandle<io::Result<()>>>,
        ready: impl FnOnce(&[(String, SocketAddr)]),
    ) -> io::Result<Option<AccessLog>> {
        let mut signals = Signals::new(self.source.is_some())?;
        ready(&self.addresses);
        let timers = Timers::new();
        tokio::task::spawn_local({
            let timers = timers.clone();
            async move {
                loop {
                    tokio::time::sleep(TICK).await;
                    timers.sweep(Instant::now());
                }
            }
        });
        tokio::task::spawn_local(sweep(self.keep.clone()));
        let prober = Prober::new(timers, self.keep.metrics.cells(self.keep.workers()), self.keep.began());
        let lookouts = Lookouts::new(&self.keep, &prober);
        lookouts.follow(&self.snapshot, self.names);
        let losses = self.access.as_ref().map(AccessLog::losses);
        let in_force = Rc::new(InForce::new(self.snapshot, self.addresses, losses));
        let access = Rc::new(RefCell::new(self.access));
        let meters = Meters::new(&self.keep.metrics, self.keep.metrics.cells(self.keep.workers()));
        let reloads = self.source.map(|source| {
            let (orders, ordered) = mpsc::channel(WAITING_MAX);
            let reloader = Reloader {
                source: source.into(),
                keep: self.keep.clone(),
                in_force: in_force.clone(),
                lookouts,
                access: access.clone(),
                inboxes: self.inboxes,
                events: self.events,
                stage: self.stage.subscribe(),
                meters,
                former: RefCell::default(),
                taking_over: Cell::default(),
            };
            tokio::task::spawn_local(reloader.run(ordered));
            orders
        });
        let state =
            Admin { keep: self.keep, in_force, stage: self.stage.subscribe(), reloads: reloads.clone() };
        if let Some(socket) = self.admin {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            tokio::task::spawn_local(admin::serve(state.into(), listener));
        }
        loop {
            match signals.next().await {
                What::End => break,
                What::Reopen => access.borrow().iter().for_each(AccessLog::reopen),
                What::Reload => order_reload(reloads.as_ref()),
            }
        }
        info!("draining: no new connections, requests in flight are finished");
        self.stage.send_replace(Stage::Draining);
        tokio::select! {
            () = ended(workers) => info!("drained"),
            () = signals.end() => {
                warn!("ended by a second signal before the drain was done");
                // Now means now: destructors of whatever hangs are part of the hang.
                process::exit(1);
            }
        }
        Ok(access.take())
    }
}

/// Where there is no more room, those that wait will do.
fn order_reload(reloads: Option<&mpsc::Sender<ReloadOrder>>) {
    let order = ReloadOrder { cause: "SIGHUP", answer: None };
    if reloads.is_some_and(|orders| orders.try_send(order).is_err()) {
        info!("a reload is waiting already");
    }
}

/// Takes to all that is stored what servers have invalidated. A purge does that itself.
async fn sweep(keep: Arc<Keep>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(mut sweep) = keep.cache.sweep() else { continue };
        while sweep.go(SWEEP_KEYS) {
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    }
}

async fn ended(mut workers: Vec<JoinHandle<io::Result<()>>>) {
    while !workers.is_empty() {
        let mut index = 0;
        while index < workers.len() {
            if workers[index].is_finished() {
                let worker = workers.swap_remove(index);
                let name = worker.thread().name().unwrap_or("worker").to_owned();
                if worker.join().is_err() {
                    report_panic(&name);
                }
            } else {
                index += 1;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

enum What {
    /// SIGTERM or SIGINT.
    End,
    /// SIGUSR1: log files were moved away.
    Reopen,
    /// SIGHUP: the configuration has changed.
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
    /// `None`: a terminal that hangs up ends the process, as it does any other.
    reload: Option<Signal>,
}

impl Signals {
    fn new(can_reload: bool) -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reopen: signal(SignalKind::user_defined1())?,
            reload: can_reload.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) -> What {
        tokio::select! {
            _ = self.terminate.recv() => What::End,
            _ = self.interrupt.recv() => What::End,
            _ = self.reopen.recv() => What::Reopen,
            () = heard(&mut self.reload) => What::Reload,
        }
    }

    async fn end(&mut self) {
        loop {
            match self.next().await {
                What::End => return,
                What::Reopen => {}
                What::Reload => warn!("SIGHUP ignored: the process drains"),
            }
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
