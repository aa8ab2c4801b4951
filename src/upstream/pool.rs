//! A named pool: its servers as they are now, and what all workers know of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{debug, info, warn};

use crate::config;
use crate::observe::{Cells, Counter, Gauge};
use crate::upstream::balance::PickReason;
use crate::upstream::budget::{Allowance, Budget};
use crate::upstream::health_state::{EjectVerdict, PoolCount};
use crate::upstream::members::{Members, Recipe};
use crate::upstream::pool_state::PoolState;
use crate::upstream::roster::{Roster, Rules};
use crate::upstream::server::{Condition, Server};
use crate::upstream::side::{Side, known};

/// An upstream as a snapshot knows it.
pub struct Upstream {
    /// What the file says.
    pub config: Arc<config::Upstream>,
    /// What workers share.
    pub state: Arc<PoolState>,
    /// Where its numbers are counted.
    pub handles: UpstreamHandles,
    recipe: Recipe,
    members: ArcSwap<Members>,
    /// Grows with every other set of members.
    generation: AtomicU64,
}

/// Where an upstream's numbers are counted.
#[allow(missing_docs, reason = "named as the families are")]
pub struct UpstreamHandles {
    /// By the reasons of [`crate::upstream::retry::REASONS`].
    pub retries: Vec<Counter>,
    /// In the order of [`crate::upstream::retry::Stop::ALL`].
    pub retries_stopped: Vec<Counter>,
    /// In the order of [`PickReason::WORDS`].
    pub picks: Vec<Counter>,
    pub queued: Gauge,
    pub panic: Gauge,
    pub sessions: Gauge,
}

/// One worker's side of an upstream.
pub struct WorkerPool {
    worker: usize,
    seed: u64,
    /// Of [`Upstream::generation`].
    side: RefCell<(u64, Rc<Side>)>,
    /// Of retries.
    pub budget: RefCell<Budget>,
    /// What it allows.
    pub allowance: Allowance,
}

impl Upstream {
    /// Of these servers to begin with.
    pub fn new(
        config: Arc<config::Upstream>,
        state: Arc<PoolState>,
        handles: UpstreamHandles,
        recipe: Recipe,
        servers: Vec<Arc<Server>>,
    ) -> Self {
        let members = ArcSwap::from_pointee(Members::new(servers, &recipe));
        Upstream { config, state, handles, recipe, members, generation: AtomicU64::new(0) }
    }

    /// Its servers now.
    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// From the next request on it has these servers; requests in flight end where they are. What is new gets its share
    /// by slow start.
    pub fn replace(&self, servers: Vec<Arc<Server>>, now: Duration) {
        let before = self.members();
        for server in servers.iter().filter(|server| before.index_of(&server.id).is_none()) {
            server.state.comes_back(now);
        }
        self.members.store(Arc::new(Members::new(servers, &self.recipe)));
        self.generation.fetch_add(1, Release);
    }

    /// A server failed a request; ejects it when it has failed too often.
    pub fn blame(&self, members: &Members, server: &Server, why: &str, now: Duration, cells: &Cells) {
        let Some(eject) = &self.config.eject else { return };
        let verdict = server.state.failed(now, eject, count(members, server, now));
        self.note(server, &verdict, why, now, cells);
    }

    /// A server's numbers stand out.
    pub fn eject(&self, members: &Members, server: &Server, why: &str, now: Duration, cells: &Cells) {
        let Some(eject) = &self.config.eject else { return };
        let verdict = server.state.stands_out(now, eject, count(members, server, now));
        self.note(server, &verdict, why, now, cells);
    }

    fn note(&self, server: &Server, verdict: &EjectVerdict, why: &str, now: Duration, cells: &Cells) {
        let (upstream, name) = (&self.config.name, &server.id);
        match verdict {
            EjectVerdict::Ejected { until } => {
                cells.inc(server.entry.handles.ejections);
                let time = *until - now;
                warn!(upstream, server = name, cause = why, ?time, "server ejected");
            }
            // Not a warning: it comes with every further failure, and a dead pool would fill the log with it.
            EjectVerdict::PoolLimit => {
                debug!(upstream, server = name, cause = why, "server not ejected: too few would be left");
            }
            EjectVerdict::Counted | EjectVerdict::AlreadyEjected => {}
        }
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
        let members = self.members();
        let known: Vec<_> = members.servers.iter().map(|server| known(server, now)).collect();
        let rules =
            Rules { spill_over: self.config.spill_over, panic_threshold: self.config.panic_threshold };
        Roster::new(members.groups.iter().map(|group| &known[group.range.clone()]), rules)
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
    pub fn new(upstream: &Upstream, worker: usize, workers: usize, seed: u64) -> Self {
        let retry = &upstream.config.retry;
        let generation = upstream.generation.load(Acquire);
        let side = Side::new(upstream.members(), &upstream.config, &upstream.state, worker, seed, None);
        WorkerPool {
            worker,
            seed,
            side: RefCell::new((generation, side)),
            budget: RefCell::default(),
            allowance: Allowance::of_worker(retry.budget_percent, retry.budget_per_second, workers),
        }
    }

    /// The servers as they are now.
    pub fn side(&self, upstream: &Upstream) -> Rc<Side> {
        let generation = upstream.generation.load(Acquire);
        if self.side.borrow().0 != generation {
            let before = self.side.borrow().1.clone();
            let (config, state) = (&upstream.config, &upstream.state);
            let side = Side::new(upstream.members(), config, state, self.worker, self.seed, Some(&before));
            self.side.replace((generation, side));
        }
        self.side.borrow().1.clone()
    }
}
