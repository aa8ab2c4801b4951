//! Sessions that servers have opened: which cookie of theirs belongs to whom.
//!
//! Bounded in number and in age. Two generations instead of a list in the order of use: what is used moves to the young
//! one, and when that is full, or old enough, it becomes the old one and what was old is forgotten. So a session
//! is remembered for at least half of what is configured, and for at most all of it.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::StickyLearn;
use crate::fields::{self, Fields};

/// So many tables, so that workers rarely meet in one.
const SHARDS: usize = 16;

/// Whom each session belongs to; shared by all workers.
pub struct Sessions {
    shards: Box<[Mutex<Shard>]>,
    /// Seeded: nobody can make two sessions meet in one hash.
    hashers: [foldhash::quality::RandomState; 2],
}

#[derive(Default)]
struct Shard {
    young: Table,
    old: Table,
    young_since: Duration,
}

/// By a hash of 128 bits of the cookie's value, which is not kept: it is a secret of its client.
type Table = HashMap<u128, Arc<str>, foldhash::fast::RandomState>;

impl Sessions {
    /// None yet.
    pub fn new() -> Self {
        Sessions {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hashers: [foldhash::quality::RandomState::default(), foldhash::quality::RandomState::default()],
        }
    }

    /// The server of `session`, by its id; using it keeps it.
    pub fn server_of(&self, session: &str, rules: &StickyLearn, now: Duration) -> Option<Arc<str>> {
        let hash = self.hash(session);
        let mut shard = self.shard(hash);
        shard.age(rules, now);
        if let Some(server) = shard.young.get(&hash) {
            return Some(server.clone());
        }
        let server = shard.old.remove(&hash)?;
        shard.put(hash, server.clone(), rules, now);
        Some(server)
    }

    /// From now on `session` belongs to `server`.
    pub fn learn(&self, session: &str, server: &str, rules: &StickyLearn, now: Duration) {
        let hash = self.hash(session);
        let mut shard = self.shard(hash);
        shard.age(rules, now);
        shard.old.remove(&hash);
        shard.put(hash, server.into(), rules, now);
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(lock).map(|shard| shard.young.len() + shard.old.len()).sum()
    }

    /// None are remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn hash(&self, session: &str) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(session)));
        high << 64 | low
    }

    fn shard(&self, hash: u128) -> MutexGuard<'_, Shard> {
        lock(&self.shards[hash as usize % SHARDS])
    }
}

/// The session that a request says it belongs to. An empty cookie is nobody's: all clients that were told to forget theirs
/// would share it.
pub fn session_of<'a>(fields: &'a Fields, rules: &StickyLearn) -> Option<&'a str> {
    fields::cookie(fields, &rules.cookie).filter(|session| !session.is_empty())
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions::new()
    }
}

impl Shard {
    fn put(&mut self, hash: u128, server: Arc<str>, rules: &StickyLearn, now: Duration) {
        if self.young.len() >= rules.size.div_ceil(2 * SHARDS) {
            self.turn(now);
        }
        self.young.insert(hash, server);
    }

    fn age(&mut self, rules: &StickyLearn, now: Duration) {
        let half = rules.idle / 2;
        if now.saturating_sub(self.young_since) >= half {
            let is_all_old = now.saturating_sub(self.young_since) >= 2 * half;
            self.turn(now);
            if is_all_old {
                self.old = Table::default();
            }
        }
    }

    fn turn(&mut self, now: Duration) {
        self.old = std::mem::take(&mut self.young);
        self.young_since = now;
    }
}

/// The tables behind it are whole after any panic.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules(size: usize) -> StickyLearn {
        StickyLearn { cookie: "session".into(), size, idle: at(100) }
    }

    #[test]
    fn a_session_is_found_again_and_may_move() {
        let (sessions, rules) = (Sessions::new(), rules(100));
        sessions.learn("s", "a", &rules, at(0));
        assert_eq!(sessions.server_of("s", &rules, at(1)).as_deref(), Some("a"));
        assert_eq!(sessions.server_of("t", &rules, at(1)), None);
        sessions.learn("s", "b", &rules, at(60));
        assert_eq!(sessions.server_of("s", &rules, at(61)).as_deref(), Some("b"));
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn a_session_that_is_used_stays_and_one_that_is_not_is_forgotten() {
        let (sessions, rules) = (Sessions::new(), rules(1000));
        sessions.learn("used", "a", &rules, at(0));
        sessions.learn("idle", "a", &rules, at(0));
        for second in (10..400).step_by(10) {
            assert!(sessions.server_of("used", &rules, at(second)).is_some(), "after {second} s");
        }
        assert_eq!(sessions.server_of("idle", &rules, at(400)), None);
        assert_eq!(sessions.server_of("used", &rules, at(600)), None);
    }

    #[test]
    fn there_are_never_more_than_allowed_and_the_latest_are_among_them() {
        let (sessions, rules) = (Sessions::new(), rules(1600));
        for number in 0..50_000 {
            sessions.learn(&format!("s{number}"), "a", &rules, at(0));
        }
        assert!((700..=1600).contains(&sessions.len()), "{}", sessions.len());
        let latest =
            (49_700..50_000).filter(|n| sessions.server_of(&format!("s{n}"), &rules, at(0)).is_some());
        assert!(latest.count() >= 290);
    }
}
