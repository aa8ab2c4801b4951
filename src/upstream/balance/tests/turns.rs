//! Round robin, with and without weights.

use super::*;

/// The longest stretch of `server`, the picks taken as a circle.
fn longest_row(picks: &[usize], server: usize) -> usize {
    let twice = picks.iter().chain(picks);
    let rows = twice.scan(0, |row, &pick| {
        *row = if pick == server { *row + 1 } else { 0 };
        Some(*row)
    });
    rows.max().unwrap()
}

fn assert_exact(picks: &[usize], weights: &[u32]) {
    let cycle = weights.iter().sum::<u32>() as usize;
    for window in picks.windows(cycle) {
        let counts = count_by_server(weights.len(), window.iter().copied());
        assert!(counts.iter().zip(weights).all(|(&count, &weight)| count == weight as usize), "{counts:?}");
    }
}

fn go_on(worker: &mut dyn Strategy, fake: &Fake, count: usize) -> Vec<usize> {
    let mut rng = rng();
    (0..count).map(|_| worker.pick(&fake.pool(&[]), None, &mut rng).unwrap().server).collect()
}

#[test]
fn round_robin_takes_turns_and_steps_over_who_may_not_serve() {
    let mut fake = Fake::of_weights(&[1, 9, 1]);
    assert_eq!(picks("round-robin", &fake, &[], 5), [0, 1, 2, 0, 1]);
    assert_eq!(picks("round-robin", &fake, &[1], 5), [0, 2, 0, 2, 0]);
    fake.servers[0].limit = 0;
    assert_eq!(picks("round-robin", &fake, &[], 5), [1, 2, 1, 2, 1]);
    fake.set_up(1, false);
    assert_eq!(picks("round-robin", &fake, &[], 5), [2, 2, 2, 2, 2]);
}

#[test]
fn a_round_goes_on_where_it_was_when_servers_come_and_go() {
    let mut fake = Fake::of_weights(&[1; 6]);
    let mut worker = fake.worker("round-robin", 0);
    assert_eq!(go_on(&mut *worker, &fake, 3), [0, 1, 2]);

    fake.set_up(1, false);
    assert_eq!(go_on(&mut *worker, &fake, 2), [3, 4]);
    fake.set_up(1, true);
    fake.set_up(4, false);
    assert_eq!(go_on(&mut *worker, &fake, 4), [5, 0, 1, 2]);
}

#[test]
fn turns_by_weight_are_exact_over_any_stretch_as_long_as_a_cycle() {
    for weights in [&[5, 1, 1][..], &[3, 7, 1, 1000, 2], &[1; 40], &[4; 3], &[1], &[u32::MAX / 2_000_000, 1]]
    {
        let cycle = weights.iter().sum::<u32>() as usize;
        for seed in 0..3 {
            let fake = Fake::of_weights(weights);
            assert_exact(&go_on(&mut *fake.worker("weighted-round-robin", seed), &fake, 3 * cycle), weights);
        }
    }
}

#[test]
fn a_heavy_server_has_no_long_rows_and_light_ones_do_not_bunch() {
    // Turns lie evenly to a factor of two: at worst two gaps' worth of the heavy server's turns in a row.
    for (heavy, light) in [(5, 2), (50, 5), (1000, 40), (300, 100)] {
        let mut weights = vec![1; light];
        weights.push(heavy);
        let fake = Fake::of_weights(&weights);
        for seed in 0..5 {
            let picks = go_on(&mut *fake.worker("weighted-round-robin", seed), &fake, heavy as usize + light);
            let row = longest_row(&picks, light);
            assert!(row <= 2 * heavy as usize / light + 1, "{heavy} of {light}, seed {seed}: {row}");
        }
    }
}

#[test]
fn light_servers_lie_evenly_also_when_others_stand_between_them_in_the_file() {
    // Every 21st: multiples of the golden ratio that are 21 apart lie close together.
    let weights: Vec<u32> = (0..210).map(|i| if i % 21 == 0 { 1 } else { 20 }).collect();
    let fake = Fake::of_weights(&weights);
    let picks = go_on(&mut *fake.worker("weighted-round-robin", 1), &fake, 4010);

    let light: Vec<usize> = (0..picks.len()).filter(|&at| weights[picks[at]] == 1).collect();
    let next = light.iter().skip(1).copied().chain([light[0] + picks.len()]);
    let gap = light.iter().zip(next).map(|(at, next)| next - at).max().unwrap();

    assert!(light.len() == 10 && gap < 2 * 4010 / 10, "{gap}");
}

#[test]
fn a_change_that_changes_nothing_changes_no_turn() {
    let mut fake = Fake::of_weights(&[5, 1, 3, 2]);
    let undisturbed = go_on(&mut *fake.worker("weighted-round-robin", 3), &fake, 100);

    let mut worker = fake.worker("weighted-round-robin", 3);
    let disturbed: Vec<usize> = (0..100)
        .map(|_| {
            fake.changed();
            go_on(&mut *worker, &fake, 1)[0]
        })
        .collect();

    assert_eq!(disturbed, undisturbed);
}

#[test]
fn who_comes_back_has_saved_no_turns_and_the_cycle_is_exact_again() {
    let mut fake = Fake::of_weights(&[1, 2, 4, 3]);
    let mut worker = fake.worker("weighted-round-robin", 1);
    go_on(&mut *worker, &fake, 17);

    fake.set_up(2, false);
    assert_exact(&go_on(&mut *worker, &fake, 600), &[1, 2, 0, 3]);
    fake.set_up(2, true);
    let back = go_on(&mut *worker, &fake, 30);
    assert!(back[..10].iter().filter(|&&server| server == 2).count() <= 5, "{back:?}");
    assert_exact(&back, &[1, 2, 4, 3]);
    fake.set_weight(3, 8);
    assert_exact(&go_on(&mut *worker, &fake, 60), &[1, 2, 4, 8]);
}

#[test]
fn a_server_whose_weight_grows_all_the_time_gets_its_share_of_it() {
    let mut fake = Fake::of_weights(&[100; 50]);
    let mut worker = fake.worker("weighted-round-robin", 1);
    let (mut expected, mut got) = (0.0, 0);
    for weight in 1..=100 {
        fake.set_weight(7, weight);
        got += go_on(&mut *worker, &fake, 10).iter().filter(|&&server| server == 7).count();
        expected += 10.0 * f64::from(weight) / (4900.0 + f64::from(weight));
    }
    assert!((got as f64 - expected).abs() <= 2.0, "{got} of {expected}");
}

#[test]
fn who_may_not_serve_loses_its_turn_and_the_others_share_by_weight() {
    let mut fake = Fake::of_weights(&[2, 1, 3]);
    assert_eq!(counts("weighted-round-robin", &fake, &[0], 400), [0, 100, 300]);

    let mut worker = fake.worker("weighted-round-robin", 0);
    fake.servers[0].limit = 0;
    go_on(&mut *worker, &fake, 400);
    fake.servers[0].limit = u32::MAX;
    assert_exact(&go_on(&mut *worker, &fake, 60), &[2, 1, 3]);

    // So heavy that all the turns a pick looks at are its own.
    let counts = counts("weighted-round-robin", &Fake::of_weights(&[100_000, 1, 3]), &[0], 400);
    assert!(counts[1].abs_diff(100) <= 1, "{counts:?}");
}

#[test]
fn turns_go_on_when_the_count_of_rounds_runs_over() {
    let mut turns = crate::upstream::balance::turns::Turns::ending_soon();
    turns.update([(0, 2), (1, 1), (2, 3)].into_iter());
    let picks: Vec<usize> = (0..60).map_while(|_| turns.take()).collect();
    assert_exact(&picks, &[2, 1, 3]);
}
