//! Requests that wait for a server: one queue for all workers, in the order of their coming.
//!
//! Nobody is handed a server. Whoever stands first is called when there may be room, looks for itself, and leaves
//! when it has found some; new requests do not overtake. A request that is called and finds that the room is not
//! for it (it has tried that server already, or is bound to another one) calls the next in its place.
//!
//! The lock is taken only by requests that wait, and by those that end while others wait.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Requests that wait.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<VecDeque<Arc<Waiter>>>,
    /// How many; read without the lock.
    len: AtomicUsize,
    /// There was room that none of them may have.
    is_left_over: AtomicBool,
}

/// A place in a [`Queue`]; free again when it is dropped.
pub struct Place {
    queue: Arc<Queue>,
    waiter: Arc<Waiter>,
}

/// Why someone is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A request has ended: there is room for one.
    Room,
    /// There may be room for any number, or none.
    Look,
}

#[derive(Default)]
struct Waiter {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    called: Option<Call>,
    /// It was called once at least, and found nothing.
    has_looked: bool,
    /// Called once more before it has answered: room may have come after it looked.
    again: bool,
    waker: Option<Waker>,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.len.load(SeqCst)
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last place; `None` when `size` are waiting. Whoever finds nobody before it is called at once: room may have
    /// come since it looked. So is one before whom all wait for other room than there is.
    pub fn enter(self: &Arc<Self>, size: usize) -> Option<Place> {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= size {
            return None;
        }
        let waiter = Arc::<Waiter>::default();
        let is_left_over = || self.is_left_over.load(SeqCst);
        let is_open =
            waiting.front().is_none_or(|first| is_left_over() && lock(&first.state).called.is_none());
        waiting.push_back(waiter.clone());
        self.len.store(waiting.len(), SeqCst);
        if is_open {
            // Perhaps not its turn: one before it may have come while somebody else was looking.
            let is_new = |waiter: &&Arc<Waiter>| !lock(&waiter.state).has_looked;
            let next = waiting.iter().find(is_new).unwrap_or(&waiter).clone();
            drop(waiting);
            next.call(Call::Look);
        }
        Some(Place { queue: self.clone(), waiter })
    }

    /// Calls the first, and for each further room the next.
    pub fn call(&self, call: Call) {
        if !self.is_empty() {
            self.call_from(call, None);
        }
    }

    /// Calls the first after `after`. Nobody behind one who is about to look is told to look: it might be quicker, on
    /// another thread, and take what is not its turn.
    fn call_from(&self, call: Call, after: Option<&Arc<Waiter>>) {
        let waiting = lock(&self.waiting);
        let begin = after.and_then(|after| waiting.iter().position(|other| Arc::ptr_eq(other, after)));
        for waiter in waiting.iter().skip(begin.map_or(0, |index| index + 1)) {
            let mut state = lock(&waiter.state);
            match (state.called, call) {
                (None, _) => state.called = Some(call),
                // Two rooms are for two.
                (Some(Call::Room), Call::Room) => continue,
                _ => {
                    state.again = true;
                    return;
                }
            }
            let waker = state.waker.take();
            drop(state);
            drop(waiting);
            // Woken outside the locks: a waker may be on its way to another worker's.
            if let Some(waker) = waker {
                waker.wake();
            }
            return;
        }
        if after.is_some() {
            self.is_left_over.store(true, SeqCst);
        }
    }
}

impl Waiter {
    /// Calls it, unless it is called already.
    fn call(&self, call: Call) {
        let mut state = lock(&self.state);
        if state.called.is_none() {
            state.called = Some(call);
            let waker = state.waker.take();
            drop(state);
            // Woken outside the lock: a waker may be on its way to another worker's.
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Place {
    /// Waits to be called.
    pub async fn called(&self) -> Call {
        poll_fn(|cx| {
            let mut state = lock(&self.waiter.state);
            match state.called {
                Some(call) => Poll::Ready(call),
                None => {
                    match &mut state.waker {
                        Some(waker) => waker.clone_from(cx.waker()),
                        empty => *empty = Some(cx.waker().clone()),
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// There was no room for it, so it waits on. `is_for_others`: but there is some that it may not have.
    pub fn wait_on(&self, is_for_others: bool) {
        let mut state = lock(&self.waiter.state);
        state.has_looked = true;
        if std::mem::take(&mut state.again) {
            state.called = Some(Call::Look);
            return;
        }
        let called = state.called.take();
        drop(state);
        match called.filter(|_| is_for_others) {
            Some(call) => self.queue.call_from(call, Some(&self.waiter)),
            None => self.queue.is_left_over.store(false, SeqCst),
        }
    }

    /// It has found room. Where it was told only to look, there may be more.
    pub fn leave(self) {
        let (called, queue) = (self.answer(), self.queue.clone());
        drop(self);
        if called == Some(Call::Look) {
            queue.call(Call::Look);
        }
    }

    fn answer(&self) -> Option<Call> {
        let mut state = lock(&self.waiter.state);
        let called = state.called.take();
        if std::mem::take(&mut state.again) { Some(Call::Look) } else { called }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = lock(&self.queue.waiting);
        waiting.retain(|other| !Arc::ptr_eq(other, &self.waiter));
        self.queue.len.store(waiting.len(), SeqCst);
        drop(waiting);
        // The room that it was called for is the next one's.
        if let Some(call) = self.answer() {
            self.queue.call(call);
        }
    }
}

/// What is behind it is whole after any panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Context;

    use super::*;

    fn called(place: &Place) -> Option<Call> {
        let future = std::pin::pin!(place.called());
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(call) => Some(call),
            Poll::Pending => None,
        }
    }

    fn places(queue: &Arc<Queue>, count: usize) -> Vec<Place> {
        let places: Vec<_> = (0..count).filter_map(|_| queue.enter(count)).collect();
        places[0].wait_on(false);
        places
    }

    #[test]
    fn a_full_queue_takes_nobody_until_someone_leaves() {
        let queue = Arc::<Queue>::default();
        assert!(queue.enter(0).is_none());
        let first = queue.enter(1).unwrap();
        assert!(queue.enter(1).is_none());
        first.leave();
        assert!(queue.is_empty() && queue.enter(1).is_some());
    }

    #[test]
    fn whoever_finds_nobody_before_it_looks_at_once_and_the_others_wait() {
        let queue = Arc::<Queue>::default();
        let (first, second) = (queue.enter(2).unwrap(), queue.enter(2).unwrap());
        assert_eq!((called(&first), called(&second)), (Some(Call::Look), None));
    }

    #[test]
    fn as_many_are_called_as_rooms_came_free_in_the_order_of_their_coming() {
        let queue = Arc::<Queue>::default();
        let places = places(&queue, 4);
        queue.call(Call::Room);
        queue.call(Call::Room);
        let calls: Vec<_> = places.iter().map(called).collect();
        assert_eq!(calls, [Some(Call::Room), Some(Call::Room), None, None]);
    }

    #[test]
    fn a_look_goes_on_until_someone_finds_nothing() {
        let queue = Arc::<Queue>::default();
        let mut places = places(&queue, 3);
        queue.call(Call::Look);
        places.remove(0).leave();
        assert_eq!(called(&places[0]), Some(Call::Look));
        places[0].wait_on(false);
        assert!(places.iter().all(|place| called(place).is_none()));
    }

    #[test]
    fn room_that_comes_while_the_first_looks_is_not_the_second_s() {
        for (first, second) in [(Call::Look, Call::Room), (Call::Look, Call::Look), (Call::Room, Call::Look)]
        {
            let queue = Arc::<Queue>::default();
            let mut places = places(&queue, 2);
            queue.call(first);
            queue.call(second);
            assert_eq!(called(&places[1]), None, "{first:?}, {second:?}");
            // It had looked before the room came: it looks again, and only then waits on.
            places[0].wait_on(false);
            assert_eq!(called(&places[0]), Some(Call::Look));
            queue.call(Call::Room);
            places.remove(0).leave();
            assert_eq!(called(&places[0]), Some(Call::Look), "there may be more");
            places[0].wait_on(false);
            assert_eq!(called(&places[0]), None);
        }
    }

    #[test]
    fn room_that_one_may_not_have_is_offered_to_the_next() {
        let queue = Arc::<Queue>::default();
        let places = places(&queue, 3);
        queue.call(Call::Room);
        places[0].wait_on(true);
        assert_eq!(places.iter().map(called).collect::<Vec<_>>(), [None, Some(Call::Room), None]);
    }

    #[test]
    fn who_comes_while_there_is_room_that_the_others_may_not_have_looks_at_once() {
        let queue = Arc::<Queue>::default();
        let first = queue.enter(9).unwrap();
        first.wait_on(true);
        let second = queue.enter(9).unwrap();
        assert_eq!((called(&first), called(&second)), (None, Some(Call::Look)));
        second.wait_on(false);
        assert_eq!(called(&queue.enter(9).unwrap()), None, "it is gone");
        first.wait_on(false);
        queue.call(Call::Look);
        first.wait_on(true);
        queue.call(Call::Room);
        let fourth = queue.enter(9).unwrap();
        assert_eq!(
            (called(&first), called(&fourth)),
            (Some(Call::Room), None),
            "the first may be for this one"
        );
    }

    #[test]
    fn a_client_that_gives_up_does_not_take_its_call_along() {
        let queue = Arc::<Queue>::default();
        let mut places = places(&queue, 2);
        queue.call(Call::Room);
        drop(places.remove(0));
        assert_eq!((queue.len(), called(&places[0])), (1, Some(Call::Room)));
    }
}
