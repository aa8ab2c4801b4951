//! Coarse time-outs: one sweep per worker instead of one timer per request.
//!
//! A timer in tokio's wheel costs a request more than its routing does. Most
//! of our time-outs never fire, so they are entries in a table that the
//! worker's sweep looks through every [`TICK`]. A time-out may therefore fire
//! up to one tick late, never early.
//!
//! The clock itself costs a request as much as its routing, too, if every step asks. So each task of a worker reads it when
//! it is polled, and all that happens until its next await is of that moment ([`Timers::now`]).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pin_project_lite::pin_project;

/// Between two sweeps: a quarter of the shortest time-out an operator would set.
pub const TICK: Duration = Duration::from_millis(50);

/// Seconds since 1970 at `time`; a clock before that stands at its beginning.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds since 1970 now: what caching counts in.
pub fn unix_now() -> u64 {
    unix_seconds(SystemTime::now())
}

/// One worker's clock, and its table of pending time-outs.
pub struct Timers {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    now: Cell<Instant>,
}

/// The time-out of one wait, re-armed for each wait; nothing is in the table between waits.
pub struct Deadline {
    timers: Rc<Timers>,
    slot: Cell<Option<usize>>,
    after: Duration,
    at: Cell<Option<Instant>>,
}

/// The wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

struct Slot {
    at: Option<Instant>,
    waker: Option<Waker>,
}

impl Timers {
    /// An empty table.
    pub fn new() -> Rc<Self> {
        Rc::new(Timers {
            slots: RefCell::default(),
            free: RefCell::default(),
            now: Cell::new(Instant::now()),
        })
    }

    /// When the poll that asks began, if its task reads the clock; else when another one's did, a [`TICK`] ago at most.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Reads the clock: the first thing that a task does when it is polled.
    #[inline]
    pub fn read_clock(&self) {
        self.now.set(Instant::now());
    }

    /// `future`, which reads the clock whenever it is polled.
    pub fn in_time<F: Future>(self: &Rc<Self>, future: F) -> InTime<F> {
        InTime { future, timers: self.clone() }
    }

    /// A time-out that fires `after` its first [`Deadline::poll_elapsed`].
    pub fn deadline(self: &Rc<Self>, after: Duration) -> Deadline {
        Deadline { timers: self.clone(), slot: Cell::new(None), after, at: Cell::new(None) }
    }

    /// `future`, or [`Elapsed`] when it takes longer than `after`.
    pub fn timeout<F: Future>(self: &Rc<Self>, after: Duration, future: F) -> Timeout<F> {
        Timeout { future, deadline: self.deadline(after) }
    }

    /// Wakes every wait whose time has come. The worker calls it each [`TICK`].
    pub fn sweep(&self, now: Instant) {
        self.now.set(now);
        let mut due = Vec::new();
        for slot in self.slots.borrow_mut().iter_mut() {
            if slot.at.is_some_and(|at| at <= now) {
                due.extend(slot.waker.take());
            }
        }
        // Woken outside the borrow: a waker may run code that arms another time-out.
        due.into_iter().for_each(Waker::wake);
    }

    /// Wakes every wait, to look at what else may have changed.
    pub fn wake_all(&self) {
        let wakers: Vec<_> = self.slots.borrow().iter().filter_map(|slot| slot.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn arm(&self, at: Instant, waker: Waker) -> usize {
        let slot = Slot { at: Some(at), waker: Some(waker) };
        let mut slots = self.slots.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(index) => {
                slots[index] = slot;
                index
            }
            None => {
                slots.push(slot);
                slots.len() - 1
            }
        }
    }

    fn disarm(&self, index: usize) {
        self.slots.borrow_mut()[index] = Slot { at: None, waker: None };
        self.free.borrow_mut().push(index);
    }
}

impl Deadline {
    /// Ready when the wait has lasted too long; arms it on the first call.
    pub fn poll_elapsed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at.get() else {
            let at = self.timers.now() + self.after;
            self.at.set(Some(at));
            self.slot.set(Some(self.timers.arm(at, cx.waker().clone())));
            return Poll::Pending;
        };
        if self.timers.now() >= at {
            return Poll::Ready(());
        }
        if let Some(index) = self.slot.get() {
            let mut slots = self.timers.slots.borrow_mut();
            match &mut slots[index].waker {
                Some(waker) => waker.clone_from(cx.waker()),
                empty => *empty = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// The limit of one wait.
    pub fn after(&self) -> Duration {
        self.after
    }

    /// The wait is over; the next one starts anew.
    pub fn reset(&self) {
        if let Some(index) = self.slot.take() {
            self.timers.disarm(index);
        }
        self.at.set(None);
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.reset();
    }
}

pin_project! {
    /// See [`Timers::timeout`].
    pub struct Timeout<F> {
        #[pin]
        future: F,
        deadline: Deadline,
    }
}

pin_project! {
    /// See [`Timers::in_time`].
    pub struct InTime<F> {
        #[pin]
        future: F,
        timers: Rc<Timers>,
    }
}

impl<F: Future> Future for InTime<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.timers.read_clock();
        this.future.poll(cx)
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.deadline.poll_elapsed(cx).map(|()| Err(Elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_ends_leaves_nothing_in_the_table() {
        let timers = Timers::new();
        let deadline = timers.deadline(Duration::from_secs(1));
        let mut cx = Context::from_waker(Waker::noop());

        assert!(deadline.poll_elapsed(&mut cx).is_pending());
        deadline.reset();

        assert_eq!(timers.free.borrow().len(), timers.slots.borrow().len());
    }

    #[test]
    fn the_time_stands_still_until_a_task_is_polled() {
        let timers = Timers::new();
        let moment = Instant::now();
        assert!(timers.now() <= moment);

        let mut cx = Context::from_waker(Waker::noop());
        let polled = std::pin::pin!(timers.in_time(std::future::ready(()))).poll(&mut cx);

        assert!(polled.is_ready() && timers.now() >= moment);
    }

    #[test]
    fn a_wait_that_is_too_long_elapses_and_is_woken_by_the_sweep() {
        let timers = Timers::new();
        let deadline = timers.deadline(Duration::ZERO);
        let mut cx = Context::from_waker(Waker::noop());

        assert!(deadline.poll_elapsed(&mut cx).is_pending());
        timers.sweep(Instant::now());

        assert!(timers.slots.borrow()[0].waker.is_none(), "the waker was taken and woken");
        assert!(deadline.poll_elapsed(&mut cx).is_ready());
    }
}
