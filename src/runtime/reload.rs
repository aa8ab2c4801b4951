//! Reloads: the file is read again, and what it says put in force, whole or not at all.
//!
//! Everything that can fail is done first: reading, certificates, names, the access log, sockets. From then on nothing is
//! left to chance: each worker is sent the new configuration and takes it over between two polls, and when all have, they
//! begin to accept on new sockets. One reload after the other: those that come meanwhile are one more together.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::mem;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info, warn};

use crate::admin::{ReloadAnswer, ReloadOrder};
use crate::clock::unix_now;
use crate::config::{self, Config, Mistake};
use crate::front::accept::{Message, Open, TakeOver};
use crate::observe::{AccessLog, Cells, Counter, Discarded, Events, Family, Metrics};
use crate::runtime::lookout::{self, Lookouts, Name};
use crate::runtime::{Bound, RunError, Sockets, bind, load, note_descriptors, one_of_each, wants};
use crate::state::changes::{self, Difference, Lasting, Side};
use crate::state::{InForce, Keep, Snapshot, SocketId, Stage, forget, settle};
use crate::upstream::balance::Registry;

/// Reloads that may wait for the one that runs; they will be one. Beyond, who asks is refused.
pub const WAITING_MAX: usize = 16;
/// What may be prepared in: files on a disk that hangs are not waited for for ever. A hundred times what 100,000 routes take.
const PREPARE_MAX: Duration = Duration::from_secs(60);
/// What workers have to take a configuration over: they do it between two polls.
const TAKE_OVER_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether former configurations are still in use.
const LOOK: Duration = Duration::from_secs(1);

/// What configurations come from.
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// What `balance` may say.
    pub registry: Registry,
    /// What the process has for good.
    pub lasting: Lasting,
}

/// What a reload needs.
pub struct Reloader {
    pub source: Arc<Source>,
    pub keep: Arc<Keep>,
    pub in_force: Rc<InForce>,
    pub lookouts: Rc<Lookouts>,
    pub access: Rc<RefCell<Option<AccessLog>>>,
    pub inboxes: Vec<mpsc::Sender<Message>>,
    pub events: Events,
    pub stage: watch::Receiver<Stage>,
    pub meters: Meters,
    /// Configurations that requests under way began with, the oldest first, each with the metrics that ended with it.
    pub former: RefCell<VecDeque<(Arc<Snapshot>, Discarded)>>,
    /// Of the reload before, where workers are late.
    pub taking_over: Cell<Option<JoinHandle<()>>>,
}

/// Where reloads are counted.
pub struct Meters {
    metrics: Arc<Metrics>,
    cells: Cells,
    ok: Counter,
    failed: Counter,
}

/// Why nothing has changed.
enum Refused {
    /// What is wrong with the file, and all that it names.
    Mistakes(Vec<String>),
    /// The process is on its way out.
    Draining,
    /// It took too long.
    Slow(Duration),
    /// The one before is not over.
    Busy,
}

/// All of a configuration that could fail.
struct Prepared {
    snapshot: Arc<Snapshot>,
    difference: Difference,
    waiting: Vec<&'static str>,
    /// `None`: the one that there is goes on.
    access: Option<Option<AccessLog>>,
    names: Vec<Name>,
    sockets: Sockets,
    bound: Bound,
}

/// What of it is prepared off the control thread.
type Built = (Arc<Snapshot>, Difference, Vec<&'static str>, Option<Option<AccessLog>>);

/// What a reload has done.
#[derive(Debug, Clone, Serialize)]
struct Report {
    took_ms: u64,
    /// Workers that take it over later.
    workers_late: bool,
    /// Keys whose values wait for a restart.
    waits_for_restart: Vec<&'static str>,
    #[serde(flatten)]
    difference: Difference,
}

impl Reloader {
    /// Reloads whenever that is ordered, one after the other.
    pub async fn run(self, mut orders: mpsc::Receiver<ReloadOrder>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                order = orders.recv() => order,
                _ = looks.tick() => {
                    self.forget_former();
                    continue;
                }
            };
            let Some(first) = first else { return };
            let cause = first.cause;
            // What was ordered before the file is read is done by reading it once.
            let mut together = vec![first];
            while let Ok(order) = orders.try_recv() {
                together.push(order);
            }
            let outcome = self.reload().await;
            self.meters.note(outcome.is_ok());
            let answer = match outcome {
                Ok(report) => report.tell(cause),
                Err(refused) => refused.tell(cause),
            };
            for order in together {
                // Whoever has gone does not want to know.
                let _ = order.answer.map(|to| to.send(answer.clone()));
            }
        }
    }

    async fn reload(&self) -> Result<Report, Refused> {
        let began = Instant::now();
        if let Some(before) = self.taking_over.take()
            && !before.is_finished()
        {
            self.taking_over.set(Some(before));
            return Err(Refused::Busy);
        }
        self.forget_former();
        let prepared = tokio::time::timeout(PREPARE_MAX, self.prepare()).await;
        let prepared = prepared.unwrap_or(Err(Refused::Slow(PREPARE_MAX)));
        let prepared = prepared.and_then(|prepared| match *self.stage.borrow() {
            Stage::Serving => Ok(prepared),
            Stage::Draining => Err(Refused::Draining),
        });
        let mut prepared = prepared.inspect_err(|_| {
            // Numbers that were made room for, and servers that nobody will ask.
            self.keep.metrics.recycle(forget(&self.in_force.snapshot(), &self.keep));
            self.keep.forget_all_unused();
        })?;
        let (difference, waiting) = (mem::take(&mut prepared.difference), mem::take(&mut prepared.waiting));
        let workers_late = !self.put_in_force(prepared).await;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Report { took_ms, workers_late, waits_for_restart: waiting, difference })
    }

    /// All that can fail. Nothing is changed by it.
    async fn prepare(&self) -> Result<Prepared, Refused> {
        if *self.stage.borrow() == Stage::Draining {
            return Err(Refused::Draining);
        }
        let (source, keep, before) = (self.source.clone(), self.keep.clone(), self.in_force.snapshot());
        // Probes and the admin listener go on meanwhile.
        let built = tokio::task::spawn_blocking(move || build(&source, &keep, &before)).await;
        let built = built.map_err(|error| Refused::Mistakes(vec![error.to_string()]))?;
        let (snapshot, difference, waiting, access) = built.map_err(Refused::Mistakes)?;
        let before = self.in_force.snapshot();
        let names = lookout::first_names(&snapshot, &self.keep, Some(&before)).await;
        let names = names.map_err(|error| lines(&RunError::Dns(error)))?;
        let open = self.open_sockets();
        let listeners = snapshot.listeners_to_bind(&open);
        let (sockets, bound) = bind(listeners, self.keep.workers()).map_err(|error| lines(&error))?;
        Ok(Prepared { snapshot, difference, waiting, access, names, sockets, bound })
    }

    fn open_sockets(&self) -> Vec<SocketId> {
        self.in_force.snapshot().listeners.iter().map(|listener| listener.socket).collect()
    }

    /// Nothing fails from here on. False when a worker is late.
    async fn put_in_force(&self, prepared: Prepared) -> bool {
        let Prepared { snapshot, access, names, sockets, bound, .. } = prepared;
        let config = &snapshot.config;
        self.events.set_level(config.log.level);
        let clients_before = self.keep.descriptors.clients();
        self.keep.descriptors.share_again(wants(config, self.keep.workers()));
        if self.keep.descriptors.clients() != clients_before {
            note_descriptors(config, &self.keep);
        }
        self.keep.cache.set_collapse_wait(config.cache.collapse_wait);
        settle(&self.in_force.snapshot(), &snapshot, &self.keep);
        let addresses = self.addresses(&snapshot, &sockets, bound);
        let before = self.in_force.replace(snapshot.clone(), addresses);
        self.lookouts.follow(&snapshot, names);
        let discarded = forget(&snapshot, &self.keep);
        self.former.borrow_mut().push_back((before, discarded));

        let writers = access.as_ref().map(|log| {
            let writer = || log.as_ref().map(AccessLog::writer);
            (0..self.inboxes.len()).map(|_| writer()).collect()
        });
        let mut task = tokio::task::spawn_local(hand_out(self.inboxes.clone(), snapshot, writers, sockets));
        let is_done = tokio::time::timeout(TAKE_OVER_MAX, &mut task).await.is_ok();
        if !is_done {
            self.taking_over.set(Some(task));
        }
        if let Some(new) = access {
            self.change_access_log(new).await;
        }
        is_done
    }

    /// The addresses of the listeners, in their order, and that of the admin listener.
    fn addresses(&self, snapshot: &Snapshot, sockets: &Sockets, bound: Bound) -> Bound {
        let (before, known) = (self.in_force.snapshot(), self.in_force.addresses());
        let ids = before.listeners.iter().map(|listener| listener.socket);
        let mut by_socket: HashMap<SocketId, SocketAddr> =
            ids.zip(&known).map(|(id, (_, address))| (id, *address)).collect();
        for ((id, _), (listener, address)) in sockets.iter().zip(bound) {
            info!(listener, %address, "listening");
            by_socket.insert(*id, address);
        }
        let listeners = snapshot.listeners.iter();
        let mut all: Bound =
            listeners.filter_map(|l| Some((l.name.clone(), *by_socket.get(&l.socket)?))).collect();
        all.extend(known.into_iter().skip(before.listeners.len()));
        all
    }

    /// The old one writes what it was handed, and ends.
    async fn change_access_log(&self, new: Option<AccessLog>) {
        let losses = new.as_ref().map(AccessLog::losses);
        let Some(old) = self.access.replace(new) else { return self.in_force.replace_losses(losses) };
        // Its thread may wait for a destination that does not move.
        let _ = tokio::task::spawn_blocking(move || old.close()).await;
        self.in_force.replace_losses(losses);
    }

    /// What only a former configuration had is given up when nobody has that any more, nor an older one.
    fn forget_former(&self) {
        let mut former = self.former.borrow_mut();
        let before = former.len();
        while former.front().is_some_and(|(snapshot, _)| Arc::strong_count(snapshot) == 1) {
            if let Some((snapshot, discarded)) = former.pop_front() {
                drop(snapshot);
                self.keep.metrics.recycle(discarded);
            }
        }
        if former.len() < before {
            self.keep.forget_all_unused();
        }
    }
}

/// Everything that only reads files.
fn build(source: &Source, keep: &Keep, before: &Snapshot) -> Result<Built, Vec<String>> {
    let loaded = load(&source.file, &source.registry);
    let mut config = loaded.map_err(|wrong| wrong.0.iter().map(Mistake::headline).collect::<Vec<_>>())?;
    let waiting = changes::waiting(&source.lasting, &config);
    source.lasting.hold(&mut config);
    let snapshot = Snapshot::build(config, keep, &source.registry, Some(before));
    let access = snapshot.as_ref().ok().map(|snapshot| access_log(&before.config, &snapshot.config));
    let snapshot = snapshot.map_err(|wrong| wrong.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let access = access.transpose().map_err(|error| vec![error.to_string()])?.flatten();
    let (old, new) = (before.marks(), snapshot.marks());
    let difference = changes::between(
        Side { config: &before.config, marks: &old },
        Side { config: &snapshot.config, marks: &new },
    );
    Ok((snapshot, difference, waiting, access))
}

/// `None`: it is the one that there is.
fn access_log(before: &Config, now: &Config) -> Result<Option<Option<AccessLog>>, RunError> {
    let of = |config: &Config| (config.log.access.clone(), config.log.format);
    if of(before) == of(now) {
        return Ok(None);
    }
    let config::Log { access, format, .. } = &now.log;
    let failed = |source| RunError::AccessLog { target: access.clone(), source };
    AccessLog::start(access, *format).map(Some).map_err(failed)
}

/// Has all workers take it over, and then open what is new: nobody is to be handed a connection by a listener that it does
/// not know yet, or does not know any more.
async fn hand_out(
    inboxes: Vec<mpsc::Sender<Message>>,
    snapshot: Arc<Snapshot>,
    writers: Option<Vec<Option<crate::observe::AccessWriter>>>,
    mut sockets: Sockets,
) {
    let mut writers = writers.map(Vec::into_iter);
    let take_over = |done: &mpsc::Sender<Infallible>| {
        let (snapshot, done) = (snapshot.clone(), done.clone());
        let access = writers.as_mut().and_then(Iterator::next);
        Message::TakeOver(Box::new(TakeOver { snapshot, access, done }))
    };
    tell_all(&inboxes, take_over).await;
    let open = |done: &mpsc::Sender<Infallible>| {
        Message::Open(Open { sockets: one_of_each(&mut sockets), done: done.clone() })
    };
    tell_all(&inboxes, open).await;
}

/// Sends each worker a message, and waits until all have done what it says.
async fn tell_all(
    inboxes: &[mpsc::Sender<Message>],
    mut message: impl FnMut(&mpsc::Sender<Infallible>) -> Message,
) {
    let (done, mut all_done) = mpsc::channel(1);
    let mut sent = JoinSet::new();
    for inbox in inboxes {
        let (inbox, message) = (inbox.clone(), message(&done));
        // A worker that is gone has nothing to take over.
        sent.spawn_local(async move { inbox.send(message).await.is_ok() });
    }
    drop(done);
    sent.join_all().await;
    // Nothing is ever sent: it ends when the last of them has let go.
    let _ = all_done.recv().await;
}

fn lines(error: &RunError) -> Refused {
    Refused::Mistakes(error.to_string().lines().map(str::to_owned).collect())
}

impl Meters {
    /// The start has put the first configuration in force.
    pub fn new(metrics: &Arc<Metrics>, cells: Cells) -> Self {
        let counter = |outcome| metrics.counter(Family::ConfigReloads, &[outcome]);
        let meters = Meters { ok: counter("ok"), failed: counter("failed"), metrics: metrics.clone(), cells };
        meters.note_state(true);
        meters
    }

    fn note(&self, is_ok: bool) {
        self.cells.inc(if is_ok { self.ok } else { self.failed });
        self.note_state(is_ok);
    }

    fn note_state(&self, is_ok: bool) {
        let metrics = &self.metrics;
        metrics.set(metrics.gauge(Family::ConfigReloadSuccessful, &[]), i64::from(is_ok));
        if is_ok {
            let now = i64::try_from(unix_now()).unwrap_or(i64::MAX);
            metrics.set(metrics.gauge(Family::ConfigReloadTime, &[]), now);
        }
    }
}

impl Report {
    fn tell(&self, cause: &str) -> ReloadAnswer {
        let Difference { listeners, routes, upstreams, servers } = &self.difference;
        let (took_ms, waits_for_restart) = (self.took_ms, self.waits_for_restart.join(", "));
        info!(
            cause,
            listeners = listeners.to_string(),
            routes = routes.to_string(),
            upstreams = upstreams.to_string(),
            servers = servers.to_string(),
            waits_for_restart,
            took_ms,
            "configuration reloaded"
        );
        if !self.waits_for_restart.is_empty() {
            warn!(keys = waits_for_restart, "these values of the configuration wait for a restart");
        }
        let report = json!(self);
        if self.workers_late {
            error!(after = ?TAKE_OVER_MAX, "a worker has not taken over the configuration yet; it will when it can");
            return Err((StatusCode::GATEWAY_TIMEOUT, report));
        }
        Ok(report)
    }
}

impl Refused {
    fn tell(&self, cause: &str) -> ReloadAnswer {
        let status = match self {
            Refused::Mistakes(_) => StatusCode::BAD_REQUEST,
            Refused::Draining | Refused::Slow(_) | Refused::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        let (why, mistakes) = match self {
            Refused::Mistakes(mistakes) => ("there are mistakes".to_owned(), &mistakes[..]),
            Refused::Draining => ("the process drains".to_owned(), &[][..]),
            Refused::Slow(after) => (format!("it could not be prepared within {after:?}"), &[][..]),
            Refused::Busy => ("a worker has not taken over the one before yet".to_owned(), &[][..]),
        };
        for mistake in mistakes {
            error!(mistake, "a mistake in the configuration");
        }
        error!(cause, why, "configuration not reloaded: the one in force stays");
        Err((status, json!({ "error": format!("nothing has changed: {why}"), "mistakes": mistakes })))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::task::LocalSet;

    use super::*;
    use crate::net::descriptors::{Descriptors, Wants};

    fn snapshot() -> Arc<Snapshot> {
        let text = "[[listener]]\nbind = \"127.0.0.1:0\"\n[[route]]\nupstream = \"a\"\n[upstream.a]\nservers = [\"10.0.0.1:1\"]";
        let config = config::parse(text, Path::new("t.toml"), &["round-robin"]).unwrap();
        let wants = Wants { clients: 1, workers: 2, listeners: 1, probes: 0 };
        let keep = Keep::new(2, &config.cache, Descriptors::share(1000, wants));
        Snapshot::build(config, &keep, &Registry::builtin(), None).unwrap()
    }

    #[tokio::test]
    async fn nobody_opens_before_all_have_taken_over_and_a_full_inbox_loses_nothing() {
        let in_turn = async {
            let (one, mut of_one) = mpsc::channel(1);
            let (two, mut of_two) = mpsc::channel(1);
            let (open, _kept) = mpsc::channel(1);
            // The second worker has no time for its messages.
            let busy = Message::Open(Open { sockets: Vec::new(), done: open });
            assert!(two.try_send(busy).is_ok());
            let task = tokio::task::spawn_local(hand_out(vec![one, two], snapshot(), None, Vec::new()));

            let first = of_one.recv().await;
            assert!(matches!(first, Some(Message::TakeOver(_))));
            drop(first);
            tokio::task::yield_now().await;
            assert!(of_one.try_recv().is_err(), "the other one has not taken over");

            assert!(matches!(of_two.recv().await, Some(Message::Open(_))), "what it had before");
            let second = of_two.recv().await;
            assert!(matches!(second, Some(Message::TakeOver(_))));
            tokio::task::yield_now().await;
            assert!(of_one.try_recv().is_err(), "it has it, and is not done");
            drop(second);
            for inbox in [&mut of_one, &mut of_two] {
                assert!(matches!(inbox.recv().await, Some(Message::Open(_))));
            }
            assert!(task.await.is_ok());
        };
        LocalSet::new().run_until(in_turn).await;
    }

    #[tokio::test]
    async fn a_worker_that_is_gone_keeps_nobody_waiting() {
        let (inbox, _) = mpsc::channel(1);
        LocalSet::new().run_until(hand_out(vec![inbox], snapshot(), None, Vec::new())).await;
    }
}
