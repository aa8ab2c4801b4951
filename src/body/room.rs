//! Room for the bytes of bodies that wait: for a client that does not take them, or to be sent again.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// The largest piece of a body that its reader is given at once, and that its pace is measured in.
pub const PIECE: usize = 16 * 1024;
/// Data up to this are copied out of the larger buffer that they came in and not counted.
const COPIED: usize = 1024;

/// So many bytes may wait, within a larger room if there is one. What has to be taken in beyond that is counted too:
/// a room can be more than full. Atomics because `Bytes` may be dropped anywhere; in fact a room belongs to one worker.
pub struct Room {
    held: AtomicUsize,
    max: AtomicUsize,
    within: Option<Arc<Room>>,
}

/// One body's part of a room. However full that is, a body may have one piece under way: so nobody waits for anybody
/// else, and what a stream waits for is its own client.
pub struct Share {
    room: Arc<Room>,
    held: AtomicUsize,
    reader: Mutex<Option<Waker>>,
}

/// A piece that is counted as long as anybody has it.
struct Held {
    data: Bytes,
    share: Arc<Share>,
}

impl Room {
    /// For `max` bytes, which count in `within` too.
    pub fn new(max: usize, within: Option<Arc<Room>>) -> Arc<Self> {
        Arc::new(Room { held: AtomicUsize::new(0), max: AtomicUsize::new(max), within })
    }

    /// From now on there is room for `max` bytes. What waits already stays.
    pub fn resize(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// Bytes that wait now.
    pub fn held(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// True when nothing more should be taken in that can be left where it is.
    pub fn is_full(&self) -> bool {
        self.held() >= self.max.load(Relaxed) || self.within.as_ref().is_some_and(|within| within.is_full())
    }

    /// So many more bytes wait.
    pub fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Relaxed);
        self.within.iter().for_each(|within| within.take(bytes));
    }

    /// So many wait no longer.
    pub fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
        self.within.iter().for_each(|within| within.give_back(bytes));
    }
}

impl Share {
    /// Of a body that nothing has been read of.
    pub fn new(room: Arc<Room>) -> Arc<Self> {
        Arc::new(Share { room, held: AtomicUsize::new(0), reader: Mutex::default() })
    }

    /// Ready when the next piece may be read; wakes when some of what this body has under way has gone.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        *self.reader() = Some(cx.waker().clone());
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn has_room(&self) -> bool {
        self.held.load(Relaxed) == 0 || !self.room.is_full()
    }

    /// The same data, counted until the last that has them lets go.
    pub fn hold(self: &Arc<Self>, data: Bytes) -> Bytes {
        if data.len() <= COPIED {
            return Bytes::copy_from_slice(&data);
        }
        self.held.fetch_add(data.len(), Relaxed);
        self.room.take(data.len());
        Bytes::from_owner(Held { data, share: self.clone() })
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let share = &self.share;
        share.held.fetch_sub(self.data.len(), Relaxed);
        share.room.give_back(self.data.len());
        let reader = share.reader().take();
        reader.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_room(share: &Share) -> bool {
        share.poll_room(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_body_has_one_piece_however_full_the_room_is() {
        let all = Room::new(1 << 20, None);
        let room = Room::new(3 * COPIED, Some(all.clone()));
        let (one, other) = (Share::new(room.clone()), Share::new(room.clone()));

        assert!(has_room(&one));
        let first = one.hold(Bytes::from(vec![1; 2 * COPIED]));
        let second = one.hold(Bytes::from(vec![2; 2 * COPIED]));
        assert_eq!((room.held(), all.held()), (4 * COPIED, 4 * COPIED));
        assert_eq!((has_room(&one), has_room(&other)), (false, true));

        drop(second);
        assert!(has_room(&one), "there is some again");
        let rest = first.slice(COPIED..);
        drop(first);
        assert_eq!(room.held(), 2 * COPIED, "somebody has a part of it");
        drop(rest);
        assert_eq!((room.held(), all.held()), (0, 0));
    }

    #[test]
    fn a_room_is_full_when_the_larger_one_is() {
        let all = Room::new(10, None);
        let (one, other) = (Room::new(10, Some(all.clone())), Room::new(10, Some(all.clone())));

        one.take(10);
        assert!(other.is_full() && other.held() == 0);
        one.give_back(1);
        assert!(!other.is_full());
    }

    #[test]
    fn whoever_waits_is_woken_when_its_own_piece_has_gone() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let (room, count) = (Room::new(1, None), Arc::new(Count(AtomicUsize::new(0))));
        let share = Share::new(room);
        let held = share.hold(Bytes::from(vec![1; 2 * COPIED]));

        let waker = Waker::from(count.clone());
        assert!(share.poll_room(&mut Context::from_waker(&waker)).is_pending());
        drop(held);

        assert_eq!(count.0.load(Relaxed), 1);
    }

    #[test]
    fn a_little_data_is_copied_and_not_counted() {
        let room = Room::new(1, None);
        let buffer = Bytes::from(vec![7; 64 * 1024]);

        let copy = Share::new(room.clone()).hold(buffer.slice(..COPIED));

        assert_eq!((room.held(), copy.len()), (0, COPIED));
        assert!(buffer.is_unique(), "the buffer is not kept for it");
    }
}
