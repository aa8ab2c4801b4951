//! Who may serve: made anew when a server's condition changes, read for every pick.
//!
//! Health, draining, priority groups with their spill-over and the panic threshold are applied here, once for all
//! strategies. Pure: what is known of each server comes in.

use std::time::Duration;

use crate::upstream::server::Condition;

/// The whole of what is shared among groups.
pub const WHOLE: u32 = 1000;

/// What is known of one server.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// How it is doing.
    pub condition: Condition,
    /// It is to serve its sessions only; one that is also unhealthy has another condition.
    pub is_draining: bool,
    /// Its share in its group.
    pub weight: u32,
    /// When its condition changes by itself.
    pub changes_at: Option<Duration>,
}

/// What the operator wants.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The next group helps while less than this percentage of a group's weight may serve; 0: only when nobody may.
    pub spill_over: u32,
    /// Below this percentage of servers that may serve, health is ignored; 0: never.
    pub panic_threshold: u32,
}

/// Who may serve, by group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// In the order of priority.
    pub groups: Vec<Rank>,
    /// So few may serve that health is ignored.
    pub is_panicking: bool,
    /// It holds until then, if nothing else happens.
    pub until: Duration,
}

/// Who of one group may serve.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rank {
    /// Indices within the group, rising.
    pub candidates: Vec<u32>,
    /// By index within the group.
    pub is_candidate: Vec<bool>,
    /// What the group gets of the requests, of [`WHOLE`].
    pub share: u32,
}

impl Roster {
    /// For groups of these servers.
    pub fn new<'a>(groups: impl Iterator<Item = &'a [Known]> + Clone, rules: Rules) -> Self {
        let all = || groups.clone().flatten().filter(|known| !known.is_draining);
        let (total, well) = (all().count(), all().filter(|known| is_well(known)).count());
        // Draining ones are out by somebody's will: they neither make a panic nor serve in one.
        let is_panicking = well * 100 < total * rules.panic_threshold as usize;
        let mut ranks: Vec<_> = groups.clone().map(|group| Rank::new(group, is_panicking)).collect();
        let health: Vec<_> = groups.clone().map(|group| percent_well(group, is_panicking)).collect();
        for (rank, share) in ranks.iter_mut().zip(shares(&health, rules.spill_over)) {
            rank.share = share;
        }
        let until = groups.flatten().filter_map(|known| known.changes_at).min().unwrap_or(Duration::MAX);
        Roster { groups: ranks, is_panicking, until }
    }

    /// Nobody may serve.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|rank| rank.candidates.is_empty())
    }

    /// The group whose turn it is for `draw` of [`WHOLE`].
    pub fn group_of(&self, draw: u32) -> usize {
        let mut left = draw;
        for (group, rank) in self.groups.iter().enumerate() {
            if left < rank.share {
                return group;
            }
            left -= rank.share;
        }
        0
    }

    /// All requests go to one group.
    pub fn is_undivided(&self) -> bool {
        self.groups.iter().filter(|rank| rank.share > 0).count() <= 1
    }
}

impl Rank {
    fn new(group: &[Known], is_panicking: bool) -> Self {
        let may_serve =
            |known: &Known| known.weight > 0 && (is_well(known) || is_panicking && !known.is_draining);
        let is_candidate: Vec<_> = group.iter().map(may_serve).collect();
        let candidates = (0_u32..).zip(&is_candidate).filter(|(_, may)| **may).map(|(server, _)| server);
        Rank { candidates: candidates.collect(), is_candidate, share: 0 }
    }
}

fn is_well(known: &Known) -> bool {
    known.condition == Condition::Healthy
}

/// By weight, of those that should serve: how much of the group does.
fn percent_well(group: &[Known], is_panicking: bool) -> u32 {
    let weight = |of: &dyn Fn(&Known) -> bool| -> u64 {
        group.iter().filter(|known| of(known)).map(|known| u64::from(known.weight)).sum()
    };
    let total = weight(&|known| !known.is_draining);
    let well = if is_panicking { total } else { weight(&is_well) };
    // Rounded up: a group with anyone in it is not empty.
    (well * 100).div_ceil(total.max(1)) as u32
}

/// What each group gets, of [`WHOLE`]: as much of what is left as it can carry, then the next. A group of which
/// `spill_over` percent are well carries everything.
fn shares(health: &[u32], spill_over: u32) -> Vec<u32> {
    let capacity = |percent: u32| match spill_over {
        0 => WHOLE * u32::from(percent > 0),
        threshold => (WHOLE * percent / threshold).min(WHOLE),
    };
    // When all together cannot carry it, they share it in these proportions.
    let carried: u32 = health.iter().map(|&percent| capacity(percent)).sum::<u32>().min(WHOLE);
    let mut left = carried;
    let mut shares: Vec<_> = health
        .iter()
        .map(|&percent| {
            let share = capacity(percent).min(left);
            left -= share;
            (share * WHOLE).checked_div(carried).unwrap_or_default()
        })
        .collect();
    // What rounding lost goes to the first that gets any.
    let given: u32 = shares.iter().sum();
    if let Some(first) = shares.iter_mut().find(|share| **share > 0) {
        *first += WHOLE - given;
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(condition: Condition) -> Known {
        Known { condition, is_draining: condition == Condition::Draining, weight: 1, changes_at: None }
    }

    /// Groups as words: h(ealthy), u(nhealthy), e(jected), d(raining), and x for what drains and is unhealthy.
    fn groups(text: &str) -> Vec<Vec<Known>> {
        let of = |letter| match letter {
            'h' => known(Condition::Healthy),
            'u' => known(Condition::Unhealthy),
            'e' => known(Condition::Ejected),
            'x' => Known { is_draining: true, ..known(Condition::Unhealthy) },
            _ => known(Condition::Draining),
        };
        text.split(' ').map(|group| group.chars().map(of).collect()).collect()
    }

    fn roster(text: &str, spill_over: u32, panic_threshold: u32) -> Roster {
        let groups = groups(text);
        Roster::new(groups.iter().map(Vec::as_slice), Rules { spill_over, panic_threshold })
    }

    fn shares_of(text: &str, spill_over: u32) -> Vec<u32> {
        roster(text, spill_over, 0).groups.iter().map(|rank| rank.share).collect()
    }

    #[test]
    fn only_the_healthy_are_candidates() {
        assert_eq!(roster("hued huh", 0, 0).groups[0].candidates, [0]);
        assert_eq!(roster("hued huh", 0, 0).groups[1].candidates, [0, 2]);
        assert!(roster("ued", 0, 0).is_empty());
    }

    #[test]
    fn a_later_group_serves_only_when_nobody_of_the_earlier_may() {
        assert_eq!(shares_of("hh h", 0), [1000, 0]);
        assert_eq!(shares_of("hu h", 0), [1000, 0]);
        assert_eq!(shares_of("uu h h", 0), [0, 1000, 0]);
        assert_eq!(shares_of("uu u", 0), [0, 0]);
    }

    #[test]
    fn what_a_weakened_group_cannot_carry_spills_over_to_the_next() {
        assert_eq!(shares_of("hhhh hh", 70), [1000, 0]);
        assert_eq!(shares_of("hhhu hh", 70), [1000, 0], "three quarters are more than 70 %");
        assert_eq!(shares_of("hhuu hh", 100), [500, 500]);
        assert_eq!(shares_of("huuu hu hh", 100), [250, 500, 250]);
        // Together they carry three quarters: each gets its part of the whole.
        assert_eq!(shares_of("huuu hu", 100), [334, 666]);
    }

    #[test]
    fn draining_servers_neither_weaken_a_group_nor_serve() {
        assert_eq!(shares_of("hddd h", 100), [1000, 0]);
        assert_eq!(shares_of("dd h", 0), [0, 1000]);
        assert!(roster("dd", 0, 100).is_empty());
    }

    #[test]
    fn what_was_drained_and_then_stopped_counts_as_draining() {
        assert_eq!(shares_of("hxxx h", 100), [1000, 0]);
        assert!(!roster("hhxx", 0, 60).is_panicking);
        assert_eq!(roster("huux", 0, 60).groups[0].candidates, [0, 1, 2]);
        assert!(roster("xx", 0, 100).is_empty());
    }

    #[test]
    fn below_the_panic_threshold_everyone_but_the_draining_serves() {
        let roster_of = |text| roster(text, 0, 50);
        assert!(!roster_of("hhuu").is_panicking);
        let panicking = roster_of("huued");
        assert!(panicking.is_panicking);
        assert_eq!(panicking.groups[0].candidates, [0, 1, 2, 3]);
        assert!(!roster("uuuu", 0, 0).is_panicking);
        assert!(!roster_of("hd").is_panicking);
    }

    #[test]
    fn it_holds_until_the_first_ejection_ends() {
        let out =
            |seconds| Known { changes_at: Some(Duration::from_secs(seconds)), ..known(Condition::Ejected) };
        let group = [known(Condition::Healthy), out(9), out(5)];
        let rules = Rules { spill_over: 0, panic_threshold: 0 };
        assert_eq!(Roster::new([&group[..]].into_iter(), rules).until, Duration::from_secs(5));
        assert_eq!(Roster::new([&group[..1]].into_iter(), rules).until, Duration::MAX);
    }

    proptest! {
        #[test]
        fn everything_is_given_to_groups_that_can_serve_and_to_nobody_else(
            text in "[huedx]{1,6}( [huedx]{1,6}){0,3}", spill_over in 0..=100_u32, panic in 0..=100_u32,
        ) {
            let roster = roster(&text, spill_over, panic);
            let given: u32 = roster.groups.iter().map(|rank| rank.share).sum();
            prop_assert_eq!(given, if roster.is_empty() { 0 } else { WHOLE });
            for rank in &roster.groups {
                prop_assert!(rank.share == 0 || !rank.candidates.is_empty());
            }
            for draw in 0..WHOLE {
                let rank = &roster.groups[roster.group_of(draw)];
                prop_assert!(roster.is_empty() || rank.share > 0);
            }
        }
    }
}
