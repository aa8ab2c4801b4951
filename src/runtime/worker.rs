//! A worker: one thread, one event loop, its own sockets.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::clock::TICK;
use crate::front::accept::{self, Message};
use crate::observe::AccessWriter;
use crate::runtime::SharedSnapshot;
use crate::state::{Keep, Local, SocketId, Stage};

/// Between two sweeps of idle connections and log lines.
const SWEEP: Duration = Duration::from_secs(1);
/// How often free memory is offered to the system.
const GIVE_BACK: Duration = Duration::from_secs(5);
/// How often a draining worker looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// What a worker thread is given.
pub struct Worker {
    pub number: usize,
    pub keep: Arc<Keep>,
    pub snapshot: SharedSnapshot,
    /// One for each listener.
    pub sockets: Vec<(SocketId, TcpListener)>,
    pub access: Option<AccessWriter>,
    pub stage: watch::Receiver<Stage>,
    pub inbox: mpsc::Receiver<Message>,
    /// Of all workers.
    pub inboxes: Vec<mpsc::Sender<Message>>,
    pub give_back: fn(),
}

impl Worker {
    /// Serves until the process drains and the last connection has ended, or the limit is reached.
    pub fn run(self) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        runtime.block_on(self.serve());
        Ok(())
    }

    async fn serve(self) {
        let mut stage = self.stage.clone();
        let local = Local::new(self.number, self.keep, self.snapshot, self.access, self.stage);
        tokio::task::spawn_local(tick(local.clone(), self.give_back));
        let inboxes: accept::Inboxes = self.inboxes.into();
        tokio::task::spawn_local(accept::take_messages(local.clone(), self.inbox, inboxes.clone()));
        for (id, socket) in self.sockets {
            tokio::task::spawn_local(accept::accept(local.clone(), id, socket, inboxes.clone()));
        }
        // An error means that the control thread is gone: nothing to wait for then either.
        let _ = stage.wait_for(|s| *s == Stage::Draining).await;
        drain(&local, local.snapshot().config.runtime.drain_timeout).await;
        local.sweep(Instant::now());
    }
}

async fn tick(local: Rc<Local>, give_back: fn()) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut swept = Instant::now();
    let mut given_back = swept;
    loop {
        ticks.tick().await;
        let now = Instant::now();
        local.tick(now);
        if now.duration_since(swept) >= SWEEP {
            swept = now;
            local.sweep(now);
        }
        if now.duration_since(given_back) >= GIVE_BACK {
            given_back = now;
            give_back();
        }
    }
}

/// Each connection has seen the stage and ends by itself; this waits for them.
async fn drain(local: &Rc<Local>, limit: Duration) {
    let until = Instant::now() + limit;
    while local.keep.seats.taken_by(local.worker) > 0 && Instant::now() < until {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}
