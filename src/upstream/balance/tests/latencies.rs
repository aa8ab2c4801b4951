//! Peak EWMA: what it makes of what it hears.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A worker that has heard of four servers how long they take.
struct Scene {
    fake: Fake,
    worker: Box<dyn Strategy>,
    rng: fastrand::Rng,
    now: Duration,
    took: [Duration; 4],
}

impl Scene {
    fn new(took: [u32; 4]) -> Self {
        let fake = Fake::of_weights(&[1; 4]);
        let worker = fake.worker("peak-ewma", 0);
        let took = took.map(|ms| ms * MILLISECOND);
        let mut scene = Scene { fake, worker, rng: rng(), now: 7 * SECOND, took };
        scene.pick();
        for server in 0..4 {
            // Unknown is not nothing: the average has to come down from there.
            for _ in 0..20 {
                scene.hear(server, Answer::Served);
                scene.now += SECOND;
            }
        }
        scene
    }

    fn pick(&mut self) -> usize {
        let pool = Pool::new(&self.fake, &[], self.now);
        self.worker.pick(&pool, None, &mut self.rng).unwrap().server
    }

    fn hear(&mut self, server: usize, answer: Answer) {
        let heard = Heard { took: self.took[server], answer };
        self.worker.learn(server, &heard, self.now);
    }

    /// Requests for a while, ten a second, each answered.
    fn run(&mut self, time: Duration) -> Vec<usize> {
        let until = self.now + time;
        let mut counts = vec![0; 4];
        while self.now < until {
            let server = self.pick();
            counts[server] += 1;
            self.hear(server, Answer::Served);
            self.now += 100 * MILLISECOND;
        }
        counts
    }
}

#[test]
fn the_faster_of_two_is_chosen() {
    let mut scene = Scene::new([10, 100, 100, 100]);

    let counts = scene.run(20 * SECOND);

    // Half of the pairs hold it.
    assert!(counts[0] > 75, "{counts:?}");
}

#[test]
fn a_server_that_gets_slow_is_avoided_at_once_and_asked_again_when_it_has_faded() {
    let mut scene = Scene::new([10; 4]);
    // Just heard to be fast, it is slow once.
    scene.hear(2, Answer::Served);
    scene.took[2] = SECOND;
    scene.hear(2, Answer::Served);
    scene.took[2] = 10 * MILLISECOND;

    // A second fades to 10 ms in ln(100) times 10 s, which is 46; then its first fast answer counts half.
    assert_eq!(scene.run(40 * SECOND)[2], 0);
    scene.run(30 * SECOND);
    assert!(scene.run(10 * SECOND)[2] > 10);
}

#[test]
fn faster_answers_count_little_by_little() {
    let mut scene = Scene::new([100, 60, 500, 500]);
    scene.fake = Fake::of_weights(&[1, 1, 0, 0]);
    scene.hear(0, Answer::Served);
    scene.took[0] = MILLISECOND;

    // 100 fades below 60 in 5 s.
    scene.hear(0, Answer::Served);
    scene.hear(1, Answer::Served);
    assert_eq!(scene.pick(), 1);
    for _ in 0..80 {
        scene.now += 100 * MILLISECOND;
        scene.hear(0, Answer::Served);
        scene.hear(1, Answer::Served);
    }
    assert_eq!(scene.pick(), 0);
}

#[test]
fn a_server_that_fails_fast_is_not_the_fastest() {
    for answer in [Answer::Failed, Answer::Busy { retry_after: None }] {
        let mut scene = Scene::new([100; 4]);
        scene.took[1] = MILLISECOND;
        scene.hear(1, answer);
        scene.took[1] = 100 * MILLISECOND;

        // 5 s fade to nothing beside 100 ms in less than a minute.
        assert_eq!(scene.run(20 * SECOND)[1], 0);
        scene.run(40 * SECOND);
        assert!(scene.run(20 * SECOND)[1] > 20);
    }
}

#[test]
fn a_busy_server_is_left_alone_until_it_said_and_no_longer() {
    let mut scene = Scene::new([10; 4]);
    scene.hear(1, Answer::Busy { retry_after: Some(30 * SECOND) });
    // Of another request, which it refused for less.
    scene.hear(1, Answer::Busy { retry_after: Some(SECOND) });

    assert_eq!(scene.run(30 * SECOND)[1], 0);
    assert!(scene.run(10 * SECOND)[1] > 10);
}

#[test]
fn nobody_is_left_alone_for_longer_than_a_minute() {
    let mut scene = Scene::new([10; 4]);
    scene.hear(1, Answer::Busy { retry_after: Some(Duration::MAX) });

    assert_eq!(scene.run(60 * SECOND)[1], 0);
    assert!(scene.run(10 * SECOND)[1] > 10);
}

#[test]
fn a_slow_failure_is_worth_what_it_took() {
    let mut scene = Scene::new([10; 4]);
    scene.took[0] = 20 * SECOND;
    scene.hear(0, Answer::Failed);
    scene.hear(1, Answer::Failed);
    scene.fake = Fake::of_weights(&[1, 1, 0, 0]);

    assert_eq!(scene.pick(), 1);
}

#[test]
fn a_fast_server_with_many_requests_is_no_better_than_a_slow_one_with_few() {
    let mut scene = Scene::new([10, 10, 10, 50]);
    scene.fake.servers.iter_mut().for_each(|server| server.in_flight = 9);
    scene.fake.servers[3].in_flight = 0;

    assert!(scene.run(2 * SECOND)[3] > 5);
}

#[test]
fn a_server_of_which_nothing_is_known_is_neither_best_nor_worst() {
    let mut scene = Scene::new([10, 10, 100, 100]);
    scene.fake = Fake::of_weights(&[1; 5]);
    scene.fake.servers.iter_mut().skip(1).for_each(|server| server.up = false);
    for (other, expected) in [(0, 0), (2, 4)] {
        scene.fake.servers.iter_mut().zip(0..).for_each(|(s, i)| s.up = i == other || i == 4);
        scene.fake.changed();
        scene.hear(0, Answer::Served);
        scene.hear(2, Answer::Served);
        assert_eq!(scene.pick(), expected);
    }
}

#[test]
fn what_was_heard_of_a_server_goes_on_to_the_next_strategy_whatever_its_place_there() {
    // The last of them is much faster than the others, and all were heard just now.
    let mut scene = Scene::new([80, 80, 80, 1]);
    (0..4).for_each(|server| scene.hear(server, Answer::Served));
    let shares = |scene: &mut Scene| {
        let mut picks = [0; 4];
        (0..400).for_each(|_| picks[scene.pick()] += 1);
        picks
    };
    assert!(shares(&mut scene)[3] > 150);

    // It stands first now, the second is new, the others are as they were; one is gone.
    let known = [Some(3), None, Some(0), Some(1)].map(|server| scene.worker.memory(server?));
    let mut next = scene.fake.worker("peak-ewma", 0);
    next.remember(known.into());
    scene.worker = next;

    let picks = shares(&mut scene);
    assert!(picks[0] > 150, "{picks:?}");
    assert!(picks[1] > picks[2] && picks[1] > picks[3], "unknown is better than slow: {picks:?}");
}

#[test]
fn what_another_kind_of_strategy_remembers_is_nothing_to_this_one() {
    let mut scene = Scene::new([80, 80, 80, 1]);
    let mut next = scene.fake.worker("peak-ewma", 0);
    next.remember(vec![Some(Box::new("of another kind")), None, None, None]);
    assert!(next.memory(0).is_none());
    scene.worker = next;
    scene.pick();
}
