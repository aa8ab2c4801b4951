//! Strategies that look at requests in flight.

use super::*;

/// A hundred servers and more are in the tree, a few are asked one by one.
fn least_of(fake: &Fake, tried: &[usize]) -> Load {
    fake.pool(tried).eligible().map(|server| fake.pool(tried).load(server)).min().unwrap()
}

#[test]
fn the_least_busy_for_its_weight_is_chosen_and_equals_share() {
    let mut fake = Fake::of_weights(&[1, 1, 4, 1]);
    for (server, in_flight) in [2, 1, 6, 1].into_iter().enumerate() {
        fake.servers[server].in_flight = in_flight;
    }
    // Loads with the request to come: 3/1, 2/1, 7/4, 2/1.
    assert!(picks("least-connections", &fake, &[], 9).iter().all(|&s| s == 2));

    fake.servers[2].in_flight = 7;
    let counts = counts("least-connections", &fake, &[], 3000);
    assert_eq!(counts[0], 0);
    assert!(counts[1..].iter().all(|c| c.abs_diff(1000) < 150), "{counts:?}");
}

#[test]
fn equals_share_among_many_too() {
    let mut fake = Fake::of_weights(&[2; 100]);
    // All but every fifth are busy; a fifth of those that are not stand together.
    (0..100).filter(|s| s % 5 != 0 && *s < 96).for_each(|s| fake.servers[s].in_flight = 1);
    let mut rng = rng();
    let strategy = fake.worker("least-connections", 0);
    let pick = |_| strategy.for_worker(0).pick(&fake.pool(&[]), None, &mut rng).unwrap().server;

    let counts = count_by_server(100, (0..2400).map(pick));

    for (count, server) in counts.iter().zip(&fake.servers) {
        let expected = if server.in_flight == 0 { 70..130 } else { 0..1 };
        assert!(expected.contains(count), "{counts:?}");
    }
}

#[test]
fn the_tree_finds_what_a_scan_finds_while_only_this_worker_changes_loads() {
    for seed in 0..8 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let weights: Vec<u32> = (0..130 + 17 * seed).map(|_| rng.u32(1..4)).collect();
        let mut fake = Fake::of_weights(&weights);
        fake.servers.iter_mut().for_each(|server| server.limit = rng.u32(1..8));
        let mut worker = fake.worker("least-connections", seed);
        let mut open: Vec<usize> = Vec::new();
        for step in 0..4000 {
            // A wave: at its top hardly anyone has room.
            if !open.is_empty() && rng.usize(..600) < open.len() {
                let server = open.swap_remove(rng.usize(..open.len()));
                fake.servers[server].in_flight -= 1;
                worker.ended(server);
                continue;
            }
            if step % 500 == 499 {
                let server = rng.usize(..fake.len());
                fake.set_up(server, step % 1000 == 999);
                let server = rng.usize(..fake.len());
                fake.set_weight(server, rng.u32(1..4));
            }
            let tried: Vec<usize> = (0..rng.usize(..3)).map(|_| rng.usize(..fake.len())).collect();
            let Some(pick) = worker.pick(&fake.pool(&tried), None, &mut rng) else { continue };
            assert_eq!(
                fake.pool(&tried).load(pick.server),
                least_of(&fake, &tried),
                "seed {seed}, step {step}"
            );
            fake.servers[pick.server].in_flight += 1;
            open.push(pick.server);
        }
    }
}

#[test]
fn of_many_idle_servers_each_gets_one_request_before_any_gets_two() {
    let fake = filled("least-connections", &[1; 2000], 2000);

    assert!(fake.servers.iter().all(|server| server.in_flight == 1));
}

#[test]
fn who_was_tried_by_one_request_is_there_for_the_next() {
    let mut fake = Fake::of_weights(&[1; 100]);
    fake.servers.iter_mut().for_each(|server| server.in_flight = 5);
    fake.servers[40].in_flight = 0;
    let (mut worker, mut rng) = (fake.worker("least-connections", 0), rng());

    assert_ne!(worker.pick(&fake.pool(&[40]), None, &mut rng).unwrap().server, 40);
    assert_eq!(worker.pick(&fake.pool(&[]), None, &mut rng).unwrap().server, 40);
}

#[test]
fn a_server_that_others_made_busy_is_not_chosen_for_what_it_was() {
    let mut fake = Fake::of_weights(&[1; 200]);
    let (mut worker, mut rng) = (fake.worker("least-connections", 0), rng());
    worker.pick(&fake.pool(&[]), None, &mut rng).unwrap();
    (0..200).filter(|s| s % 2 == 0).for_each(|s| fake.servers[s].in_flight = 9);

    for _ in 0..90 {
        let pick = worker.pick(&fake.pool(&[]), None, &mut rng).unwrap();
        assert_eq!(fake.servers[pick.server].in_flight, 0);
        fake.servers[pick.server].in_flight += 1;
    }
}

#[test]
fn a_server_that_others_left_idle_is_noticed_within_a_quarter_of_the_pool() {
    let mut fake = Fake::of_weights(&[1; 200]);
    fake.servers.iter_mut().for_each(|server| server.in_flight = 100);
    let (mut worker, mut rng) = (fake.worker("least-connections", 0), rng());
    worker.pick(&fake.pool(&[]), None, &mut rng).unwrap();

    for idle in [3, 77, 199] {
        fake.servers[idle].in_flight = 0;
        let mut servers = (0..=50).map(|_| worker.pick(&fake.pool(&[]), None, &mut rng).unwrap().server);
        assert!(servers.any(|server| server == idle));
        fake.servers[idle].in_flight = 100;
    }
}

#[test]
fn a_full_server_is_passed_by_and_back_when_one_of_its_requests_ends() {
    let mut fake = Fake::of_weights(&[1; 100]);
    fake.servers.iter_mut().for_each(|server| server.in_flight = 5);
    (fake.servers[40].in_flight, fake.servers[40].limit) = (1, 1);
    let (mut worker, mut rng) = (fake.worker("least-connections", 0), rng());

    assert_ne!(worker.pick(&fake.pool(&[]), None, &mut rng).unwrap().server, 40);
    fake.servers[40].in_flight = 0;
    worker.ended(40);
    assert_eq!(worker.pick(&fake.pool(&[]), None, &mut rng).unwrap().server, 40);
}

#[test]
fn the_busiest_is_never_the_better_of_two() {
    let mut fake = Fake::of_weights(&[1; 5]);
    fake.servers[3].in_flight = 10;

    for name in ["power-of-two", "peak-ewma"] {
        let counts = counts(name, &fake, &[], 4000);
        assert_eq!(counts[3], 0);
        assert!([0, 1, 2, 4].iter().all(|&s| counts[s] > 500), "{name}: {counts:?}");
    }
}

#[test]
fn the_least_busy_is_not_the_only_one_of_three_that_is_chosen() {
    // Were it, all workers would go there at once.
    let mut fake = Fake::of_weights(&[1; 3]);
    fake.servers.iter_mut().zip(0..).for_each(|(server, in_flight)| server.in_flight = in_flight);

    for name in ["power-of-two", "peak-ewma"] {
        let counts = counts(name, &fake, &[], 3000);
        assert!(counts[0].abs_diff(2000) < 150 && counts[2] == 0, "{name}: {counts:?}");
    }
}

#[test]
fn two_choices_keep_the_fullest_server_near_the_average() {
    // 10,000 balls into 100 bins: one choice fills the fullest to about 128, two to about 102.
    for name in ["power-of-two", "peak-ewma"] {
        let fake = filled(name, &[1; 100], 10_000);
        assert!(fake.servers.iter().all(|s| s.in_flight <= 105), "{name}");
    }
}

#[test]
fn two_are_found_when_hardly_any_may_serve() {
    let mut fake = Fake::of_weights(&[1; 300]);
    fake.servers.iter_mut().for_each(|server| server.limit = 0);
    (fake.servers[7].limit, fake.servers[7].in_flight) = (99, 8);
    (fake.servers[8].limit, fake.servers[8].in_flight) = (99, 7);

    for name in ["power-of-two", "peak-ewma"] {
        assert!(picks(name, &fake, &[], 50).iter().all(|&server| server == 8), "{name}");
    }
    assert_eq!(picks("least-connections", &fake, &[], 1), [8]);
}

/// What is in flight after `count` requests of which none has ended.
fn filled(name: &str, weights: &[u32], count: usize) -> Fake {
    let mut fake = Fake::of_weights(weights);
    let (mut worker, mut rng) = (fake.worker(name, 0), rng());
    for _ in 0..count {
        let pick = worker.pick(&fake.pool(&[]), None, &mut rng).unwrap();
        fake.servers[pick.server].in_flight += 1;
    }
    fake
}

#[test]
fn servers_are_filled_by_weight_however_unequal_they_are() {
    let unequal: Vec<u32> = (0..100).map(|i| if i == 50 { 100 } else { 1 + i % 2 }).collect();
    for name in ["least-connections", "power-of-two", "peak-ewma"] {
        for weights in [&[1, 2, 7][..], &unequal] {
            let fake = filled(name, weights, 10_000);
            let total: u32 = weights.iter().sum();
            for server in &fake.servers {
                let expected = 10_000 * server.weight / total;
                let off = server.in_flight.abs_diff(expected);
                assert!(off <= 6 + expected / 20, "{name}: {} of {expected}", server.in_flight);
            }
        }
    }
}
