//! Requests for one key that is being fetched share the fetch, from its first byte.
//!
//! The leader fetches and writes, followers read while it arrives; threads meet
//! in one mutex a flight, held for a few instructions and never across an await.
//! Lock order: table, then flight or invalidations; wakers are called with none held.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as HttpBody;
use http_body::Frame;
use http_body::SizeHint;

use crate::body::BodyError;
use crate::cache::entry::Entry;
use crate::cache::entry::Head;
use crate::cache::entry::Refreshed;
use crate::cache::entry::StoredBody;
use crate::cache::invalidations::Full;
use crate::cache::invalidations::Invalidations;
use crate::cache::invalidations::Says;
use crate::cache::key::Key;
use crate::cache::policy::Assessment;
use crate::cache::policy::Trouble;
use crate::cache::policy::assess;
use crate::cache::policy::select;
use crate::cache::purge::How;
use crate::cache::purge::Purge;
use crate::cache::purge::Selector;
use crate::cache::status::CacheReason;
use crate::cache::store::Store;
use crate::cache::store::Variants;
use crate::cache::tags::Tags;
use crate::cache::vary::Choosing;
use crate::config::RouteCache;
use crate::fields::RequestHead;

/// How far the slowest reader of an object that will not be stored may fall behind: a few
/// socket buffers, so that readers of equal speed never wait for each other.
const LAG_BYTES_MAX: u64 = 256 << 10;

/// The part of the store's bytes that fetches under way may hold besides: as much as the largest object.
const HELD_PART: u64 = 4;

/// Parts of the table of flights; more than cores, a power of two.
const SHARDS: usize = 64;

/// Counters of invalidations, 128 KiB of them; keys that share one may miss a chance to be stored, no more.
const EPOCHS: usize = 1 << 14;

/// The fetches that are under way, and the store they end in.
pub(super) struct Flights {
    store: Store,
    held: Arc<Held>,
    shards: Box<[Mutex<Table>]>,
    epochs: Box<[AtomicU64]>,
    invalidations: Invalidations,
    /// Whose turn it is to go through the store for a purge.
    walk: Mutex<()>,
}

/// A moment among invalidations. Whoever takes it before looking into the store, or before asking a server, stores
/// nothing that has been invalidated or purged since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// How often the key, or one that shares its counter, had been invalidated by itself.
    key: u64,
    /// The number of the last invalidation of others.
    number: u64,
}

/// A walk through the store: what has been invalidated since the last one is taken to all that is stored.
pub struct Sweep<'a> {
    flights: &'a Flights,
    /// The number of the last invalidation when it began.
    number: u64,
    walk: Box<dyn Iterator<Item = (Arc<Key>, Arc<Variants>)> + 'a>,
}

/// Bytes of bodies that flights hold until their slowest readers have them, and how many there may be.
struct Held {
    bytes: AtomicU64,
    bytes_max: u64,
}

type Table = HashMap<Key, Arc<Flight>, foldhash::fast::RandomState>;

/// Fetches on behalf of all; when it is dropped, everyone goes alone.
pub struct Leader {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    key: Key,
    /// From before the fetch began.
    epoch: Epoch,
}

/// Waits for a leader's response.
pub struct Follower {
    flight: Arc<Flight>,
    now: u64,
    slot: Option<usize>,
}

/// How a wait ended.
pub enum Followed {
    /// The response, as it arrives.
    Stream(Arc<Head>, Reader),
    /// The entry that the leader has just validated.
    Entry(Arc<Entry>),
    /// The server has failed the leader, which has something stale in its place. Who has not may ask for itself.
    Failed(Trouble),
    /// The response is not for this request: fetch it without waiting again.
    GoAlone(CacheReason),
}

/// Writes a body to its readers and, when it is whole, to the store.
pub struct Writer {
    leader: Leader,
    head: Arc<Head>,
    object_max: u64,
    is_ended: bool,
}

/// Reads a body while it arrives.
pub struct Reader {
    flight: Arc<Flight>,
    slot: usize,
    /// Bytes still to come, when that is known.
    remaining: Option<u64>,
    is_ended: bool,
}

/// Nobody wants the rest of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It cannot be stored, and its last reader has gone.
    NoReader,
    /// It is longer than it was announced; readers have been cut off.
    TooLong,
}

/// A shared body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutShort;

struct Flight {
    state: Mutex<State>,
    held: Arc<Held>,
    /// The number of the last invalidation from before the fetch began.
    born: u64,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// Followers that wait for the head.
    waiters: Slots<Waker>,
    chunks: VecDeque<Bytes>,
    /// The number of the first chunk in `chunks`: those before have been dropped.
    first: u64,
    /// Bytes written.
    total: u64,
    end: Option<End>,
    /// For those who read the body as it comes; they are not stored.
    trailers: Option<HeaderMap>,
    /// Why it will not be stored: the body goes at its slowest reader's pace from here on.
    overflow: Option<CacheReason>,
    readers: Slots<Progress>,
    writer: Option<Waker>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Waiting,
    Streaming(Arc<Head>),
    Landed(Arc<Entry>),
    Failed(Trouble),
    Released(CacheReason),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
}

#[derive(Default)]
struct Progress {
    /// The number of the next chunk.
    next: u64,
    bytes: u64,
    waker: Option<Waker>,
}

impl Flights {
    /// For a store of `bytes_max` bytes.
    pub(super) fn new(store: Store, bytes_max: u64) -> Self {
        Self {
            store,
            held: Arc::new(Held { bytes: AtomicU64::new(0), bytes_max: bytes_max / HELD_PART }),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            epochs: (0..EPOCHS).map(|_| AtomicU64::new(0)).collect(),
            invalidations: Invalidations::default(),
            walk: Mutex::default(),
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What is stored under `key`, as it is now.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<Variants>> {
        let variants = self.store.get(key)?;
        if self.invalidations.is_swept() || !self.is_outdated(key, &variants) {
            return Some(variants);
        }
        self.settle(key);
        self.store.get(key)
    }

    /// Leads a new flight or follows the one under way.
    pub(super) fn join(self: &Arc<Self>, key: &Key, now: u64, epoch: Epoch) -> Result<Leader, Follower> {
        let mut table = lock(self.shard(key));
        // What began before an invalidation is for those who asked before it.
        if let Some(flight) = table.get(key).filter(|flight| !self.has_outdated(key, flight)) {
            return Err(Follower { flight: flight.clone(), now, slot: None });
        }
        let flight = self.flight(epoch);
        table.insert(key.clone(), flight.clone());
        Ok(Leader { flights: self.clone(), flight, key: key.clone(), epoch })
    }

    /// A flight that nobody can join; its body is stored like any other.
    pub(super) fn alone(self: &Arc<Self>, key: &Key, epoch: Epoch) -> Leader {
        Leader { flights: self.clone(), flight: self.flight(epoch), key: key.clone(), epoch }
    }

    /// Forgets the key, and keeps fetches that began before from storing it (RFC 9111 §4.4). The key's epoch from here
    /// on, if nothing else has invalidated it, or what was fetched for it, since `began`.
    pub(super) fn invalidate(&self, key: &Key, began: Epoch) -> Option<Epoch> {
        let before = self.forget_all(key);
        // Its number stays: whatever else was invalidated since concerns what was fetched since.
        (before == began.key).then_some(Epoch { key: before + 1, ..began })
    }

    /// The same, for those who store nothing there themselves; how often that has been so.
    pub(super) fn forget_all(&self, key: &Key) -> u64 {
        let before = self.disown(key);
        self.store.remove(key);
        before
    }

    /// Forgets what is selected, or makes it stale, and keeps fetches that began before from storing it or
    /// being joined; how many responses there were.
    pub(super) fn purge(&self, how: How, selector: &Selector) -> u64 {
        let purge = Arc::new(Purge::new(selector, how));
        let number = selector.is_wide().then(|| self.add_purge(&purge));
        let mut count = 0;
        for key in &selector.keys {
            self.disown(key);
            // What others have purged is theirs to count.
            self.settle(key);
            self.store.revise(key, |entry| {
                if purge.wants(key, &entry.head.meta.tags) {
                    // It has been counted.
                    return Some(entry.clone());
                }
                count += 1;
                how.apply(entry).map(Arc::new)
            });
        }
        if let Some(number) = number {
            self.sweep_of(number);
        }
        count + purge.found()
    }

    /// What is in these groups of the key's origin is validated before it is used again (RFC 9875 §3).
    pub(super) fn invalidate_groups(&self, key: &Key, groups: Vec<String>) {
        self.invalidations.add_groups(key, groups);
    }

    /// A walk through the store, if there has been an invalidation since the last one.
    pub(super) fn sweep(&self) -> Option<Sweep<'_>> {
        if self.invalidations.is_swept() {
            return None;
        }
        let number = self.invalidations.latest();
        Some(Sweep { flights: self, number, walk: Box::new(self.store.iter()) })
    }

    /// Goes through the store unless someone else has, since this invalidation: however many ask for it at once, two
    /// walks are enough for all of them.
    fn sweep_of(&self, number: u64) {
        let _turn = lock(&self.walk);
        if self.invalidations.is_swept_of(number) {
            return;
        }
        if let Some(mut sweep) = self.sweep() {
            while sweep.go(usize::MAX) {}
        }
    }

    fn add_purge(&self, purge: &Arc<Purge>) -> u64 {
        loop {
            match self.invalidations.add_purge(purge) {
                Ok(number) => return number,
                // There is room for it when those that are there have been taken to the store.
                Err(Full) => self.sweep_of(self.invalidations.latest()),
            }
        }
    }

    /// Whoever asked before is not followed any more, and stores nothing; how often that has been so.
    fn disown(&self, key: &Key) -> u64 {
        let before = self.counter(key).fetch_add(1, Ordering::SeqCst);
        lock(self.shard(key)).remove(key);
        before
    }

    /// Takes what has been invalidated to what is stored under `key`.
    fn settle(&self, key: &Key) {
        self.store.revise(key, |entry| self.invalidations.apply(key, entry));
    }

    fn is_outdated(&self, key: &Key, variants: &Variants) -> bool {
        variants.iter().any(|entry| self.invalidations.concern_stored(key, entry))
    }

    fn has_outdated(&self, key: &Key, flight: &Flight) -> bool {
        // Mostly there has been none since: then its head is of no interest.
        flight.born < self.invalidations.latest() && {
            let head = lock(&flight.state).phase.head();
            let says = head.as_ref().map_or(Says::Nothing, |head| Says::Tags(&head.meta.tags));
            self.invalidations.concern(key, says, flight.born)
        }
    }

    /// The moment among the key's invalidations; what is stored later on must still find it.
    pub(super) fn epoch(&self, key: &Key) -> Epoch {
        Epoch { key: self.counter(key).load(Ordering::SeqCst), number: self.invalidations.latest() }
    }

    /// True when nothing has invalidated the key since, nor what calls itself so.
    pub(super) fn is_current(&self, key: &Key, epoch: Epoch, tags: &Tags) -> bool {
        self.counter(key).load(Ordering::SeqCst) == epoch.key
            && !self.invalidations.concern(key, Says::Tags(tags), epoch.number)
    }

    /// Stores `entry`, unless it has been invalidated since `epoch`.
    pub(super) fn insert(&self, key: &Key, entry: Entry, epoch: Epoch) -> Result<Arc<Entry>, CacheReason> {
        let entry = Arc::new(Entry { born: epoch.number, ..entry });
        let may_stay = || self.is_current(key, epoch, &entry.head.meta.tags);
        let revise = |old: &Arc<Entry>| self.invalidations.apply(key, old);
        if self.store.insert(key, entry.clone(), may_stay, revise) {
            Ok(entry)
        } else {
            Err(CacheReason::Invalidated)
        }
    }

    /// Stores what a validation made of an entry, unless another has taken the entry's place meanwhile: that one was
    /// asked for later, and nobody knows which of two answers on their way the server made last.
    pub(super) fn renew(&self, key: &Key, refreshed: &Refreshed, epoch: Epoch) -> Result<(), CacheReason> {
        let Head { meta, .. } = &*refreshed.entry.head;
        let is_other = |entry: &Arc<Entry>| {
            entry.head.meta.selection == meta.selection
                && entry.head.meta.part.is_none()
                && !entry.head.meta.is_observed
                && !Arc::ptr_eq(&entry.head, &refreshed.of)
        };
        let entry = Arc::new(Entry { born: epoch.number, ..(*refreshed.entry).clone() });
        let mut outcome = Err(CacheReason::Invalidated);
        let may_stay = || {
            if self.is_current(key, epoch, &meta.tags) {
                let variants = self.store.get(key);
                let is_superseded = variants.is_some_and(|variants| variants.iter().any(is_other));
                outcome = if is_superseded { Err(CacheReason::Superseded) } else { Ok(()) };
            }
            outcome.is_ok()
        };
        self.store.insert(key, entry, may_stay, |old| self.invalidations.apply(key, old));
        outcome
    }

    /// Takes from `entry`, if it is still there, that it may be served while it is validated.
    pub(super) fn outdate(&self, key: &Key, entry: &Entry) {
        self.store.revise(key, |old| {
            let is_other = !Arc::ptr_eq(&old.head, &entry.head);
            Some(if is_other { old.clone() } else { Arc::new(old.outdated()) })
        });
    }

    fn flight(&self, epoch: Epoch) -> Arc<Flight> {
        Arc::new(Flight { state: Mutex::default(), held: self.held.clone(), born: epoch.number })
    }

    fn forget(&self, key: &Key, flight: &Arc<Flight>) {
        let mut table = lock(self.shard(key));
        if table.get(key).is_some_and(|found| Arc::ptr_eq(found, flight)) {
            table.remove(key);
        }
    }

    fn counter(&self, key: &Key) -> &AtomicU64 {
        &self.epochs[key.spread() % EPOCHS]
    }

    fn shard(&self, key: &Key) -> &Mutex<Table> {
        &self.shards[key.spread() % SHARDS]
    }
}

impl Sweep<'_> {
    /// Goes on for so many keys; false when it has been through the whole store.
    pub fn go(&mut self, keys: usize) -> bool {
        for _ in 0..keys {
            let Some((key, variants)) = self.walk.next() else {
                self.flights.invalidations.swept(self.number);
                return false;
            };
            if self.flights.is_outdated(&key, &variants) {
                self.flights.settle(&key);
            }
        }
        true
    }
}

impl Leader {
    /// A storable response: those who wait and those who come read it as it is written.
    /// A response that each request must validate is written for the store and the leader alone.
    pub fn publish(self, head: Head, object_max: u64) -> Writer {
        let head = Arc::new(head);
        let phase = if head.meta.is_shareable() {
            Phase::Streaming(head.clone())
        } else {
            self.flights.forget(&self.key, &self.flight);
            Phase::Released(CacheReason::NotShareable)
        };
        self.flight.settle(phase);
        let object_max = object_max.min(self.flights.store.object_max());
        Writer { leader: self, head, object_max, is_ended: false }
    }

    /// An entry that the server has just validated: stored, and the answer for all who wait. If its
    /// new fields forbid storing, the old one is forgotten and all who wait go alone.
    pub fn land(self, refreshed: Refreshed) -> Result<(), CacheReason> {
        if let Err(reason) = refreshed.storable {
            let is_other = |entry: &Arc<Entry>| !Arc::ptr_eq(&entry.head, &refreshed.of);
            // Authorization is the request's: whoever is not authorized may have what is stored.
            if reason != CacheReason::Authorization {
                self.flights.store.revise(&self.key, |entry| is_other(entry).then(|| entry.clone()));
            }
            self.release(reason);
            return Err(reason);
        }
        let stored = self.flights.renew(&self.key, &refreshed, self.epoch);
        self.hand_on(refreshed.entry);
        stored
    }

    /// A stored response that is the answer for all who wait.
    pub fn hand_on(self, entry: Arc<Entry>) {
        self.flights.forget(&self.key, &self.flight);
        self.flight.settle(Phase::Landed(entry));
    }

    /// The server has failed, and who asked has something stale in its place: all who wait are told.
    pub fn fail(self, trouble: Trouble) {
        self.flights.forget(&self.key, &self.flight);
        self.flight.settle(Phase::Failed(trouble));
    }

    /// Nothing to share: all who wait go alone, at once.
    pub fn release(self, reason: CacheReason) {
        self.flights.forget(&self.key, &self.flight);
        self.flight.settle(Phase::Released(reason));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.flights.forget(&self.key, &self.flight);
        self.flight.settle(Phase::Released(CacheReason::LeaderGone));
    }
}

impl Follower {
    /// Waits for the leader's response; the caller limits the time. `req` is this follower's own:
    /// a response that it may not have (Vary, Authorization, its Cache-Control) sends it alone.
    pub async fn wait(mut self, req: &RequestHead, rules: &RouteCache) -> Followed {
        poll_fn(|cx| self.poll_wait(cx, req, rules)).await
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>, req: &RequestHead, rules: &RouteCache) -> Poll<Followed> {
        let mut state = lock(&self.flight.state);
        let head = match &state.phase {
            Phase::Waiting => {
                match self.slot.and_then(|slot| state.waiters.get_mut(slot)) {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => self.slot = Some(state.waiters.insert(cx.waker().clone())),
                }
                return Poll::Pending;
            }
            Phase::Released(reason) => return Poll::Ready(Followed::GoAlone(*reason)),
            Phase::Failed(trouble) => return Poll::Ready(Followed::Failed(*trouble)),
            Phase::Landed(entry) => {
                let entry = entry.clone();
                return Poll::Ready(match may_share(&entry.head, req, self.now, rules) {
                    Ok(()) => Followed::Entry(entry),
                    Err(reason) => Followed::GoAlone(reason),
                });
            }
            Phase::Streaming(head) => head.clone(),
        };
        let refusal = match may_share(&head, req, self.now, rules) {
            Err(reason) => Some(reason),
            Ok(()) if state.end == Some(End::Cut) => Some(CacheReason::CutShort),
            Ok(()) => state.overflow,
        };
        Poll::Ready(match refusal {
            Some(reason) => Followed::GoAlone(reason),
            None => {
                let reader = Reader::new(&self.flight, &mut state, &head);
                Followed::Stream(head, reader)
            }
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let waker = self.slot.and_then(|slot| lock(&self.flight.state).waiters.remove(slot));
        drop(waker);
    }
}

fn may_share(head: &Head, req: &RequestHead, now: u64, rules: &RouteCache) -> Result<(), CacheReason> {
    select(&head.meta, req, &Choosing::of(&req.fields), rules)?;
    match assess(&head.meta, req, now.max(head.meta.received), rules) {
        Assessment::Fresh { .. } => Ok(()),
        Assessment::Stale { reason, .. } => Err(reason),
    }
}

impl Writer {
    /// What is being written.
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// A reader for the leader's own client; to be taken before the first push.
    pub fn reader(&self) -> Reader {
        let mut state = lock(&self.leader.flight.state);
        debug_assert!(state.first == 0 && state.overflow.is_none(), "the first bytes are gone");
        Reader::new(&self.leader.flight, &mut state, &self.head)
    }

    /// Pends while the slowest reader of an object that will not be stored lags behind.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut state = lock(&self.leader.flight.state);
        match state.lag() {
            _ if state.overflow.is_none() => Poll::Ready(Ok(())),
            None => Poll::Ready(Err(Closed::NoReader)),
            Some(lag) if lag <= LAG_BYTES_MAX => Poll::Ready(Ok(())),
            Some(_) => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// [`Self::poll_ready`] as a future.
    pub async fn ready(&mut self) -> Result<(), Closed> {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// The next bytes. After an error, drop the writer and the fetch.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), Closed> {
        if chunk.is_empty() {
            return Ok(());
        }
        let chunk = StoredBody::piece(chunk, self.head.meta.content_length);
        let mut wakers = Vec::new();
        let (overflows, outcome) = {
            let mut state = lock(&self.leader.flight.state);
            let length = chunk.len() as u64;
            state.total += length;
            if self.head.meta.content_length.is_some_and(|length| state.total > length) {
                return Err(Closed::TooLong);
            }
            state.chunks.push_back(chunk);
            let is_crowded = self.leader.flight.held.add(length);
            let overflow = match state.overflow {
                Some(_) => None,
                None if state.total > self.object_max => Some(CacheReason::TooLarge),
                None if is_crowded && state.total > LAG_BYTES_MAX => Some(CacheReason::Crowded),
                None => None,
            };
            state.overflow = state.overflow.or(overflow);
            if state.overflow.is_some() {
                state.trim(&self.leader.flight.held);
            }
            wakers.extend(state.readers.iter_mut().filter_map(|reader| reader.waker.take()));
            let is_wanted = state.overflow.is_none() || !state.readers.is_empty();
            (overflow.is_some(), if is_wanted { Ok(()) } else { Err(Closed::NoReader) })
        };
        wakers.into_iter().for_each(Waker::wake);
        if overflows {
            // Nobody joins from here on.
            self.leader.flights.forget(&self.leader.key, &self.leader.flight);
        }
        outcome
    }

    /// What came behind the body (RFC 9110 §6.5): for those who read it as it comes. It is not stored, because it
    /// may depend on how the body was sent.
    pub fn trailers(&mut self, trailers: HeaderMap) {
        lock(&self.leader.flight.state).trailers = Some(trailers);
    }

    /// The body is whole: stores it, and tells why not otherwise.
    pub fn finish(mut self) -> Result<Arc<Entry>, CacheReason> {
        let leader = &self.leader;
        let pieces = {
            let state = lock(&leader.flight.state);
            if self.head.meta.content_length.is_some_and(|length| state.total != length) {
                // Dropping the writer cuts the readers off.
                return Err(CacheReason::CutShort);
            }
            match state.overflow {
                Some(reason) => Err(reason),
                None => Ok(state.chunks.iter().cloned().collect()),
            }
        };
        let stored = match pieces {
            Ok(pieces) => {
                let entry = Entry::new(self.head.clone(), StoredBody::new(pieces));
                leader.flights.insert(&leader.key, entry, leader.epoch)
            }
            Err(reason) => Err(reason),
        };
        // Stored first, forgotten second: whoever comes in between finds one or the other.
        leader.flights.forget(&leader.key, &leader.flight);
        leader.flight.end(End::Whole);
        self.is_ended = true;
        stored
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_ended {
            self.leader.flights.forget(&self.leader.key, &self.leader.flight);
            self.leader.flight.end(End::Cut);
        }
    }
}

impl Reader {
    fn new(flight: &Arc<Flight>, state: &mut State, head: &Head) -> Self {
        let whole = (state.end == Some(End::Whole) && state.trailers.is_none()).then_some(state.total);
        let slot = state.readers.insert(Progress::default());
        let remaining = head.meta.content_length.or(whole);
        Self { flight: flight.clone(), slot, remaining, is_ended: false }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut guard = lock(&self.flight.state);
        let state = &mut *guard;
        let Some(progress) = state.readers.get_mut(self.slot) else { return Poll::Ready(None) };
        let index = usize::try_from(progress.next - state.first).unwrap_or(usize::MAX);
        if let Some(chunk) = state.chunks.get(index).cloned() {
            progress.next += 1;
            progress.bytes += chunk.len() as u64;
            // Only the slowest can have made chunks superfluous.
            let must_trim = state.overflow.is_some() && index == 0;
            let writer = if must_trim { state.trim(&self.flight.held) } else { None };
            drop(guard);
            writer.into_iter().for_each(Waker::wake);
            self.remaining = self.remaining.map(|n| n.saturating_sub(chunk.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match state.end {
            None => {
                progress.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Whole) => {
                self.is_ended = true;
                Poll::Ready(state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Some(End::Cut) => {
                self.is_ended = true;
                Poll::Ready(Some(Err(Box::new(CutShort))))
            }
        }
    }
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        self.poll_piece(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended || self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let (progress, writer) = {
            let mut state = lock(&self.flight.state);
            let progress = state.readers.remove(self.slot);
            let is_overflown = state.overflow.is_some();
            let writer = if is_overflown { state.trim(&self.flight.held) } else { None };
            (progress, writer)
        };
        drop(progress);
        writer.into_iter().for_each(Waker::wake);
    }
}

impl Phase {
    /// What is known of the response.
    fn head(&self) -> Option<Arc<Head>> {
        match self {
            Self::Streaming(head) => Some(head.clone()),
            Self::Landed(entry) => Some(entry.head.clone()),
            Self::Waiting | Self::Failed(_) | Self::Released(_) => None,
        }
    }
}

impl Flight {
    /// Leaves `Waiting`, once.
    fn settle(&self, phase: Phase) {
        let wakers = {
            let mut state = lock(&self.state);
            if !matches!(state.phase, Phase::Waiting) {
                return;
            }
            state.phase = phase;
            state.waiters.take_all()
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn end(&self, end: End) {
        let wakers: Vec<_> = {
            let mut state = lock(&self.state);
            state.end = Some(end);
            state.readers.iter_mut().filter_map(|reader| reader.waker.take()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.held.sub(state.chunks.iter().map(|chunk| chunk.len() as u64).sum());
    }
}

impl Held {
    /// True when there are more than there may be.
    fn add(&self, bytes: u64) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max
    }

    fn sub(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl State {
    /// Bytes between the writer and the slowest reader; `None` without readers.
    fn lag(&mut self) -> Option<u64> {
        let slowest = self.readers.iter_mut().map(|reader| reader.bytes).min()?;
        Some(self.total - slowest)
    }

    /// Drops what every reader has read; the writer's waker if it may go on.
    fn trim(&mut self, held: &Held) -> Option<Waker> {
        let slowest = self.readers.iter_mut().map(|reader| reader.next).min();
        let keep_from = slowest.unwrap_or(self.first + self.chunks.len() as u64);
        while self.first < keep_from
            && let Some(chunk) = self.chunks.pop_front()
        {
            held.sub(chunk.len() as u64);
            self.first += 1;
        }
        if self.lag().is_none_or(|lag| lag <= LAG_BYTES_MAX) { self.writer.take() } else { None }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoReader => "nobody reads the body any more",
            Self::TooLong => "the body is longer than announced",
        })
    }
}

impl std::error::Error for Closed {}

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shared body was cut short")
    }
}

impl std::error::Error for CutShort {}

/// Things at stable indices.
struct Slots<T> {
    items: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    fn insert(&mut self, item: T) -> usize {
        match self.free.pop() {
            Some(slot) => {
                self.items[slot] = Some(item);
                slot
            }
            None => {
                self.items.push(Some(item));
                self.items.len() - 1
            }
        }
    }

    fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.items.get_mut(slot)?.as_mut()
    }

    fn remove(&mut self, slot: usize) -> Option<T> {
        let item = self.items.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(item)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().flatten()
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.items.len()
    }

    fn take_all(&mut self) -> Vec<Option<T>> {
        self.free.clear();
        std::mem::take(&mut self.items)
    }
}

/// A panic while a lock was held ends one connection; the state is whole between any two lines.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod purge_tests;
#[cfg(test)]
mod tests;
