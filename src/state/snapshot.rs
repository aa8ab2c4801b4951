//! One configuration, compiled: names are numbers, certificates are read, metrics are resolved.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::cache::CacheReason;
use crate::config::{self, Config, QueryKey, Source};
use crate::filter::guard::BadResponse;
use crate::filter::guard::Refusal;
use crate::net::tls::{Acceptor, Connector, TlsError, Trust, Trusts};
use crate::observe::{ClassCounters, Counter, Family, Gauge, Histogram, Metrics};
use crate::router::Router;
use crate::state::changes::{self, Marks};
use crate::state::enlist::{self, enlist};
use crate::state::{Guests, Keep, SocketId};
use crate::upstream::balance::{PickReason, Registry};
use crate::upstream::discovery::Endpoint;
use crate::upstream::health_state::{Outcome, ProbeState};
use crate::upstream::members::Recipe;
use crate::upstream::pool::{Entries, Upstream, UpstreamHandles};
use crate::upstream::retry;
use crate::upstream::server::{Condition, Entry, ProbeHandles, ServerHandles};
use crate::upstream::sticky::StickyKey;

/// One configuration, compiled and immutable.
pub struct Snapshot {
    /// What the file says.
    pub config: Config,
    /// (listener, host, path) → route.
    pub router: Router,
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// In the order of the file; one more than the file has: requests that found none.
    pub routes: Vec<Route>,
    /// As in the configuration; shared with the prober.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Bytes of bodies that wait.
    pub buffered: Gauge,
    /// What the cache counts for all routes together.
    pub cache: CacheHandles,
    /// By upstream: the ways in which routes that cache its responses read a query into the key, or did so before.
    pub keyed_by: Vec<Vec<QueryKey>>,
    /// The same by the name of the upstream, those included that are gone: what is stored outlives a configuration.
    pub keyed: BTreeMap<String, Vec<QueryKey>>,
}

/// Ways of reading queries into keys that are remembered of one upstream, and upstreams of which any are: more than
/// an operator tries out between two starts. What was stored in one that is forgotten is purged by prefix, tag or `all`.
const WAYS_MAX: usize = 16;
const KEYED_MAX: usize = 1024;

/// Where the cache's numbers are counted.
#[allow(missing_docs, reason = "named as the families are")]
pub struct CacheHandles {
    /// In the order of [`HIT_AGES`].
    pub hit_ages: Vec<Counter>,
    /// In the order of [`CacheReason::ALL`].
    pub bypassed: Vec<Counter>,
    /// In the order of [`CacheReason::ALL`].
    pub not_stored: Vec<Counter>,
    pub stored: Counter,
}

/// A listener, ready to use.
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Those that clients come by.
    pub socket: SocketId,
    /// `None`: in the clear.
    pub tls: Option<Acceptor>,
    /// How many connections it may have, and how many it has.
    pub room: (usize, Arc<Guests>),
    /// Where its numbers are counted.
    pub handles: ListenerHandles,
}

/// Where a listener's numbers are counted.
#[derive(Clone)]
#[allow(missing_docs, reason = "named as the families are")]
pub struct ListenerHandles {
    pub accepted: Counter,
    pub open: Gauge,
    pub in_flight: Gauge,
    pub refused_process: Counter,
    pub refused_listener: Counter,
    pub refused_client: Counter,
    pub refused_handshake: Counter,
    pub refused_silent: Counter,
    pub paused: Counter,
    pub tls_ok: Counter,
    pub tls_failed: Counter,
    pub tls_timed_out: Counter,
    pub received: Counter,
    pub sent: Counter,
    pub refusals: Vec<(&'static str, Counter)>,
}

/// A route, ready to use.
pub struct Route {
    /// Its name; "none" for the last one.
    pub name: String,
    /// One per listener.
    pub handles: Vec<RouteHandles>,
    /// By the words of [`CACHE_RESULTS`].
    pub cache: Vec<Counter>,
}

/// Where a route's numbers of one listener are counted.
#[derive(Clone)]
#[allow(missing_docs, reason = "named as the families are")]
pub struct RouteHandles {
    pub requests: ClassCounters,
    pub duration: Histogram,
}

/// What the cache may do with a request.
pub const CACHE_RESULTS: [&str; 8] =
    ["hit", "miss", "stale", "revalidated", "collapsed", "bypass", "observed-hit", "observed-miss"];

/// Ages of hits, told apart in metrics: up to so many seconds, and the word for it.
pub const HIT_AGES: [(u64, &str); 7] =
    [(1, "1s"), (10, "10s"), (60, "1m"), (600, "10m"), (3600, "1h"), (86_400, "1d"), (u64::MAX, "more")];

/// Why a configuration that reads well does not work.
#[derive(Debug)]
pub enum BuildError {
    /// A listener's certificates.
    ListenerTls(String, TlsError),
    /// An upstream's trust.
    UpstreamTls(String, TlsError),
    /// A strategy that nobody registered.
    Strategy(String, String),
}

/// All of them; never empty.
#[derive(Debug)]
pub struct BuildErrors(pub Vec<BuildError>);

impl Snapshot {
    /// Reads certificates, makes room for numbers. What stays as it was in the configuration `before`, its state included,
    /// is taken from there; nothing of that is changed.
    pub fn build(
        config: Config,
        keep: &Keep,
        registry: &Registry,
        before: Option<&Snapshot>,
    ) -> Result<Arc<Self>, BuildErrors> {
        let metrics = &keep.metrics;
        let mut errors = Vec::new();
        let mut made =
            Making { keep, registry, before, trusts: Trusts::default(), known: before.map(by_name) };
        let upstreams = sound(config.upstreams.iter().map(|u| made.upstream(u, &config)), &mut errors);
        let sockets = before.map(|before| changes::sockets(&before.config.listeners, &config.listeners));
        let listeners = config.listeners.iter().enumerate().map(|(index, l)| {
            let last = sockets.as_ref().and_then(|sockets| sockets[index]);
            listener(l, keep, before.zip(last).map(|(before, last)| &before.listeners[last]))
        });
        let listeners = sound(listeners, &mut errors);
        if !errors.is_empty() {
            return Err(BuildErrors(errors));
        }
        let named =
            config.routes.iter().map(|r| (r.name.as_str(), config.upstreams[r.upstream].name.as_str()));
        let routes = named.chain([("none", "none")]).map(|(r, u)| route(r, u, &config, metrics)).collect();
        let router = Router::new(&config.routes, config.listeners.len());
        let cache = cache(metrics);
        let buffered = metrics.gauge(Family::BufferedBytes, &[]);
        let keyed = keyed(&config, before.map(|before| &before.keyed));
        let ways = |upstream: &config::Upstream| keyed.get(&upstream.name).cloned().unwrap_or_default();
        let keyed_by = config.upstreams.iter().map(ways).collect();
        let snapshot =
            Snapshot { router, listeners, routes, upstreams, buffered, cache, keyed_by, keyed, config };
        Ok(Arc::new(snapshot))
    }

    /// The listeners that have no sockets yet: `open` are those that there are.
    pub fn listeners_to_bind(
        &self,
        open: &[SocketId],
    ) -> impl Iterator<Item = (SocketId, &config::Listener)> {
        let ids = self.listeners.iter().map(|listener| listener.socket);
        ids.zip(&self.config.listeners).filter(|(id, _)| !open.contains(id))
    }

    /// What its certificates and keys hold.
    pub fn marks(&self) -> Marks {
        let listeners = self.listeners.iter();
        let upstreams = self.upstreams.iter();
        Marks {
            listeners: listeners.filter_map(|l| Some((l.name.clone(), l.tls.as_ref()?.mark()))).collect(),
            upstreams: upstreams.filter_map(|u| Some((u.config.name.clone(), u.trust()?))).collect(),
        }
    }
}

/// Those that are made well; what is wrong with the others goes to `errors`.
fn sound<T>(all: impl Iterator<Item = Result<T, BuildError>>, errors: &mut Vec<BuildError>) -> Vec<T> {
    all.filter_map(|made| made.map_err(|error| errors.push(error)).ok()).collect()
}

fn by_name(before: &Snapshot) -> HashMap<&str, &Arc<Upstream>> {
    before.upstreams.iter().map(|upstream| (upstream.config.name.as_str(), upstream)).collect()
}

/// What upstreams are made of.
struct Making<'a> {
    keep: &'a Keep,
    registry: &'a Registry,
    before: Option<&'a Snapshot>,
    trusts: Trusts,
    /// Those of `before`.
    known: Option<HashMap<&'a str, &'a Arc<Upstream>>>,
}

impl Making<'_> {
    /// The one that there was, if nothing of it is to be another.
    fn upstream(&mut self, config: &config::Upstream, whole: &Config) -> Result<Arc<Upstream>, BuildError> {
        let speaks_tls = config.servers.iter().any(|server| server.tls);
        let failed = |error| BuildError::UpstreamTls(config.name.clone(), error);
        let trust = speaks_tls.then(|| self.trusts.of(&config.tls)).transpose().map_err(failed)?;
        let last = self.known.as_ref().and_then(|known| known.get(config.name.as_str()).copied());
        let is_asked_alike = self.before.is_some_and(|before| before.config.dns == whole.dns);
        let has_names = config.servers.iter().any(|server| !matches!(server.source, Source::Address(_)));
        match last {
            Some(last)
                if *last.config == *config
                    && last.trust() == trust.as_ref().map(Trust::mark)
                    && (is_asked_alike || !has_names) =>
            {
                Ok(last.clone())
            }
            _ => upstream(config, trust.as_ref(), self.keep, self.registry, last).map(Arc::new),
        }
    }
}

/// The ways of this configuration, and those of the ones before that there is room for.
fn keyed(
    config: &Config,
    before: Option<&BTreeMap<String, Vec<QueryKey>>>,
) -> BTreeMap<String, Vec<QueryKey>> {
    let mut keyed = BTreeMap::<String, Vec<QueryKey>>::new();
    for route in &config.routes {
        let Some(rules) = &route.cache else { continue };
        let ways = keyed.entry(config.upstreams[route.upstream].name.clone()).or_default();
        if !ways.contains(&rules.key.query) {
            ways.push(rules.key.query.clone());
        }
    }
    for (upstream, before) in before.into_iter().flatten() {
        if keyed.len() >= KEYED_MAX && !keyed.contains_key(upstream) {
            continue;
        }
        let ways = keyed.entry(upstream.clone()).or_default();
        let room = WAYS_MAX.saturating_sub(ways.len());
        let others: Vec<_> = before.iter().filter(|way| !ways.contains(way)).take(room).cloned().collect();
        ways.extend(others);
    }
    keyed
}

fn cache(metrics: &Metrics) -> CacheHandles {
    // A series for each reason that can be one of that kind, and a cell that nobody reads for the others.
    let by_reason = |family, is_one: fn(&CacheReason) -> bool| {
        let counter = |why: &CacheReason| is_one(why).then(|| metrics.counter(family, &[why.as_str()]));
        CacheReason::ALL.iter().map(|why| counter(why).unwrap_or_default()).collect()
    };
    CacheHandles {
        hit_ages: HIT_AGES.iter().map(|(_, age)| metrics.counter(Family::CacheHitsByAge, &[age])).collect(),
        bypassed: by_reason(Family::CacheBypassed, CacheReason::is_bypass),
        not_stored: by_reason(Family::CacheNotStored, CacheReason::is_refusal),
        stored: metrics.counter(Family::CacheStored, &[]),
    }
}

/// `last` is the one whose sockets it goes on with.
fn listener(config: &config::Listener, keep: &Keep, last: Option<&Listener>) -> Result<Listener, BuildError> {
    let metrics = &keep.metrics;
    let failed = |error| BuildError::ListenerTls(config.name.clone(), error);
    let tls = config.tls.as_ref().map(Acceptor::new).transpose().map_err(failed)?;
    // Who shows the same certificates goes on knowing its tickets.
    let known = last.and_then(|last| last.tls.clone());
    let is_same = known.as_ref().map(Acceptor::mark) == tls.as_ref().map(Acceptor::mark);
    let tls = if is_same { known } else { tls };
    let name = config.name.as_str();
    let counter = |family, word: &str| metrics.counter(family, &[name, word]);
    let refused = |word| counter(Family::ConnectionsRefused, word);
    let own = Refusal::ALL.iter().map(|r| r.as_str());
    let own = own.chain(BadResponse::ALL.iter().map(|b| b.as_str())).chain(REPLIES);
    let handles = ListenerHandles {
        accepted: metrics.counter(Family::ConnectionsAccepted, &[name]),
        open: metrics.gauge(Family::Connections, &[name]),
        in_flight: metrics.gauge(Family::RequestsInFlight, &[name]),
        refused_process: refused("limit-connections"),
        refused_listener: refused("limit-listener"),
        refused_client: refused("limit-connections-per-client"),
        refused_handshake: refused("limit-handshakes"),
        refused_silent: refused("silent"),
        paused: metrics.counter(Family::AcceptPauses, &[name]),
        tls_ok: counter(Family::TlsHandshakes, "ok"),
        tls_failed: counter(Family::TlsHandshakes, "failed"),
        tls_timed_out: counter(Family::TlsHandshakes, "timed-out"),
        received: metrics.counter(Family::RequestReceivedBytes, &[name]),
        sent: metrics.counter(Family::ResponseSentBytes, &[name]),
        refusals: own.map(|word| (word, counter(Family::Refusals, word))).collect(),
    };
    let room = (config.max_connections.unwrap_or(usize::MAX), keep.guests(name));
    let socket = last.map_or_else(|| keep.next_socket(), |last| last.socket);
    Ok(Listener { name: name.to_owned(), socket, tls, room, handles })
}

/// Reasons besides the guard's refusals; `proxy::reply` and `front::connection` say them.
const REPLIES: [&str; 28] = [
    "slow-head",
    "slow-reader",
    "http2-flood",
    "malformed",
    "head-too-large",
    "no-route",
    "body-too-large",
    "body-too-slow",
    "body-cut",
    "no-server",
    "queue-full",
    "queue-timed-out",
    "total-timed-out",
    "connection-limit",
    "no-descriptor",
    "try-timed-out",
    "connect-failed",
    "connect-timed-out",
    "tls-failed",
    "tls-timed-out",
    "stale-connection",
    "reset",
    "malformed-response",
    "response-interim-flood",
    "first-byte-timed-out",
    "only-if-cached",
    "upgrade-failed",
    "other",
];

fn route(name: &str, upstream: &str, config: &Config, metrics: &Metrics) -> Route {
    let handles = |listener: &config::Listener| RouteHandles {
        requests: metrics.classes(Family::Requests, &[&listener.name, name, upstream]),
        duration: metrics.histogram(Family::RequestDuration, &[&listener.name, name]),
    };
    Route {
        name: name.to_owned(),
        handles: config.listeners.iter().map(handles).collect(),
        cache: CACHE_RESULTS.map(|word| metrics.counter(Family::CacheRequests, &[name, word])).to_vec(),
    }
}

/// `last` is the one of its name in the configuration before.
fn upstream(
    config: &config::Upstream,
    trust: Option<&Trust>,
    keep: &Keep,
    registry: &Registry,
    last: Option<&Arc<Upstream>>,
) -> Result<Upstream, BuildError> {
    let strategy = registry
        .factory(&config.balance)
        .ok_or_else(|| BuildError::Strategy(config.name.clone(), config.balance.clone()))?;
    let is_by_hash = matches!(config.sticky, Some(config::Sticky::Hash(_)));
    let cookies = match &config.sticky {
        Some(config::Sticky::Cookie(cookie)) if cookie.secrets.is_empty() => {
            vec![StickyKey::new(keep.secret())]
        }
        Some(config::Sticky::Cookie(cookie)) => {
            cookie.secrets.iter().map(|key| StickyKey::new(key)).collect()
        }
        _ => Vec::new(),
    };
    let recipe = Recipe {
        strategy,
        by_hash: is_by_hash.then(|| registry.factory("consistent-hash")).flatten(),
        load_factor: config.load_factor,
        cookies: (!cookies.is_empty()).then(|| (config.name.clone(), cookies)),
    };
    if config.tls.insecure {
        tracing::warn!(upstream = config.name, "tls.insecure: the servers' certificates are not verified");
    }
    let known = last.map(|last| last.entries()).unwrap_or_default();
    let entries = config.servers.iter().map(|s| entry(s, config, trust, keep, &known));
    let entries = entries.collect::<Result<Vec<_>, _>>()?;
    let handles = upstream_handles(&config.name, &keep.metrics);
    let servers = enlist(&config.name, &entries, keep);
    let (config, state) = (Arc::new(config.clone()), keep.pool(&config.name));
    Ok(Upstream::new(config, state, handles, recipe, entries, servers))
}

fn upstream_handles(name: &str, metrics: &Metrics) -> UpstreamHandles {
    let by = |family, word: &str| metrics.counter(family, &[name, word]);
    UpstreamHandles {
        retries: retry::REASONS.map(|why| by(Family::Retries, why)).to_vec(),
        retries_stopped: retry::Stop::ALL.map(|why| by(Family::RetriesStopped, why.as_str())).to_vec(),
        picks: PickReason::ALL.map(|why| by(Family::Picks, why.as_str())).to_vec(),
        queued: metrics.gauge(Family::RequestsQueued, &[name]),
        panic: metrics.gauge(Family::Panic, &[name]),
        sessions: metrics.gauge(Family::Sessions, &[name]),
    }
}

fn entry(
    config: &config::Server,
    pool: &config::Upstream,
    trust: Option<&Trust>,
    keep: &Keep,
    known: &Entries,
) -> Result<(Arc<Entry>, Vec<Endpoint>), BuildError> {
    let name = server_name(config);
    let tls = trust.filter(|_| config.tls).map(|trust| Connector::new(trust, &config.host)).transpose();
    let probe = pool.health.as_ref().map(|health| ProbeState::starting(health.start));
    let entry = Entry {
        host: HeaderValue::from_str(&name).unwrap_or_else(|_| HeaderValue::from_static("")),
        tls: tls.map_err(|error| BuildError::UpstreamTls(pool.name.clone(), error))?,
        is_name: !matches!(config.source, Source::Address(_)),
        first: (probe.unwrap_or_default(), config.drain),
        priority: u32::from(config.priority),
        max_requests: config.max_requests,
        max_connections: config.max_connections,
        handles: server_handles(pool, &name, &keep.metrics),
        name,
    };
    // What names stand for is found out later, and again and again; until then it is what it was.
    let endpoints = match config.source {
        Source::Address(ip) => {
            vec![Endpoint { priority: 0, address: SocketAddr::new(ip, config.port), weight: config.weight }]
        }
        Source::Name(_) => {
            let known = enlist::known(known, &entry.name).into_iter();
            known.map(|endpoint| Endpoint { weight: config.weight, ..endpoint }).collect()
        }
        Source::Service(_) => enlist::known(known, &entry.name),
    };
    Ok((Arc::new(entry), endpoints))
}

fn server_handles(pool: &config::Upstream, name: &str, metrics: &Metrics) -> ServerHandles {
    let labels: &[&str] = &[&pool.name, name];
    ServerHandles {
        requests: metrics.classes(Family::ServerRequests, labels),
        connect: metrics.histogram(Family::ServerConnectDuration, labels),
        first_byte: metrics.histogram(Family::ServerFirstByte, labels),
        ejections: metrics.counter(Family::Ejections, labels),
        probes: pool.health.as_ref().map(|_| probes(metrics, labels)).unwrap_or_default(),
        healthy: metrics.gauge(Family::ServerHealthy, labels),
        in_flight: metrics.gauge(Family::ServerRequestsInFlight, labels),
        active: metrics.gauge(Family::ServerConnections, &[&pool.name, name, "active"]),
        idle: metrics.gauge(Family::ServerConnections, &[&pool.name, name, "idle"]),
    }
}

fn probes(metrics: &Metrics, server: &[&str]) -> ProbeHandles {
    let counter = |family, word| metrics.counter(family, &[server, &[word]].concat());
    ProbeHandles {
        ok: counter(Family::Probes, Outcome::Success.as_str()),
        failed: counter(Family::Probes, Outcome::Failure.as_str()),
        rose: counter(Family::HealthChanges, Condition::Healthy.as_str()),
        fell: counter(Family::HealthChanges, Condition::Unhealthy.as_str()),
    }
}

/// What a server is called: in metrics, and from one configuration to the next.
pub fn server_name(server: &config::Server) -> String {
    match &server.source {
        Source::Service(name) => name.clone(),
        Source::Address(_) | Source::Name(_) => authority(server),
    }
}

/// Host and port, IPv6 in brackets.
fn authority(server: &config::Server) -> String {
    let config::Server { host, port, .. } = server;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Route {
    /// Where to count what the cache did.
    pub fn cache_counter(&self, result: &str) -> Option<Counter> {
        CACHE_RESULTS.iter().position(|word| *word == result).map(|index| self.cache[index])
    }
}

impl ListenerHandles {
    /// Where to count a reply of our own.
    pub fn refusal(&self, word: &str) -> Option<Counter> {
        let found = |word: &str| self.refusals.iter().find(|(known, _)| *known == word).map(|(_, c)| *c);
        found(word).or_else(|| found("other"))
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BuildError::ListenerTls(name, error) => write!(f, "listener {name}: tls: {error}"),
            BuildError::UpstreamTls(name, error) => write!(f, "upstream {name}: tls: {error}"),
            BuildError::Strategy(pool, name) => write!(f, "upstream {pool}: no strategy is called {name:?}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// One on each line.
impl fmt::Display for BuildErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.0.iter().map(BuildError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for BuildErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_into_the_key_are_remembered_by_upstream_and_bounded() {
        let text = |upstream: &str, query: &str| {
            format!(
                "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:0\"\n[[route]]\nupstream = \"{upstream}\"\n\
                 cache = {{ key = {{ query = {query} }} }}\n[upstream.{upstream}]\nservers = [\"127.0.0.1:1\"]\n"
            )
        };
        let config = |text: &str| {
            config::parse(text, std::path::Path::new("t.toml"), &["round-robin"])
                .unwrap_or_else(|mistakes| panic!("{mistakes}"))
        };
        let mut known = BTreeMap::new();
        for n in 0..2 * WAYS_MAX {
            known = keyed(&config(&text("app", &format!("[\"q{n}\"]"))), Some(&known));
        }
        assert_eq!(known["app"].len(), WAYS_MAX);
        let newest = format!("q{}", 2 * WAYS_MAX - 1);
        assert!(matches!(&known["app"][0], QueryKey::Only(names) if names[0].text == newest));

        let again = keyed(&config(&text("other", "\"all\"")), Some(&known));
        assert_eq!((&again["app"], again["other"].len()), (&known["app"], 1), "what is gone is remembered");

        let many = (0..2 * KEYED_MAX).map(|n| (format!("gone-{n}"), vec![QueryKey::All])).collect();
        let bounded = keyed(&config(&text("app", "\"all\"")), Some(&many));
        assert_eq!((bounded.len(), bounded["app"].len()), (KEYED_MAX, 1));
    }
}
