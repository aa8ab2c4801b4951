use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { min: Duration::from_secs(1), max: Duration::from_secs(3600) };

fn endpoint(text: &str, priority: u16, weight: u32) -> Endpoint {
    Endpoint { priority, address: text.parse().unwrap(), weight }
}

fn endpoints(numbers: &[u8]) -> Vec<Endpoint> {
    numbers.iter().map(|n| endpoint(&format!("10.0.0.{n}:80"), 0, 1)).collect()
}

fn whole(endpoints: Vec<Endpoint>, seconds: u64) -> Result<Answer, ResolveError> {
    Ok(Answer { endpoints, valid_for: Duration::from_secs(seconds), missing: None })
}

fn half(endpoints: Vec<Endpoint>, seconds: u64) -> Result<Answer, ResolveError> {
    let missing = Some(ResolveError::TimedOut { after: Duration::ZERO });
    Ok(Answer { endpoints, valid_for: Duration::from_secs(seconds), missing })
}

fn failure() -> Result<Answer, ResolveError> {
    Err(ResolveError::TimedOut { after: Duration::ZERO })
}

/// Knows these; the last answer was good.
fn knowing(endpoints: Vec<Endpoint>) -> Known {
    let mut known = Known::default();
    known.learn(&whole(endpoints, 1), LIMITS, 0.0);
    known
}

#[test]
fn the_last_good_set_stays_until_a_whole_answer_replaces_it() {
    for (case, answer, expected) in [
        ("a whole answer replaces", whole(endpoints(&[2, 3]), 60), endpoints(&[2, 3])),
        ("a failure changes nothing", failure(), endpoints(&[1, 2])),
        ("no such name is a failure", Err(ResolveError::NoSuchName), endpoints(&[1, 2])),
        ("no records are a failure", Err(ResolveError::NoRecords), endpoints(&[1, 2])),
        ("an empty answer is a failure", whole(vec![], 60), endpoints(&[1, 2])),
        ("half an answer adds", half(endpoints(&[3]), 60), endpoints(&[1, 2, 3])),
        ("half an answer without anything adds nothing", half(vec![], 60), endpoints(&[1, 2])),
    ] {
        let mut known = knowing(endpoints(&[1, 2]));

        let lesson = known.learn(&answer, LIMITS, 0.0);

        assert_eq!(known.endpoints(), expected, "{case}");
        assert_eq!(lesson.change.is_some(), expected != endpoints(&[1, 2]), "{case}");
    }
}

#[test]
fn what_changed_is_told_by_address() {
    let mut known = knowing(vec![
        endpoint("10.0.0.1:80", 0, 1),
        endpoint("10.0.0.2:80", 0, 1),
        endpoint("10.0.0.3:80", 0, 1),
    ]);

    let now =
        vec![endpoint("10.0.0.4:80", 0, 1), endpoint("10.0.0.3:80", 0, 5), endpoint("10.0.0.2:80", 0, 1)];
    let change = known.learn(&whole(now, 60), LIMITS, 0.0).change;

    assert_eq!(
        change,
        Some(Change {
            added: vec![endpoint("10.0.0.4:80", 0, 1)],
            removed: vec![endpoint("10.0.0.1:80", 0, 1)],
            altered: vec![endpoint("10.0.0.3:80", 0, 5)],
        })
    );
}

#[test]
fn an_address_that_is_named_twice_counts_once_with_the_better_priority() {
    let twice =
        vec![endpoint("10.0.0.1:80", 20, 9), endpoint("10.0.0.1:80", 10, 1), endpoint("10.0.0.1:81", 0, 1)];

    let known = knowing(twice);

    assert_eq!(known.endpoints(), [endpoint("10.0.0.1:81", 0, 1), endpoint("10.0.0.1:80", 10, 1)]);
}

#[test]
fn half_an_answer_has_the_newer_word_on_the_servers_in_it() {
    let mut known = knowing(vec![endpoint("10.0.0.1:80", 0, 1), endpoint("10.0.0.2:80", 0, 1)]);

    known.learn(&half(vec![endpoint("10.0.0.1:80", 5, 7)], 60), LIMITS, 0.0);

    assert_eq!(known.endpoints(), [endpoint("10.0.0.2:80", 0, 1), endpoint("10.0.0.1:80", 5, 7)]);
}

#[test]
fn an_answer_is_asked_for_again_after_its_ttl_within_the_bounds() {
    for (ttl, random, expected) in
        [(30, 0.0, 30_000), (30, 1.0, 33_000), (30, 0.5, 31_500), (0, 0.0, 1_000), (86_400, 0.0, 3_600_000)]
    {
        let wait = Known::default().learn(&whole(endpoints(&[1]), ttl), LIMITS, random).wait;
        assert_eq!(wait, Duration::from_millis(expected), "{ttl} {random}");
    }
}

#[test]
fn failures_are_asked_again_ever_later_and_an_answer_ends_that() {
    let mut known = knowing(endpoints(&[1]));

    let mut seconds = |answer| known.learn(&answer, LIMITS, 0.0).wait.as_secs();
    let waits: Vec<u64> = (0..9).map(|_| seconds(failure())).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);

    assert_eq!(seconds(whole(endpoints(&[1]), 300)), 300);
    assert_eq!(seconds(failure()), 1);
    assert_eq!(seconds(half(endpoints(&[1]), 300)), 2);
    assert_eq!((seconds(failure()), seconds(half(endpoints(&[1]), 3))), (4, 3), "a TTL may be sooner");
}

#[test]
fn an_operator_who_wants_to_ask_rarely_is_obeyed_when_dns_fails_too() {
    let limits = Limits { min: Duration::from_secs(600), max: Duration::from_secs(600) };
    let mut known = Known::default();

    let waits: Vec<u64> = (0..3).map(|_| known.learn(&failure(), limits, 0.0).wait.as_secs()).collect();

    assert_eq!(waits, [600, 600, 600]);
}

#[test]
fn trouble_is_told_when_it_begins_and_when_it_ends() {
    let mut known = Known::default();
    let mut trouble = |answer| known.learn(&answer, LIMITS, 0.0).trouble;
    let good = || whole(endpoints(&[1]), 60);

    assert_eq!(trouble(good()), Trouble::None);
    assert_eq!(trouble(failure()), Trouble::Began);
    assert_eq!(trouble(half(endpoints(&[1]), 60)), Trouble::Lasts);
    assert_eq!(trouble(Err(ResolveError::NoSuchName)), Trouble::Lasts);
    assert_eq!(trouble(good()), Trouble::Ended);
    assert_eq!(trouble(good()), Trouble::None);
}

#[test]
fn there_is_room_for_so_many_and_the_same_are_left_out_each_time() {
    let many: Vec<Endpoint> = (0..300_u32)
        .map(|n| SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + n), 80)))
        .map(|address| Endpoint {
            priority: u16::from(address.ip() == Ipv4Addr::new(10, 0, 0, 0)),
            address,
            weight: 1,
        })
        .collect();
    let mut turned = many.clone();
    turned.rotate_left(123);
    let mut known = Known::default();

    let first = known.learn(&whole(many, 60), LIMITS, 0.0);
    let second = known.learn(&whole(turned, 60), LIMITS, 0.0);

    assert_eq!((known.endpoints().len(), first.left_out, second.left_out), (ADDRESSES_MAX, 44, 44));
    assert_eq!(second.change, None);
    assert!(known.endpoints().iter().all(|endpoint| endpoint.priority == 0), "the worst are left out");
}

#[test]
fn the_weights_of_a_service_are_among_those_of_its_priority() {
    let service = |target: u8, priority, weight| {
        let service =
            Service { target: format!("{target}."), port: 8000 + u16::from(target), priority, weight };
        (service, vec![IpAddr::from([10, 0, 0, target])])
    };
    let mut services = vec![service(1, 10, 5), service(2, 10, 15), service(3, 20, 0), service(4, 20, 2)];
    services[1].1.push(IpAddr::from([10, 0, 0, 9]));

    assert_eq!(
        of_services(&services),
        [
            endpoint("10.0.0.1:8001", 10, 5),
            endpoint("10.0.0.2:8002", 10, 15),
            endpoint("10.0.0.9:8002", 10, 15),
            endpoint("10.0.0.3:8003", 20, 1),
            endpoint("10.0.0.4:8004", 20, 1000),
        ]
    );
}

#[test]
fn a_weight_of_rfc_2782_becomes_one_of_ours() {
    for (weights, expected) in [
        (vec![0, 0], vec![1, 1]),
        (vec![1, 3], vec![1, 3]),
        (vec![1, 1000], vec![1, 1000]),
        (vec![0, 1], vec![1, 1000]),
        (vec![0, 10, 20], vec![1, 500, 1000]),
        (vec![0, 500, 2000], vec![1, 250, 1000]),
        (vec![1, 65535], vec![1, 1000]),
        (vec![1001, 2002], vec![500, 1000]),
        (vec![7], vec![7]),
    ] {
        let ours: Vec<u32> =
            weights.iter().map(|&weight| weight_among(weight, weights.iter().copied())).collect();
        assert_eq!(ours, expected, "{weights:?}");
    }
}

/// One step of a simulated DNS.
#[derive(Debug, Clone)]
enum Said {
    Whole(Vec<Endpoint>, u64),
    Half(Vec<Endpoint>, u64),
    Nothing,
    Failure,
}

impl Said {
    fn answer(&self) -> Result<Answer, ResolveError> {
        match self {
            Said::Whole(endpoints, ttl) => whole(endpoints.clone(), *ttl),
            Said::Half(endpoints, ttl) => half(endpoints.clone(), *ttl),
            Said::Nothing => Err(ResolveError::NoSuchName),
            Said::Failure => failure(),
        }
    }
}

fn any_set() -> impl Strategy<Value = Vec<Endpoint>> {
    let one = (0..3_u16, 0..400_u32, 1..4_u32).prop_map(|(priority, host, weight)| Endpoint {
        priority,
        address: SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + host), 80)),
        weight,
    });
    prop::collection::vec(one, 0..40)
}

fn any_said() -> impl Strategy<Value = Said> {
    let ttl = prop_oneof![Just(0), 1..100_u64, Just(u64::from(u32::MAX))];
    prop_oneof![
        (any_set(), ttl.clone()).prop_map(|(set, ttl)| Said::Whole(set, ttl)),
        (any_set(), ttl).prop_map(|(set, ttl)| Said::Half(set, ttl)),
        Just(Said::Nothing),
        Just(Said::Failure),
    ]
}

fn addresses(set: &[Endpoint]) -> HashSet<SocketAddr> {
    set.iter().map(|endpoint| endpoint.address).collect()
}

proptest! {
    #[test]
    fn whatever_dns_says_a_set_is_in_order_bounded_and_never_empty_again(
        story in prop::collection::vec((any_said(), 0.0..=1.0), 1..60),
    ) {
        let mut known = Known::default();
        for (said, random) in story {
            let before = known.endpoints().to_vec();
            let lesson = known.learn(&said.answer(), LIMITS, random);
            let now = known.endpoints();

            prop_assert!(now.is_sorted() && now.len() <= ADDRESSES_MAX);
            prop_assert_eq!(addresses(now).len(), now.len(), "each address once");
            prop_assert!(before.is_empty() || !now.is_empty());
            prop_assert_eq!(lesson.change.is_some(), before != now);
            prop_assert!(lesson.wait >= LIMITS.min && lesson.wait <= LIMITS.max.mul_f64(1.1));
            match said {
                Said::Whole(set, _) if !set.is_empty() => prop_assert_eq!(addresses(now), addresses(&set)),
                Said::Half(set, _) if before.len() + set.len() <= ADDRESSES_MAX => {
                    let both: HashSet<_> = addresses(&before).union(&addresses(&set)).copied().collect();
                    prop_assert_eq!(addresses(now), both);
                }
                Said::Half(..) => {}
                _ => prop_assert_eq!(now, before.as_slice()),
            }
            if let Some(change) = lesson.change {
                let mut replayed = addresses(&before);
                change.removed.iter().for_each(|e| holds(replayed.remove(&e.address)));
                change.added.iter().for_each(|e| holds(replayed.insert(e.address)));
                prop_assert_eq!(replayed, addresses(now));
                prop_assert!(change.altered.iter().all(|e| now.contains(e) && !before.contains(e)));
            }
        }
    }

    #[test]
    fn the_order_of_an_answer_means_nothing(set in any_set(), turn in 0..40_usize) {
        let mut turned = set.clone();
        turned.rotate_left(turn.min(set.len()));
        turned.reverse();
        let mut known = knowing(set);

        prop_assert_eq!(known.learn(&whole(turned, 60), LIMITS, 0.0).change, None);
    }

    /// Time is virtual: a zone that changes every so often, a DNS that is down now and then.
    #[test]
    fn a_change_is_followed_within_its_ttl_and_after_an_outage_within_the_longest_retry(
        ttl in 1..120_u64,
        period in 5..200_u64,
        (down_from, down_for) in (0..2_000_u64, 0..1_000_u64),
        seed in any::<u64>(),
    ) {
        let (mut known, mut rng) = (Known::default(), fastrand::Rng::with_seed(seed));
        let zone = |at: Duration| endpoints(&[(at.as_secs() / period % 200) as u8, 201]);
        let (down, up) = (Duration::from_secs(down_from), Duration::from_secs(down_from + down_for));
        let late = |wait: u64| Duration::from_secs(wait).mul_f64(1.0 + JITTER);
        let (mut now, mut was_down) = (Duration::ZERO, false);
        while now < Duration::from_secs(3_600) {
            let is_down = now >= down && now < up;
            let before = addresses(known.endpoints());
            let answer = if is_down { failure() } else { whole(zone(now), ttl) };
            let wait = known.learn(&answer, LIMITS, rng.f64()).wait;
            if is_down {
                prop_assert_eq!(addresses(known.endpoints()), before);
            } else {
                prop_assert_eq!(addresses(known.endpoints()), addresses(&zone(now)));
                prop_assert!(wait <= late(ttl), "the zone is not looked at for {:?}", wait);
                prop_assert!(!was_down || now <= up + late(60), "found at {:?}, up at {:?}", now, up);
            }
            was_down = is_down;
            now += wait;
        }
    }
}

/// For closures, which cannot return a failed property.
#[track_caller]
fn holds(what: bool) {
    assert!(what);
}
