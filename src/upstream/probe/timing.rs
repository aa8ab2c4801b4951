//! When a server is probed next. Pure: the count of its probes and randomness come in, a wait comes out.
//!
//! Nothing may align: not the servers of a pool, not the pools of a process, not the proxies of a fleet that was
//! started in one moment. The first probe comes soon, because traffic waits for what it finds. The second comes after
//! a random share of the interval, which spreads everyone evenly over it in one step; from then on each wait differs by
//! up to a tenth, so that whoever does meet, parts again. Jitter alone would need some thirty rounds for that.

use std::time::Duration;

/// A wait is 90 to 110 % of the interval: less would keep neighbours together for long, more would make the time
/// that a failure takes to be seen hard to foretell.
const JITTER: f64 = 0.1;

/// Servers whose first probes come at once: fewer connections than a page opens.
const SMALL_CROWD: usize = 16;

/// The first probes of more servers are spread over so long, or over the interval if that is shorter.
const FIRST_SPREAD: Duration = Duration::from_secs(1);

/// The wait before probe `nth`, from 0. `crowd` servers begin together; `random` is in 0..1.
pub(super) fn wait(nth: u64, crowd: usize, interval: Duration, random: f64) -> Duration {
    match nth {
        0 if crowd <= SMALL_CROWD => Duration::ZERO,
        0 => interval.min(FIRST_SPREAD).mul_f64(random),
        1 => interval.mul_f64(random),
        _ => interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn each_wait_is_within_its_bounds() {
        for (nth, crowd, interval, least, most) in [
            (0, 1, 2000, 0, 0),
            (0, 16, 2000, 0, 0),
            (0, 17, 2000, 0, 1000),
            (0, 10_000, 200, 0, 200),
            (1, 1, 2000, 0, 2000),
            (1, 10_000, 2000, 0, 2000),
            (2, 1, 2000, 1800, 2200),
            (1_000_000, 10_000, 2000, 1800, 2200),
        ] {
            let at = |random| wait(nth, crowd, millis(interval), random);
            assert_eq!((at(0.0), at(1.0)), (millis(least), millis(most)), "probe {nth} of {crowd} servers");
            assert!(at(0.3) <= at(0.6), "probe {nth} of {crowd} servers");
        }
    }

    /// The largest share of all probers that are due within the same twentieth of an interval at `time`.
    fn largest_share(times: &[f64]) -> f64 {
        let mut slots = [0_usize; 20];
        for time in times {
            slots[(time.fract() * 20.0) as usize % 20] += 1;
        }
        *slots.iter().max().unwrap_or(&0) as f64 / times.len() as f64
    }

    #[test]
    fn probers_that_began_in_one_moment_are_spread_evenly_from_the_second_probe_on() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut times = vec![0.0; 2000];

        for nth in 0..50 {
            for time in &mut times {
                *time += wait(nth, 1, Duration::from_secs(1), rng.f64()).as_secs_f64();
            }
            // A twentieth of them would be perfect.
            assert!(nth == 0 || largest_share(&times) < 0.08, "probe {nth}: {}", largest_share(&times));
        }
    }

    #[test]
    fn two_probers_that_meet_part_again() {
        let mut rng = fastrand::Rng::with_seed(7);
        let interval = Duration::from_secs(1);

        let mut apart = Duration::ZERO;
        for nth in 2..6 {
            apart += wait(nth, 1, interval, rng.f64()).abs_diff(wait(nth, 1, interval, rng.f64()));
        }

        assert!(apart > millis(50), "{apart:?}");
    }
}
