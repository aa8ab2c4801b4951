//! The streams of a connection (RFC 9113 section 5.1): those that are open, and how the newest of the others ended.
//!
//! Pure: what is done for a stream (`T`) is its owner's business.

use std::collections::VecDeque;

use crate::front::http2::flow::{ReceiveWindow, SendWindow};

/// Streams whose end is remembered: as many as may be open by default. Of an older one nothing is held against the
/// client.
const REMEMBERED: usize = 128;

/// Where an open stream is kept. Used again for another one when it has ended.
pub type Slot = usize;

/// A stream whose response has not ended.
pub struct Stream<T> {
    /// Its number.
    pub id: u32,
    /// The client has sent all of its request.
    pub is_ended: bool,
    /// Somebody works for it.
    pub is_taken_up: bool,
    /// What the client takes of the response.
    pub window: SendWindow,
    /// What the client may send of the body.
    pub inbound: ReceiveWindow,
    /// Bytes of the body that are still to come where the length was announced.
    pub expected: Option<u64>,
    /// What is done for it.
    pub work: T,
}

/// How a stream ended, as far as it matters to what the client may send on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// After all of its request.
    Ended,
    /// The client has reset it.
    Reset,
    /// We have: the client may not know yet.
    Cut,
}

/// What a stream's number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may still be opened; if it is even, by nobody.
    Idle,
    Open(Slot),
    Closed(Closed),
    /// A higher one was opened before it (section 5.1.1).
    Skipped,
    /// It ended so long ago that it is not known how.
    Forgotten,
}

/// All streams of a connection.
pub struct Streams<T> {
    slots: Vec<Option<Stream<T>>>,
    free: Vec<Slot>,
    /// Of those that are open, in the order of their numbers.
    open: VecDeque<(u32, Slot)>,
    closed: VecDeque<(u32, Closed)>,
    /// The highest that was forgotten.
    forgotten: u32,
    /// The highest that the client has opened.
    last: u32,
}

impl<T> Streams<T> {
    /// None yet.
    pub fn new() -> Self {
        Streams {
            slots: Vec::new(),
            free: Vec::new(),
            open: VecDeque::new(),
            closed: VecDeque::new(),
            forgotten: 0,
            last: 0,
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True when none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What is known of a number.
    pub fn standing(&self, id: u32) -> Standing {
        if id > self.last || id.is_multiple_of(2) {
            return Standing::Idle;
        }
        if let Some(slot) = self.find(id) {
            return Standing::Open(slot);
        }
        // Rare: the newest are looked at first.
        match self.closed.iter().rev().find(|(closed, _)| *closed == id) {
            Some((_, how)) => Standing::Closed(*how),
            None if id <= self.forgotten => Standing::Forgotten,
            None => Standing::Skipped,
        }
    }

    /// The open stream with this number.
    pub fn find(&self, id: u32) -> Option<Slot> {
        let place = self.open.binary_search_by_key(&id, |(open, _)| *open).ok()?;
        self.open.get(place).map(|(_, slot)| *slot)
    }

    /// Opens a stream that is idle.
    pub fn open(&mut self, stream: Stream<T>) -> Slot {
        debug_assert_eq!(self.standing(stream.id), Standing::Idle);
        self.last = stream.id;
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(stream);
                slot
            }
            None => {
                self.slots.push(Some(stream));
                self.slots.len() - 1
            }
        };
        self.open.push_back((id, slot));
        slot
    }

    /// A stream that is idle was opened, and nothing will be done for it.
    pub fn pass_over(&mut self, id: u32, how: Closed) {
        debug_assert_eq!(self.standing(id), Standing::Idle);
        self.last = id;
        self.remember(id, how);
    }

    /// What is kept at `slot`; `None` when its stream has ended.
    pub fn get(&mut self, slot: Slot) -> Option<&mut Stream<T>> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Every open stream.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Stream<T>)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(slot, stream)| Some((slot, stream.as_mut()?)))
    }

    /// The stream has ended.
    pub fn close(&mut self, slot: Slot, how: Closed) -> Option<Stream<T>> {
        let stream = self.slots.get_mut(slot)?.take()?;
        if let Ok(place) = self.open.binary_search_by_key(&stream.id, |(open, _)| *open) {
            self.open.remove(place);
        }
        self.free.push(slot);
        self.remember(stream.id, how);
        Some(stream)
    }

    /// Keeps nothing for streams that once were: at rest there are none.
    pub fn shrink(&mut self) {
        if self.open.is_empty() {
            (self.slots, self.free, self.open) = Default::default();
        }
    }

    /// True when nothing is kept for streams.
    pub fn is_shrunk(&self) -> bool {
        self.slots.capacity() == 0
    }

    /// A closed stream: what the client has done to it since.
    pub fn amend(&mut self, id: u32, how: Closed) {
        if let Some((_, closed)) = self.closed.iter_mut().rev().find(|(closed, _)| *closed == id) {
            *closed = how;
        }
    }

    fn remember(&mut self, id: u32, how: Closed) {
        if self.closed.len() == REMEMBERED
            && let Some((oldest, _)) = self.closed.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
        }
        self.closed.push_back((id, how));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Stream<()> {
        Stream {
            id,
            is_ended: false,
            is_taken_up: false,
            window: SendWindow::new(1),
            inbound: ReceiveWindow::new(1),
            expected: None,
            work: (),
        }
    }

    #[test]
    fn a_number_means_what_was_made_of_it() {
        let mut streams = Streams::new();
        let first = streams.open(stream(1));
        let fifth = streams.open(stream(5));
        streams.pass_over(7, Closed::Cut);
        streams.close(first, Closed::Ended).unwrap();

        for (id, expected) in [
            (1, Standing::Closed(Closed::Ended)),
            (2, Standing::Idle),
            (3, Standing::Skipped),
            (5, Standing::Open(fifth)),
            (7, Standing::Closed(Closed::Cut)),
            (9, Standing::Idle),
        ] {
            assert_eq!(streams.standing(id), expected, "{id}");
        }
        streams.amend(7, Closed::Reset);
        assert_eq!(streams.standing(7), Standing::Closed(Closed::Reset));
        assert!(streams.close(first, Closed::Ended).is_none());
    }

    #[test]
    fn a_slot_is_used_again_and_a_connection_at_rest_keeps_none() {
        let mut streams = Streams::new();
        let slots: Vec<_> = [1, 3, 5].map(|id| streams.open(stream(id))).into();
        streams.close(slots[1], Closed::Ended).unwrap();
        assert_eq!(streams.open(stream(7)), slots[1]);
        assert_eq!(streams.find(7), Some(slots[1]));
        assert_eq!((streams.find(3), streams.len()), (None, 3));

        for slot in slots {
            assert!(streams.close(slot, Closed::Ended).is_some());
        }

        assert!(!streams.is_shrunk());
        streams.shrink();
        assert!(streams.is_empty() && streams.is_shrunk() && streams.slots.capacity() == 0);
    }

    #[test]
    fn only_the_newest_are_remembered() {
        let mut streams = Streams::new();
        for n in 0..10_000 {
            let slot = streams.open(stream(2 * n + 1));
            streams.close(slot, Closed::Ended).unwrap();
        }
        assert_eq!(streams.closed.len(), REMEMBERED);
        let oldest = 2 * (10_000 - REMEMBERED as u32) + 1;
        assert_eq!(streams.standing(oldest), Standing::Closed(Closed::Ended));
        assert_eq!(streams.standing(oldest - 2), Standing::Forgotten);
    }
}
