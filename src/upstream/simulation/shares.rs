//! Who gets how much, and whose sessions stay: what shows only over many picks.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::{HashKey, Sticky};
use crate::upstream::side::SPARED_MAX;
use crate::upstream::simulation::plan::Kind;
use crate::upstream::simulation::world::{Checked, World};

/// Standard deviations that chance is believed to be. Six: once in a thousand million counts.
const DEVIATIONS: f64 = 6.0;

/// Picks, counted.
pub(super) struct Shares {
    /// By server.
    picks: Vec<u64>,
    /// By server, those in the first tenth of its ramp, and all of everybody's in that time.
    first_tenth: Vec<(u64, u64)>,
    /// By server, the same for the last tenth.
    last_tenth: Vec<(u64, u64)>,
    /// By priority: picks, those that were to be expected, and their variance.
    groups: HashMap<u32, (f64, f64, f64)>,
    /// By key: who had it last, and what was known then.
    keys: HashMap<String, LastPick>,
}

struct LastPick {
    server: usize,
    eligible: Vec<usize>,
    ramping: Vec<usize>,
    shares: Vec<(u32, f64)>,
    at: Duration,
}

impl Shares {
    /// None yet.
    pub(super) fn new(servers: usize) -> Self {
        Shares {
            picks: vec![0; servers],
            first_tenth: vec![(0, 0); servers],
            last_tenth: vec![(0, 0); servers],
            groups: HashMap::new(),
            keys: HashMap::new(),
        }
    }
}

impl World<'_> {
    /// A session that is told by a hash moves only when its server cannot have it, or to one that could not have it before.
    pub(super) fn check_hash(&mut self, number: usize, server: usize, eligible: &[usize]) -> Checked {
        let wish = &self.one(number).wish;
        let key = match &self.config.sticky {
            Some(Sticky::Hash(HashKey::ClientIp)) => wish.client.to_string(),
            Some(Sticky::Hash(_)) => match wish.cookie() {
                Some(cookie) => cookie.to_owned(),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        let ramping =
            (0..self.config.servers.len()).filter(|&s| self.beliefs.is_ramping(s, self.now)).collect();
        let shares = self.beliefs.shares(self.now);
        let is_panicking = self.beliefs.is_panicking(self.now);
        let pick = LastPick { server, eligible: eligible.to_vec(), ramping, shares, at: self.now };
        if let Some(last) = self.shares.keys.get(&key)
            // In a panic even those serve that have not come back yet.
            && !is_panicking
            && last.server != server
            && eligible.contains(&last.server)
            && last.eligible.contains(&server)
            && !last.ramping.contains(&server)
            // Where more come back than are spared at most, the next gets it after all.
            && last.ramping.len() <= SPARED_MAX
            && last.shares == pick.shares
            // Where more come back than are spared, the last of them has what was meant for others.
            && last.ramping.len() <= SPARED_MAX
            // It was away in the meantime, and comes back slowly.
            && self.beliefs.back_since(last.server, self.now).is_none_or(|since| self.now - since <= last.at)
        {
            let (from, at) = (last.server, last.at);
            return Err(format!("r{number}, session {key}, moves from s{from} (since {at:?}) to s{server}"));
        }
        match is_panicking {
            true => self.shares.keys.remove(&key),
            false => self.shares.keys.insert(key, pick),
        };
        Ok(())
    }

    /// A pick that nothing but the rules for shares had a say in.
    pub(super) fn count_share(&mut self, number: usize, server: usize) {
        let now = self.now;
        self.shares.picks[server] += 1;
        for (other, slow_start) in (0..self.config.servers.len()).map(|s| (s, self.config.slow_start)) {
            let Some(since) = self.beliefs.back_since(other, now) else { continue };
            let column = match since.as_secs_f64() / slow_start.as_secs_f64() {
                ..0.1 => &mut self.shares.first_tenth,
                0.9..1.0 => &mut self.shares.last_tenth,
                _ => continue,
            };
            column[other].0 += u64::from(other == server);
            column[other].1 += 1;
        }
        let is_by_key =
            self.config.balance.contains("hash") || matches!(self.config.sticky, Some(Sticky::Hash(_)));
        let servers = 0..self.config.servers.len();
        let (is_first, is_ramping) =
            (self.one(number).attempts == 0, servers.clone().any(|s| self.beliefs.is_ramping(s, now)));
        if is_by_key || !is_first || is_ramping {
            return;
        }
        let shares = self.beliefs.shares(now);
        // Every group that has a share must be able to take it.
        let can_serve = |priority: u32| {
            servers.clone().any(|s| {
                self.beliefs.servers[s].priority == priority
                    && self.beliefs.is_candidate(s, now)
                    && self.at_once.has_room(self.config, s)
            })
        };
        if shares.iter().any(|(priority, share)| *share > 0.0 && !can_serve(*priority)) {
            return;
        }
        if shares.iter().filter(|(_, share)| *share > 0.0).count() > 1 {
            self.tally.note("spilled over");
        }
        for (priority, share) in shares {
            let (found, expected, variance) = self.shares.groups.entry(priority).or_default();
            *found += f64::from(u8::from(self.beliefs.servers[server].priority == priority));
            *expected += share;
            *variance += share * (1.0 - share);
        }
    }

    /// At the end: everybody had its share.
    pub(super) fn check_shares(&self) -> Checked {
        for (priority, (found, expected, variance)) in &self.shares.groups {
            // Shares are in thousandths.
            let slack = 1.0 + 0.002 * expected + DEVIATIONS * variance.sqrt();
            if (found - expected).abs() > slack {
                return Err(format!("priority {priority} has had {found} picks instead of {expected:.0}"));
            }
        }
        match self.stage.plan.kind {
            Kind::Storm | Kind::Weak => Ok(()),
            Kind::Calm => self.check_weights(),
            Kind::Flap => self.check_slow_start(),
        }
    }

    /// Every server has had its share by weight, as exactly as its strategy can.
    fn check_weights(&self) -> Checked {
        let picks = &self.shares.picks;
        let all: u64 = picks.iter().sum();
        let weights: u32 = self.config.servers.iter().map(|server| server.weight).sum();
        let (all, workers) = (all as f64, self.stage.pools.len() as f64);
        for (server, &found) in picks.iter().enumerate() {
            let share = f64::from(self.config.servers[server].weight) / f64::from(weights);
            let chance = DEVIATIONS * (all * share * (1.0 - share)).sqrt();
            let slack = match self.config.balance.as_str() {
                // Each worker has turns of its own.
                "round-robin" => workers + 1.0,
                "weighted-round-robin" => 2.0 * workers + 1.0,
                "random" => chance,
                // Points on a ring are even to about 8 % of a share, and a share is small of a few thousand points.
                "consistent-hash" => chance + 0.3 * all * share,
                _ => continue,
            };
            if (found as f64 - all * share).abs() > slack {
                return Err(format!("s{server} has had {found} of {all} picks, its share is {share:.3}"));
            }
        }
        Ok(())
    }

    /// Who came back had little of its share at first, and nearly all of it at last.
    fn check_slow_start(&self) -> Checked {
        let share = 1.0 / self.config.servers.len() as f64;
        let (server, ..) = self.stage.plan.drains[0];
        let part = |column: &[(u64, u64)]| column[server].0 as f64 / (column[server].1 as f64 * share);
        let (first, last) = (part(&self.shares.first_tenth), part(&self.shares.last_tenth));
        match first < 0.5 && last > 0.5 {
            true => Ok(()),
            false => Err(format!("s{server} began with {first:.2} of its share and ended with {last:.2}")),
        }
    }
}
