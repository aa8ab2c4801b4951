//! A named pool: its servers, its strategy, and one worker's connections to it.

use std::cell::RefCell;
use std::hash::Hasher;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use tracing::{debug, warn};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::config::{self, HashKey};
use crate::fields;
use crate::observe::{Cells, Counter};
use crate::upstream::balance::{KeyKind, Pick, PickReason, Pool, Servers, Strategy};
use crate::upstream::conns::Conns;
use crate::upstream::health_state::{EjectVerdict, PoolCount};
use crate::upstream::server::{Condition, Server};
use crate::upstream::sticky::StickyTable;

/// An upstream as a snapshot knows it.
pub struct Upstream {
    /// What the file says.
    pub config: config::Upstream,
    /// In the order of the file.
    pub servers: Vec<Server>,
    /// `None`: no stickiness.
    pub sticky: Option<StickyTable>,
    /// Each worker makes its own strategy from it, once per snapshot.
    pub strategy: Mutex<Box<dyn Strategy>>,
    /// Retries, by the reasons of [`crate::upstream::retry::REASONS`].
    pub retries: Vec<Counter>,
}

/// One worker's side of an upstream.
pub struct WorkerPool {
    strategy: RefCell<Box<dyn Strategy>>,
    key: KeyKind,
    /// One per server.
    pub conns: Vec<Rc<Conns>>,
}

/// What a pick looks at.
pub struct Asks<'a> {
    /// The client, as believed.
    pub client: IpAddr,
    /// The request's path.
    pub path: &'a str,
    /// The request's fields.
    pub headers: &'a HeaderMap,
    /// Servers that failed this request.
    pub tried: &'a [usize],
}

struct Live<'a> {
    servers: &'a [Server],
    candidates: Vec<u32>,
}

impl Upstream {
    /// A server for a request; `None` when none may serve. `now` is the time since the process began.
    pub fn pick(
        &self,
        worker: &WorkerPool,
        asks: &Asks<'_>,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Pick> {
        let may_serve = |server: usize| self.servers[server].state.may_serve(now);
        let of = |is_backup: bool| -> Vec<u32> {
            let fits = |&server: &usize| {
                self.servers[server].is_backup == is_backup
                    && may_serve(server)
                    && !asks.tried.contains(&server)
            };
            (0..self.servers.len()).filter(fits).map(|server| server as u32).collect()
        };
        let primaries = of(false);
        let candidates = if primaries.is_empty() { of(true) } else { primaries };
        let live = Live { servers: &self.servers, candidates };
        if let Some(server) = self.stuck_to(asks.headers)
            && may_serve(server)
            && !asks.tried.contains(&server)
        {
            return Some(Pick { server, reason: PickReason::Sticky });
        }
        let key = (worker.key != KeyKind::None).then(|| self.key(asks));
        worker.strategy.borrow_mut().pick(&Pool::new(&live, asks.tried, now), key, rng)
    }

    /// The server that the client's cookie names.
    pub fn stuck_to(&self, headers: &HeaderMap) -> Option<usize> {
        let (table, sticky) = self.sticky.as_ref().zip(self.config.sticky.as_ref())?;
        table.server_of(fields::cookie(headers, &sticky.cookie)?)
    }

    /// A server failed a request; ejects it when it has failed too often.
    pub fn blame(&self, server: usize, why: &str, now: Duration, cells: &Cells) {
        let Some(eject) = &self.config.eject else { return };
        let ejected = |s: &&Server| s.state.condition(now) == Condition::Ejected;
        let count =
            PoolCount { ejected: self.servers.iter().filter(ejected).count(), total: self.servers.len() };
        let server = &self.servers[server];
        match server.state.failed(now, eject, count) {
            EjectVerdict::Ejected { until } => {
                cells.inc(server.handles.ejections);
                let (upstream, server, time) = (&self.config.name, &server.name, until - now);
                warn!(upstream, server, cause = why, ?time, "server ejected");
            }
            EjectVerdict::PoolLimit => {
                let (upstream, server) = (&self.config.name, &server.name);
                // Not a warning: it comes with every further failure, and a dead pool would fill the log with it.
                debug!(upstream, server, cause = why, "server not ejected: too few would be left");
            }
            EjectVerdict::Counted | EjectVerdict::AlreadyEjected => {}
        }
    }

    /// A server answered.
    pub fn praise(&self, server: usize, now: Duration) {
        if let Some(eject) = &self.config.eject {
            self.servers[server].state.succeeded(now, eject);
        }
    }

    /// True when some server may serve.
    pub fn is_ready(&self, now: Duration) -> bool {
        self.servers.iter().any(|s| s.state.may_serve(now))
    }

    fn key(&self, asks: &Asks<'_>) -> u64 {
        match &self.config.hash {
            HashKey::ClientIp => match asks.client {
                IpAddr::V4(ip) => xxh3_64(&ip.octets()),
                IpAddr::V6(ip) => xxh3_64(&ip.octets()),
            },
            HashKey::Path => xxh3_64(asks.path.as_bytes()),
            HashKey::Header(name) => {
                let mut hash = Xxh3Default::new();
                for value in asks.headers.get_all(name) {
                    hash.write(value.as_bytes());
                }
                hash.finish()
            }
            HashKey::Cookie(name) => {
                xxh3_64(fields::cookie(asks.headers, name).unwrap_or_default().as_bytes())
            }
        }
    }
}

impl WorkerPool {
    /// `seed` differs between workers.
    pub fn new(upstream: &Upstream, seed: u64) -> Self {
        let prototype = upstream.strategy.lock().unwrap_or_else(PoisonError::into_inner);
        let strategy = prototype.for_worker(seed);
        let (idle_max, idle_timeout) = (upstream.config.idle_connections, upstream.config.idle_timeout);
        WorkerPool {
            key: strategy.key(),
            strategy: RefCell::new(strategy),
            conns: upstream.servers.iter().map(|_| Conns::new(idle_max, idle_timeout)).collect(),
        }
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self, now: Instant) {
        self.conns.iter().for_each(|conns| conns.sweep(now));
    }
}

impl Servers for Live<'_> {
    fn len(&self) -> usize {
        self.servers.len()
    }

    fn candidates(&self) -> &[u32] {
        &self.candidates
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn is_candidate(&self, server: usize) -> bool {
        self.candidates.contains(&(server as u32))
    }

    fn weight(&self, server: usize) -> u32 {
        self.servers[server].weight
    }

    fn in_flight(&self, server: usize) -> u32 {
        self.servers[server].state.in_flight()
    }
}
