//! How many retries there may be: a share of the requests, so that a pool that fails gets little more load than one that
//! does not (Finagle's and linkerd's retry budget; Envoy's `budget_percent`).

use std::time::Duration;

/// What is looked back at: so many slots of a second.
pub const WINDOW_SECONDS: u64 = 10;

/// One worker's requests and retries of late.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Budget {
    slots: [Slot; WINDOW_SECONDS as usize],
    /// The second of the last slot that was written.
    second: u64,
    sum: Slot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Slot {
    requests: u32,
    retries: u32,
}

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Retries to so many of a hundred requests of the last [`WINDOW_SECONDS`].
    pub percent: u32,
    /// Besides, so many in those seconds: a pool with few requests may retry them too.
    pub besides: u32,
}

impl Allowance {
    /// One worker's, where all of `workers` together have `per_second` besides the `percent`.
    pub fn of_worker(percent: u32, per_second: u32, workers: usize) -> Self {
        let besides = u64::from(per_second) * WINDOW_SECONDS / workers.max(1) as u64;
        // Where any are allowed, each worker has at least one.
        let least = u64::from(per_second > 0);
        Allowance { percent, besides: u32::try_from(besides.max(least)).unwrap_or(u32::MAX) }
    }
}

impl Budget {
    /// A request has come. `now` is the time since any one moment.
    pub fn request(&mut self, now: Duration) {
        let slot = self.advance(now);
        slot.requests = slot.requests.saturating_add(1);
        self.sum.requests = self.sum.requests.saturating_add(1);
    }

    /// Whether there may be a retry; it is counted.
    pub fn retry(&mut self, now: Duration, allowance: Allowance) -> bool {
        self.advance(now);
        let earned = u64::from(self.sum.requests) * u64::from(allowance.percent) / 100;
        if u64::from(self.sum.retries) >= earned + u64::from(allowance.besides) {
            return false;
        }
        let slot = self.advance(now);
        slot.retries += 1;
        self.sum.retries += 1;
        true
    }

    fn advance(&mut self, now: Duration) -> &mut Slot {
        // Time that goes back is time that stands still.
        let second = now.as_secs().max(self.second);
        for passed in (self.second + 1..=second).take(WINDOW_SECONDS as usize) {
            let slot = &mut self.slots[(passed % WINDOW_SECONDS) as usize];
            self.sum.requests = self.sum.requests.saturating_sub(slot.requests);
            self.sum.retries -= slot.retries;
            *slot = Slot::default();
        }
        if second - self.second > WINDOW_SECONDS {
            *self = Budget::default();
        }
        self.second = second;
        &mut self.slots[(second % WINDOW_SECONDS) as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn granted(budget: &mut Budget, now: u64, allowance: Allowance, asked: usize) -> usize {
        (0..asked).filter(|_| budget.retry(at(now), allowance)).count()
    }

    #[test]
    fn retries_are_a_share_of_the_requests_and_a_few_besides() {
        let (mut budget, allowance) = (Budget::default(), Allowance { percent: 20, besides: 3 });
        assert_eq!(granted(&mut budget, 0, allowance, 10), 3);
        (0..100).for_each(|_| budget.request(at(1)));
        assert_eq!(granted(&mut budget, 2, allowance, 100), 20);
    }

    #[test]
    fn what_is_long_ago_counts_for_nothing() {
        let (mut budget, allowance) = (Budget::default(), Allowance { percent: 10, besides: 0 });
        (0..100).for_each(|_| budget.request(at(5)));
        assert_eq!(granted(&mut budget, 14, allowance, 4), 4);
        assert_eq!(granted(&mut budget, 15, allowance, 4), 0, "the requests have left the window");
        (0..100).for_each(|_| budget.request(at(16)));
        assert_eq!(granted(&mut budget, 16, allowance, 100), 6, "four of ten are spent");
        assert_eq!(granted(&mut budget, 1000, allowance, 1), 0);
    }

    #[test]
    fn workers_share_what_is_besides_and_each_has_one() {
        assert_eq!(Allowance::of_worker(20, 10, 4).besides, 25);
        assert_eq!(Allowance::of_worker(20, 1, 64).besides, 1);
        assert_eq!(Allowance::of_worker(20, 0, 4).besides, 0);
    }

    proptest! {
        #[test]
        fn in_no_window_are_there_more_retries_than_were_earned(
            steps in prop::collection::vec((0..3000_u64, 0..20_u32, 0..20_usize), 1..60),
            percent in 0..150_u32, besides in 0..5_u32,
        ) {
            let allowance = Allowance { percent, besides };
            let (mut budget, mut now) = (Budget::default(), 0);
            let mut log: Vec<(u64, u64, u64)> = Vec::new();
            for (wait, requests, asked) in steps {
                now += wait;
                let time = Duration::from_millis(now);
                (0..requests).for_each(|_| budget.request(time));
                let retries = (0..asked).filter(|_| budget.retry(time, allowance)).count() as u64;
                log.push((now / 1000, u64::from(requests), retries));
                let within = || log.iter().filter(|(second, ..)| second + WINDOW_SECONDS > now / 1000);
                let requests: u64 = within().map(|(_, requests, _)| requests).sum();
                let retried: u64 = within().map(|(.., retries)| retries).sum();
                // Requests that have left the window since may have earned what was granted before.
                if retries > 0 {
                    prop_assert!(retried <= requests * u64::from(percent) / 100 + u64::from(besides));
                }
            }
        }
    }
}
