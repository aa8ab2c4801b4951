//! The world: a clock, what happens when, and who is there.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::clock::TICK;
use crate::config::{self, Sticky};
use crate::observe::{Cells, ClassCounters, Counter, Gauge, Histogram};
use crate::upstream::balance::{PickReason, Registry};
use crate::upstream::health_state::{Outcome, ProbeResult, ProbeState};
use crate::upstream::members::Recipe;
use crate::upstream::outlier::Outliers;
use crate::upstream::pool::{Upstream, UpstreamHandles, WorkerPool};
use crate::upstream::pool_state::PoolState;
use crate::upstream::server::{Entry, ProbeHandles, Server, ServerHandles, ServerState};
use crate::upstream::simulation::belief::Beliefs;
use crate::upstream::simulation::counts::{AtOnce, Looks, Spending, Tally, Totals};
use crate::upstream::simulation::plan::{Plan, chance};
use crate::upstream::simulation::request::{Jar, Live};
use crate::upstream::simulation::shares::Shares;
use crate::upstream::sticky::StickyKey;

/// What holds, or the words for what does not.
pub(super) type Checked<T = ()> = Result<T, String>;

/// What is examined, and what a seed decided.
pub(super) struct Stage {
    pub plan: Plan,
    pub upstream: Upstream,
    pub pools: Vec<WorkerPool>,
    pub cells: Cells,
}

/// The world of one seed.
pub(super) struct World<'a> {
    pub stage: &'a Stage,
    pub config: &'a config::Upstream,
    /// Time since the process began, as everywhere.
    pub now: Duration,
    /// Its own chances.
    pub rng: fastrand::Rng,
    /// Those of the workers.
    pub rngs: Vec<fastrand::Rng>,
    /// By their number.
    pub live: Vec<Option<Live<'a>>>,
    /// Those that wait, in the order of their coming.
    pub waiting: Vec<usize>,
    /// Those that are to be woken; wakers have a thread of their own in mind.
    pub rung: Arc<Mutex<Vec<usize>>>,
    /// In this event room came free, or a call that was meant for someone else.
    pub is_offered: bool,
    pub beliefs: Beliefs,
    pub at_once: AtOnce,
    /// By worker.
    pub spending: Vec<Spending>,
    /// By server.
    pub totals: Vec<Totals>,
    /// By client.
    pub jars: Vec<Jar>,
    /// Sessions that servers have opened: whose they are.
    pub homes: HashMap<String, usize>,
    pub shares: Shares,
    pub tally: Tally,
    pub trace: bool,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    sequence: u64,
    to_come: usize,
    outliers: Outliers,
    looks: Looks,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A client sends a request.
    Arrives,
    /// One that waits is woken, at this of its places.
    Wakes(usize, u64),
    /// It has waited for too long at this place.
    GivesUp(usize, u64),
    /// Its attempt, by number, was answered or failed.
    Heard(usize, u32),
    /// Its response is over.
    Ends(usize),
    /// Its client goes away.
    Leaves(usize),
    /// A worker's timers are swept.
    Ticks(usize),
    /// The control thread looks for outliers.
    Looks,
    /// A server is asked how it is.
    Probes(usize),
    /// It said so.
    Probed(usize, bool),
    /// The operator begins to drain a server, or ends it.
    Drains(usize, bool),
}

impl Stage {
    /// A pool as the seed has it.
    pub(super) fn new(seed: u64, cells: &Cells) -> Self {
        let plan = Plan::new(seed);
        let config = plan.config.clone();
        let registry = Registry::builtin();
        let cookies = match &config.sticky {
            Some(Sticky::Cookie(cookie)) => {
                Some((config.name.clone(), cookie.secrets.iter().map(|key| StickyKey::new(key)).collect()))
            }
            _ => None,
        };
        let is_by_hash = matches!(config.sticky, Some(Sticky::Hash(_)));
        let recipe = Recipe {
            strategy: registry.factory(&config.balance).unwrap(),
            load_factor: config.load_factor,
            by_hash: is_by_hash.then(|| registry.factory("consistent-hash").unwrap()),
            cookies,
        };
        let state = Arc::new(PoolState::new(plan.workers));
        let server = |of: &config::Server| Arc::new(server(of, plan.workers, &state));
        let servers = config.servers.iter().map(server).collect();
        let upstream = Upstream::new(config, state, handles(), recipe, Vec::new(), servers);
        let seed = |worker: usize| seed ^ (worker as u64 + 1);
        let pool = |worker| WorkerPool::new(&upstream, cells.clone(), worker, plan.workers, seed(worker));
        Stage { pools: (0..plan.workers).map(pool).collect(), upstream, plan, cells: cells.clone() }
    }
}

fn server(of: &config::Server, workers: usize, pool: &Arc<PoolState>) -> Server {
    let id = format!("{}:{}", of.host, of.port);
    let entry = Entry {
        name: id.clone(),
        host: HeaderValue::from_static("server"),
        tls: None,
        is_name: false,
        first: (ProbeState::default(), of.drain),
        priority: u32::from(of.priority),
        max_requests: of.max_requests,
        max_connections: of.max_connections,
        handles: ServerHandles {
            requests: ClassCounters::default(),
            connect: Histogram::default(),
            first_byte: Histogram::default(),
            ejections: Counter::default(),
            probes: ProbeHandles::default(),
            healthy: Gauge::default(),
            in_flight: Gauge::default(),
            active: Gauge::default(),
            idle: Gauge::default(),
        },
    };
    Server {
        address: (of.host.parse::<Ipv4Addr>().unwrap(), of.port).into(),
        weight: of.weight,
        priority: entry.priority,
        state: Arc::new(ServerState::new(workers, pool.clone(), ProbeState::default(), of.drain)),
        entry: Arc::new(entry),
        id,
    }
}

fn handles() -> UpstreamHandles {
    UpstreamHandles {
        retries: Vec::new(),
        retries_stopped: Vec::new(),
        picks: vec![Counter::default(); PickReason::ALL.len()],
        queued: Gauge::default(),
        panic: Gauge::default(),
        sessions: Gauge::default(),
    }
}

impl<'a> World<'a> {
    /// Before anything has happened.
    pub(super) fn new(seed: u64, stage: &'a Stage, trace: bool) -> Self {
        let config: &config::Upstream = &stage.upstream.config;
        let servers = config.servers.len();
        World {
            stage,
            config,
            now: Duration::ZERO,
            rng: fastrand::Rng::with_seed(!seed),
            rngs: (0..stage.plan.workers)
                .map(|worker| fastrand::Rng::with_seed(seed ^ (worker as u64) << 32))
                .collect(),
            live: Vec::new(),
            waiting: Vec::new(),
            rung: Arc::default(),
            is_offered: false,
            beliefs: Beliefs::new(config),
            at_once: AtOnce::new(servers),
            spending: (0..stage.plan.workers).map(|_| Spending::default()).collect(),
            totals: vec![Totals::default(); servers],
            jars: (0..stage.plan.visitors).map(|_| Jar::default()).collect(),
            homes: HashMap::new(),
            shares: Shares::new(servers),
            tally: Tally::default(),
            trace,
            events: BinaryHeap::new(),
            sequence: 0,
            to_come: stage.plan.requests,
            outliers: Outliers::default(),
            looks: Looks::default(),
        }
    }

    /// Lets it all happen.
    pub(super) fn run(mut self) -> Checked<Tally> {
        self.note(|| format!("{:#?}", self.config));
        self.at(Duration::ZERO, Event::Arrives);
        for worker in 0..self.stage.pools.len() {
            let first = Duration::from_millis(self.rng.u64(0..50));
            self.at(first, Event::Ticks(worker));
        }
        self.at(Duration::from_secs(1), Event::Looks);
        for server in (0..self.config.servers.len()).filter(|_| self.config.health.is_some()) {
            self.at(Duration::from_millis(1), Event::Probes(server));
        }
        for &(server, from, until) in &self.stage.plan.drains {
            self.at(from, Event::Drains(server, true));
            self.at(until, Event::Drains(server, false));
        }
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            self.now = at;
            let happened = self.happens(event).and_then(|()| self.afterwards());
            happened.map_err(|why| format!("at {at:?}, {event:?}: {why}"))?;
        }
        self.is_over()?;
        Ok(self.tally)
    }

    /// Something will happen.
    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    /// A line of what a replay prints.
    pub(super) fn note(&self, line: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10.4} {}", self.now.as_secs_f64(), line());
        }
    }

    /// There is still something to wait for.
    fn goes_on(&self) -> bool {
        self.to_come > 0 || self.live.iter().any(Option::is_some)
    }

    fn happens(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrives => self.arrives(),
            Event::Wakes(number, ticket) => self.wakes(number, ticket),
            Event::GivesUp(number, ticket) => self.gives_up(number, ticket),
            Event::Heard(number, attempt) => self.heard(number, attempt),
            Event::Ends(number) => self.ends(number),
            Event::Leaves(number) => self.leaves(number),
            Event::Ticks(worker) => self.ticks(worker),
            Event::Looks => self.looks(),
            Event::Probes(server) => self.probes(server),
            Event::Probed(server, is_well) => self.probed(server, is_well),
            Event::Drains(server, is_draining) => self.drains(server, is_draining),
        }
    }

    /// Whoever was called is woken, a little later: it is on another thread.
    fn afterwards(&mut self) -> Checked {
        let rung = std::mem::take(&mut *self.rung.lock().unwrap());
        for number in rung {
            let Some(live) = self.live[number].as_mut().filter(|live| live.place.is_some()) else { continue };
            live.is_woken = true;
            let ticket = live.ticket;
            self.note(|| format!("r{number} is called"));
            let late =
                Duration::from_micros(if chance(&mut self.rng, 80) { 0 } else { self.rng.u64(0..300) });
            self.at(self.now + late, Event::Wakes(number, ticket));
        }
        self.check_offer()?;
        self.check_who_waits()
    }

    fn arrives(&mut self) -> Checked {
        let together = if chance(&mut self.rng, self.stage.plan.bursts) { self.rng.usize(2..15) } else { 1 };
        for _ in 0..together.min(self.to_come) {
            self.to_come -= 1;
            self.comes()?;
        }
        if self.to_come > 0 {
            // Between arrivals that know nothing of each other the waits are exponential.
            let wait = -(1.0 - self.rng.f64()).ln() * together as f64 / self.stage.plan.rate;
            self.at(self.now + Duration::from_secs_f64(wait), Event::Arrives);
        }
        Ok(())
    }

    fn ticks(&mut self, worker: usize) -> Checked {
        self.stage.pools[worker].side(&self.stage.upstream).tick();
        if self.goes_on() {
            self.at(self.now + TICK, Event::Ticks(worker));
        }
        Ok(())
    }

    fn looks(&mut self) -> Checked {
        self.check_counts()?;
        if let Some(eject) = &self.config.eject {
            let members = self.stage.upstream.members();
            let counted: Vec<_> =
                members.servers.iter().map(|server| (server.id.as_str(), server.state.tallies())).collect();
            let found = self.outliers.look(&counted, eject);
            self.looks.look(&self.totals, &found, eject)?;
            for (server, cause) in found {
                self.tally.note("stood out");
                let is_due = self.beliefs.may_eject(server, self.now) && !self.is_out(server);
                let why = cause.to_string();
                let (upstream, cells) = (&self.stage.upstream, &self.stage.cells);
                upstream.eject(&members, &members.servers[server], &why, self.now, cells);
                self.check_ejection(server, is_due, &why)?;
            }
        }
        if self.goes_on() {
            self.at(self.now + Duration::from_secs(1), Event::Looks);
        }
        Ok(())
    }

    fn probes(&mut self, server: usize) -> Checked {
        let Some(health) = &self.config.health else { return Ok(()) };
        let (is_well, took) = self.stage.plan.servers[server].probe(self.now, health.timeout);
        self.at(self.now + took, Event::Probed(server, is_well));
        Ok(())
    }

    fn probed(&mut self, server: usize, is_well: bool) -> Checked {
        let Some(health) = &self.config.health else { return Ok(()) };
        let outcome = if is_well { Outcome::Success } else { Outcome::Failure };
        let state = &self.stage.upstream.members().servers[server].state;
        // When by the clock on the wall is for people only.
        let result = ProbeResult { outcome, failure: None, at: Instant::now() };
        if let Some(change) = state.probed(result, health.rise, health.fall, self.now) {
            let change = if change.is_rise() { "probe-rose" } else { "probe-fell" };
            self.tally.note(change);
            self.note(|| format!("s{server} {change}"));
        }
        self.beliefs.probed(server, is_well, health, self.now);
        self.check_condition(server)?;
        if self.goes_on() {
            let wait = health.interval.mul_f64(0.9 + 0.2 * self.rng.f64());
            self.at(self.now + wait, Event::Probes(server));
        }
        Ok(())
    }

    fn drains(&mut self, server: usize, is_draining: bool) -> Checked {
        let members = self.stage.upstream.members();
        self.note(|| format!("s{server} drains: {is_draining}"));
        self.stage.upstream.drain(&members.servers[server], is_draining, self.now);
        self.beliefs.drained(server, is_draining, self.now);
        self.check_condition(server)
    }

    /// Whether it is ejected, whatever else it is.
    pub(super) fn is_out(&self, server: usize) -> bool {
        self.now < self.beliefs.out_until(server)
    }
}
