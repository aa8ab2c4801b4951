//! Promises that hold for every strategy.

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::Strategy;
use super::*;

prop_compose! {
    fn any_fake(max: usize)(
        servers in prop::collection::vec((any::<bool>(), 0..5_u32, 0..4_u32, 1..6_u32), 0..max)
    ) -> Fake {
        let server = |(up, weight, in_flight, limit)| FakeServer { up, weight, in_flight, limit };
        Fake::new(servers.into_iter().map(server).collect())
    }
}

/// What may happen between two picks.
#[derive(Debug, Clone)]
enum Event {
    Up(usize, bool),
    Weight(usize, u32),
    InFlight(usize, u32),
    Ended(usize),
    Heard(usize, Answer),
}

fn any_event(max: usize) -> impl Generator<Value = Event> {
    let answer = prop_oneof![
        Just(Answer::Served),
        Just(Answer::Failed),
        Just(Answer::Busy { retry_after: None }),
        Just(Answer::Busy { retry_after: Some(Duration::MAX) }),
    ];
    prop_oneof![
        (0..max, any::<bool>()).prop_map(|(server, up)| Event::Up(server, up)),
        (0..max, 0..5_u32).prop_map(|(server, weight)| Event::Weight(server, weight)),
        (0..max, 0..6_u32).prop_map(|(server, in_flight)| Event::InFlight(server, in_flight)),
        (0..max + 2).prop_map(Event::Ended),
        (0..max + 2, answer).prop_map(|(server, answer)| Event::Heard(server, answer)),
    ]
}

fn happen(event: &Event, fake: &mut Fake, worker: &mut dyn Strategy, now: Duration) {
    match *event {
        Event::Up(server, up) if server < fake.len() => fake.set_up(server, up),
        Event::Weight(server, weight) if server < fake.len() => fake.set_weight(server, weight),
        Event::InFlight(server, in_flight) if server < fake.len() => {
            fake.servers[server].in_flight = in_flight;
        }
        Event::Up(..) | Event::Weight(..) | Event::InFlight(..) => {}
        Event::Ended(server) => worker.ended(server),
        Event::Heard(server, answer) => {
            worker.learn(server, &Heard { took: Duration::from_millis(3), answer }, now);
        }
    }
}

fn holds_for(name: &str, pool: &Pool<'_>, picked: Option<Pick>) -> Result<(), TestCaseError> {
    match picked {
        Some(pick) => prop_assert!(pool.may_serve(pick.server), "{name}"),
        None => prop_assert!(pool.is_empty(), "{name}"),
    }
    Ok(())
}

/// Whoever is picked may serve, whatever happens meanwhile.
fn survives(
    fake: &Fake,
    later: &Fake,
    events: &[Event],
    tried: &[usize],
    seed: u64,
) -> Result<(), TestCaseError> {
    for name in Registry::builtin().names() {
        let (mut fake, mut worker) = (fake.clone(), fake.worker(name, seed));
        let mut rng = fastrand::Rng::with_seed(seed);
        for (event, second) in events.iter().zip(0..) {
            let now = Duration::from_secs(second);
            happen(event, &mut fake, &mut *worker, now);
            for key in [None, Some(seed), Some(u64::MAX)] {
                let pool = Pool::new(&fake, tried, now);
                holds_for(name, &pool, worker.pick(&pool, key, &mut rng))?;
            }
        }
        // Other servers under an epoch that it knows: no strategy may trust an old index.
        for pool in [later.pool(tried), later.pool(&[])] {
            for _ in 0..4 {
                holds_for(name, &pool, worker.pick(&pool, Some(seed), &mut rng))?;
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_strategy_picks_someone_who_may_serve_and_nobody_only_when_nobody_may(
        fake in any_fake(12),
        later in any_fake(12),
        events in prop::collection::vec(any_event(12), 0..12),
        tried in prop::collection::vec(0..12_usize, 0..3),
        seed in any::<u64>(),
    ) {
        survives(&fake, &later, &events, &tried, seed)?;
    }

    #[test]
    fn the_same_holds_of_pools_that_are_too_large_to_ask_everyone(
        fake in any_fake(300),
        later in any_fake(300),
        events in prop::collection::vec(any_event(300), 0..40),
        tried in prop::collection::vec(0..300_usize, 0..3),
        seed in any::<u64>(),
    ) {
        survives(&fake, &later, &events, &tried, seed)?;
    }
}

#[test]
fn every_reason_has_its_place_and_a_word_of_its_own() {
    let words: std::collections::BTreeSet<_> = PickReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), PickReason::ALL.len());
    assert!(PickReason::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
}

#[test]
fn tried_servers_are_counted_from_the_first_of_the_group() {
    let fake = Fake::of_weights(&[1; 3]);
    let registry = Registry::builtin();
    for name in registry.names() {
        let mut strategy = registry.build(name, &PoolSpec::new(&fake.specs())).unwrap();
        let (tried, mut rng) = ([0, 10, 12], fastrand::Rng::with_seed(1));
        let pool = fake.pool(&tried).starting_at(10);
        for key in 0..20 {
            let pick = strategy.pick(&pool, Some(key << 58), &mut rng);
            assert_eq!(pick.map(|pick| pick.server), Some(1), "{name}");
        }
        assert_eq!(pool.eligible().collect::<Vec<_>>(), [1]);
    }
}
