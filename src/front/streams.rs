//! The streams of an HTTP/2 connection: each a task of this worker, each held to its client's pace.
//!
//! A client that keeps one stream's window shut blocks nothing that the socket
//! could see: the connection lives, other streams flow. So it is the stream's
//! own task that notices, and the stream alone that is reset.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::body::{End, Meter};
use crate::clock::Deadline;
use crate::front::watch::Watch;
use crate::observe::Counter;
use crate::state::Local;

/// Where hyper spawns the streams of one connection.
#[derive(Clone)]
pub struct Streams {
    local: Rc<Local>,
    watch: Arc<Watch>,
    write_idle: Duration,
    too_slow: Option<Counter>,
    /// Of the request that was last begun. hyper calls the service and spawns what it returns in one
    /// breath, so this is how the task learns which response is its own.
    newest: Rc<Cell<Option<Rc<Meter>>>>,
}

pin_project! {
    /// One stream.
    struct Stream<F> {
        #[pin]
        task: F,
        sent: Rc<Meter>,
        watch: Arc<Watch>,
        progress: u64,
        // The socket's, when the deadline was set.
        blocks: u64,
        deadline: Deadline,
        local: Rc<Local>,
        too_slow: Option<Counter>,
    }
}

impl Streams {
    /// A client may take nothing of a response for `write_idle`; beyond, `too_slow` counts it.
    pub fn new(
        local: &Rc<Local>,
        watch: &Arc<Watch>,
        write_idle: Duration,
        too_slow: Option<Counter>,
    ) -> Self {
        let (local, watch) = (local.clone(), watch.clone());
        Streams { local, watch, write_idle, too_slow, newest: Rc::default() }
    }

    /// A request has come: what will be known of its response.
    pub fn begins(&self) -> Rc<Meter> {
        let sent = Meter::ahead();
        self.newest.set(Some(sent.clone()));
        sent
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, task: F) {
        let Some(sent) = self.newest.take() else {
            // Not a request: it has no response to be slow with.
            tokio::task::spawn_local(task);
            return;
        };
        tokio::task::spawn_local(Stream {
            task,
            sent,
            watch: self.watch.clone(),
            progress: 0,
            blocks: 0,
            deadline: self.local.timers.deadline(self.write_idle),
            local: self.local.clone(),
            too_slow: self.too_slow,
        });
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.task.poll(cx).is_ready() {
            if this.sent.end() == Some(End::Whole) {
                this.watch.answered();
            }
            return Poll::Ready(());
        }
        if this.sent.is_awaited() || *this.progress != this.sent.progress() {
            *this.progress = this.sent.progress();
            *this.blocks = this.watch.blocks();
            this.deadline.reset();
        }
        if this.sent.is_awaited() {
            return Poll::Pending;
        }
        ready!(this.deadline.poll_elapsed(cx));
        // On a slow link all streams wait for the socket, in turn; that its client takes anything is held by the
        // connection's own limit. A stream is late when the socket is free and its own window is shut.
        if *this.blocks != this.watch.blocks() {
            *this.blocks = this.watch.blocks();
            this.deadline.reset();
            ready!(this.deadline.poll_elapsed(cx));
        }
        // With the task goes its half of the stream: h2 resets it.
        if let Some(counter) = *this.too_slow {
            this.local.cells.inc(counter);
        }
        Poll::Ready(())
    }
}
