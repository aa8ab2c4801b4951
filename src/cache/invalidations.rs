//! What has been purged or invalidated, by number: it holds from the moment when it is written down, without a look
//! at what is stored.
//!
//! A stored response carries the number of the last invalidation from before its fetch began. One that selects it
//! and came later concerns it, and is heeded when the response is looked up, joined or about to be stored. In the
//! background a sweep takes the same to all that is stored; what it has been through need not be asked again.
//! `horizon` says whether there is anything else, so that a hit asks with one load and one comparison.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::cache::entry::Entry;
use crate::cache::key::Key;
use crate::cache::purge::Purge;
use crate::cache::tags::Tags;

/// Purges that are remembered for fetches that began before them; a fetch that began before one that has been
/// forgotten is not stored. So many that a purge a second leaves the slowest fetch minutes.
const PURGES_MAX: usize = 256;

/// Bytes of their names: a few of the largest commands.
const PURGE_BYTES_MAX: usize = 4 << 20;

/// Invalidated groups of one upstream that are remembered by name, of 256 bytes and an origin at most each. When a
/// server invalidates more of them before a sweep has been through the store, it has invalidated all its groups.
const GROUPS_MAX: usize = 4096;

/// All invalidations that may still concern anything.
#[derive(Default)]
pub(super) struct Invalidations {
    /// The number of the last one.
    latest: AtomicU64,
    /// The same while the store has not been swept of it; then zero.
    horizon: AtomicU64,
    table: RwLock<Table>,
}

/// No room for another purge until the store has been swept.
#[derive(Debug)]
pub(super) struct Full;

#[derive(Default)]
struct Table {
    latest: u64,
    /// All that is stored has been held against those up to this number.
    swept: u64,
    /// With their numbers, in that order.
    purges: VecDeque<(u64, Arc<Purge>)>,
    purge_bytes: usize,
    /// The highest number of a purge that is not in `purges` any more.
    forgotten: u64,
    /// By upstream.
    groups: HashMap<Box<[u8]>, Groups>,
}

/// The invalidated groups of one upstream (RFC 9875).
#[derive(Default)]
struct Groups {
    /// What was invalidated up to this number is not known by name any more: it concerns all that is in a group.
    any: u64,
    /// By origin and name, the number of the last time.
    named: HashMap<Box<[u8]>, HashMap<Box<str>, u64>>,
    /// Names in `named`.
    count: usize,
}

/// What a response says of itself, as far as that is known.
#[derive(Clone, Copy)]
pub(super) enum Says<'a> {
    /// Its head has come.
    Tags(&'a Tags),
    /// Its head has not come: it may be in any group of its origin and have any tag.
    Nothing,
}

impl Invalidations {
    /// The number of the last one. Whoever reads it before it asks a server carries it along.
    pub(super) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Acquire)
    }

    /// True when everything that is stored may be used, whatever its number.
    pub(super) fn is_swept(&self) -> bool {
        self.horizon.load(Ordering::Acquire) == 0
    }

    /// True when something that was asked for at the time of `number` is not to be stored or shared any more.
    pub(super) fn concern(&self, key: &Key, says: Says<'_>, number: u64) -> bool {
        number < self.latest() && self.read().concern_unstored(key, says, number)
    }

    /// True when this stored response is not what it was.
    pub(super) fn concern_stored(&self, key: &Key, entry: &Entry) -> bool {
        !self.is_swept() && {
            let table = self.read();
            table.concern(key, Says::Tags(&entry.head.meta.tags), table.known(entry))
        }
    }

    /// What has become of a stored response; `None` when it is gone. Whoever calls it puts the outcome in its place.
    pub(super) fn apply(&self, key: &Key, entry: &Arc<Entry>) -> Option<Arc<Entry>> {
        if self.is_swept() {
            return Some(entry.clone());
        }
        self.read().apply(key, entry)
    }

    /// From here on it concerns what it selects, of all that was asked for until now; its number.
    pub(super) fn add_purge(&self, purge: &Arc<Purge>) -> Result<u64, Full> {
        let mut table = self.write();
        if !table.make_room(purge.bytes()) {
            return Err(Full);
        }
        let number = self.next(&mut table);
        table.purge_bytes += purge.bytes();
        table.purges.push_back((number, purge.clone()));
        Ok(number)
    }

    /// From here on what is in these groups of the key's origin is out of date, of all that was asked for until now.
    pub(super) fn add_groups(&self, key: &Key, names: Vec<String>) {
        let mut table = self.write();
        let (number, swept) = (self.next(&mut table), table.swept);
        table.groups.entry(key.owner().into()).or_default().add(key.origin_text(), names, number, swept);
    }

    /// True when the store has been swept of what has this number.
    pub(super) fn is_swept_of(&self, number: u64) -> bool {
        self.read().swept >= number
    }

    /// All that was stored at the time of `number` has been held against the invalidations up to it.
    pub(super) fn swept(&self, number: u64) {
        let mut table = self.write();
        table.swept = table.swept.max(number);
        if table.swept == table.latest {
            self.horizon.store(0, Ordering::Release);
        }
    }

    fn next(&self, table: &mut Table) -> u64 {
        table.latest += 1;
        self.horizon.store(table.latest, Ordering::Release);
        self.latest.store(table.latest, Ordering::Release);
        table.latest
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The last invalidation that need not be asked about a stored response.
    fn known(&self, entry: &Entry) -> u64 {
        self.swept.max(entry.born)
    }

    fn concern_unstored(&self, key: &Key, says: Says<'_>, number: u64) -> bool {
        number < self.forgotten || self.concern(key, says, number)
    }

    fn concern(&self, key: &Key, says: Says<'_>, known: u64) -> bool {
        self.later_purges(known).any(|purge| match says {
            Says::Tags(tags) => purge.wants(key, tags),
            Says::Nothing => purge.may_want(key),
        }) || self.groups_concern(key, says, known)
    }

    fn apply(&self, key: &Key, entry: &Arc<Entry>) -> Option<Arc<Entry>> {
        let (tags, known) = (&entry.head.meta.tags, self.known(entry));
        let mut changed = None;
        for purge in self.later_purges(known).filter(|purge| purge.wants(key, tags)) {
            purge.count();
            changed = Some(purge.how.apply(changed.as_ref().unwrap_or(entry))?);
        }
        if self.groups_concern(key, Says::Tags(tags), known) {
            changed = Some(changed.as_ref().unwrap_or(entry).invalid());
        }
        let Some(mut changed) = changed else { return Some(entry.clone()) };
        // Not again, by the next who comes.
        changed.born = self.latest;
        Some(Arc::new(changed))
    }

    fn later_purges(&self, known: u64) -> impl Iterator<Item = &Purge> {
        let first = self.purges.partition_point(|(number, _)| *number <= known);
        self.purges.range(first..).map(|(_, purge)| &**purge)
    }

    fn groups_concern(&self, key: &Key, says: Says<'_>, known: u64) -> bool {
        if matches!(says, Says::Tags(tags) if tags.groups().next().is_none()) || self.groups.is_empty() {
            return false;
        }
        let Some(groups) = self.groups.get(key.owner()) else { return false };
        if groups.any > known {
            return true;
        }
        let Some(named) = groups.named.get(key.origin_text()) else { return false };
        match says {
            Says::Tags(tags) => {
                tags.groups().any(|group| named.get(group).is_some_and(|&number| number > known))
            }
            Says::Nothing => named.values().any(|&number| number > known),
        }
    }

    /// Forgets the oldest purges, of those that the store has been swept of, until there is room for so many bytes.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.purges.len() >= PURGES_MAX
            || !self.purges.is_empty() && self.purge_bytes + bytes > PURGE_BYTES_MAX
        {
            let Some((number, oldest)) = self.purges.pop_front_if(|(number, _)| *number <= self.swept) else {
                return false;
            };
            self.purge_bytes -= oldest.bytes();
            self.forgotten = number;
        }
        true
    }
}

impl Groups {
    fn add(&mut self, origin: &[u8], names: Vec<String>, number: u64, swept: u64) {
        if self.count + self.unknown(origin, &names) > GROUPS_MAX {
            self.forget(swept);
        }
        if self.count + self.unknown(origin, &names) > GROUPS_MAX {
            *self = Groups { any: number, ..Groups::default() };
            return;
        }
        if !self.named.contains_key(origin) {
            self.named.insert(origin.into(), HashMap::new());
        }
        let Some(named) = self.named.get_mut(origin) else { return };
        let before = named.len();
        named.extend(names.into_iter().map(|name| (name.into_boxed_str(), number)));
        self.count += named.len() - before;
    }

    /// How many of these are new.
    fn unknown(&self, origin: &[u8], names: &[String]) -> usize {
        let named = self.named.get(origin);
        names.iter().filter(|name| named.is_none_or(|named| !named.contains_key(name.as_str()))).count()
    }

    /// Forgets the names of what the store has been swept of. It may still concern what was asked for before.
    fn forget(&mut self, swept: u64) {
        self.any = self.any.max(swept);
        self.named.retain(|_, named| {
            named.retain(|_, number| *number > swept);
            !named.is_empty()
        });
        self.count = self.named.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::entry;
    use crate::cache::purge::How;
    use crate::cache::purge::Selector;

    fn key(owner: &str) -> Key {
        Key::new(owner, "http", "h", "/")
    }

    fn grouped(name: &str) -> Arc<Entry> {
        entry(&[("cache-control", "max-age=60"), ("cache-groups", &format!("\"{name}\""))], "abc")
    }

    fn purge_of(tags: Vec<String>) -> Arc<Purge> {
        Arc::new(Purge::new(&Selector { tags, ..Selector::default() }, How::Hard))
    }

    #[test]
    fn more_groups_than_are_remembered_are_all_groups_of_their_upstream() {
        let invalidations = Invalidations::default();
        let (bystander, ungrouped) = (grouped("bystander"), entry(&[("cache-control", "max-age=60")], "abc"));

        for n in 0..GROUPS_MAX {
            invalidations.add_groups(&key("app"), vec![format!("g{n}")]);
        }
        assert!(invalidations.concern_stored(&key("app"), &grouped("g0")));
        assert!(!invalidations.concern_stored(&key("app"), &bystander));
        invalidations.add_groups(&key("app"), vec!["g1".to_owned()]);
        assert!(!invalidations.concern_stored(&key("app"), &bystander), "once more is not one more");
        invalidations.add_groups(&key("app"), vec!["another".to_owned()]);

        assert!(invalidations.concern_stored(&key("app"), &bystander));
        assert!(!invalidations.concern_stored(&key("app"), &ungrouped));
        assert!(!invalidations.concern_stored(&key("other"), &bystander));
        assert!(invalidations.read().groups.values().all(|groups| groups.count == 0));
    }

    #[test]
    fn groups_that_the_store_has_been_swept_of_make_room_and_still_concern_what_is_on_its_way() {
        let invalidations = Invalidations::default();
        for n in 0..GROUPS_MAX {
            invalidations.add_groups(&key("app"), vec![format!("g{n}")]);
        }
        let number = invalidations.latest();
        invalidations.swept(number);

        invalidations.add_groups(&key("app"), vec!["another".to_owned()]);

        assert_eq!(invalidations.read().groups.values().map(|groups| groups.count).sum::<usize>(), 1);
        let bystander = grouped("bystander");
        assert!(
            !invalidations.concern_stored(&key("app"), &bystander),
            "what is stored was there at the sweep"
        );
        let says = Says::Tags(&bystander.head.meta.tags);
        assert!(invalidations.concern(&key("app"), says, number - 1), "its name may have been among them");
        assert!(!invalidations.concern(&key("app"), says, number));
    }

    #[test]
    fn purges_that_are_remembered_are_bounded_and_none_is_forgotten_before_the_store_is_swept_of_it() {
        let long = || purge_of((0..1000).map(|n| format!("{n:01000}")).collect());
        let short = || purge_of(vec!["t".to_owned()]);
        for (purge, most) in
            [(&short as &dyn Fn() -> Arc<Purge>, PURGES_MAX), (&long, PURGE_BYTES_MAX / 1_064_000)]
        {
            let invalidations = Invalidations::default();
            for _ in 0..most {
                invalidations.add_purge(&purge()).unwrap();
            }
            assert!(invalidations.add_purge(&purge()).is_err());

            invalidations.swept(1);
            invalidations.add_purge(&purge()).unwrap();
            assert!(invalidations.add_purge(&purge()).is_err());

            let table = invalidations.read();
            assert_eq!((table.purges.len(), table.forgotten), (most, 1));
            assert!(table.purge_bytes <= PURGE_BYTES_MAX);
            drop(table);
            let untagged = Tags::default();
            assert!(
                invalidations.concern(&key("app"), Says::Tags(&untagged), 0),
                "nobody knows what the first was of"
            );
            assert!(!invalidations.concern(&key("app"), Says::Tags(&untagged), 1));
        }
    }
}
