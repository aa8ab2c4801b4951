//! A worker's own state: nothing in it is seen by another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::body::Room;
use crate::clock::Timers;
use crate::observe::{AccessWriter, Cells};
use crate::state::{Door, Keep, Snapshot, SocketId, Stage};
use crate::upstream::conns::Conns;
use crate::upstream::pool::{Upstream, WorkerPool};
use crate::upstream::server::Server;
use crate::upstream::side::Leaving;

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
    pub access: RefCell<Option<AccessWriter>>,
    /// What the process is doing.
    pub stage: watch::Receiver<Stage>,
    /// Who waits has been told that the process drains.
    has_told: Cell<bool>,
    /// One moment by both clocks, not long ago.
    moment: Cell<(Instant, SystemTime)>,
    view: RefCell<Rc<View>>,
    /// Configurations that requests under way began with.
    former: RefCell<Vec<Weak<View>>>,
    /// Where clients come in.
    doors: RefCell<HashMap<SocketId, Rc<Door>>>,
    /// Connections to servers that are not in the view any more, each with the one that they are counted under.
    leaving: RefCell<Vec<(Leaving, Rc<View>)>>,
    seed: u64,
}

/// A snapshot, with this worker's side of it. A request takes it once and keeps it to the end.
pub struct View {
    snapshot: Arc<Snapshot>,
    /// One per upstream.
    pub pools: Vec<Rc<WorkerPool>>,
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
        let pool =
            |upstream: &Arc<Upstream>| WorkerPool::new(upstream, cells.clone(), worker, workers, seed).into();
        let pools = snapshot.upstreams.iter().map(pool).collect();
        let room = Room::new(snapshot.config.limits.buffered_bytes / workers, None);
        let view = Rc::new(View { snapshot, pools });
        let listeners = view.listeners.iter().enumerate();
        let doors = listeners.map(|(index, l)| (l.socket, Door::new(view.clone(), index))).collect();
        Rc::new(Local {
            worker,
            cells,
            keep,
            timers: Timers::new(),
            rng: RefCell::new(rng),
            room,
            reported: Cell::default(),
            access: RefCell::new(access),
            stage,
            has_told: Cell::new(false),
            moment: Cell::new((Instant::now(), SystemTime::now())),
            view: RefCell::new(view),
            former: RefCell::default(),
            doors: RefCell::new(doors),
            leaving: RefCell::default(),
            seed,
        })
    }

    /// Another configuration is in force, for whatever begins from now on. What is under way keeps its own. Doors that it
    /// has not are closed; new ones are there, and nobody accepts there yet.
    pub fn take_over(&self, snapshot: Arc<Snapshot>) {
        let before = self.snapshot();
        self.room.resize(snapshot.config.limits.buffered_bytes / self.keep.workers());
        let pools = self.pools_after(&before, &snapshot);
        let view = Rc::new(View { snapshot, pools });
        self.view.replace(view.clone());
        self.change_doors(&view);
        self.former.borrow_mut().push(Rc::downgrade(&before));
        for pool in &self.snapshot().pools {
            self.note_leaving(pool, &before);
        }
    }

    /// This worker's side of upstreams that are new; of the others the one that there is, as far as it fits.
    fn pools_after(&self, before: &Rc<View>, snapshot: &Snapshot) -> Vec<Rc<WorkerPool>> {
        let old = before.upstreams.iter().zip(&before.pools);
        let mut known: HashMap<_, _> = old.map(|(u, pool)| (u.config.name.as_str(), (u, pool))).collect();
        let pools = snapshot.upstreams.iter().map(|upstream| {
            let last = known.remove(upstream.config.name.as_str());
            if let Some((_, pool)) = last.filter(|(old, _)| Arc::ptr_eq(old, upstream)) {
                return pool.clone();
            }
            let (workers, cells) = (self.keep.workers(), self.cells.clone());
            let last = last.map(|(_, pool)| &**pool);
            WorkerPool::following(last, upstream, cells, self.worker, workers, self.seed).into()
        });
        let pools = pools.collect();
        for (_, gone) in known.into_values() {
            gone.retire();
            self.note_leaving(gone, before);
        }
        pools
    }

    fn change_doors(&self, view: &Rc<View>) {
        let mut doors = self.doors.borrow_mut();
        let mut is_any_closed = false;
        let wanted: HashMap<_, _> = view.listeners.iter().enumerate().map(|(i, l)| (l.socket, i)).collect();
        for (socket, door) in doors.iter_mut() {
            let stays =
                wanted.get(socket).filter(|at| door.listener(|own| own.name == view.listeners[**at].name));
            match (stays, wanted.get(socket)) {
                (Some(&at), _) => door.lead_to(view.clone(), at),
                (None, other) => {
                    door.close();
                    is_any_closed = true;
                    // It has got another name: its sockets stay, its connections leave.
                    if let Some(&at) = other {
                        *door = Door::new(view.clone(), at);
                    }
                }
            }
        }
        for (socket, at) in wanted {
            doors.entry(socket).or_insert_with(|| Door::new(view.clone(), at));
        }
        if is_any_closed {
            // Their connections at rest have nothing to wait for any more.
            self.timers.wake_all();
        }
    }

    /// The door of these sockets, also for a while when it has been closed.
    pub fn door(&self, socket: SocketId) -> Option<Rc<Door>> {
        self.doors.borrow().get(&socket).cloned()
    }

    /// Nobody comes by a door any more that is closed.
    pub fn forget_closed_doors(&self) {
        self.doors.borrow_mut().retain(|_, door| !door.is_closed());
    }

    /// True when nothing new is to begin on connections that came by `door`.
    #[inline]
    pub fn is_leaving(&self, door: &Door) -> bool {
        door.is_closed() || self.is_draining()
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
        self.snapshot().tick();
        // Requests may wait for servers of before, or for room that only an older configuration limits.
        for view in self.former.borrow().iter().filter_map(Weak::upgrade) {
            view.tick();
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
                self.report(server, conns);
            }
            self.note_leaving(pool, &view);
        }
        self.leaving.borrow_mut().retain(|(leaving, _)| {
            self.report(&leaving.server, &leaving.conns);
            leaving.conns.open_count() > 0
        });
        self.former.borrow_mut().retain(|view| view.strong_count() > 0);
        let held = self.room.held() as i64;
        self.cells.gauge_add(view.buffered, held - self.reported.replace(held));
        if let Some(access) = &mut *self.access.borrow_mut() {
            access.flush();
        }
    }

    /// Their gauges must not be another server's before they are done: see [`crate::observe::Metrics::recycle`].
    fn note_leaving(&self, pool: &WorkerPool, view: &Rc<View>) {
        let leaving = pool.take_leaving().into_iter().map(|leaving| (leaving, view.clone()));
        self.leaving.borrow_mut().extend(leaving);
    }

    fn report(&self, server: &Server, conns: &Conns) {
        let idle = conns.idle() as i64;
        let active = conns.open_count() as i64 - idle;
        conns.reported(active, idle, |active_by, idle_by| {
            self.cells.gauge_add(server.entry.handles.active, active_by);
            self.cells.gauge_add(server.entry.handles.idle, idle_by);
        });
    }
}

impl View {
    fn tick(&self) {
        for (upstream, pool) in self.upstreams.iter().zip(&self.pools) {
            pool.side(upstream).tick();
        }
    }
}

impl Deref for View {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}
