//! Purges and invalidations against a second set of books, which forgets nothing and is never in a hurry.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::tests::{cache, req, rules};
use super::*;
use crate::cache::Cache;
use crate::cache::Lookup;
use crate::cache::Times;
use crate::cache::entry::tests::exchange;
use crate::cache::entry::tests::part_with;
use crate::cache::purge::Address;

const TIMES: Times = Times { asked: 100, received: 100 };
const NAMES: [&str; 3] = ["a", "b", "c"];
const HOSTS: [&str; 2] = ["h", "i"];
const OWNERS: [&str; 2] = ["app", "shop"];

/// One of a few keys: upstream, host, path.
type Place = (usize, usize, usize);

#[derive(Debug, Clone)]
enum Selects {
    Url(Place),
    /// The address alone, whichever upstream answers it.
    Prefix(usize, usize),
    Tag(usize),
    All,
    /// Of the upstream and the host.
    Group(usize, usize, usize),
}

#[derive(Debug, Clone)]
enum Act {
    /// A fetch begins.
    Ask(Place),
    /// It ends, with this tag and in this group.
    Store(Place, usize, usize),
    /// Without the walk that `purge` ends with.
    Purge(Selects, bool),
    /// With it.
    PurgeAndWalk(Selects, bool),
    /// So many keys more, of a walk that goes on from one time to the next.
    Sweep(usize),
    Look(Place),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Found {
    Fresh,
    Stale,
    Invalid,
    Nothing,
}

/// What all of it should come to.
#[derive(Default)]
struct Books {
    /// All that was invalidated, in order, and what it makes of things.
    invalidated: Vec<(Selects, Found)>,
    /// How many there were when the fetch of this key began.
    asked: HashMap<Place, usize>,
    stored: HashMap<Place, (usize, usize, usize)>,
}

impl Selects {
    fn wants(&self, place: Place, tag: usize, group: usize) -> bool {
        match *self {
            Self::Url(this) => this == place,
            Self::Prefix(host, path) => (host, path) == (place.1, place.2),
            Self::Tag(this) => this == tag || this == group,
            Self::All => true,
            Self::Group(owner, host, this) => (owner, host, this) == (place.0, place.1, group),
        }
    }

    fn selector(&self) -> Selector {
        let mut selector = Selector::default();
        match *self {
            Self::Url(place) => selector.keys.push(key(place)),
            Self::Prefix(host, path) => selector.prefixes.push(Address {
                scheme: "http".to_owned(),
                authority: HOSTS[host].to_owned(),
                target: format!("/{}", NAMES[path]),
            }),
            Self::Tag(tag) => selector.tags.push(NAMES[tag].to_owned()),
            Self::All => selector.all = true,
            Self::Group(..) => {}
        }
        selector
    }
}

impl Books {
    fn found(&self, place: Place) -> Found {
        let Some(&(since, tag, group)) = self.stored.get(&place) else { return Found::Nothing };
        let concern =
            self.invalidated[since..].iter().filter(|(selects, _)| selects.wants(place, tag, group));
        let effects: Vec<_> = concern.map(|(_, effect)| *effect).collect();
        let worst =
            [Found::Nothing, Found::Invalid, Found::Stale].into_iter().find(|one| effects.contains(one));
        worst.unwrap_or(Found::Fresh)
    }

    fn store(&mut self, place: Place, tag: usize, group: usize) -> bool {
        let since = self.asked[&place];
        let is_concerned =
            self.invalidated[since..].iter().any(|(selects, _)| selects.wants(place, tag, group));
        if !is_concerned {
            self.stored.insert(place, (since, tag, group));
        }
        !is_concerned
    }

    fn count(&self, selects: &Selects) -> u64 {
        let is_there = |place: &&Place| self.found(**place) != Found::Nothing;
        let is_wanted = |place: &&Place| {
            let (_, tag, group) = self.stored[*place];
            selects.wants(**place, tag, group)
        };
        self.stored.keys().filter(is_there).filter(is_wanted).count() as u64
    }
}

fn key((owner, host, path): Place) -> Key {
    Key::new(OWNERS[owner], "http", HOSTS[host], &format!("/{}", NAMES[path]))
}

fn store(cache: &Cache, place: Place, tag: usize, group: usize, epoch: Epoch) -> bool {
    let group = format!("\"{}\"", NAMES[group]);
    let (req, res) = exchange(&[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("cache-tag", NAMES[tag]),
        ("cache-groups", &group),
    ]);
    let head = cache.judge(&key(place), &req, &res, TIMES, &rules()).unwrap();
    cache.alone(&key(place), epoch).publish(head, 1 << 20).finish().is_ok()
}

fn found(cache: &Cache, place: Place) -> Found {
    match cache.lookup(&key(place), &req(), 100, &rules()) {
        Lookup::Hit { .. } => Found::Fresh,
        Lookup::Stale { reason: CacheReason::MustValidate, .. } => Found::Invalid,
        Lookup::Stale { .. } => Found::Stale,
        _ => Found::Nothing,
    }
}

fn place() -> impl Strategy<Value = Place> {
    (0..2usize, 0..2usize, 0..2usize)
}

fn selects() -> impl Strategy<Value = Selects> {
    prop_oneof![
        place().prop_map(Selects::Url),
        (0..2usize, 0..2usize).prop_map(|(host, path)| Selects::Prefix(host, path)),
        (0..3usize).prop_map(Selects::Tag),
        Just(Selects::All),
        (0..2usize, 0..2usize, 0..3usize).prop_map(|(owner, host, name)| Selects::Group(owner, host, name)),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => place().prop_map(Act::Ask),
        4 => (place(), 0..3usize, 0..3usize).prop_map(|(place, tag, group)| Act::Store(place, tag, group)),
        2 => (selects(), any::<bool>()).prop_map(|(selects, is_soft)| Act::Purge(selects, is_soft)),
        1 => (selects(), any::<bool>()).prop_map(|(selects, is_soft)| Act::PurgeAndWalk(selects, is_soft)),
        3 => (0..4usize).prop_map(Act::Sweep),
        4 => place().prop_map(Act::Look),
    ]
}

proptest! {
    #[test]
    fn whatever_is_purged_and_swept_in_whatever_order_is_found_as_the_books_say(
        acts in proptest::collection::vec(act(), 1..80),
    ) {
        let (cache, mut books) = (cache(), Books::default());
        let flights = cache.flights.clone();
        let (mut epochs, mut sweep) = (HashMap::new(), None::<Sweep<'_>>);
        for act in acts {
            match act {
                Act::Ask(place) => {
                    epochs.insert(place, cache.epoch(&key(place)));
                    books.asked.insert(place, books.invalidated.len());
                }
                Act::Store(place, tag, group) => {
                    let epoch = *epochs.entry(place).or_insert_with(|| cache.epoch(&key(place)));
                    books.asked.entry(place).or_insert(books.invalidated.len());
                    prop_assert_eq!(store(&cache, place, tag, group, epoch), books.store(place, tag, group));
                }
                Act::Purge(selects, is_soft) | Act::PurgeAndWalk(selects, is_soft)
                    if matches!(selects, Selects::Group(..)) =>
                {
                    let Selects::Group(owner, host, name) = selects else { unreachable!() };
                    let _ = is_soft;
                    cache.invalidate_groups(&key((owner, host, 0)), vec![NAMES[name].to_owned()]);
                    books.invalidated.push((selects, Found::Invalid));
                }
                Act::Purge(selects, is_soft) if !matches!(selects, Selects::Url(_)) => {
                    let (how, effect) = how(is_soft);
                    flights.add_purge(&Arc::new(Purge::new(&selects.selector(), how)));
                    books.invalidated.push((selects, effect));
                }
                Act::Purge(selects, is_soft) | Act::PurgeAndWalk(selects, is_soft) => {
                    let (how, effect) = how(is_soft);
                    prop_assert_eq!(cache.purge(&selects.selector(), how), books.count(&selects));
                    books.invalidated.push((selects, effect));
                }
                Act::Sweep(keys) => {
                    let is_done = sweep.as_mut().is_some_and(|sweep| !sweep.go(keys));
                    if is_done || sweep.is_none() {
                        sweep = flights.sweep();
                    }
                }
                Act::Look(place) => prop_assert_eq!(found(&cache, place), books.found(place)),
            }
        }
        while let Some(mut sweep) = flights.sweep() {
            while sweep.go(1) {}
        }
        prop_assert!(flights.invalidations.is_swept());
        for (owner, host, path) in (0..8).map(|n| (n & 1, n >> 1 & 1, n >> 2)) {
            let place = (owner, host, path);
            prop_assert_eq!(found(&cache, place), books.found(place), "{:?}", place);
        }
    }
}

fn how(is_soft: bool) -> (How, Found) {
    if is_soft { (How::Soft(100), Found::Stale) } else { (How::Hard, Found::Nothing) }
}

#[test]
fn what_was_asked_for_before_a_purge_is_not_served_for_a_moment_after_it() {
    const ROUNDS: u64 = 2000;
    let (cache, clock, is_over) = (cache(), AtomicU64::new(0), AtomicBool::new(false));
    let place = (0, 0, 0);
    let selectors =
        [Selects::Url(place), Selects::Prefix(0, 0), Selects::Tag(0), Selects::All, Selects::Group(0, 0, 0)];

    thread_scope(&is_over, |scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let epoch = cache.epoch(&key(place));
                    // After the epoch: what has an old number has an old epoch too.
                    let number = clock.load(Ordering::SeqCst);
                    let (req, res) = exchange(&[
                        ("cache-control", "max-age=60"),
                        ("cache-tag", "a"),
                        ("cache-groups", "\"a\""),
                    ]);
                    let head = cache.judge(&key(place), &req, &res, TIMES, &rules()).unwrap();
                    let mut writer = cache.alone(&key(place), epoch).publish(head, 1 << 20);
                    writer.push(number.to_string().into()).unwrap();
                    let _ = writer.finish();
                }
            });
        }
        for round in 0..ROUNDS {
            let selects = &selectors[round as usize % selectors.len()];
            let before = clock.fetch_add(1, Ordering::SeqCst);
            match selects {
                Selects::Group(..) => cache.invalidate_groups(&key(place), vec!["a".to_owned()]),
                _ => drop(cache.purge(&selects.selector(), How::Hard)),
            }
            if let Lookup::Hit { entry, .. } = cache.lookup(&key(place), &req(), 100, &rules()) {
                let text = entry.body.pieces().concat();
                let number: u64 = std::str::from_utf8(&text).unwrap().parse().unwrap();
                assert!(number > before, "{selects:?}: {number} was asked for before {before}");
            }
        }
    });
}

/// Ends the others' work however its own ends.
fn thread_scope<'env>(
    is_over: &'env AtomicBool,
    work: impl for<'scope> FnOnce(&'scope std::thread::Scope<'scope, 'env>),
) {
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        let _end = End(is_over);
        work(scope);
    });
}

#[test]
fn a_part_that_was_purged_does_not_come_back_with_the_next_one() {
    let cache = cache();
    let flights = &cache.flights;
    let key = key((0, 0, 0));
    let fields = [("etag", "\"a\""), ("cache-tag", "t")];
    let first = part_with("bytes=0-2", "bytes 0-2/6", "old", &fields);
    let rest = part_with("bytes=3-5", "bytes 3-5/6", "new", &fields);
    flights.insert(&key, first, cache.epoch(&key)).unwrap();

    let tagged = Selector { tags: vec!["t".to_owned()], ..Selector::default() };
    flights.add_purge(&Arc::new(Purge::new(&tagged, How::Hard)));
    flights.insert(&key, rest, cache.epoch(&key)).unwrap();

    let variants = flights.get(&key).unwrap();
    let bodies: Vec<_> = variants.iter().map(|entry| entry.body.pieces().concat()).collect();
    assert_eq!(bodies, [b"new"]);
}

#[test]
fn a_response_that_is_asked_for_before_the_walk_comes_to_it_is_counted_once() {
    let (cache, place) = (cache(), (0, 0, 0));
    assert!(store(&cache, place, 0, 0, cache.epoch(&key(place))));
    let purge = Arc::new(Purge::new(&Selects::Tag(0).selector(), How::Soft(100)));

    cache.flights.add_purge(&purge);
    assert_eq!(found(&cache, place), Found::Stale);
    assert!(!cache.sweep().unwrap().go(2));

    assert_eq!(purge.found(), 1);
}

#[test]
fn a_walk_that_an_invalidation_overtakes_is_followed_by_another() {
    let cache = cache();
    let group = |name: &str| cache.invalidate_groups(&key((0, 0, 0)), vec![name.to_owned()]);
    group("a");
    let mut first = cache.sweep().unwrap();
    group("b");

    assert!(!first.go(1), "nothing is stored");
    let mut second = cache.sweep().expect("the later one is not swept");
    assert!(!second.go(1));
    assert!(cache.sweep().is_none());
}

#[test]
fn many_purges_at_once_need_few_walks_and_each_counts_its_own() {
    let cache = cache();
    for n in 0..3 {
        for path in 0..3 {
            let place = (n & 1, n >> 1, path);
            assert!(store(&cache, place, path, 0, cache.epoch(&key(place))));
        }
    }

    let counts = std::thread::scope(|scope| {
        let purge = |tag: usize| cache.purge(&Selects::Tag(tag).selector(), How::Soft(100));
        let threads: Vec<_> = [1, 2].map(|tag| scope.spawn(move || purge(tag))).into_iter().collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });

    assert_eq!(counts, [3, 3]);
}
