//! `/api/v1/status`: what is configured, and how it is doing.

use serde::Serialize;

use crate::admin::Admin;
use crate::config::{BACKUP, HostPattern, PathPattern};
use crate::state::{Snapshot, Stage};
use crate::upstream::health_state::ProbeResult;
use crate::upstream::pool::Upstream;

#[derive(Serialize)]
pub struct Status<'a> {
    version: &'static str,
    stage: &'static str,
    uptime_seconds: u64,
    workers: Vec<WorkerStatus>,
    connections: usize,
    listeners: Vec<ListenerStatus<'a>>,
    routes: Vec<RouteStatus<'a>>,
    upstreams: Vec<UpstreamStatus<'a>>,
    cache: CacheStatus,
}

#[derive(Serialize)]
struct WorkerStatus {
    connections: usize,
}

#[derive(Serialize)]
struct ListenerStatus<'a> {
    name: &'a str,
    address: String,
    tls: bool,
    connections: i64,
    requests_in_flight: i64,
}

#[derive(Serialize)]
struct RouteStatus<'a> {
    name: &'a str,
    listener: Option<&'a str>,
    host: String,
    path: String,
    upstream: &'a str,
    cache: bool,
}

#[derive(Serialize)]
struct UpstreamStatus<'a> {
    name: &'a str,
    balance: &'a str,
    sticky: bool,
    queued: usize,
    panic: bool,
    servers: Vec<ServerStatus>,
}

#[derive(Serialize)]
struct ServerStatus {
    address: String,
    state: &'static str,
    weight: u32,
    priority: u32,
    backup: bool,
    tls: bool,
    in_flight: u32,
    requests: u64,
    failures: u64,
    ejections: u64,
    /// `None` where there are no probes, or not yet.
    probe: Option<ProbeStatus>,
}

#[derive(Serialize)]
struct ProbeStatus {
    outcome: &'static str,
    cause: Option<String>,
    seconds_ago: u64,
}

#[derive(Serialize)]
struct CacheStatus {
    bytes: u64,
    bytes_max: u64,
    entries: u64,
}

/// As it is now.
pub fn of<'a>(admin: &'a Admin, snapshot: &'a Snapshot) -> Status<'a> {
    let keep = &admin.keep;
    let config = &snapshot.config;
    let listeners =
        snapshot.listeners.iter().zip(admin.in_force.addresses()).map(|(listener, (_, address))| {
            ListenerStatus {
                name: &listener.name,
                address: address.to_string(),
                tls: listener.tls.is_some(),
                connections: keep.metrics.level(listener.handles.open),
                requests_in_flight: keep.metrics.level(listener.handles.in_flight),
            }
        });
    let routes = config.routes.iter().map(|route| RouteStatus {
        name: &route.name,
        listener: route.listener.map(|index| config.listeners[index].name.as_str()),
        host: host(&route.host),
        path: path(&route.path),
        upstream: &config.upstreams[route.upstream].name,
        cache: route.cache.is_some(),
    });
    Status {
        version: env!("CARGO_PKG_VERSION"),
        stage: if *admin.stage.borrow() == Stage::Serving { "serving" } else { "draining" },
        uptime_seconds: keep.now().as_secs(),
        workers: (0..keep.workers()).map(|w| WorkerStatus { connections: keep.seats.taken_by(w) }).collect(),
        connections: keep.seats.taken(),
        listeners: listeners.collect(),
        routes: routes.collect(),
        upstreams: snapshot.upstreams.iter().map(|u| upstream(admin, u)).collect(),
        cache: CacheStatus {
            bytes: keep.cache.bytes(),
            bytes_max: config.cache.max_size,
            entries: keep.cache.len(),
        },
    }
}

fn upstream<'a>(admin: &Admin, upstream: &'a Upstream) -> UpstreamStatus<'a> {
    let (metrics, now) = (&admin.keep.metrics, admin.keep.now());
    let members = upstream.members();
    let servers = members.servers.iter().map(|server| {
        let requests = &server.entry.handles.requests;
        let failures = metrics.total(requests.none());
        let answered: u64 = [100, 200, 300, 400, 500].iter().map(|c| metrics.total(requests.of(*c))).sum();
        ServerStatus {
            address: server.id.clone(),
            state: server.state.condition(now).as_str(),
            weight: server.weight,
            priority: server.priority >> u16::BITS,
            backup: server.priority >> u16::BITS == u32::from(BACKUP),
            tls: server.entry.tls.is_some(),
            in_flight: server.state.in_flight(),
            requests: answered + failures,
            failures,
            ejections: metrics.total(server.entry.handles.ejections),
            probe: server.state.last_probe().map(probe),
        }
    });
    UpstreamStatus {
        name: &upstream.config.name,
        balance: &upstream.config.balance,
        sticky: upstream.config.sticky.is_some(),
        queued: upstream.state.queue.len(),
        panic: upstream.roster(now).is_panicking,
        servers: servers.collect(),
    }
}

fn probe(last: ProbeResult) -> ProbeStatus {
    ProbeStatus {
        outcome: last.outcome.as_str(),
        cause: last.failure,
        seconds_ago: last.at.elapsed().as_secs(),
    }
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Any => "*".into(),
        HostPattern::Exact(name) => name.clone(),
        HostPattern::Wildcard(name) => format!("*.{name}"),
    }
}

fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Exact(path) => path.clone(),
        PathPattern::Prefix(path) => format!("{path}*"),
        PathPattern::Wildcard { segments, tail } => {
            let segments = segments.iter().map(|s| s.as_deref().unwrap_or("*"));
            let mut path: String = segments.flat_map(|segment| ["/", segment]).collect();
            if *tail {
                path.push_str("/*");
            }
            path
        }
    }
}
