//! The servers to test with, chance, and what is true of every name.

mod hashes;
mod latencies;
mod loads;
mod promises;
mod turns;

use super::Strategy;
use super::*;

/// Servers as numbers.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) servers: Vec<FakeServer>,
    candidates: Vec<u32>,
    epoch: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FakeServer {
    pub(crate) up: bool,
    pub(crate) weight: u32,
    pub(crate) in_flight: u32,
    pub(crate) limit: u32,
}

impl Fake {
    pub(crate) fn new(servers: Vec<FakeServer>) -> Self {
        let mut fake = Fake { servers, candidates: Vec::new(), epoch: 0 };
        fake.changed();
        fake
    }

    pub(crate) fn of_weights(weights: &[u32]) -> Self {
        let server = |&weight: &u32| FakeServer { up: true, weight, in_flight: 0, limit: u32::MAX };
        Fake::new(weights.iter().map(server).collect())
    }

    /// After `up` or `weight` of a server was changed.
    pub(crate) fn changed(&mut self) {
        let may_serve = |&server: &usize| self.servers[server].up && self.servers[server].weight > 0;
        self.candidates = (0..self.len()).filter(may_serve).map(|server| server as u32).collect();
        self.epoch += 1;
    }

    pub(crate) fn set_up(&mut self, server: usize, up: bool) {
        self.servers[server].up = up;
        self.changed();
    }

    pub(crate) fn set_weight(&mut self, server: usize, weight: u32) {
        self.servers[server].weight = weight;
        self.changed();
    }

    pub(crate) fn pool<'a>(&'a self, tried: &'a [usize]) -> Pool<'a> {
        Pool::new(self, tried, Duration::ZERO)
    }

    pub(crate) fn specs(&self) -> Vec<ServerSpec> {
        let spec =
            |(i, s): (usize, &FakeServer)| ServerSpec { name: format!("10.0.0.{i}:80"), weight: s.weight };
        self.servers.iter().enumerate().map(spec).collect()
    }

    /// A worker's strategy of that name.
    pub(crate) fn worker(&self, name: &str, seed: u64) -> Box<dyn Strategy> {
        let strategy = Registry::builtin().build(name, &PoolSpec::new(&self.specs())).unwrap();
        strategy.for_worker(seed)
    }
}

impl Servers for Fake {
    fn len(&self) -> usize {
        self.servers.len()
    }
    fn candidates(&self) -> &[u32] {
        &self.candidates
    }
    fn epoch(&self) -> u64 {
        self.epoch
    }
    fn is_candidate(&self, server: usize) -> bool {
        self.servers.get(server).is_some_and(|s| s.up && s.weight > 0)
    }
    fn weight(&self, server: usize) -> u32 {
        self.servers[server].weight
    }
    fn in_flight(&self, server: usize) -> u32 {
        self.servers[server].in_flight
    }
    fn has_room(&self, server: usize) -> bool {
        self.servers[server].in_flight < self.servers[server].limit
    }
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

fn picks(name: &str, fake: &Fake, tried: &[usize], count: usize) -> Vec<usize> {
    let mut worker = fake.worker(name, 0);
    let mut rng = rng();
    let pool = fake.pool(tried);
    (0..count).map(|_| worker.pick(&pool, None, &mut rng).unwrap().server).collect()
}

fn counts(name: &str, fake: &Fake, tried: &[usize], count: usize) -> Vec<usize> {
    count_by_server(fake.len(), picks(name, fake, tried, count))
}

fn count_by_server(len: usize, picks: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut counts = vec![0; len];
    picks.into_iter().for_each(|server| counts[server] += 1);
    counts
}

#[test]
fn workers_do_not_all_begin_with_the_same_server() {
    for weights in [&[1; 8][..], &[1; 100], &[1, 2, 1, 2, 1, 2, 1, 2]] {
        let fake = Fake::of_weights(weights);
        for name in Registry::builtin().names() {
            let strategy = fake.worker(name, 0);
            let begin = |seed| {
                let mut rng = fastrand::Rng::with_seed(seed);
                strategy.for_worker(seed).pick(&fake.pool(&[]), None, &mut rng).unwrap().server
            };
            let mut begins: Vec<usize> = (0..64).map(begin).collect();
            begins.sort_unstable();
            begins.dedup();
            // Of idle servers the heavy half is the less busy.
            assert!(begins.len() >= if weights[1] == 1 { 6 } else { 4 }, "{name}: {begins:?}");
        }
    }
}

#[test]
fn random_follows_the_weights_also_when_draws_fail() {
    for weights in [[1, 2, 7], [1000, 2000, 7000]] {
        let counts = counts("random", &Fake::of_weights(&weights), &[], 10_000);
        for (count, share) in counts.iter().zip([1000, 2000, 7000_usize]) {
            assert!(count.abs_diff(share) < 250, "{counts:?}");
        }
    }
    // A heavy server that was tried makes nearly every draw fail: the walk decides.
    let fake = Fake::of_weights(&[100_000, 1, 3]);
    let counts = counts("random", &fake, &[0], 10_000);
    assert!(counts[0] == 0 && counts[1].abs_diff(2500) < 250, "{counts:?}");
}

#[test]
fn random_notices_other_weights() {
    let mut fake = Fake::of_weights(&[1, 2, 7]);
    let (mut worker, mut rng) = (fake.worker("random", 0), rng());
    worker.pick(&fake.pool(&[]), None, &mut rng);
    fake.set_weight(2, 1);

    let picks = (0..1000).map(|_| worker.pick(&fake.pool(&[]), None, &mut rng).unwrap().server);
    let counts = count_by_server(3, picks);

    assert!(counts[1].abs_diff(500) < 80 && counts[2].abs_diff(250) < 80, "{counts:?}");
}

#[test]
fn an_embedder_may_add_and_replace_strategies() {
    let mut registry = Registry::builtin();
    registry.register("mine", std::sync::Arc::new(|_| Box::new(LeastConnections::default())));

    assert!(registry.names().any(|name| name == "mine"));
    assert!(registry.build("mine", &PoolSpec::new(&[])).is_some());
    assert!(registry.build("round-robbin", &PoolSpec::new(&[])).is_none());
    assert_eq!(Registry::builtin().names().count(), 10);
}

#[test]
fn what_a_strategy_answers_with_is_called_by_its_name() {
    let fake = Fake::of_weights(&[1, 1]);
    for name in Registry::builtin().names() {
        let mut worker = fake.worker(name, 0);
        let word = worker.pick(&fake.pool(&[]), Some(1), &mut rng()).unwrap().reason.as_str();
        assert_eq!(word, if worker.key() == KeyKind::None { name } else { "hash" });
    }
}

#[test]
fn only_ip_hash_asks_for_the_network_of_the_client() {
    let fake = Fake::of_weights(&[1]);
    for (name, key) in [
        ("ip-hash", KeyKind::ClientNetwork),
        ("maglev", KeyKind::Configured),
        ("rendezvous", KeyKind::Configured),
        ("consistent-hash", KeyKind::Configured),
        ("random", KeyKind::None),
    ] {
        assert_eq!(fake.worker(name, 0).key(), key, "{name}");
    }
}
