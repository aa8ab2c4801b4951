//! The one of two that is expected to answer sooner.
//!
//! Finagle's Peak EWMA (`com.twitter.finagle.loadbalancer.PeakEwma`): the cost of a server is its latency times the requests
//! it would have, for its weight. The latency is an average that follows a slower answer at once and faster ones over
//! time: whoever gets slow is found out by one request, not by ten. As in linkerd's `PenaltyPeakEwma` of 2026
//! (linkerd2-proxy #4537) failures and refusals add a penalty, because a server that fails fast looks like the fastest.

use std::time::Duration;

use super::Answer;
use super::Heard;
use super::Memory;
use super::Pick;
use super::PickReason;
use super::Pool;
use super::Strategy;
use super::power_of_two::less_of_two;
use super::shares::Shares;

/// In this time what was heard loses all but 1/e of its say. Finagle's and linkerd's.
const DECAY: Duration = Duration::from_secs(10);

/// The latency of a server of which nothing was heard yet. linkerd's.
const LATENCY_UNKNOWN: Duration = Duration::from_millis(30);

/// The least latency: of all who were silent for long none is infinitely better than the others.
const LATENCY_MIN: Duration = Duration::from_micros(1);

/// What a failure or a refusal adds, and what is added until `Retry-After`. linkerd's example; far above a usual latency, so
/// that such a server serves when two such were drawn or the others are very busy.
const PENALTY: Duration = Duration::from_secs(5);

/// A server that asks for more than this is tried again after it: it may have meant one client.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Decay times below which the first terms of a series will do: the next one would be a millionth.
const SERIES_MAX: f64 = 1.0 / 50.0;

/// Two at random, drawn by weight, then the one with the lower cost. What is known of latencies is this worker's own.
#[derive(Debug, Clone, Default)]
pub struct PeakEwma {
    shares: Shares,
    /// By server.
    known: Vec<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    latency: Fading,
    penalty: Fading,
    /// `Retry-After`: until then the penalty does not fade, then there is none.
    held_until: f64,
}

/// Seconds that fade. All times here are seconds as fractions: what is done with them is multiplication.
#[derive(Debug, Clone, Copy)]
struct Fading {
    seconds: f64,
    since: f64,
}

impl Strategy for PeakEwma {
    fn pick(&mut self, pool: &Pool<'_>, _key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        let now = pool.now().as_secs_f64();
        if self.known.len() < pool.len() {
            self.known.resize(pool.len(), Known::nothing(now));
        }
        let known = &self.known;
        let cost = |server: usize| {
            let requests = f64::from(pool.in_flight(server)) + 1.0;
            let cost = known[server].seconds(now) * requests / f64::from(pool.weight(server).max(1));
            // Of numbers above zero the bits are in the order of the numbers.
            cost.to_bits()
        };
        let server = less_of_two(&mut self.shares, pool, rng, cost)?;
        Some(Pick { server, reason: PickReason::PeakEwma })
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(PeakEwma::default())
    }

    fn learn(&mut self, server: usize, heard: &Heard, now: Duration) {
        if let Some(known) = self.known.get_mut(server) {
            known.learn(heard, now.as_secs_f64());
        }
    }

    fn memory(&self, server: usize) -> Option<Memory> {
        self.known.get(server).map(|known| Box::new(*known) as Memory)
    }

    fn remember(&mut self, servers: Vec<Option<Memory>>) {
        let known = |memory: Option<Memory>| memory?.downcast::<Known>().ok().map(|known| *known);
        let known: Vec<_> = servers.into_iter().map(known).collect();
        // Whoever is new was unknown when something was heard last.
        let Some(heard) = known.iter().flatten().map(|known| known.latency.since).reduce(f64::max) else {
            return;
        };
        self.known = known.into_iter().map(|known| known.unwrap_or_else(|| Known::nothing(heard))).collect();
    }
}

impl Known {
    fn nothing(now: f64) -> Self {
        let latency = Fading { seconds: LATENCY_UNKNOWN.as_secs_f64(), since: now };
        Known { latency, penalty: Fading { seconds: 0.0, since: now }, held_until: 0.0 }
    }

    fn learn(&mut self, heard: &Heard, now: f64) {
        match heard.answer {
            Answer::Served => self.latency.average(heard.took.as_secs_f64(), now),
            Answer::Busy { retry_after: Some(after) } => {
                self.held_until = self.held_until.max(now + after.min(RETRY_AFTER_MAX).as_secs_f64());
            }
            // A time-out is worth what it took.
            Answer::Busy { retry_after: None } | Answer::Failed => {
                self.penalty.average(PENALTY.max(heard.took).as_secs_f64(), now);
            }
        }
    }

    /// The latency to expect, with what is added to it.
    fn seconds(&self, now: f64) -> f64 {
        let mut penalty = self.penalty.at(now);
        if now < self.held_until {
            penalty = penalty.max(PENALTY.as_secs_f64());
        }
        self.latency.at(now).max(LATENCY_MIN.as_secs_f64()) + penalty
    }
}

impl Fading {
    fn at(&self, now: f64) -> f64 {
        // Most have no penalty: no exponential for them.
        if self.seconds == 0.0 { 0.0 } else { self.seconds * self.left(now) }
    }

    /// Above what is left the new value stands alone; below it takes the part that has faded.
    fn average(&mut self, seconds: f64, now: f64) {
        let left = self.left(now);
        let faded = self.seconds * left + seconds * (1.0 - left);
        *self = Fading { seconds: faded.max(seconds), since: now };
    }

    /// What part of it is left, 0 to 1.
    fn left(&self, now: f64) -> f64 {
        let decays = (now - self.since).max(0.0) * (1.0 / DECAY.as_secs_f64());
        if decays < SERIES_MAX {
            // Of a server in use.
            1.0 - decays + decays * decays / 2.0
        } else {
            (-decays).exp()
        }
    }
}
