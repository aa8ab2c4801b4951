//! Strategies that hash: who has a key, who gets it next, and how many keys move.

use super::*;
use crate::upstream::balance::PickReason;

const HASHING: [&str; 4] = ["consistent-hash", "maglev", "rendezvous", "ip-hash"];
const KEYS: u64 = 20_000;

fn key(number: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
}

fn owners(name: &str, fake: &Fake, seed: u64) -> Vec<Pick> {
    owners_by(&mut *fake.worker(name, seed), fake, seed)
}

fn owners_by(worker: &mut dyn Strategy, fake: &Fake, seed: u64) -> Vec<Pick> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let pool = fake.pool(&[]);
    (0..KEYS).map(|number| worker.pick(&pool, Some(key(number)), &mut rng).unwrap()).collect()
}

fn moved(before: &[Pick], after: &[Pick]) -> usize {
    before.iter().zip(after).filter(|(b, a)| b.server != a.server).count()
}

#[test]
fn every_worker_sends_a_key_to_the_same_server() {
    let fake = Fake::of_weights(&[1, 2, 3, 4]);
    for name in HASHING {
        assert_eq!(owners(name, &fake, 1), owners(name, &fake, 2), "{name}");
    }
}

#[test]
fn the_order_of_the_servers_in_the_file_does_not_matter() {
    let mut specs = Fake::of_weights(&[1, 2, 1, 3, 1, 1, 2]).specs();
    let registry = Registry::builtin();
    for name in HASHING {
        let fake = Fake::of_weights(&[1; 7]);
        let [one, other] = [false, true].map(|is_reversed| {
            if is_reversed {
                specs.reverse();
            }
            let mut strategy = registry.build(name, &PoolSpec::new(&specs)).unwrap();
            let owners = owners_by(&mut *strategy, &fake, 1);
            owners.iter().map(|pick| specs[pick.server].name.clone()).collect::<Vec<_>>()
        });
        assert_eq!(one, other, "{name}");
    }
}

#[test]
fn a_key_is_where_it_was_in_the_last_version() {
    // A change of these numbers sends every user's keys elsewhere: it belongs into the changelog.
    let fake = Fake::of_weights(&[1, 2, 1, 3, 1]);
    for (name, expected) in [
        ("consistent-hash", CONSISTENT_HASH),
        ("maglev", MAGLEV),
        ("rendezvous", RENDEZVOUS),
        ("ip-hash", MAGLEV),
    ] {
        let owners: Vec<usize> = owners(name, &fake, 1).iter().take(12).map(|pick| pick.server).collect();
        assert_eq!(owners, expected, "{name}");
    }
}
const CONSISTENT_HASH: [usize; 12] = [0, 3, 2, 3, 2, 4, 3, 1, 4, 3, 4, 1];
const MAGLEV: [usize; 12] = [1, 3, 4, 2, 3, 2, 3, 2, 2, 4, 3, 3];
const RENDEZVOUS: [usize; 12] = [4, 3, 3, 1, 3, 1, 1, 1, 0, 1, 4, 3];

#[test]
fn keys_are_shared_by_weight() {
    for (name, off_percent) in [("consistent-hash", 18), ("maglev", 8), ("rendezvous", 8), ("ip-hash", 8)] {
        for weights in [&[1, 1, 2][..], &[1, 2, 3, 4, 5, 6], &[10; 20], &[1, 100, 50]] {
            let fake = Fake::of_weights(weights);
            let counts = count_by_server(fake.len(), owners(name, &fake, 1).iter().map(|pick| pick.server));
            let total: u32 = weights.iter().sum();
            for (&count, &weight) in counts.iter().zip(weights) {
                let expected = KEYS as usize * weight as usize / total as usize;
                // Three standard deviations of so many keys, and what the strategy itself is off by.
                let off = 3 * expected.isqrt() + expected * off_percent / 100;
                assert!(count.abs_diff(expected) <= off, "{name} {weights:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn only_the_keys_of_a_server_that_is_down_move_and_they_come_back() {
    let mut fake = Fake::of_weights(&[1, 2, 1, 2, 1, 2, 1, 2, 1, 2]);
    for name in HASHING {
        let mut worker = fake.worker(name, 1);
        let before = owners_by(&mut *worker, &fake, 1);
        for lost in [0, 9] {
            fake.set_up(lost, false);
            for (before, after) in before.iter().zip(owners_by(&mut *worker, &fake, 1)) {
                if before.server == lost {
                    assert_eq!(after.reason, PickReason::HashNext, "{name}");
                } else {
                    assert_eq!(*before, after, "{name}");
                }
            }
            fake.set_up(lost, true);
        }
        assert_eq!(before, owners_by(&mut *worker, &fake, 1), "{name}");
    }
}

#[test]
fn the_keys_of_a_lost_server_are_shared_by_all_others() {
    // On a ring whoever is behind one of the 160 points gets all of its piece: that is shared only roughly.
    for (name, off) in [("consistent-hash", 0.85), ("maglev", 0.25), ("rendezvous", 0.25), ("ip-hash", 0.25)]
    {
        let mut fake = Fake::of_weights(&[1; 10]);
        let before = owners(name, &fake, 1);
        fake.servers[4].up = false;
        fake.changed();
        let after = owners(name, &fake, 1);

        let lost = before.iter().zip(&after).filter(|(before, _)| before.server == 4);
        let counts = count_by_server(10, lost.map(|(_, after)| after.server));

        let expected = counts.iter().sum::<usize>() as f64 / 9.0;
        let others = counts.iter().enumerate().filter(|(server, _)| *server != 4);
        assert!(
            others.map(|(_, count)| *count as f64).all(|count| (count - expected).abs() < off * expected),
            "{name}: {counts:?}"
        );
    }
}

#[test]
fn a_second_choice_lasts_as_a_first_does() {
    for name in HASHING {
        let mut fake = Fake::of_weights(&[1; 10]);
        fake.set_up(4, false);
        let before = owners(name, &fake, 1);
        fake.set_up(7, false);
        let after = owners(name, &fake, 1);

        assert!(before.iter().zip(&after).all(|(b, a)| b.server == a.server || b.server == 7), "{name}");
    }
}

#[test]
fn when_most_are_down_keys_are_still_spread_and_agreed_on() {
    let mut fake = Fake::of_weights(&[1; 300]);
    fake.servers.iter_mut().skip(6).for_each(|server| server.up = false);
    fake.changed();
    for name in HASHING {
        let picks = owners(name, &fake, 1);
        assert_eq!(picks, owners(name, &fake, 2), "{name}");
        let counts = count_by_server(6, picks.iter().map(|pick| pick.server));
        assert!(counts.iter().all(|&count| count > KEYS as usize / 20), "{name}: {counts:?}");
    }
}

/// Keys that move when a server is taken out of the file, in units of its own share, and the same when it is put in.
fn moved_shares(name: &str, len: usize) -> f64 {
    let all = Fake::of_weights(&vec![1; len]);
    let before = owners(name, &all, 1);
    // The last, so that the others keep their indices.
    let after = owners(name, &Fake::of_weights(&vec![1; len - 1]), 1);
    moved(&before, &after) as f64 / (KEYS as f64 / len as f64)
}

#[test]
fn when_the_file_loses_a_server_hardly_more_than_its_keys_move() {
    for (name, len, bound) in [
        ("consistent-hash", 10, 1.3),
        ("consistent-hash", 200, 1.3),
        ("maglev", 10, 1.5),
        ("maglev", 200, 3.0),
        ("rendezvous", 10, 1.3),
        ("rendezvous", 200, 2.3),
        ("ip-hash", 10, 1.5),
    ] {
        let shares = moved_shares(name, len);
        println!("{name} {len}: {shares:.2}");
        assert!((0.5..bound).contains(&shares), "{name} of {len}: {shares}");
    }
}

#[test]
fn a_ring_moves_no_key_between_two_that_stay() {
    let before = owners("consistent-hash", &Fake::of_weights(&[1; 10]), 1);
    let after = owners("consistent-hash", &Fake::of_weights(&[1; 9]), 1);

    assert!(before.iter().zip(&after).all(|(b, a)| b.server == a.server || b.server == 9));
}

#[test]
fn nobody_has_more_than_its_bound_however_popular_a_key_is() {
    for (percent, weights) in [(125, [1; 10]), (100, [1; 10]), (150, [1, 2, 3, 1, 2, 3, 1, 2, 3, 4])] {
        let mut fake = Fake::of_weights(&weights);
        let mut worker = ConsistentHash::new(&fake.specs(), Some(percent)).for_worker(0);
        let mut rng = rng();
        let (mut open, mut bounded) = (Vec::new(), 0);
        for _ in 0..20_000 {
            if open.len() == 500 {
                let ended: usize = open.swap_remove(rng.usize(..500));
                fake.servers[ended].in_flight -= 1;
            }
            // Zipf with exponent 1, roughly: as many requests for keys 1 to 9 as for 10 to 99.
            let popular = 10_f64.powf(rng.f64() * 4.0) as u64;
            let pick = worker.pick(&fake.pool(&[]), Some(key(popular)), &mut rng).unwrap();
            fake.servers[pick.server].in_flight += 1;
            open.push(pick.server);
            bounded += usize::from(pick.reason == PickReason::HashBounded);

            let all: u32 = weights.iter().sum();
            let bound = (percent * open.len() as u32 * weights[pick.server]).div_ceil(100 * all);
            assert!(fake.servers[pick.server].in_flight <= bound, "{percent}");
        }
        assert!((100..19_000).contains(&bounded), "{percent}: {bounded}");
    }
}

#[test]
fn bounds_follow_who_is_there() {
    let mut fake = Fake::of_weights(&[1; 10]);
    (2..10).for_each(|server| fake.set_up(server, false));
    let (mut worker, mut rng) = (fake.worker("consistent-hash", 0), rng());
    fake.servers.iter_mut().for_each(|server| server.in_flight = 1);
    fake.servers[0].in_flight = 5;
    let mut reaches_the_first = |fake: &Fake| {
        let mut picks = (0..100).map(|n| worker.pick(&fake.pool(&[]), Some(key(n)), &mut rng).unwrap());
        picks.any(|pick| pick.server == 0)
    };

    // Five are no more than its share among two, and more than it among ten.
    assert!(reaches_the_first(&fake));
    (2..10).for_each(|server| fake.set_up(server, true));
    assert!(!reaches_the_first(&fake));
}

#[test]
fn without_a_bound_no_load_moves_a_key() {
    let mut fake = Fake::of_weights(&[1; 10]);
    let mut worker = ConsistentHash::new(&fake.specs(), None).for_worker(0);
    let before = owners_by(&mut *worker, &fake, 1);

    fake.servers[3].in_flight = 10_000;

    assert_eq!(before, owners_by(&mut *worker, &fake, 1));
}

#[test]
fn a_key_moves_for_load_or_because_its_server_may_not_serve_and_says_which() {
    let mut fake = Fake::of_weights(&[1; 10]);
    let (mut worker, mut rng) = (fake.worker("consistent-hash", 0), rng());
    let own = worker.pick(&fake.pool(&[]), Some(key(1)), &mut rng).unwrap();
    assert_eq!(own.reason, PickReason::Hash);

    fake.servers[own.server].in_flight = 1;
    let bounded = worker.pick(&fake.pool(&[]), Some(key(1)), &mut rng).unwrap();
    let tried = worker.pick(&fake.pool(&[own.server]), Some(key(1)), &mut rng).unwrap();

    assert_eq!((bounded.reason, tried.reason), (PickReason::HashBounded, PickReason::HashNext));
    assert_eq!(bounded.server, tried.server);
    assert_ne!(bounded.server, own.server);
    // Of two causes the first counts.
    let both = worker.pick(&fake.pool(&[bounded.server]), Some(key(1)), &mut rng).unwrap();
    assert_eq!(both.reason, PickReason::HashBounded);
}

#[test]
fn when_everyone_is_over_a_key_stays_at_home() {
    let mut fake = Fake::of_weights(&[1; 10]);
    let mut worker = ConsistentHash::new(&fake.specs(), Some(100)).for_worker(0);
    let before = owners_by(&mut *worker, &fake, 1);
    // Room is left at one alone, and that one is full by its own limit.
    fake.servers.iter_mut().for_each(|server| server.in_flight = 10);
    (fake.servers[0].in_flight, fake.servers[0].limit) = (0, 0);

    for (before, after) in before.iter().zip(owners_by(&mut *worker, &fake, 1)) {
        assert!(before.server == 0 || *before == after);
    }
}
