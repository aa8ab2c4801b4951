//! A worker's own state: nothing in it is seen by another thread.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::body::Room;
use crate::clock::Timers;
use crate::observe::{AccessWriter, Cells};
use crate::state::{Keep, Snapshot, Stage};
use crate::upstream::pool::{Upstream, WorkerPool};

/// A worker's own state.
pub struct Local {
    /// Its number.
    pub worker: usize,
    /// The process's state.
    pub keep: Arc<Keep>,
    /// Where it counts.
    pub cells: Cells,
    /// Its time-outs.
    pub timers: Rc<Timers>,
    /// Its randomness; not for secrets.
    pub rng: RefCell<fastrand::Rng>,
    /// For the bytes of bodies that wait: its part of what the process has for them.
    pub room: Arc<Room>,
    /// What the gauge says of it.
    reported: Cell<i64>,
    /// Its access-log lines; `None` when there is no access log.
    pub access: Option<RefCell<AccessWriter>>,
    /// What the process is doing.
    pub stage: watch::Receiver<Stage>,
    /// Who waits has been told that the process drains.
    has_told: Cell<bool>,
    /// One moment by both clocks, not long ago.
    moment: Cell<(Instant, SystemTime)>,
    view: RefCell<Rc<View>>,
}

/// A snapshot, with this worker's side of it. A request takes it once and keeps it to the end.
pub struct View {
    snapshot: Arc<Snapshot>,
    /// One per upstream.
    pub pools: Vec<WorkerPool>,
}

impl Local {
    /// For worker `worker` of the process.
    pub fn new(
        worker: usize,
        keep: Arc<Keep>,
        snapshot: Arc<Snapshot>,
        access: Option<AccessWriter>,
        stage: watch::Receiver<Stage>,
    ) -> Rc<Self> {
        let mut rng = fastrand::Rng::new();
        let seed = rng.u64(..) ^ worker as u64;
        let (workers, cells) = (keep.workers(), keep.metrics.cells(worker));
        let pool = |upstream: &Arc<Upstream>| WorkerPool::new(upstream, cells.clone(), worker, workers, seed);
        let pools = snapshot.upstreams.iter().map(pool).collect();
        Rc::new(Local {
            worker,
            cells,
            keep,
            timers: Timers::new(),
            rng: RefCell::new(rng),
            room: Room::new(snapshot.config.limits.buffered_bytes / workers, None),
            reported: Cell::default(),
            access: access.map(RefCell::new),
            stage,
            has_told: Cell::new(false),
            moment: Cell::new((Instant::now(), SystemTime::now())),
            view: RefCell::new(Rc::new(View { snapshot, pools })),
        })
    }

    /// The snapshot that is in force.
    pub fn snapshot(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// Called each [`crate::clock::TICK`]: wakes what has waited too long.
    pub fn tick(&self, now: Instant) {
        self.timers.sweep(now);
        if self.is_draining() && !self.has_told.replace(true) {
            // Connections at rest have nothing to wait for any more.
            self.timers.wake_all();
        }
        let view = self.snapshot();
        for (upstream, pool) in view.upstreams.iter().zip(&view.pools) {
            pool.side(upstream).tick();
        }
        self.moment.set((now, SystemTime::now()));
    }

    /// Time since the process began, as [`Timers::now`] knows it.
    #[inline]
    pub fn now(&self) -> Duration {
        self.timers.now().saturating_duration_since(self.keep.began())
    }

    /// True when the process takes no new work.
    pub fn is_draining(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    /// The time of day at `at`, a moment of just now.
    pub fn time_of_day(&self, at: Instant) -> SystemTime {
        let (instant, time) = self.moment.get();
        time + at.saturating_duration_since(instant)
    }

    /// Called each second: closes idle connections to servers, writes out access-log lines.
    pub fn sweep(&self, now: Instant) {
        let view = self.snapshot();
        for (upstream, pool) in view.upstreams.iter().zip(&view.pools) {
            let side = pool.side(upstream);
            side.sweep(now);
            for (server, conns) in side.members.servers.iter().zip(&side.conns) {
                let idle = conns.idle() as i64;
                let active = conns.open_count() as i64 - idle;
                conns.reported(active, idle, |active_by, idle_by| {
                    self.cells.gauge_add(server.entry.handles.active, active_by);
                    self.cells.gauge_add(server.entry.handles.idle, idle_by);
                });
            }
        }
        let held = self.room.held() as i64;
        self.cells.gauge_add(view.buffered, held - self.reported.replace(held));
        if let Some(access) = &self.access {
            access.borrow_mut().flush();
        }
    }
}

impl Deref for View {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}
