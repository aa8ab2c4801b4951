//! Where entries are kept: moka and nothing but moka.
//!
//! Sharded, because moka's reads of one cache meet in one channel. No TTL and
//! no listener: freshness is the entry's own matter, a stale entry is useful
//! for validation, and moka's expiry can stall a writer (moka-rs/moka#498).

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use moka::ops::compute::Op;

use crate::cache::combine::combine;
use crate::cache::entry::Entry;
use crate::cache::key::Key;

/// Shards, when there is room: as many as busy cores, and a few.
const SHARDS_MAX: u64 = 16;

/// A shard is not made smaller than this, because an entry must fit into its shard.
const SHARD_BYTES_MIN: u64 = 16 << 20;

/// An entry of more than this part of its shard is admitted or refused, and room made for it, at once. moka itself
/// waits for 64 insertions, so what waits is never more than a sixteenth of the shard.
const PROMPT_PART: u64 = 1024;

/// Variants of one key; the oldest goes when there are more.
const VARIANTS_MAX: usize = 64;

/// The part of a shard that the variants of one key may fill, beside the newest. moka asks nobody when an
/// entry grows: it makes room, of all others first.
const VARIANTS_PART: u64 = 4;

/// What becomes of a stored response: the same, another in its place, or nothing.
pub trait Revise: FnMut(&Arc<Entry>) -> Option<Arc<Entry>> {}

impl<T: FnMut(&Arc<Entry>) -> Option<Arc<Entry>>> Revise for T {}

/// All stored responses of one key, the newest first (RFC 9111 §4.1).
#[derive(Debug, Default)]
pub struct Variants {
    entries: Vec<Arc<Entry>>,
    bytes: u64,
}

/// Stored responses by key, bounded in bytes.
pub struct Store {
    shards: Box<[moka::sync::Cache<Key, Arc<Variants>, foldhash::fast::RandomState>]>,
    shard_bytes: u64,
    /// For each shard, whose turn it is to change something.
    turns: Box<[Mutex<()>]>,
    /// Keys that came, and keys that were taken away by their address or by a purge.
    added: AtomicU64,
    removed: AtomicU64,
}

impl Variants {
    /// The newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// These and `entry`, in place of what the same request fields select. A part takes the place of
    /// an older part only, which it is combined with where that is possible; what is whole stays. So does what is
    /// served, when `entry` is only observed. `revise` says what has become of the others.
    fn with(&self, key: &Key, entry: Arc<Entry>, object_max: u64, revise: impl Revise) -> Self {
        let selection = entry.head.meta.selection.clone();
        let is_same = |old: &&Arc<Entry>| old.head.meta.selection == selection;
        let olds: Vec<_> = self.entries.iter().filter_map(revise).collect();
        let older_part = olds.iter().filter(is_same).find(|old| old.head.meta.part.is_some());
        let combined = older_part.and_then(|old| combine(old, &entry));
        let entry = combined.map_or(entry, Arc::new);
        let (is_part, is_observed) = (entry.head.meta.part.is_some(), entry.head.meta.is_observed);
        let is_replaced = |old: &Arc<Entry>| {
            let Entry { head, .. } = &**old;
            is_same(&old) && (!is_part || head.meta.part.is_some()) && (!is_observed || head.meta.is_observed)
        };
        let mut bytes = entry.bytes() + key.bytes() as u64;
        let mut entries = vec![entry];
        for old in olds.into_iter().filter(|old| !is_replaced(old)) {
            let weight = old.bytes();
            if entries.len() == VARIANTS_MAX || bytes + weight > object_max / VARIANTS_PART {
                break;
            }
            bytes += weight;
            entries.push(old);
        }
        Self { entries, bytes }
    }

    /// What becomes of them; `None` when that is nothing else.
    fn revised(&self, key: &Key, revise: impl Revise) -> Option<Self> {
        let entries: Vec<_> = self.entries.iter().filter_map(revise).collect();
        if entries.len() == self.entries.len()
            && entries.iter().zip(&self.entries).all(|(a, b)| Arc::ptr_eq(a, b))
        {
            return None;
        }
        let bytes = key.bytes() as u64 + entries.iter().map(|entry| entry.bytes()).sum::<u64>();
        Some(Self { entries, bytes })
    }
}

impl Store {
    /// A store of about `bytes_max` bytes, keys and fields included.
    pub fn new(bytes_max: u64) -> Self {
        let shards = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let shard_bytes = bytes_max / shards;
        let shard = |_| {
            moka::sync::Cache::builder()
                .max_capacity(shard_bytes)
                .weigher(|_: &Key, value: &Arc<Variants>| u32::try_from(value.bytes).unwrap_or(u32::MAX))
                .build_with_hasher(foldhash::fast::RandomState::default())
        };
        let shards: Box<[_]> = (0..shards).map(shard).collect();
        let turns = shards.iter().map(|_| Mutex::default()).collect();
        Self { shards, shard_bytes, turns, added: AtomicU64::new(0), removed: AtomicU64::new(0) }
    }

    /// The largest entry that can be kept at all.
    pub fn object_max(&self) -> u64 {
        // A little for the head, so that a body of this size still fits.
        self.shard_bytes - self.shard_bytes / 16
    }

    /// What is stored under `key`.
    pub fn get(&self, key: &Key) -> Option<Arc<Variants>> {
        self.shard(key).get(key)
    }

    /// Whether there is something under `key`; no use of it, for the admission.
    pub fn contains(&self, key: &Key) -> bool {
        self.shard(key).contains_key(key)
    }

    /// Adds `entry` to the variants of `key`, if `may_stay` says so when nobody else can change them; whether it
    /// did. What it finds there is revised.
    pub fn insert(
        &self,
        key: &Key,
        entry: Arc<Entry>,
        may_stay: impl FnOnce() -> bool,
        revise: impl Revise,
    ) -> bool {
        let object_max = self.object_max();
        let is_heavy = entry.bytes() > self.shard_bytes / PROMPT_PART;
        let shard = self.shard(key);
        {
            let _turn = self.turn(self.index(key));
            if !may_stay() {
                return false;
            }
            // moka can do both under a lock of its own, but then it counts one more use of a new key, and new
            // ones look popular when it chooses whom to keep.
            if shard.contains_key(key) {
                shard.entry_by_ref(key).and_upsert_with(|old| {
                    let none = Variants::default();
                    let old = old.as_ref().map_or(&none, |old| old.value());
                    Arc::new(old.with(key, entry, object_max, revise))
                });
            } else {
                shard.insert(key.clone(), Arc::new(Variants::default().with(key, entry, object_max, revise)));
                self.added.fetch_add(1, Relaxed);
            }
        }
        if is_heavy {
            shard.run_pending_tasks();
        }
        true
    }

    /// Forgets every variant of `key`. What is told not to stay before this is called is not there when it returns.
    pub fn remove(&self, key: &Key) {
        let _turn = self.turn(self.index(key));
        let removed = self.shard(key).remove(key);
        self.removed.fetch_add(u64::from(removed.is_some()), Relaxed);
    }

    /// Puts in place of every variant of `key` what becomes of it. As with [`Self::remove`].
    pub fn revise(&self, key: &Key, revise: impl Revise) {
        let _turn = self.turn(self.index(key));
        self.shard(key).entry_by_ref(key).and_compute_with(|old| {
            let Some(old) = old else { return Op::Nop };
            match old.value().revised(key, revise) {
                None => Op::Nop,
                Some(kept) if !kept.entries.is_empty() => Op::Put(Arc::new(kept)),
                Some(_) => {
                    self.removed.fetch_add(1, Relaxed);
                    Op::Remove
                }
            }
        });
    }

    /// All keys and their variants; what is stored meanwhile may be left out. What is told not to stay before this is
    /// called is not stored behind its back.
    pub fn iter(&self) -> impl Iterator<Item = (Arc<Key>, Arc<Variants>)> {
        self.shards.iter().enumerate().flat_map(|(index, shard)| {
            drop(self.turn(index));
            shard.iter()
        })
    }

    /// Keys that are stored, approximately.
    pub fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.entry_count()).sum()
    }

    /// True when nothing is stored, approximately.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys that had to make room or found none, approximately: what came, less what was taken away, less
    /// what is here. moka could tell each one, at a price for every write.
    pub fn evicted(&self) -> u64 {
        let gone = self.removed.load(Relaxed).saturating_add(self.len());
        self.added.load(Relaxed).saturating_sub(gone)
    }

    /// Bytes that are stored, approximately.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.weighted_size()).sum()
    }

    /// Brings `len` and `bytes` up to date.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.shards.iter().for_each(|shard| shard.run_pending_tasks());
    }

    fn shard(&self, key: &Key) -> &moka::sync::Cache<Key, Arc<Variants>, foldhash::fast::RandomState> {
        &self.shards[self.index(key)]
    }

    fn index(&self, key: &Key) -> usize {
        key.spread() % self.shards.len()
    }

    fn turn(&self, index: usize) -> MutexGuard<'_, ()> {
        self.turns[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cache::entry::StoredBody;
    use crate::cache::entry::tests::entry;

    fn insert(store: &Store, key: &Key, entry: Arc<Entry>) {
        assert!(store.insert(key, entry, || true, |old| Some(old.clone())));
    }

    #[test]
    fn variants_of_a_key_are_bounded() {
        let store = Store::new(64 << 20);
        let key = Key::new("app", "http", "h", "/");
        let base = entry(&[("cache-control", "max-age=60"), ("vary", "x-a")], "abc");

        for n in 0..2 * VARIANTS_MAX {
            let mut head = (*base.head).clone();
            let mut req = crate::fields::Fields::new();
            req.append("x-a", n.to_string().as_bytes());
            head.meta.selection =
                crate::cache::vary::Selection::of(&req, &head.fields, &Default::default()).unwrap();
            insert(&store, &key, Arc::new(Entry { head: Arc::new(head), ..(*base).clone() }));
        }

        assert_eq!(store.get(&key).unwrap().iter().count(), VARIANTS_MAX);
        insert(&store, &key, base.clone());
        insert(&store, &key, base);
        assert_eq!(store.get(&key).unwrap().iter().count(), VARIANTS_MAX);
    }

    #[test]
    fn a_walk_sees_what_was_allowed_to_stay_before_it_began() {
        let store = Store::new(64 << 20);
        let key = Key::new("app", "http", "h", "/");
        let base = entry(&[("cache-control", "max-age=60")], "abc");
        let (begins, begun) = std::sync::mpsc::channel();

        std::thread::scope(|scope| {
            let mut walk = None;
            let may_stay = || {
                walk = Some(scope.spawn(|| {
                    begins.send(()).unwrap();
                    store.iter().count()
                }));
                begun.recv().unwrap();
                // Time to overtake us, for a walk that does not wait.
                (0..1000).for_each(|_| std::thread::yield_now());
                true
            };
            assert!(store.insert(&key, base, may_stay, |old| Some(old.clone())));

            assert_eq!(walk.unwrap().join().unwrap(), 1);
        });
    }

    #[test]
    fn large_entries_that_come_at_once_do_not_take_more_than_the_store_has() {
        let store = Store::new(1 << 20);
        let base = entry(&[("cache-control", "max-age=60")], "abc");
        let body = StoredBody::new(vec![Bytes::from(vec![0; 200 << 10])]);

        for n in 0..60 {
            let large = Entry { body: body.clone(), ..(*base).clone() };
            insert(&store, &Key::new("app", "http", "h", &format!("/{n}")), Arc::new(large));
        }

        let bytes: u64 = store.shards.iter().flatten().map(|(_, variants)| variants.bytes).sum();
        assert!(bytes <= 1 << 20, "{bytes}");
    }

    #[test]
    fn the_store_stays_within_its_bytes() {
        let store = Store::new(100_000);
        let base = entry(&[("cache-control", "max-age=60")], "abc");

        for n in 0..1000 {
            insert(&store, &Key::new("app", "http", "h", &format!("/{n}")), base.clone());
        }
        store.settle();

        assert!(store.bytes() <= 100_000 && store.bytes() > 50_000, "{}", store.bytes());
        assert!(store.len() < 200);
        assert_eq!(store.evicted() + store.len(), 1000);
        let kept = (0..1000).map(|n| Key::new("app", "http", "h", &format!("/{n}")));
        let kept = kept.into_iter().find(|key| store.get(key).is_some()).unwrap();
        store.remove(&kept);
        store.settle();
        assert_eq!(store.evicted() + store.len(), 999, "what is taken away is not evicted");
    }
}
