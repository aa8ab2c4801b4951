//! A named pool: its servers as they are now, and what all workers know of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{debug, info, warn};

use crate::config;
use crate::net::tls::{Connector, Mark};
use crate::observe::{Cells, Counter, Gauge};
use crate::upstream::balance::PickReason;
use crate::upstream::budget::{Allowance, Budget};
use crate::upstream::discovery::Endpoint;
use crate::upstream::health_state::{EjectVerdict, PoolCount};
use crate::upstream::members::{Members, Recipe};
use crate::upstream::outlier::Outliers;
use crate::upstream::pool_state::PoolState;
use crate::upstream::roster::Roster;
use crate::upstream::server::{Condition, Entry, Server};
use crate::upstream::side::{Leaving, Side};

/// An upstream as a snapshot knows it.
pub struct Upstream {
    /// What the file says.
    pub config: Arc<config::Upstream>,
    /// What workers share.
    pub state: Arc<PoolState>,
    /// Where its numbers are counted.
    pub handles: UpstreamHandles,
    recipe: Recipe,
    entries: Mutex<Entries>,
    members: ArcSwap<Members>,
    /// Grows with every other set of members.
    generation: AtomicU64,
    is_superseded: AtomicBool,
}

/// What an upstream's `servers` say, in the order of the file, and the addresses that each of them stands for.
pub type Entries = Vec<(Arc<Entry>, Vec<Endpoint>)>;

/// Where an upstream's numbers are counted.
#[allow(missing_docs, reason = "named as the families are")]
pub struct UpstreamHandles {
    /// By the reasons of [`crate::upstream::retry::REASONS`].
    pub retries: Vec<Counter>,
    /// In the order of [`crate::upstream::retry::Stop::ALL`].
    pub retries_stopped: Vec<Counter>,
    /// In the order of [`PickReason::ALL`].
    pub picks: Vec<Counter>,
    pub queued: Gauge,
    pub panic: Gauge,
    pub sessions: Gauge,
}

/// One worker's side of an upstream.
pub struct WorkerPool {
    worker: usize,
    cells: Cells,
    seed: u64,
    /// Of [`Upstream::generation`].
    side: RefCell<(u64, Rc<Side>)>,
    /// Of retries.
    pub budget: RefCell<Budget>,
    /// What it allows.
    pub allowance: Allowance,
    /// Of sides before this one.
    leaving: RefCell<Vec<Leaving>>,
}

impl Upstream {
    /// Of these servers, to begin with, which `entries` stand for.
    pub fn new(
        config: Arc<config::Upstream>,
        state: Arc<PoolState>,
        handles: UpstreamHandles,
        recipe: Recipe,
        entries: Entries,
        servers: Vec<Arc<Server>>,
    ) -> Self {
        let members = ArcSwap::from_pointee(Members::new(servers, &recipe));
        let (entries, generation) = (Mutex::new(entries), AtomicU64::new(0));
        let is_superseded = AtomicBool::new(false);
        Upstream { config, state, handles, recipe, entries, members, generation, is_superseded }
    }

    /// Another configuration of it is in force. Requests that began under this one go on.
    pub fn supersede(&self) {
        self.is_superseded.store(true, Release);
    }

    /// Whether another configuration of it is in force.
    pub fn is_superseded(&self) -> bool {
        self.is_superseded.load(Acquire)
    }

    /// What its servers' TLS was made of; `None` where none speaks it.
    pub fn trust(&self) -> Option<Mark> {
        self.entries().iter().find_map(|(entry, _)| entry.tls.as_ref().map(Connector::mark))
    }

    /// What the file says of its servers, and what that stands for now.
    pub fn entries(&self) -> Entries {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its servers now.
    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Its entries stand for other servers. From the next request on it has these, and requests in flight end where they
    /// are. What is new gets its share by slow start, where it joins others; `now` is `None` at the beginning.
    pub fn replace(&self, entries: Entries, servers: Vec<Arc<Server>>, now: Option<Duration>) {
        let before = self.members();
        if let Some(now) = now.filter(|_| !before.servers.is_empty()) {
            let is_new = |server: &&Arc<Server>| before.index_of(&server.id).is_none();
            servers.iter().filter(is_new).for_each(|server| server.state.comes_back(now));
        }
        *self.entries.lock().unwrap_or_else(PoisonError::into_inner) = entries;
        self.members.store(Arc::new(Members::new(servers, &self.recipe)));
        self.generation.fetch_add(1, Release);
    }

    /// A server failed a request; ejects it when it has failed too often.
    pub fn blame(&self, members: &Members, server: &Server, why: &str, now: Duration, cells: &Cells) {
        eject(&self.config, server, why, now, cells, |rules| {
            server.state.failed(now, rules, count(members, server, now))
        });
    }

    /// Called each second: ejects servers whose numbers stand out.
    pub fn look_for_outliers(&self, outliers: &mut Outliers, now: Duration, cells: &Cells) {
        let Some(rules) = &self.config.eject else { return };
        if rules.error_rate.is_none() && rules.latency_factor.is_none() {
            return;
        }
        let members = self.members();
        let counted: Vec<_> = members.servers.iter().map(|s| (s.id.as_str(), s.state.tallies())).collect();
        for (server, cause) in outliers.look(&counted, rules) {
            self.eject(&members, &members.servers[server], &cause.to_string(), now, cells);
        }
    }

    /// A server's numbers stand out.
    pub fn eject(&self, members: &Members, server: &Server, why: &str, now: Duration, cells: &Cells) {
        eject(&self.config, server, why, now, cells, |rules| {
            server.state.stands_out(now, rules, count(members, server, now))
        });
    }

    /// A server answered.
    pub fn praise(&self, server: &Server, now: Duration) {
        if let Some(eject) = &self.config.eject {
            server.state.succeeded(now, eject);
        }
    }

    /// From now on a server gets requests of its sessions only, or all that are its share. False when it is so already.
    pub fn drain(&self, server: &Server, is_draining: bool, now: Duration) -> bool {
        let is_new = server.state.drain(is_draining, now);
        if is_new {
            let (upstream, server) = (&self.config.name, &server.id);
            let what = if is_draining { "server is draining" } else { "server serves again" };
            info!(upstream, server, cause = "admin", "{what}");
        }
        is_new
    }

    /// Who may serve now.
    pub fn roster(&self, now: Duration) -> Roster {
        self.members().roster(&self.config, now)
    }

    /// True when some server may serve.
    pub fn is_ready(&self, now: Duration) -> bool {
        !self.roster(now).is_empty()
    }

    /// Where picks for this reason are counted.
    pub fn picks(&self, reason: PickReason) -> Counter {
        self.handles.picks[reason.index()]
    }
}

/// A response of a server broke off.
pub fn blame_cut(
    config: &config::Upstream,
    members: &Members,
    server: &Server,
    now: Duration,
    cells: &Cells,
) {
    eject(config, server, "response-cut", now, cells, |rules| {
        server.state.cut(now, rules, count(members, server, now))
    });
}

/// Ejects `server` if `judge` says so, and says it.
fn eject(
    config: &config::Upstream,
    server: &Server,
    why: &str,
    now: Duration,
    cells: &Cells,
    judge: impl FnOnce(&config::Eject) -> EjectVerdict,
) {
    let Some(verdict) = config.eject.as_ref().map(judge) else { return };
    let (upstream, name) = (&config.name, &server.id);
    match verdict {
        EjectVerdict::Ejected { until } => {
            cells.inc(server.entry.handles.ejections);
            let time = until - now;
            warn!(upstream, server = name, cause = why, ?time, "server ejected");
        }
        // Not a warning: it comes with every further failure, and a dead pool would fill the log with it.
        EjectVerdict::PoolLimit => {
            debug!(upstream, server = name, cause = why, "server not ejected: too few would be left");
        }
        EjectVerdict::Counted | EjectVerdict::AlreadyEjected => {}
    }
}

/// An ejected server counts also while its probes fail: when they succeed again before its time is over, it would be one too
/// many.
fn count(members: &Members, judged: &Server, now: Duration) -> PoolCount {
    let ejected = members.servers.iter().filter(|server| server.state.changes_at(now).is_some());
    let others = members.servers.iter().filter(|server| server.id != judged.id);
    PoolCount {
        ejected: ejected.count(),
        total: members.servers.len(),
        others_well: others.filter(|other| other.state.condition(now) == Condition::Healthy).count(),
    }
}

impl WorkerPool {
    /// For worker `worker` of `workers`. `seed` differs between them.
    pub fn new(upstream: &Upstream, cells: Cells, worker: usize, workers: usize, seed: u64) -> Self {
        WorkerPool::following(None, upstream, cells, worker, workers, seed)
    }

    /// The same for an upstream that was there before with another configuration: connections, what was learned and what
    /// was spent on retries stay, as far as they fit.
    pub fn following(
        before: Option<&WorkerPool>,
        upstream: &Upstream,
        cells: Cells,
        worker: usize,
        workers: usize,
        seed: u64,
    ) -> Self {
        let retry = &upstream.config.retry;
        let generation = upstream.generation.load(Acquire);
        let (config, state) = (&upstream.config, &upstream.state);
        let last = before.map(|before| before.side.borrow().1.clone());
        let side = Side::new(upstream.members(), config, state, cells.clone(), worker, seed, last.as_deref());
        WorkerPool {
            worker,
            cells,
            seed,
            // Requests under way go on counting theirs.
            budget: before.map_or_else(RefCell::default, |before| before.budget.clone()),
            allowance: Allowance::of_worker(retry.budget_percent, retry.budget_per_second, workers),
            leaving: RefCell::new(last.map(|last| last.retire(Some(&side))).unwrap_or_default()),
            side: RefCell::new((generation, side)),
        }
    }

    /// There is no such upstream any more.
    pub fn retire(&self) {
        let side = self.side.borrow().1.clone();
        self.leaving.borrow_mut().extend(side.retire(None));
    }

    /// Connections that are to be looked after until the last is closed.
    pub fn take_leaving(&self) -> Vec<Leaving> {
        self.leaving.take()
    }

    /// The servers as they are now.
    pub fn side(&self, upstream: &Upstream) -> Rc<Side> {
        let generation = upstream.generation.load(Acquire);
        if self.side.borrow().0 != generation {
            let before = self.side.borrow().1.clone();
            let (config, state) = (&upstream.config, &upstream.state);
            let (cells, members) = (self.cells.clone(), upstream.members());
            let side = Side::new(members, config, state, cells, self.worker, self.seed, Some(&before));
            self.leaving.borrow_mut().extend(before.retire(Some(&side)));
            self.side.replace((generation, side));
        }
        self.side.borrow().1.clone()
    }
}
