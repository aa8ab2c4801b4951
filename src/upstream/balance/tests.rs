//! Shares, turns and promises that hold for every strategy.

use proptest::prelude::*;

use super::Strategy;
use super::*;

/// Servers as numbers.
#[derive(Debug, Clone)]
pub(crate) struct Fake(pub(crate) Vec<FakeServer>, Vec<u32>, u64);

#[derive(Debug, Clone, Copy)]
pub(crate) struct FakeServer {
    pub(crate) up: bool,
    pub(crate) weight: u32,
    pub(crate) in_flight: u32,
}

impl Fake {
    pub(crate) fn new(servers: Vec<FakeServer>) -> Self {
        let mut fake = Fake(servers, Vec::new(), 0);
        fake.changed();
        fake
    }

    pub(crate) fn of_weights(weights: &[u32]) -> Self {
        Fake::new(weights.iter().map(|&weight| FakeServer { up: true, weight, in_flight: 0 }).collect())
    }

    /// After `up` or `weight` of a server was changed.
    pub(crate) fn changed(&mut self) {
        let may_serve = |&server: &usize| self.0[server].up && self.0[server].weight > 0;
        self.1 = (0..self.0.len()).filter(may_serve).map(|server| server as u32).collect();
        self.2 += 1;
    }

    pub(crate) fn set_up(&mut self, server: usize, up: bool) {
        self.0[server].up = up;
        self.changed();
    }

    pub(crate) fn pool<'a>(&'a self, tried: &'a [usize]) -> Pool<'a> {
        Pool::new(self, tried, Duration::ZERO)
    }

    pub(crate) fn specs(&self) -> Vec<ServerSpec> {
        let spec =
            |(i, s): (usize, &FakeServer)| ServerSpec { name: format!("10.0.0.{i}:80"), weight: s.weight };
        self.0.iter().enumerate().map(spec).collect()
    }
}

impl Servers for Fake {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn candidates(&self) -> &[u32] {
        &self.1
    }
    fn epoch(&self) -> u64 {
        self.2
    }
    fn is_candidate(&self, server: usize) -> bool {
        self.0.get(server).is_some_and(|s| s.up && s.weight > 0)
    }
    fn weight(&self, server: usize) -> u32 {
        self.0[server].weight
    }
    fn in_flight(&self, server: usize) -> u32 {
        self.0[server].in_flight
    }
}

fn picks(name: &str, fake: &Fake, count: usize) -> Vec<usize> {
    let mut strategy = Registry::builtin().build(name, &PoolSpec::new(&fake.specs())).unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let pool = fake.pool(&[]);
    (0..count).map(|_| strategy.pick(&pool, None, &mut rng).unwrap().server).collect()
}

fn counts(name: &str, fake: &Fake, count: usize) -> Vec<usize> {
    let mut counts = vec![0; fake.len()];
    picks(name, fake, count).into_iter().for_each(|server| counts[server] += 1);
    counts
}

#[test]
fn round_robin_takes_turns_and_steps_over_who_is_down() {
    let mut fake = Fake::of_weights(&[1, 9, 1]);
    assert_eq!(picks("round-robin", &fake, 5), [0, 1, 2, 0, 1]);

    fake.set_up(1, false);
    assert_eq!(picks("round-robin", &fake, 5), [0, 2, 0, 2, 0]);
}

#[test]
fn smooth_weights_are_exact_over_a_cycle_and_do_not_come_in_a_row() {
    // The example of nginx's commit message.
    assert_eq!(picks("weighted-round-robin", &Fake::of_weights(&[5, 1, 1]), 7), [0, 0, 1, 0, 2, 0, 0]);

    let fake = Fake::of_weights(&[3, 7, 1, 1000, 2]);
    assert_eq!(counts("weighted-round-robin", &fake, 2 * 1013), [6, 14, 2, 2000, 4]);
}

#[test]
fn random_follows_the_weights_also_when_draws_fail() {
    for weights in [[1, 2, 7], [1000, 2000, 7000]] {
        let counts = counts("random", &Fake::of_weights(&weights), 10_000);
        for (count, share) in counts.iter().zip([1000, 2000, 7000_usize]) {
            assert!(count.abs_diff(share) < 250, "{counts:?}");
        }
    }
    // A heavy server that is down makes nearly every draw fail: the walk decides.
    let mut fake = Fake::of_weights(&[100_000, 1, 3]);
    fake.set_up(0, false);
    let counts = counts("random", &fake, 10_000);
    assert!(counts[1].abs_diff(2500) < 250, "{counts:?}");
}

#[test]
fn the_least_busy_for_its_weight_is_chosen_and_equals_share() {
    let mut fake = Fake::of_weights(&[1, 1, 4, 1]);
    for (server, in_flight) in [2, 1, 6, 1].into_iter().enumerate() {
        fake.0[server].in_flight = in_flight;
    }
    // Loads with the request to come: 3/1, 2/1, 7/4, 2/1.
    assert!(picks("least-connections", &fake, 9).iter().all(|&s| s == 2));

    fake.0[2].in_flight = 7;
    let counts = counts("least-connections", &fake, 3000);
    assert_eq!(counts[0], 0);
    assert!(counts[1..].iter().all(|c| c.abs_diff(1000) < 150), "{counts:?}");
}

#[test]
fn the_busiest_is_never_the_better_of_two() {
    let mut fake = Fake::of_weights(&[1; 5]);
    fake.0[3].in_flight = 10;

    let counts = counts("power-of-two", &fake, 4000);

    assert_eq!(counts[3], 0);
    assert!([0, 1, 2, 4].iter().all(|&s| counts[s] > 500), "{counts:?}");
}

#[test]
fn two_choices_keep_the_fullest_server_near_the_average() {
    // 10,000 balls into 100 bins: one choice fills the fullest to about 128, two to about 102.
    let mut fake = Fake::of_weights(&[1; 100]);
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..10_000 {
        let pick = PowerOfTwo.pick(&fake.pool(&[]), None, &mut rng).unwrap();
        fake.0[pick.server].in_flight += 1;
    }
    assert!(fake.0.iter().all(|s| s.in_flight <= 105));
}

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

#[test]
fn workers_do_not_all_begin_with_the_same_server() {
    let fake = Fake::of_weights(&[1; 8]);
    let registry = Registry::builtin();
    for name in registry.names() {
        let strategy = registry.build(name, &PoolSpec::new(&fake.specs())).unwrap();
        let mut begins: Vec<usize> = (0..64)
            .map(|seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                strategy.for_worker(seed).pick(&fake.pool(&[]), None, &mut rng).unwrap().server
            })
            .collect();
        begins.sort_unstable();
        begins.dedup();
        assert!(begins.len() >= 6, "{name}: {begins:?}");
    }
}

#[test]
fn an_embedder_may_add_and_replace_strategies() {
    let mut registry = Registry::builtin();
    registry.register("mine", std::sync::Arc::new(|_| Box::new(LeastConnections)));

    assert!(registry.names().any(|name| name == "mine"));
    assert!(registry.build("mine", &PoolSpec::new(&[])).is_some());
    assert!(registry.build("round-robbin", &PoolSpec::new(&[])).is_none());
    assert_eq!(Registry::builtin().names().count(), 6);
}

prop_compose! {
    fn any_fake()(
        servers in prop::collection::vec((any::<bool>(), 0..5_u32, 0..4_u32), 0..12)
    ) -> Fake {
        let server = |(up, weight, in_flight)| FakeServer { up, weight, in_flight };
        Fake::new(servers.into_iter().map(server).collect())
    }
}

proptest! {
    #[test]
    fn every_strategy_picks_someone_who_may_serve_and_nobody_only_when_nobody_may(
        fake in any_fake(),
        later in any_fake(),
        tried in prop::collection::vec(0..12_usize, 0..3),
        seed in any::<u64>(),
        key in any::<Option<u64>>(),
    ) {
        let registry = Registry::builtin();
        for name in registry.names() {
            let mut strategy = registry.build(name, &PoolSpec::new(&fake.specs())).unwrap().for_worker(seed);
            let mut rng = fastrand::Rng::with_seed(seed);
            // The second pool has other servers: no strategy may trust an old index.
            for pool in [fake.pool(&tried), later.pool(&tried), fake.pool(&[])] {
                for _ in 0..4 {
                    match strategy.pick(&pool, key, &mut rng) {
                        Some(pick) => prop_assert!(pool.may_serve(pick.server), "{}", name),
                        None => prop_assert!(pool.is_empty(), "{}", name),
                    }
                }
            }
        }
    }
}
