//! Servers as they really are. Nobody whom the simulation examines sees this.

use std::time::Duration;

use crate::config;
use crate::upstream::retry::Cause;
use crate::upstream::simulation::plan::chance;

/// One server's fate.
pub(super) struct Truth {
    /// To the head of a response when it is well, in milliseconds, and from there to its end.
    head: (u64, u64),
    body: (u64, u64),
    /// From when on it is in which mood; the first from the beginning.
    moods: Vec<(Duration, Mood)>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// So many times slower.
    Slow(u64),
    /// Nobody listens.
    Refuses,
    /// Packets go nowhere.
    BlackHole,
    /// It accepts and says nothing.
    Stalls,
    /// It accepts and closes.
    Resets,
    /// What it says is no HTTP.
    Babbles,
    /// It answers, but not with what was asked for.
    Says {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// Of a hundred requests it resets so many.
    Flaky(u32),
}

/// What an attempt comes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// A response: its head, and its end after another while.
    Answers { status: u16, retry_after: Option<Duration>, after: Duration, body: Duration },
    /// None.
    Fails { cause: Cause, word: &'static str, blames_server: bool, after: Duration },
}

impl Truth {
    /// Always well, and quick.
    pub(super) fn calm() -> Self {
        Truth { head: (2, 10), body: (1, 5), moods: vec![(Duration::ZERO, Mood::Well)] }
    }

    /// Never there.
    pub(super) fn dead() -> Self {
        Truth { moods: vec![(Duration::ZERO, Mood::Refuses)], ..Truth::calm() }
    }

    /// In trouble for `troubles` percent of the time.
    pub(super) fn random(length: Duration, troubles: u32, rng: &mut fastrand::Rng) -> Self {
        let quick = rng.u64(1..40);
        let long = rng.u64(1..300);
        let mut moods = vec![(Duration::ZERO, Mood::Well)];
        let mut at = Duration::ZERO;
        while at < length {
            at += Duration::from_millis(rng.u64(200..5000));
            moods.push((at, if chance(rng, troubles) { Mood::trouble(rng) } else { Mood::Well }));
        }
        Truth { head: (quick, quick * 3 + 1), body: (0, long), moods }
    }

    /// How it is now.
    pub(super) fn mood(&self, now: Duration) -> Mood {
        let later = self.moods.partition_point(|(from, _)| *from <= now);
        self.moods[later.saturating_sub(1)].1
    }

    /// What an attempt comes to that begins now.
    pub(super) fn attempt(&self, now: Duration, config: &config::Upstream, rng: &mut fastrand::Rng) -> Fate {
        let head = Duration::from_millis(rng.u64(self.head.0..self.head.1));
        let body = Duration::from_millis(rng.u64(self.body.0..self.body.1));
        let soon = Duration::from_millis(rng.u64(0..3));
        let answers = |status, retry_after, after| match after < config.first_byte_timeout {
            true => Fate::Answers { status, retry_after, after, body },
            false => Fate::stalls(config),
        };
        match self.mood(now) {
            Mood::Well => answers(200, None, head),
            Mood::Slow(times) => answers(200, None, head * times as u32),
            Mood::Says { status, retry_after } => answers(status, retry_after, soon),
            Mood::Flaky(percent) if !chance(rng, percent) => answers(200, None, head),
            Mood::Resets | Mood::Flaky(_) => Fate::reset(soon),
            Mood::Refuses => Fate::fails(Cause::Connect, "connect-failed", soon),
            Mood::BlackHole => Fate::fails(Cause::Connect, "connect-timed-out", config.connect_timeout),
            Mood::Stalls => Fate::stalls(config),
            Mood::Babbles => Fate::fails(Cause::Other, "malformed-response", soon),
        }
    }

    /// Whether a probe (of its port) that ends now succeeds, and how long it takes.
    pub(super) fn probe(&self, now: Duration, timeout: Duration) -> (bool, Duration) {
        match self.mood(now) {
            Mood::Refuses => (false, Duration::from_millis(1)),
            Mood::BlackHole => (false, timeout),
            _ => (true, Duration::from_millis(2)),
        }
    }
}

impl Mood {
    fn trouble(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(..10) {
            0 => Mood::Slow(rng.u64(3..40)),
            1 | 2 => Mood::Refuses,
            3 => Mood::BlackHole,
            4 => Mood::Stalls,
            5 => Mood::Resets,
            6 => Mood::Says { status: [500, 503][rng.usize(..2)], retry_after: None },
            7 => Mood::Babbles,
            8 => Mood::Says { status: 429, retry_after: Some(Duration::from_secs(rng.u64(0..3))) },
            _ => Mood::Flaky(rng.u32(10..90)),
        }
    }
}

impl Fate {
    fn fails(cause: Cause, word: &'static str, after: Duration) -> Self {
        Fate::Fails { cause, word, blames_server: true, after }
    }

    fn stalls(config: &config::Upstream) -> Self {
        Fate::fails(Cause::Timeout, "first-byte-timed-out", config.first_byte_timeout)
    }

    /// The server broke off.
    pub(super) fn reset(after: Duration) -> Self {
        Fate::fails(Cause::Reset, "reset", after)
    }

    /// A kept-alive connection that was closed at rest.
    pub(super) fn stale() -> Self {
        let after = Duration::from_millis(1);
        Fate::Fails { cause: Cause::Stale, word: "stale-connection", blames_server: false, after }
    }

    /// No connection is to be had.
    pub(super) fn no_leave() -> Self {
        let after = Duration::ZERO;
        Fate::Fails { cause: Cause::NoLeave, word: "connection-limit", blames_server: false, after }
    }

    /// The same, within what the attempt has.
    pub(super) fn within(self, limit: Option<Duration>) -> Self {
        match limit {
            Some(limit) if self.after() > limit => Fate::fails(Cause::Timeout, "try-timed-out", limit),
            _ => self,
        }
    }

    /// When it is known.
    pub(super) fn after(&self) -> Duration {
        match self {
            Fate::Answers { after, .. } | Fate::Fails { after, .. } => *after,
        }
    }
}
