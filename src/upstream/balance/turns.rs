//! Whose turn it is, by weight: stride scheduling (Waldspurger and Weihl, "Stride Scheduling: Deterministic
//! Proportional-Share Resource Management", MIT/LCS/TM-528, 1995).
//!
//! Time is virtual: in one unit of it, a round, a server of weight w has w turns, 1/w apart. A heap holds the next turn
//! of each. A turn's time is computed from its number in the round and never summed up, so that no rounding adds up: the
//! order repeats itself exactly, and any stretch as long as the sum of the weights holds each server w times.

/// The next turns of servers, the first on top.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    /// A binary heap of our own: std's cannot change an entry in its midst.
    heap: Vec<Turn>,
    /// The time of the turn that was taken last.
    now: u64,
    /// Where in its first interval the next newcomer begins, in 2^-32. It goes on by the golden ratio: however many have
    /// come, they lie evenly, and light servers do not follow each other.
    offset: u32,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    /// When, in 2^-32 of a round. It wraps: all turns lie within about a round of each other.
    time: u64,
    /// Its number in the round, below the weight.
    number: u32,
    /// How far this server's turns lie behind the beginning of their intervals, in 2^-32 of one.
    phase: u32,
    weight: u32,
    server: u32,
}

/// 2^32 over the golden ratio.
const GOLDEN: u32 = 0x9E37_79B9;

impl Turns {
    /// `offset` is where the first newcomer begins: workers differ in it.
    pub(super) fn new(offset: u32) -> Self {
        Turns { heap: Vec::new(), now: 0, offset }
    }

    /// Who has the next turn; it is taken.
    pub(super) fn take(&mut self) -> Option<usize> {
        let turn = *self.heap.first()?;
        self.now = turn.time;
        self.advance(0);
        Some(turn.server as usize)
    }

    /// Of those that `may_serve` the one with the next turn; it is taken out of order. Linear.
    pub(super) fn take_from(&mut self, may_serve: impl Fn(usize) -> bool) -> Option<usize> {
        let may_serve = |&at: &usize| may_serve(self.heap[at].server as usize);
        let before = |one: usize, other: usize| {
            if self.heap[other].is_before(&self.heap[one]) { other } else { one }
        };
        let at = (0..self.heap.len()).filter(may_serve).reduce(before)?;
        let server = self.heap[at].server as usize;
        self.advance(at);
        Some(server)
    }

    /// Other servers or weights, as (server, weight). Who stays keeps their turn; with another weight, the wait for it in
    /// proportion, as the paper does. Who comes begins now, with no turns saved up.
    pub(super) fn update(&mut self, servers: impl Iterator<Item = (u32, u32)>) {
        let mut before = vec![None; self.heap.iter().map(|turn| turn.server as usize + 1).max().unwrap_or(0)];
        for turn in self.heap.drain(..) {
            before[turn.server as usize] = Some(turn);
        }
        let mut newcomers = Vec::new();
        for (server, weight) in servers.map(|(server, weight)| (server, weight.max(1))) {
            match before.get(server as usize).copied().flatten() {
                Some(turn) => self.heap.push(turn.with_weight(weight, self.now)),
                None => newcomers.push((weight, server)),
            }
        }
        // Those of one weight get neighbouring offsets, which are the ones that lie evenly.
        newcomers.sort_unstable();
        for (weight, server) in newcomers {
            let wait = u64::from(self.offset / weight);
            self.heap.push(Turn::at(self.now.wrapping_add(wait), weight, server));
            self.offset = self.offset.wrapping_add(GOLDEN);
        }
        (0..self.heap.len() / 2).rev().for_each(|at| self.sift_down(at));
    }

    /// Turns whose time runs over in the third round from now.
    #[cfg(test)]
    pub(super) fn ending_soon() -> Self {
        Turns { now: u64::MAX << 33, ..Turns::new(1) }
    }

    fn advance(&mut self, at: usize) {
        self.heap[at].advance();
        self.sift_down(at);
    }

    fn sift_down(&mut self, mut at: usize) {
        let turn = self.heap[at];
        loop {
            let mut child = 2 * at + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1].is_before(&self.heap[child]) {
                child += 1;
            }
            if !self.heap[child].is_before(&turn) {
                break;
            }
            self.heap[at] = self.heap[child];
            at = child;
        }
        self.heap[at] = turn;
    }
}

impl Turn {
    /// A turn at `time`; the number and the phase that go with it are those of this product.
    fn at(time: u64, weight: u32, server: u32) -> Self {
        let place = u64::from(time as u32) * u64::from(weight);
        Turn { time, number: (place >> 32) as u32, phase: place as u32, weight, server }
    }

    fn with_weight(self, weight: u32, now: u64) -> Self {
        if weight == self.weight {
            return self;
        }
        let wait = u128::from(self.time.wrapping_sub(now)) * u128::from(self.weight) / u128::from(weight);
        Turn::at(now.wrapping_add(wait as u64), weight, self.server)
    }

    fn advance(&mut self) {
        let mut round = self.time >> 32;
        self.number += 1;
        if self.number == self.weight {
            (self.number, round) = (0, round.wrapping_add(1));
        }
        let place = u64::from(self.number) << 32 | u64::from(self.phase);
        self.time = (round << 32) | (place / u64::from(self.weight));
    }

    fn is_before(&self, other: &Turn) -> bool {
        let earlier = self.time.wrapping_sub(other.time) as i64;
        earlier < 0 || (earlier == 0 && self.server < other.server)
    }
}
