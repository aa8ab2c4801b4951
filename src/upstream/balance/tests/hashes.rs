//! Strategies that hash.

use super::*;

fn owners(fake: &Fake, keys: u64) -> Vec<Pick> {
    let mut strategy = ConsistentHash::new(&fake.specs());
    let mut rng = fastrand::Rng::with_seed(1);
    let pool = fake.pool(&[]);
    let place = |key: u64| xxhash_rust::xxh3::xxh3_64(&key.to_le_bytes());
    (0..keys).map(|key| strategy.pick(&pool, Some(place(key)), &mut rng).unwrap()).collect()
}

#[test]
fn a_key_stays_and_only_the_share_of_a_lost_server_moves() {
    let all = Fake::of_weights(&[1; 10]);
    let mut down = all.clone();
    down.set_up(9, false);
    let gone = Fake::of_weights(&[1; 9]);

    let before = owners(&all, 10_000);

    assert_eq!(before, owners(&all, 10_000));
    for after in [owners(&down, 10_000), owners(&gone, 10_000)] {
        let moved = before.iter().zip(&after).filter(|(b, a)| b.server != a.server).count();
        assert!((700..1300).contains(&moved), "{moved}");
        assert!(before.iter().zip(&after).all(|(b, a)| b.server == a.server || b.server == 9));
    }
    let next = owners(&down, 10_000).iter().filter(|p| p.reason == PickReason::HashNext).count();
    assert_eq!(next, before.iter().filter(|p| p.server == 9).count());
}

#[test]
fn keys_are_shared_by_weight() {
    let mut counts = [0_usize; 3];
    owners(&Fake::of_weights(&[1, 1, 2]), 10_000).iter().for_each(|p| counts[p.server] += 1);
    assert!(counts[2].abs_diff(5000) < 600 && counts[0].abs_diff(2500) < 600, "{counts:?}");
}
