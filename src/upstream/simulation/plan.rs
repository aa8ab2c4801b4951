//! What a seed decides beforehand: the configuration, the servers' fates, the clients.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    self, BACKUP, Eject, HashKey, Health, Queue, Retry, Sticky, StickyCookie, StickyLearn, Upstream,
};
use crate::upstream::balance::Registry;
use crate::upstream::simulation::truth::Truth;

/// The cookie that sessions travel in.
pub(super) const COOKIE: &str = "session";

/// What kind of day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything may happen, and there are limits.
    Storm,
    /// Every server is well, and nothing is limited: shares can be counted.
    Calm,
    /// The same, but one server goes and comes back slowly.
    Flap,
    /// The same, but the first of several groups has lost servers for good: what it cannot carry is for the others.
    Weak,
}

/// What a seed decides beforehand.
pub(super) struct Plan {
    pub kind: Kind,
    pub config: Arc<Upstream>,
    pub workers: usize,
    /// One per server of the configuration, in its order.
    pub servers: Vec<Truth>,
    /// Requests that come.
    pub requests: usize,
    /// A second, on average.
    pub rate: f64,
    /// Of a hundred: how many of the arrivals bring others along.
    pub bursts: u32,
    /// Clients with a session.
    pub visitors: usize,
    /// Of a hundred requests: how many may not be sent twice.
    pub not_idempotent: u32,
    /// Of a hundred clients: how many leave before they are served.
    pub impatient: u32,
    /// Of a hundred attempts: how many meet a connection that was closed at rest.
    pub stale: u32,
    /// A server that does not know a session opens another one.
    pub opens_anew: bool,
    /// (server, from, until).
    pub drains: Vec<(usize, Duration, Duration)>,
}

/// One of `odds` of a hundred.
pub(super) fn chance(rng: &mut fastrand::Rng, odds: u32) -> bool {
    rng.u32(..100) < odds
}

fn millis(rng: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

impl Plan {
    /// Of a seed. Servers stand in the order of their priority, as the upstream's members do.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rng = &mut rng;
        match seed % 32 {
            0 | 16 => calm(rng, Kind::Calm),
            1 => calm(rng, Kind::Flap),
            2 => weak(rng),
            _ => storm(rng),
        }
    }
}

/// An upstream as the parser makes it of the shortest text: what a plan does not touch is as in production.
fn plain(servers: usize) -> Upstream {
    let addresses: Vec<_> = (1..=servers).map(|n| format!("\"10.0.0.{n}:80\"")).collect();
    let text = format!(
        "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:1\"\n[[route]]\nname = \"r\"\nlistener = \"l\"\n\
         upstream = \"app\"\n[upstream.app]\nservers = [{}]\n",
        addresses.join(", ")
    );
    let config = config::parse(&text, Path::new("simulation.toml"), &["round-robin"]).unwrap();
    config.upstreams.into_iter().next().unwrap()
}

fn strategy(rng: &mut fastrand::Rng) -> String {
    let registry = Registry::builtin();
    let names: Vec<_> = registry.names().collect();
    names[rng.usize(..names.len())].to_owned()
}

/// `round-robin` takes no weights, as the parser says.
fn weigh(config: &mut Upstream, rng: &mut fastrand::Rng) {
    let most = [1, 3, 10][rng.usize(..3)];
    for server in config.servers.iter_mut().filter(|_| config.balance != "round-robin") {
        server.weight = rng.u32(1..=most);
    }
}

fn calm(rng: &mut fastrand::Rng, kind: Kind) -> Plan {
    let mut config = plain(rng.usize(2..=4));
    config.balance = match kind {
        // What picks by load or by key gives no share that could be foretold.
        Kind::Flap => ["round-robin", "weighted-round-robin", "random"][rng.usize(..3)].to_owned(),
        _ => strategy(rng),
    };
    config.slow_start = Duration::from_secs(10);
    let mut drains = Vec::new();
    if kind == Kind::Flap {
        drains.push((rng.usize(..config.servers.len()), Duration::from_secs(1), Duration::from_secs(2)));
    } else {
        weigh(&mut config, rng);
    }
    let servers = config.servers.iter().map(|_| Truth::calm()).collect();
    Plan {
        kind,
        config: Arc::new(config),
        workers: rng.usize(1..=4),
        servers,
        requests: if kind == Kind::Flap { 4000 } else { 1000 },
        rate: 280.0,
        bursts: 0,
        visitors: 0,
        not_idempotent: 0,
        impatient: 0,
        stale: 0,
        opens_anew: false,
        drains,
    }
}

fn weak(rng: &mut fastrand::Rng) -> Plan {
    let mut plan = calm(rng, Kind::Weak);
    let (first, others) = (rng.usize(2..=4), rng.usize(1..=4));
    let mut config = plain(first + others);
    config.balance = ["round-robin", "weighted-round-robin", "random", "least-connections", "power-of-two"]
        [rng.usize(..5)]
    .to_owned();
    weigh(&mut config, rng);
    for server in &mut config.servers[first..] {
        server.priority = rng.u8(1..=2);
    }
    config.servers.sort_by_key(|server| server.priority);
    config.spill_over = rng.u32(40..=100);
    config.eject = None;
    config.health = Some(Health {
        interval: Duration::from_millis(200),
        timeout: Duration::from_millis(150),
        rise: 1,
        fall: 1,
        probe: config::Probe::Tcp,
        port: None,
        start: config::FirstState::Healthy,
    });
    let lost = rng.usize(1..first);
    let truth = |server| if server < lost { Truth::dead() } else { Truth::calm() };
    plan.servers = (0..first + others).map(truth).collect();
    plan.config = Arc::new(config);
    plan
}

fn storm(rng: &mut fastrand::Rng) -> Plan {
    let count = if rng.bool() { rng.usize(1..=4) } else { rng.usize(1..=12) };
    let mut config = plain(count);
    config.balance = strategy(rng);
    weigh(&mut config, rng);
    rank(&mut config, rng);
    limit(&mut config, rng);
    config.hash =
        [HashKey::ClientIp, HashKey::Path, HashKey::Cookie(COOKIE.to_owned())][rng.usize(..3)].clone();
    config.sticky = sticky(rng);
    config.eject = chance(rng, 85).then(|| eject(rng));
    config.health = chance(rng, 60).then(|| Health {
        interval: millis(rng, 200..1000),
        timeout: Duration::from_millis(150),
        rise: rng.u32(1..=3),
        fall: rng.u32(1..=3),
        probe: config::Probe::Tcp,
        port: None,
        start: config::FirstState::Healthy,
    });
    config.slow_start = if chance(rng, 40) { Duration::ZERO } else { millis(rng, 500..8000) };
    config.retries = rng.u32(0..=4);
    config.retry = retry(rng);
    time_out(&mut config, rng);

    let requests = rng.usize(100..=500);
    let rate = rng.u32(8..=60).into();
    let length = Duration::from_secs_f64(requests as f64 / rate);
    let troubles = rng.u32(0..=70);
    let servers = config.servers.iter().map(|_| Truth::random(length, troubles, rng)).collect();
    let drains = (0..rng.usize(0..=2)).filter(|_| count > 1).map(|_| {
        let from = length.mul_f64(rng.f64() * 0.6);
        (rng.usize(..count), from, from + length.mul_f64(rng.f64() * 0.5))
    });
    let drains = drains.collect();
    Plan {
        kind: Kind::Storm,
        config: Arc::new(config),
        workers: rng.usize(1..=4),
        servers,
        requests,
        rate,
        bursts: rng.u32(0..=15),
        visitors: rng.usize(1..=12),
        not_idempotent: rng.u32(0..=40),
        impatient: rng.u32(0..=6),
        stale: rng.u32(0..=8),
        opens_anew: rng.bool(),
        drains,
    }
}

fn rank(config: &mut Upstream, rng: &mut fastrand::Rng) {
    let priorities: &[u8] = [&[0][..], &[0, 1], &[0, 0, BACKUP], &[0, 1, 2, BACKUP]][rng.usize(..4)];
    for server in &mut config.servers {
        server.priority = priorities[rng.usize(..priorities.len())];
    }
    config.servers.sort_by_key(|server| server.priority);
    config.spill_over = if rng.bool() { 0 } else { rng.u32(30..=100) };
    config.panic_threshold = if chance(rng, 60) { 0 } else { rng.u32(10..=60) };
}

fn limit(config: &mut Upstream, rng: &mut fastrand::Rng) {
    config.max_requests = chance(rng, 25).then(|| rng.u32(2..=15));
    config.max_connections = chance(rng, 15).then(|| rng.u32(2..=15));
    let (limited, connections) = ([0, 0, 50, 100][rng.usize(..4)], [0, 0, 0, 60][rng.usize(..4)]);
    for server in &mut config.servers {
        server.max_requests = chance(rng, limited).then(|| rng.u32(1..=4));
        server.max_connections = chance(rng, connections).then(|| rng.u32(1..=4));
    }
    let size = if chance(rng, 15) { 0 } else { rng.usize(1..=30) };
    config.queue = Queue { size, timeout: millis(rng, 100..2000) };
}

fn sticky(rng: &mut fastrand::Rng) -> Option<Sticky> {
    let name = COOKIE.to_owned();
    match rng.u32(..20) {
        0..=8 => None,
        9..=12 => Some(Sticky::Cookie(StickyCookie { name, secrets: vec![vec![7; 32]], max_age: None })),
        // Longer than any day, and larger: which ones are forgotten is not the seed's to say, since the table's
        // hashes have a seed of their own.
        13..=16 => Some(Sticky::Learn(StickyLearn {
            cookie: name,
            size: 1 << 20,
            idle: Duration::from_secs(86_400),
        })),
        _ => Some(Sticky::Hash([HashKey::Cookie(name), HashKey::ClientIp][rng.usize(..2)].clone())),
    }
}

fn eject(rng: &mut fastrand::Rng) -> Eject {
    let time = Duration::from_millis(rng.u64(500..4000));
    Eject {
        failures: rng.u32(1..=6),
        error_rate: chance(rng, 35).then(|| rng.u32(20..=80)),
        latency_factor: chance(rng, 35).then(|| rng.u32(2..=5)),
        window: Duration::from_secs(rng.u64(1..=8)),
        min_requests: rng.u32(2..=12),
        time,
        max_time: time + Duration::from_millis(rng.u64(0..10_000)),
        max_percent: if rng.bool() { 50 } else { rng.u32(1..=100) },
    }
}

fn retry(rng: &mut fastrand::Rng) -> Retry {
    Retry {
        on_connect: chance(rng, 90),
        on_reset: chance(rng, 85),
        on_timeout: chance(rng, 40),
        on_statuses: [429, 500, 503].into_iter().filter(|_| chance(rng, 45)).collect(),
        budget_percent: [0, 20, 20, 100][rng.usize(..4)],
        budget_per_second: [0, 1, 10, 10][rng.usize(..4)],
        concurrent: if chance(rng, 25) { rng.u32(1..=4) } else { 1000 },
        body: 0,
    }
}

fn time_out(config: &mut Upstream, rng: &mut fastrand::Rng) {
    config.total_timeout = chance(rng, 40).then(|| millis(rng, 200..2000));
    config.try_timeout = chance(rng, 30).then(|| millis(rng, 100..1000));
    config.connect_timeout = millis(rng, 100..400);
    config.first_byte_timeout = millis(rng, 400..1200);
}
