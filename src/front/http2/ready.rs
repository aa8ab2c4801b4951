//! Which streams can get on: what a connection has in place of a task for each of them.
//!
//! Whoever has something for a stream wakes its waker, from any thread: that notes the stream here, and wakes the
//! connection's task, unless that is looking already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Wake, Waker};

use crate::front::http2::streams::Slot;

/// The streams of one connection that were woken.
pub struct Ready {
    /// A bit for each slot.
    woken: Box<[AtomicU64]>,
    /// The task is looking: it will look once more before it rests.
    is_looking: AtomicBool,
    task: Waker,
}

struct StreamWaker {
    ready: Arc<Ready>,
    slot: Slot,
}

impl Ready {
    /// For so many slots of the connection whose task `task` wakes.
    pub fn new(slots: usize, task: Waker) -> Arc<Self> {
        let woken = (0..slots.div_ceil(64).max(1)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Ready { woken, is_looking: AtomicBool::new(false), task })
    }

    /// True when it is this task that is woken.
    pub fn is_of(&self, task: &Waker) -> bool {
        self.task.will_wake(task)
    }

    /// Notes a stream.
    pub fn waker(self: &Arc<Self>, slot: Slot) -> Waker {
        Waker::from(Arc::new(StreamWaker { ready: self.clone(), slot }))
    }

    /// Nobody need wake the task until it rests.
    pub fn look(&self) {
        self.is_looking.store(true, Ordering::SeqCst);
    }

    /// From now on the task is woken. False when some stream was noted meanwhile.
    pub fn rest(&self) -> bool {
        self.is_looking.store(false, Ordering::SeqCst);
        self.woken.iter().all(|word| word.load(Ordering::SeqCst) == 0)
    }

    /// Takes the streams that were noted.
    pub fn take(&self, mut each: impl FnMut(Slot)) {
        for (at, word) in self.woken.iter().enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::SeqCst);
            while bits != 0 {
                each(at * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    fn note(&self, slot: Slot) {
        let Some(word) = self.woken.get(slot / 64) else { return };
        word.fetch_or(1 << (slot % 64), Ordering::SeqCst);
        if !self.is_looking.load(Ordering::SeqCst) {
            self.task.wake_by_ref();
        }
    }
}

impl Wake for StreamWaker {
    fn wake(self: Arc<Self>) {
        self.ready.note(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.note(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn taken(ready: &Ready) -> Vec<Slot> {
        let mut slots = Vec::new();
        ready.take(|slot| slots.push(slot));
        slots
    }

    #[test]
    fn a_stream_that_is_woken_is_noted_once_and_wakes_the_task_unless_that_is_looking() {
        let count = Arc::new(Count::default());
        let ready = Ready::new(130, Waker::from(count.clone()));
        let wakers: Vec<_> = [0, 63, 64, 129].map(|slot| ready.waker(slot)).into();

        ready.look();
        wakers.iter().rev().for_each(Waker::wake_by_ref);
        wakers[0].wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        assert!(!ready.rest());
        assert_eq!(taken(&ready), [0, 63, 64, 129]);

        ready.look();
        assert!(ready.rest());
        wakers[2].wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(taken(&ready), [64]);
        assert_eq!(taken(&ready), Vec::<Slot>::new());
    }
}
