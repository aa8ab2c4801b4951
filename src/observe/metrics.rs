//! Every number Tidegate exports, and how it is found, counted and scraped.
//!
//! [`FAMILIES`] is the list. A snapshot resolves the series it will need to
//! handles once, when it is built; a request counts through [`Cells`] without
//! a look-up; a scrape sums the shards. Asking twice for the same series gives
//! the same handle, so a reload keeps the numbers. What a reload leaves behind
//! is no longer exported, and its cells serve again when nobody counts there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use prometheus::Registry;
use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::core::Desc;
use prometheus::proto;

use super::cells::BUCKETS;
use super::cells::CELLS_MAX;
use super::cells::CELLS_RESERVED;
use super::cells::CHUNK_CELLS;
use super::cells::Cells;
use super::cells::Counter;
use super::cells::Gauge;
use super::cells::HISTOGRAM_CELLS;
use super::cells::Histogram;
use super::cells::SUM_OFFSET;
use super::cells::Shard;

/// All metrics of the process.
pub struct Metrics {
    store: Arc<Store>,
    registry: Registry,
}

impl Metrics {
    /// One shard for each of `workers` and one more for the control thread.
    pub fn new(workers: usize) -> Arc<Metrics> {
        let store = Arc::new(Store::new(workers));
        let metrics = Metrics { registry: registry(&store), store };
        metrics.set(metrics.gauge(Family::Workers, &[]), i64::try_from(workers).unwrap_or(i64::MAX));
        metrics.set(metrics.gauge(Family::Build, &[env!("CARGO_PKG_VERSION"), RUST]), 1);
        Arc::new(metrics)
    }

    /// The cells of worker `shard`; the number after the last worker is the control thread's.
    ///
    /// # Panics
    /// When there is no such shard, which is a mistake at start-up.
    pub fn cells(&self, shard: usize) -> Cells {
        Cells::new(self.store.shards[shard].clone())
    }

    /// The counter with these label values, in the order of the family's label names.
    pub fn counter(&self, family: Family, labels: &[&str]) -> Counter {
        Counter(self.store.resolve(family, Kind::Counter, labels))
    }

    /// The gauge with these label values, in the order of the family's label names.
    pub fn gauge(&self, family: Family, labels: &[&str]) -> Gauge {
        Gauge(self.store.resolve(family, Kind::Gauge, labels))
    }

    /// The histogram with these label values, in the order of the family's label names.
    pub fn histogram(&self, family: Family, labels: &[&str]) -> Histogram {
        Histogram(self.store.resolve(family, Kind::Histogram, labels))
    }

    /// The counters of all classes of a family whose last label is `class`; `labels` are the others.
    pub fn classes(&self, family: Family, labels: &[&str]) -> ClassCounters {
        let mut labels = labels.to_vec();
        ClassCounters(CLASSES.map(|class| {
            labels.push(class);
            let counter = self.counter(family, &labels);
            labels.pop();
            counter
        }))
    }

    /// States a level that is known as a whole: the size of the cache, the health of a server.
    /// Any thread may. A gauge is either set here or moved through [`Cells`], not both.
    pub fn set(&self, gauge: Gauge, level: i64) {
        self.store.stated.set(gauge.0, level.cast_unsigned());
    }

    /// States a total that is counted elsewhere and only copied at the scrape: lost log lines.
    /// Any thread may. A counter is either set here or counted through [`Cells`], not both.
    pub fn set_total(&self, counter: Counter, total: u64) {
        self.store.stated.set(counter.0, total);
    }

    /// What a counter has come to, over all threads.
    pub fn total(&self, counter: Counter) -> u64 {
        self.store.sum(counter.0)
    }

    /// Where a gauge stands, over all threads.
    pub fn level(&self, gauge: Gauge) -> i64 {
        self.store.sum(gauge.0).cast_signed()
    }

    /// Stops exporting the series that `keep` refuses by their labels, names and values. A series that comes back begins
    /// at zero. `keep` must not ask for series itself.
    ///
    /// A request on an older snapshot may still count there: whoever knows that there is none any more gives the cells
    /// back, by [`Metrics::recycle`].
    #[must_use = "the cells of what is gone serve again once they are given back"]
    pub fn retain(&self, mut keep: impl FnMut(&Labels<'_>) -> bool) -> Discarded {
        let mut gone = Vec::new();
        let is_kept = |(family, values): &SeriesName, start: &mut u32| {
            let definition = &FAMILIES[*family as usize];
            let is_kept = keep(&Labels { names: definition.labels, values });
            if !is_kept {
                gone.push((definition.kind, *start));
            }
            is_kept
        };
        self.store.series().by_name.retain(is_kept);
        Discarded(gone)
    }

    /// The cells of series that are gone, and that nobody has handles to any more, may serve others.
    pub fn recycle(&self, discarded: Discarded) {
        for (kind, start) in discarded.0 {
            self.store.clear(start, cells_of(kind));
            let mut series = self.store.series();
            match kind {
                Kind::Histogram => series.free_histograms.push(start),
                Kind::Counter | Kind::Gauge => series.free_cells.push(start),
            }
        }
    }

    /// Cells that no series has ever had, and those that serve again.
    #[cfg(test)]
    fn cells_used(&self) -> (u32, usize) {
        let series = self.store.series();
        (series.next, series.free_cells.len() + series.free_histograms.len() * HISTOGRAM_CELLS as usize)
    }

    /// Everything, in Prometheus's text format. Reads `/proc`: call it from the control thread.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // A family that cannot be written is left out by the encoder's own
        // checks; the others are worth having.
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics are incomplete");
        }
        text
    }
}

/// The labels of one series.
pub struct Labels<'a> {
    names: &'static [&'static str],
    values: &'a [Box<str>],
}

impl Labels<'_> {
    /// The value of the label `name`, if the series has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.names.iter().position(|label| *label == name)?;
        self.values.get(index).map(AsRef::as_ref)
    }
}

/// The cells of series that are no longer exported.
#[derive(Default)]
pub struct Discarded(Vec<(Kind, u32)>);

/// One counter for each class of status, and one for clients that left before there was any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassCounters([Counter; CLASSES.len()]);

impl ClassCounters {
    /// The counter for `status`; anything that is not a status, such as 0, counts as "none".
    #[inline]
    pub fn of(&self, status: u16) -> Counter {
        match status / 100 {
            class @ 1..=5 => self.0[class as usize],
            _ => self.0[0],
        }
    }

    /// The counter for clients that went away before there was a status.
    #[inline]
    pub fn none(&self) -> Counter {
        self.0[0]
    }
}

/// Values of the label `class`, at the index of their first digit.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The compiler, if the build names it, or else the oldest one that would do.
const RUST: &str = match option_env!("TIDEGATE_RUST_VERSION") {
    Some(version) => version,
    None => concat!(">=", env!("CARGO_PKG_RUST_VERSION")),
};

/// The name of a family of series, for code; [`FAMILIES`] has the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the help text of each is in FAMILIES")]
pub enum Family {
    Requests,
    ServerRequests,
    RequestDuration,
    ServerConnectDuration,
    ServerFirstByte,
    RequestReceivedBytes,
    ResponseSentBytes,
    ConnectionsAccepted,
    Connections,
    ConnectionsRefused,
    ConnectionsLimit,
    AcceptPauses,
    RequestsInFlight,
    BufferedBytes,
    ServerRequestsInFlight,
    ServerConnections,
    Retries,
    RetriesStopped,
    Picks,
    RequestsQueued,
    Panic,
    Sessions,
    Ejections,
    ServerHealthy,
    Probes,
    HealthChanges,
    DnsLookups,
    DnsAddresses,
    CacheRequests,
    CacheHitsByAge,
    CacheBypassed,
    CacheNotStored,
    CacheStored,
    CacheEvicted,
    CachePurged,
    CacheBytes,
    CacheEntries,
    TlsHandshakes,
    Refusals,
    AccessLogLost,
    ConfigReloads,
    ConfigReloadSuccessful,
    ConfigReloadTime,
    Workers,
    Build,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

struct Definition {
    family: Family,
    kind: Kind,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
}

const fn define(
    family: Family,
    kind: Kind,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Definition {
    Definition { family, kind, name, labels, help }
}

/// Every family, in the order of [`Family`].
///
/// Label values come from the configuration or from our own enums, never from
/// a client: their number is bounded. Histograms all have the same buckets.
#[rustfmt::skip]
const FAMILIES: &[Definition] = {
    use Family::*;
    use Kind::*;
    &[
        define(Requests, Counter, "tidegate_requests_total", &["listener", "route", "upstream", "class"],
            "Requests answered, by class of the status; class none: the client left before there was one."),
        define(ServerRequests, Counter, "tidegate_server_requests_total", &["upstream", "server", "class"],
            "Attempts sent to a server, by class of its status; class none: it gave none."),
        define(RequestDuration, Histogram, "tidegate_request_duration_seconds", &["listener", "route"],
            "Time from a request's head to the end of its response."),
        define(ServerConnectDuration, Histogram, "tidegate_server_connect_duration_seconds", &["upstream", "server"],
            "Time to connect to a server, TLS included."),
        define(ServerFirstByte, Histogram, "tidegate_server_first_byte_seconds", &["upstream", "server"],
            "Time from sending a request to a server to the head of its response."),
        define(RequestReceivedBytes, Counter, "tidegate_request_received_bytes_total", &["listener"],
            "Bytes of request bodies received from clients."),
        define(ResponseSentBytes, Counter, "tidegate_response_sent_bytes_total", &["listener"],
            "Bytes of response bodies sent to clients."),
        define(ConnectionsAccepted, Counter, "tidegate_connections_total", &["listener"],
            "Client connections accepted."),
        define(Connections, Gauge, "tidegate_connections", &["listener"],
            "Client connections open now."),
        define(ConnectionsRefused, Counter, "tidegate_connections_refused_total", &["listener", "reason"],
            "Client connections closed before their first request, by reason."),
        define(ConnectionsLimit, Gauge, "tidegate_connections_limit", &[],
            "Client connections that there may be at once, as far as the configuration and file descriptors go."),
        define(AcceptPauses, Counter, "tidegate_accept_pauses_total", &["listener"],
            "Times that accepting paused, for want of a file descriptor or of memory in the kernel."),
        define(RequestsInFlight, Gauge, "tidegate_requests_in_flight", &["listener"],
            "Requests begun and not yet ended."),
        define(BufferedBytes, Gauge, "tidegate_buffered_bytes", &[],
            "Bytes of bodies that wait in the process: for clients, or to be sent again."),
        define(ServerRequestsInFlight, Gauge, "tidegate_server_requests_in_flight", &["upstream", "server"],
            "Attempts at a server begun and not yet ended."),
        define(ServerConnections, Gauge, "tidegate_server_connections", &["upstream", "server", "state"],
            "Connections to a server open now, by state: active or idle."),
        define(Retries, Counter, "tidegate_retries_total", &["upstream", "reason"],
            "Attempts made again, by the reason the one before failed."),
        define(RetriesStopped, Counter, "tidegate_retries_stopped_total", &["upstream", "reason"],
            "Failed attempts that were not made again, by what kept them from it."),
        define(Picks, Counter, "tidegate_picks_total", &["upstream", "reason"],
            "Servers chosen for an attempt, by why it was this one."),
        define(RequestsQueued, Gauge, "tidegate_requests_queued", &["upstream"],
            "Requests waiting for a server, because all are at their limit."),
        define(Panic, Gauge, "tidegate_upstream_panic", &["upstream"],
            "Whether so few servers are healthy that health is ignored: 1 or 0."),
        define(Sessions, Gauge, "tidegate_sticky_sessions", &["upstream"],
            "Sessions learned from servers' cookies and remembered."),
        define(Ejections, Counter, "tidegate_ejections_total", &["upstream", "server"],
            "Times a server was taken out because requests to it failed."),
        define(ServerHealthy, Gauge, "tidegate_server_healthy", &["upstream", "server"],
            "Addresses of a server that may be picked: 1 or 0 where it is one address."),
        define(Probes, Counter, "tidegate_probes_total", &["upstream", "server", "outcome"],
            "Probes of a server that came back, by outcome: ok or failed."),
        define(HealthChanges, Counter, "tidegate_server_health_changes_total", &["upstream", "server", "to"],
            "Times that probes changed a server's health, by what it became: healthy or unhealthy."),
        define(DnsLookups, Counter, "tidegate_dns_lookups_total", &["upstream", "outcome"],
            "Looks at DNS for the servers of an upstream, by outcome: ok, partial, nothing, timed-out, failed."),
        define(DnsAddresses, Gauge, "tidegate_dns_addresses", &["upstream", "name"],
            "Servers that a name of the configuration stands for."),
        define(CacheRequests, Counter, "tidegate_cache_requests_total", &["route", "result"],
            "Requests by what the cache did: hit, miss, stale, revalidated, collapsed, bypass; what it would have done: observed-hit, observed-miss."),
        define(CacheHitsByAge, Counter, "tidegate_cache_hits_by_age_total", &["age"],
            "Responses from the cache, by the age they had reached at most."),
        define(CacheBypassed, Counter, "tidegate_cache_bypassed_total", &["reason"],
            "Requests that the cache had no part in, by reason."),
        define(CacheNotStored, Counter, "tidegate_cache_not_stored_total", &["reason"],
            "Responses that were fetched for the cache and not stored, by reason."),
        define(CacheStored, Counter, "tidegate_cache_stored_total", &[],
            "Responses stored, validated ones included."),
        define(CacheEvicted, Counter, "tidegate_cache_evicted_total", &[],
            "Things that left the cache to make room, or found none."),
        define(CachePurged, Counter, "tidegate_cache_purged_total", &["kind"],
            "Responses purged, by kind: hard or soft."),
        define(CacheBytes, Gauge, "tidegate_cache_bytes", &[],
            "Bytes of keys, heads and bodies in the cache."),
        define(CacheEntries, Gauge, "tidegate_cache_entries", &[],
            "Responses in the cache."),
        define(TlsHandshakes, Counter, "tidegate_tls_handshakes_total", &["listener", "result"],
            "TLS handshakes with clients, by result."),
        define(Refusals, Counter, "tidegate_refusals_total", &["listener", "reason"],
            "Requests that Tidegate answered itself instead of a server, by reason."),
        define(AccessLogLost, Counter, "tidegate_access_log_lost_total", &[],
            "Access-log lines lost because their destination was too slow or failed."),
        define(ConfigReloads, Counter, "tidegate_config_reloads_total", &["outcome"],
            "Reloads of the configuration, by outcome: ok, or failed and nothing changed."),
        define(ConfigReloadSuccessful, Gauge, "tidegate_config_last_reload_successful", &[],
            "Whether the last reload, or the start, put its configuration in force: 1 or 0."),
        define(ConfigReloadTime, Gauge, "tidegate_config_last_reload_success_timestamp_seconds", &[],
            "When the configuration in force was put there, in seconds since 1970."),
        define(Workers, Gauge, "tidegate_workers", &[],
            "Worker threads."),
        define(Build, Gauge, "tidegate_build_info", &["version", "rust"],
            "Always 1; the labels tell which build is running."),
    ]
};

// A family finds its definition by its number.
const _: () = {
    let mut index = 0;
    while index < FAMILIES.len() {
        assert!(FAMILIES[index].family as usize == index);
        index += 1;
    }
};

/// The cells of all threads and the names of what they hold.
struct Store {
    /// One for each worker, then the control thread's.
    shards: Box<[Arc<Shard>]>,
    /// Numbers that are set as a whole, by any thread.
    stated: Shard,
    /// Never taken by a request.
    series: Mutex<Series>,
    descriptions: Vec<Desc>,
}

/// A family and the values of its labels.
type SeriesName = (Family, Box<[Box<str>]>);

struct Series {
    /// Where each series' cells begin.
    by_name: HashMap<SeriesName, u32>,
    /// The first cell that belonged to nobody yet.
    next: u32,
    /// Where cells of series that are gone begin, all of them 0.
    free_cells: Vec<u32>,
    free_histograms: Vec<u32>,
    /// Metrics that had more series than there was room for.
    full: HashSet<Family>,
}

impl Series {
    /// Room for `cells` in a row, within one chunk; `None` when the table is full.
    fn allot(&mut self, cells: u32) -> Option<u32> {
        let free = if cells == 1 { &mut self.free_cells } else { &mut self.free_histograms };
        if let Some(start) = free.pop() {
            return Some(start);
        }
        let left = CHUNK_CELLS - self.next % CHUNK_CELLS;
        let start = if cells <= left { self.next } else { self.next + left };
        if start + cells > CELLS_MAX {
            return None;
        }
        self.next = start + cells;
        Some(start)
    }
}

impl Store {
    fn new(workers: usize) -> Store {
        Store {
            shards: (0..=workers).map(|_| Arc::new(Shard::new())).collect(),
            stated: Shard::new(),
            series: Mutex::new(Series {
                by_name: HashMap::new(),
                next: CELLS_RESERVED,
                free_cells: Vec::new(),
                free_histograms: Vec::new(),
                full: HashSet::new(),
            }),
            descriptions: FAMILIES.iter().map(describe).collect(),
        }
    }

    /// The first cell of a series, which is made if it is new.
    fn resolve(&self, family: Family, kind: Kind, labels: &[&str]) -> u32 {
        let definition = &FAMILIES[family as usize];
        debug_assert_eq!(definition.kind, kind, "{}", definition.name);
        debug_assert_eq!(definition.labels.len(), labels.len(), "{}", definition.name);
        let name = (family, labels.iter().map(|&label| label.into()).collect());
        let mut series = self.series();
        if let Some(&start) = series.by_name.get(&name) {
            return start;
        }
        // By the table's kind, so that a mistaken caller cannot write beyond its series.
        let cells = cells_of(definition.kind).max(cells_of(kind));
        let Some(start) = series.allot(cells) else {
            // Once for each metric: with 100,000 routes there are hundreds of thousands of them.
            if series.full.insert(family) {
                tracing::warn!(
                    metric = definition.name,
                    "too many series: some of this metric are not counted"
                );
            }
            return 0;
        };
        series.by_name.insert(name, start);
        start
    }

    /// Nothing panics while this is held, and half a change cannot be seen: a poisoned lock is as good.
    fn series(&self) -> MutexGuard<'_, Series> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum(&self, index: u32) -> u64 {
        let counted = self.shards.iter().map(|shard| shard.read(index));
        counted.fold(self.stated.read(index), u64::wrapping_add)
    }

    /// Only when nobody counts there any more.
    fn clear(&self, start: u32, cells: u32) {
        for index in start..start + cells {
            self.shards.iter().for_each(|shard| shard.clear(index));
            self.stated.clear(index);
        }
    }

    fn metric(&self, definition: &Definition, labels: &[Box<str>], start: u32) -> proto::Metric {
        let pairs = definition.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.as_ref().to_owned());
            pair
        });
        let mut metric = proto::Metric::from_label(pairs.collect());
        match definition.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(self.sum(start) as f64);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(self.sum(start).cast_signed() as f64);
                metric.set_gauge(gauge);
            }
            Kind::Histogram => metric.set_histogram(self.histogram(start)),
        }
        metric
    }

    fn histogram(&self, start: u32) -> proto::Histogram {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(BUCKETS.len());
        for (index, bound) in (start..).zip(BUCKETS) {
            count += self.sum(index);
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(count);
            buckets.push(bucket);
        }
        count += self.sum(start + BUCKETS.len() as u32);
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        // The count is the buckets' own, so that a scrape agrees with itself.
        histogram.set_sample_count(count);
        histogram.set_sample_sum(self.sum(start + SUM_OFFSET) as f64 / 1e6);
        histogram
    }
}

fn cells_of(kind: Kind) -> u32 {
    if kind == Kind::Histogram { HISTOGRAM_CELLS } else { 1 }
}

/// What the registry asks at each scrape.
struct Scrape(Arc<Store>);

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut families: Vec<_> = FAMILIES.iter().map(empty).collect();
        for ((family, labels), &start) in &self.0.series().by_name {
            let metric = self.0.metric(&FAMILIES[*family as usize], labels, start);
            families[*family as usize].mut_metric().push(metric);
        }
        families
    }
}

/// Our own registry: the global one belongs to whoever embeds us.
fn registry(store: &Arc<Store>) -> Registry {
    let registry = Registry::new();
    let ours: Box<dyn Collector> = Box::new(Scrape(store.clone()));
    #[cfg(target_os = "linux")]
    let all = [ours, Box::new(prometheus::process_collector::ProcessCollector::for_self())];
    #[cfg(not(target_os = "linux"))]
    let all = [ours];
    for collector in all {
        registry.register(collector).expect("names differ, as a test checks, and the registry is new");
    }
    registry
}

fn describe(definition: &Definition) -> Desc {
    let labels = definition.labels.iter().map(|&label| label.to_owned()).collect();
    Desc::new(definition.name.to_owned(), definition.help.to_owned(), labels, HashMap::new())
        .expect("names and labels are constants, which a test checks")
}

fn empty(definition: &Definition) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(definition.name.to_owned());
    family.set_help(definition.help.to_owned());
    family.set_field_type(match definition.kind {
        Kind::Counter => proto::MetricType::COUNTER,
        Kind::Gauge => proto::MetricType::GAUGE,
        Kind::Histogram => proto::MetricType::HISTOGRAM,
    });
    family
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::process::Stdio;
    use std::time::Duration;

    use super::*;

    #[test]
    fn asking_twice_gives_the_same_series() {
        let metrics = Metrics::new(1);

        let first = metrics.histogram(Family::RequestDuration, &["public", "r"]);
        let other = metrics.histogram(Family::RequestDuration, &["public", "s"]);

        assert_eq!(metrics.histogram(Family::RequestDuration, &["public", "r"]), first);
        assert_ne!(other, first);
    }

    #[test]
    fn totals_add_up_over_threads_while_series_are_added() {
        let metrics = Metrics::new(4);
        let counter = metrics.counter(Family::ConnectionsAccepted, &["public"]);
        let gauge = metrics.gauge(Family::Connections, &["public"]);
        let histogram = metrics.histogram(Family::RequestDuration, &["public", "r"]);

        std::thread::scope(|scope| {
            for worker in 0..4 {
                let cells = metrics.cells(worker);
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        cells.inc(counter);
                        cells.add(counter, 2);
                        cells.gauge_add(gauge, if worker < 2 { 1 } else { -1 });
                        cells.observe(histogram, Duration::from_millis(3));
                    }
                });
            }
            // Enough to need more chunks.
            let late = metrics.cells(4);
            for server in 0..200 {
                let name = server.to_string();
                late.observe(metrics.histogram(Family::ServerFirstByte, &["app", &name]), Duration::ZERO);
            }
        });

        assert_eq!(metrics.total(counter), 120_000);
        assert_eq!(metrics.level(gauge), 0);
        let text = metrics.render();
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line} not in {text}");
        has(r#"tidegate_request_duration_seconds_bucket{listener="public",route="r",le="0.0025"} 0"#);
        has(r#"tidegate_request_duration_seconds_bucket{listener="public",route="r",le="0.005"} 40000"#);
        has(r#"tidegate_request_duration_seconds_bucket{listener="public",route="r",le="+Inf"} 40000"#);
        has(r#"tidegate_request_duration_seconds_count{listener="public",route="r"} 40000"#);
        has(r#"tidegate_request_duration_seconds_sum{listener="public",route="r"} 120"#);
        has(r#"tidegate_server_first_byte_seconds_count{upstream="app",server="199"} 1"#);
        has("tidegate_workers 4");
    }

    #[test]
    fn a_stated_level_replaces_the_one_before() {
        let metrics = Metrics::new(1);
        let gauge = metrics.gauge(Family::CacheBytes, &[]);

        metrics.set(gauge, 7);
        metrics.set(gauge, -3);

        assert_eq!(metrics.level(gauge), -3);
    }

    #[test]
    fn a_status_finds_its_class() {
        let metrics = Metrics::new(1);
        let classes = metrics.classes(Family::ServerRequests, &["app", "s"]);

        for (status, class) in
            [(0, "none"), (101, "1xx"), (200, "2xx"), (304, "3xx"), (499, "4xx"), (599, "5xx")]
        {
            let counter = metrics.counter(Family::ServerRequests, &["app", "s", class]);
            assert_eq!(classes.of(status), counter, "{status}");
        }
        assert_eq!(classes.of(600), classes.none());
    }

    #[test]
    fn a_series_that_is_not_retained_is_no_longer_exported() {
        let metrics = Metrics::new(1);
        let gone = metrics.counter(Family::Ejections, &["app", "old"]);
        metrics.cells(0).inc(gone);

        let discarded = metrics.retain(|labels| labels.get("server") != Some("old"));

        assert!(!metrics.render().contains("old"));
        assert_ne!(metrics.counter(Family::Ejections, &["app", "old"]), gone);
        assert_eq!(discarded.0, [(Kind::Counter, gone.0)]);
    }

    #[test]
    fn cells_that_are_given_back_serve_again_and_begin_at_zero() {
        let metrics = Metrics::new(1);
        let names = |round: u32| format!("server-{round}");
        let mut used = Vec::new();
        for round in 0..50 {
            let name = names(round);
            let count = metrics.counter(Family::Ejections, &["app", &name]);
            let level = metrics.gauge(Family::ServerHealthy, &["app", &name]);
            let times = metrics.histogram(Family::ServerFirstByte, &["app", &name]);
            assert_eq!((metrics.total(count), metrics.level(level)), (0, 0), "round {round}");
            metrics.cells(0).inc(count);
            metrics.set(level, 7);
            metrics.cells(1).observe(times, Duration::from_secs(1));
            let text = metrics.render();
            let line =
                format!("tidegate_server_first_byte_seconds_count{{upstream=\"app\",server=\"{name}\"}} 1");
            assert!(text.contains(&line), "{line} not in {text}");

            let discarded = metrics.retain(|labels| labels.get("server") != Some(&name));
            metrics.recycle(discarded);
            used.push(metrics.cells_used());
        }

        assert!(used.iter().all(|now| *now == used[0]), "{used:?}");
    }

    #[test]
    fn series_beyond_the_limit_are_not_counted_and_harm_nobody() {
        let metrics = Metrics::new(1);
        metrics.store.series().next = CELLS_MAX - 1;

        let last = metrics.counter(Family::Ejections, &["app", "last"]);
        let beyond = metrics.counter(Family::Ejections, &["app", "beyond"]);

        assert_eq!((last, beyond), (Counter(CELLS_MAX - 1), Counter::default()));
        metrics.cells(0).inc(beyond);
        metrics.cells(0).inc(last);
        assert_eq!(metrics.total(last), 1);
    }

    #[test]
    fn promtool_has_nothing_to_say() {
        let metrics = Metrics::new(2);
        for definition in FAMILIES {
            let hostile = vec!["a\"b\\c\nd é"; definition.labels.len()];
            metrics.store.resolve(definition.family, definition.kind, &hostile);
        }
        let spawned = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut promtool) = spawned else {
            assert!(std::env::var_os("TIDEGATE_TESTS_REQUIRE_ALL").is_none(), "promtool is not installed");
            // Not `eprintln`, which the test harness hides.
            writeln!(std::io::stderr(), "SKIPPED: promtool is not installed").unwrap();
            return;
        };

        promtool.stdin.take().unwrap().write_all(metrics.render().as_bytes()).unwrap();
        let said = promtool.wait_with_output().unwrap();

        let words = [said.stdout, said.stderr].concat();
        assert!(said.status.success() && words.is_empty(), "{}", String::from_utf8_lossy(&words));
        for definition in FAMILIES {
            assert!(
                metrics.render().contains(&format!("# TYPE {} ", definition.name)),
                "{}",
                definition.name
            );
        }
    }
}
