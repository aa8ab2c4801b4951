//! However DNS answers, the servers of a name are few, each is there once, and a failure takes none away.
//!
//! Each answer is a byte that says how it went, one that says how many endpoints it has, and four bytes for each.

use std::collections::HashSet;
use std::time::Duration;

use tidegate::net::resolve::ResolveError;
use tidegate::upstream::discovery::{ADDRESSES_MAX, Answer, Endpoint, Known, Lesson, Limits, Trouble};

const LIMITS: Limits = Limits { min: Duration::from_secs(5), max: Duration::from_secs(300) };

pub fn holds(mut data: &[u8]) {
    let mut known = Known::default();
    while let [how, count, rest @ ..] = data {
        let bytes = rest.len().min(4 * usize::from(*count)) / 4 * 4;
        let endpoints: Vec<Endpoint> = rest[..bytes].chunks_exact(4).map(endpoint).collect();
        data = &rest[bytes..];
        let before = known.endpoints().to_vec();
        let (answer, random) = (answer(*how, endpoints.clone()), f64::from(how >> 4) / 16.0);

        let lesson = known.learn(&answer, LIMITS, random);

        is_a_set(known.endpoints());
        changed_as_it_says(&before, known.endpoints(), &lesson);
        let is_whole = answer.as_ref().is_ok_and(|answer| answer.missing.is_none()) && !endpoints.is_empty();
        if is_whole {
            assert!(known.endpoints().iter().all(|endpoint| endpoints.contains(endpoint)));
        } else {
            let now: HashSet<_> = known.endpoints().iter().map(|endpoint| endpoint.address).collect();
            let are_kept = before.iter().all(|endpoint| now.contains(&endpoint.address));
            assert!(are_kept || lesson.left_out > 0, "half an answer takes nothing away");
        }
        assert_eq!(is_whole, matches!(lesson.trouble, Trouble::None | Trouble::Ended));
        assert!(
            lesson.wait >= LIMITS.min.min(Duration::from_secs(5)) && lesson.wait <= LIMITS.max.mul_f64(1.2)
        );
    }
}

fn endpoint(bytes: &[u8]) -> Endpoint {
    Endpoint {
        priority: u16::from(bytes[0] % 4),
        address: ([10, 0, 0, bytes[1]], 80 + u16::from(bytes[2] % 3)).into(),
        weight: 1 + u32::from(bytes[3]),
    }
}

fn answer(how: u8, endpoints: Vec<Endpoint>) -> Result<Answer, ResolveError> {
    let valid_for = Duration::from_secs(u64::from(how) * 10);
    match how % 4 {
        0 | 1 => Ok(Answer { endpoints, valid_for, missing: None }),
        2 => Ok(Answer { endpoints, valid_for, missing: Some(ResolveError::NoRecords) }),
        _ => Err(ResolveError::NoSuchName),
    }
}

fn is_a_set(endpoints: &[Endpoint]) {
    assert!(endpoints.len() <= ADDRESSES_MAX);
    assert!(endpoints.is_sorted());
    let addresses: HashSet<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    assert_eq!(addresses.len(), endpoints.len());
}

/// Whoever follows the changes knows the set.
fn changed_as_it_says(before: &[Endpoint], now: &[Endpoint], lesson: &Lesson) {
    let Some(change) = &lesson.change else { return assert_eq!(before, now) };
    assert_ne!(before, now);
    let mut followed = before.to_vec();
    let gone = |endpoint: &Endpoint| {
        let is_in = |set: &[Endpoint]| set.iter().any(|other| other.address == endpoint.address);
        is_in(&change.removed) || is_in(&change.altered)
    };
    followed.retain(|endpoint| !gone(endpoint));
    followed.extend(change.added.iter().chain(&change.altered));
    followed.sort();
    assert_eq!(followed, now);
}
