//! Servers whose numbers stand out from their pool's: too many errors, or too slow.
//!
//! Looked at once a second, over a sliding window, by the control thread; a request only counts. Pure: what was counted
//! comes in.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::config::Eject;
use crate::upstream::server::Tallies;

/// One upstream's servers, by id.
#[derive(Debug, Default)]
pub struct Outliers {
    servers: HashMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What was counted at the end of each second of the window, oldest first; one more than the window has.
    marks: VecDeque<Tallies>,
}

/// Why a server stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// So many of a hundred requests failed.
    ErrorRate {
        /// Percent.
        percent: u64,
    },
    /// It takes longer than the others.
    Latency {
        /// Its mean time to the first byte.
        mean: Duration,
        /// That of the pool's median server.
        median: Duration,
    },
}

impl Outliers {
    /// Called each second, with what all servers have counted since they are known. Returns those that stand out, by index
    /// into `counted`, the worst first.
    pub fn look(&mut self, counted: &[(&str, Tallies)], rules: &Eject) -> Vec<(usize, Cause)> {
        let seconds = rules.window.as_secs().max(1) as usize;
        // Those that are gone stay behind.
        let mut before = std::mem::take(&mut self.servers);
        let mut windows = Vec::with_capacity(counted.len());
        for (id, now) in counted {
            // Before it was known there was nothing to look back at.
            let mut seen = before.remove(*id).unwrap_or_else(|| Seen { marks: VecDeque::from([*now]) });
            windows.push(seen.advance(*now, seconds));
            self.servers.insert((*id).to_owned(), seen);
        }
        let found = judge(&windows, rules);
        for (index, _) in &found {
            // It begins anew when it comes back.
            if let Some(seen) = self.servers.get_mut(counted[*index].0) {
                seen.marks = VecDeque::from([counted[*index].1]);
            }
        }
        found
    }
}

impl Seen {
    /// What was counted within the window.
    fn advance(&mut self, now: Tallies, seconds: usize) -> Tallies {
        self.marks.push_back(now);
        while self.marks.len() > seconds + 1 {
            self.marks.pop_front();
        }
        let since = self.marks.front().copied().unwrap_or_default();
        Tallies {
            attempts: now.attempts.saturating_sub(since.attempts),
            failures: now.failures.saturating_sub(since.failures),
            first_byte_us: now.first_byte_us.saturating_sub(since.first_byte_us),
        }
    }
}

/// Who of `windows` stands out, the worst first.
pub fn judge(windows: &[Tallies], rules: &Eject) -> Vec<(usize, Cause)> {
    let is_known = |window: &Tallies| window.attempts >= u64::from(rules.min_requests);
    let mut found = Vec::new();
    for (index, window) in windows.iter().enumerate().filter(|(_, window)| is_known(window)) {
        let percent = window.failures * 100 / window.attempts.max(1);
        if rules.error_rate.is_some_and(|most| percent >= u64::from(most)) {
            found.push((index, Cause::ErrorRate { percent }, percent));
        }
    }
    if let Some(factor) = rules.latency_factor {
        // A failure says nothing about speed, neither for whom it happens nor as a measure for others.
        let served = |window: &Tallies| window.attempts - window.failures.min(window.attempts);
        let is_known = |window: &Tallies| served(window) >= u64::from(rules.min_requests).max(1);
        let mean = |window: &Tallies| window.first_byte_us / served(window);
        let mut means: Vec<_> = windows.iter().filter(|w| is_known(w)).map(mean).collect();
        means.sort_unstable();
        // Of two the faster is the measure: the slower would never be twice the mean of both.
        let median = means.len().checked_sub(1).map(|last| means[last / 2]);
        // One alone has nobody to be compared with.
        if let Some(median) = median.filter(|_| means.len() > 1) {
            let limit = median.max(LATENCY_FLOOR_US) * u64::from(factor);
            for (index, window) in windows.iter().enumerate().filter(|(_, window)| is_known(window)) {
                let (mean, us) = (mean(window), Duration::from_micros);
                if mean > limit && found.iter().all(|(other, ..)| *other != index) {
                    let excess = mean * 100 / limit;
                    found.push((index, Cause::Latency { mean: us(mean), median: us(median) }, excess));
                }
            }
        }
    }
    found.sort_by_key(|(.., worse)| std::cmp::Reverse(*worse));
    found.into_iter().map(|(index, cause, _)| (index, cause)).collect()
}

/// Medians below this count as this: where all answer within a millisecond, thrice as long is nobody's loss.
const LATENCY_FLOOR_US: u64 = 1000;

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::ErrorRate { percent } => write!(f, "{percent} % of its requests failed"),
            Cause::Latency { mean, median } => {
                write!(f, "{mean:?} to the first byte, the median server {median:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Eject {
        Eject {
            failures: 5,
            error_rate: Some(50),
            latency_factor: Some(3),
            window: Duration::from_secs(3),
            min_requests: 10,
            time: Duration::from_secs(10),
            max_time: Duration::from_secs(100),
            max_percent: 50,
        }
    }

    fn window(attempts: u64, failures: u64, mean_ms: u64) -> Tallies {
        Tallies { attempts, failures, first_byte_us: (attempts - failures) * mean_ms * 1000 }
    }

    #[test]
    fn a_server_that_fails_every_other_request_stands_out() {
        let found = judge(&[window(100, 49, 5), window(100, 50, 5), window(9, 9, 5)], &rules());
        assert_eq!(found, [(1, Cause::ErrorRate { percent: 50 })]);
    }

    #[test]
    fn a_server_that_is_much_slower_than_the_median_stands_out() {
        let servers = [window(20, 0, 10), window(20, 0, 31), window(20, 0, 9), window(20, 0, 12)];
        let found: Vec<_> = judge(&servers, &rules()).into_iter().map(|(index, _)| index).collect();
        assert_eq!(found, [1]);
        assert!(judge(&servers[..1], &rules()).is_empty(), "one alone");
        let of_two = judge(&[window(20, 0, 10), window(20, 0, 40)], &rules());
        assert_eq!(of_two.len(), 1);
        let quick = [window(20, 0, 0), window(20, 0, 2), window(20, 0, 0)];
        assert!(judge(&quick, &rules()).is_empty(), "all are quick");
    }

    #[test]
    fn failures_say_nothing_about_speed() {
        let rules = Eject { error_rate: None, ..rules() };
        let down_and_well = [window(100, 100, 0), window(100, 0, 10)];
        assert!(judge(&down_and_well, &rules).is_empty(), "who is down is no measure");
        let erring_and_well = [window(100, 80, 10), window(100, 0, 10)];
        assert!(judge(&erring_and_well, &rules).is_empty(), "who errs is not slow");
        let rarely_well = [window(100, 95, 100), window(100, 0, 10)];
        assert!(judge(&rarely_well, &rules).is_empty(), "five requests are too few");
    }

    #[test]
    fn the_worst_comes_first_and_nobody_twice() {
        let servers = [window(20, 12, 5), window(20, 20, 5), window(20, 11, 500), window(20, 0, 5)];
        let found: Vec<_> = judge(&servers, &rules()).into_iter().map(|(index, _)| index).collect();
        assert_eq!(found, [1, 0, 2]);
    }

    #[test]
    fn nothing_stands_out_where_nothing_is_asked_for() {
        let rules = Eject { error_rate: None, latency_factor: None, ..rules() };
        assert!(judge(&[window(20, 20, 5), window(20, 0, 5000), window(20, 0, 1)], &rules).is_empty());
    }

    #[test]
    fn only_the_window_counts_and_an_ejected_server_begins_anew() {
        let (mut outliers, rules) = (Outliers::default(), rules());
        let mut total = window(1000, 1000, 0);
        let mut look = |attempts: u64, failures: u64| {
            total.attempts += attempts;
            total.failures += failures;
            !outliers.look(&[("a", total)], &rules).is_empty()
        };
        assert!(!look(0, 0), "what was before it was known does not count");
        assert!(!look(6, 5));
        assert!(look(6, 5), "ten of twelve within two seconds");
        assert!(!look(6, 5), "it begins anew");
        assert!(!look(0, 0) && !look(0, 0) && !look(0, 0));
        assert!(!look(6, 5), "the six of before have left the window");
    }
}
