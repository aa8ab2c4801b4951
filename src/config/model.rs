//! The configuration as the rest of the house uses it: every name resolved,
//! every default filled in, every unit a type.
//!
//! What the operator typed, with its spans and its mistakes, stays in this
//! room's parser; nothing outside `config` sees TOML.

mod health;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

pub use self::health::{BodyPattern, FirstState, GrpcProbe, Health, HttpProbe, Probe};

/// A whole configuration, checked: indices are in range and names are unique.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Threads and the end of the process.
    pub runtime: Runtime,
    /// Where operators and Prometheus look; `None` when there is no `[admin]`.
    pub admin: Option<Admin>,
    /// Events and the access log.
    pub log: Log,
    /// What a client may cost.
    pub limits: Limits,
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// In the order of the file, which breaks ties between equally specific matches.
    pub routes: Vec<Route>,
    /// In the order of their names.
    pub upstreams: Vec<Upstream>,
    /// How the names of servers are resolved.
    pub dns: Dns,
    /// The response cache that all routes share.
    pub cache: Cache,
}

/// `[runtime]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Runtime {
    /// Worker threads; `None` means one per core that the process may use.
    pub workers: Option<usize>,
    /// How long requests in flight may take to finish after the first SIGTERM.
    pub drain_timeout: Duration,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// Plain HTTP; loopback unless the operator says otherwise.
    pub bind: SocketAddr,
    /// Names it may be asked under, besides IP addresses and `localhost`.
    pub hosts: Vec<HostPattern>,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The least severe event that is written.
    pub level: Level,
    /// How events are written to standard error.
    pub events: EventFormat,
    /// Where the access log goes.
    pub access: AccessTarget,
    /// The shape of one access-log line.
    pub format: AccessFormat,
}

/// Severity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// Shape of events on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventFormat {
    Text,
    Json,
}

/// Where access-log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AccessTarget {
    Off,
    Stdout,
    File(PathBuf),
}

/// Shape of an access-log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AccessFormat {
    Json,
    Common,
}

/// `[limits]`: finite by default, all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Client connections of the whole process.
    pub connections: usize,
    /// Client connections from one address (IPv6: one /64).
    pub connections_per_client: usize,
    /// TLS handshakes with clients in progress, of the whole process.
    pub handshakes: usize,
    /// Requests that one client connection carries before it is ended in good order.
    pub requests_per_connection: u64,
    /// Header fields of one request; more is 431.
    pub headers: usize,
    /// Bytes of one request's head; more is 431.
    pub header_bytes: usize,
    /// Bytes of one request target; more is 414.
    pub uri_bytes: usize,
    /// From a request's first byte (or the connection's start) to the end of its head; longer is 408.
    pub head_timeout: Duration,
    /// From accept to the end of the TLS handshake.
    pub tls_timeout: Duration,
    /// Between two pieces of a request body; longer is 408.
    pub body_idle: Duration,
    /// Bytes of a request body in a second, once its client was waited for longer than `body_idle`; less is 408. 0: no limit.
    pub body_rate: u64,
    /// How long a connection at rest is kept.
    pub keep_alive: Duration,
    /// How long the client may take to accept the next piece of a response.
    pub write_idle: Duration,
    /// How long a tunnel (an upgraded connection) may be silent both ways.
    pub tunnel_idle: Duration,
    /// Concurrent streams of one HTTP/2 connection.
    pub http2_streams: u32,
    /// Streams of one HTTP/2 connection that the client may reset before we have taken them up.
    pub http2_resets: usize,
    /// Bytes of bodies that wait in the whole process.
    pub buffered_bytes: usize,
    /// Bytes of one HTTP/2 header list.
    pub http2_header_list: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits {
            connections: 20_000,
            connections_per_client: 1_000,
            // Four times that: no client fills it alone. A fifth of `connections`: a flood of handshakes that are begun
            // and left cannot take every seat.
            handshakes: 4_000,
            requests_per_connection: 10_000,
            headers: 100,
            header_bytes: 32 << 10,
            uri_bytes: 8 << 10,
            head_timeout: seconds(10),
            tls_timeout: seconds(10),
            body_idle: seconds(30),
            // A fifth of what Apache's mod_reqtimeout asks for: less than any network that a body comes over.
            body_rate: 100,
            keep_alive: seconds(60),
            write_idle: seconds(30),
            tunnel_idle: seconds(3600),
            http2_streams: 128,
            http2_resets: 20,
            buffered_bytes: 512 << 20,
            http2_header_list: 32 << 10,
        }
    }
}

/// One `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique; the bind address when none is given.
    pub name: String,
    /// Port 0 asks the kernel for a free one.
    pub bind: SocketAddr,
    /// `None`: in the clear.
    pub tls: Option<ListenerTls>,
    /// Peers whose `X-Forwarded-*`, `Forwarded` and request id are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Client connections of this listener; `None`: as many as the process may have.
    pub max_connections: Option<usize>,
}

/// `[[listener]] tls`.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerTls {
    /// At least one; the first answers clients that name no host we know.
    pub certificates: Vec<Certificate>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// A certificate chain and its key, in PEM files.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// Leaf first.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// TLS protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// One `[[route]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Unique; `host` + `path` when none is given.
    pub name: String,
    /// Index into `Config::listeners`; `None` is every listener.
    pub listener: Option<usize>,
    /// Which `Host` it takes.
    pub host: HostPattern,
    /// Which paths it takes.
    pub path: PathPattern,
    /// Index into `Config::upstreams`.
    pub upstream: usize,
    /// `None`: responses are never stored.
    pub cache: Option<RouteCache>,
    /// Largest request body; more is 413. `None`: no limit.
    pub max_body: Option<u64>,
}

/// What a route's `host` may say. Names are lower case, without port or trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `"*"`, or no `host` at all.
    Any,
    /// `"www.example.com"`.
    Exact(String),
    /// `"*.example.com"`, kept without the `*.`: any number of labels, at least one.
    Wildcard(String),
}

/// What a route's `path` may say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// `"/about"`: this path alone.
    Exact(String),
    /// `"/api/*"`, kept as `"/api/"`: every path below, and `/api` itself. `"/*"` is every path.
    Prefix(String),
    /// `"/users/*/photos"`, segments in order; `None` is a `*` that takes exactly one segment. The
    /// last segment may be `**`-less: a trailing `*` makes `tail` true (everything below).
    Wildcard {
        /// Segments between slashes.
        segments: Vec<Option<String>>,
        /// The pattern ended in `/*`.
        tail: bool,
    },
}

/// `cache = true` or `cache = { ... }` on a route.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteCache {
    /// Whether the cache answers, or only counts what it would have done.
    pub mode: CacheMode,
    /// A larger body is passed on but not stored.
    pub max_object: u64,
    /// Requests for a key before its response is stored; the first is 1.
    pub min_uses: u8,
    /// Lifetime of a response: whose word it is depends on `server_freshness`.
    pub ttl: Option<Duration>,
    /// What the server's own word on freshness counts for.
    pub server_freshness: ServerFreshness,
    /// Whether a lifetime may be guessed from `Last-Modified` (RFC 9111 section 4.2.2).
    pub heuristic: bool,
    /// Whether `Tidegate-Cache-Control` and `CDN-Cache-Control` are obeyed (RFC 9213).
    pub targeted: bool,
    /// Statuses whose responses get a lifetime of their own when the server gives none.
    pub negative: Option<Negative>,
    /// RFC 5861 section 3, when the server does not say.
    pub stale_while_revalidate: Duration,
    /// RFC 5861 section 4, when the server does not say.
    pub stale_if_error: Option<Duration>,
    /// What `Set-Cookie` does to a response.
    pub set_cookie: SetCookie,
    /// Whether `Cache-Control` and `Pragma` of requests are obeyed (RFC 9111 section 5.2.1).
    pub client_directives: bool,
    /// Requests that the cache has no part in.
    pub bypass: CacheBypass,
    /// What the key is made of.
    pub key: CacheKey,
}

/// What the cache does with its decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheMode {
    /// It acts on them.
    On,
    /// It counts them; every request goes to a server.
    Observe,
}

/// What the server's own word on freshness counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFreshness {
    /// It comes first; `ttl` is for responses that have none.
    Respect,
    /// `ttl` takes its place; `no-store`, `private` and `no-cache` are obeyed.
    Override,
    /// `ttl` takes its place, and that of `no-store`, `private` and `no-cache`.
    Ignore,
}

/// What `Set-Cookie` does to a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCookie {
    /// It is stored, cookie and all, only where the server gives it a lifetime in so many words.
    Explicit,
    /// It is never stored.
    Never,
}

/// Responses that say that there is nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Negative {
    /// Which.
    pub statuses: Vec<u16>,
    /// How long.
    pub ttl: Duration,
}

/// A request that has any of these passes the cache by.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CacheBypass {
    /// Header fields.
    pub headers: Vec<HeaderName>,
    /// Cookies.
    pub cookies: Vec<String>,
    /// Query parameters.
    pub query: Vec<NamePattern>,
}

/// What a key is made of, besides scheme, host and path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CacheKey {
    /// Which query parameters.
    pub query: QueryKey,
    /// Header fields, as if every response varied on them.
    pub headers: Vec<HeaderName>,
    /// Cookies, likewise.
    pub cookies: Vec<String>,
}

/// Which query parameters are part of a key. The others do not reach the server either.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum QueryKey {
    /// The query's bytes as received.
    #[default]
    All,
    /// These.
    Only(Vec<NamePattern>),
    /// All but these.
    Without(Vec<NamePattern>),
}

/// A name, or with `*` at its end all names that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    /// What the name is or begins with.
    pub text: String,
    /// Whether it only begins with it.
    pub is_prefix: bool,
}

impl NamePattern {
    /// True for the names it stands for.
    pub fn matches(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.text) } else { name == self.text }
    }
}

impl RouteCache {
    /// `cache = true`, for objects of at most `max_object` bytes.
    pub fn new(max_object: u64) -> Self {
        RouteCache {
            mode: CacheMode::On,
            max_object,
            min_uses: 1,
            ttl: None,
            server_freshness: ServerFreshness::Respect,
            heuristic: true,
            targeted: true,
            negative: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: None,
            set_cookie: SetCookie::Explicit,
            client_directives: true,
            bypass: CacheBypass::default(),
            key: CacheKey::default(),
        }
    }
}

/// One `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// The table's name.
    pub name: String,
    /// At least one.
    pub servers: Vec<Server>,
    /// Name of a strategy; that it exists is checked when the snapshot is built, because an
    /// embedder may have registered their own.
    pub balance: String,
    /// What a hashing strategy hashes.
    pub hash: HashKey,
    /// Of `consistent-hash`: in percent of the average, how busy a server may be before its keys go on to the next;
    /// `None` is as busy as it likes.
    pub load_factor: Option<u32>,
    /// `None`: no stickiness.
    pub sticky: Option<Sticky>,
    /// `None`: servers are believed healthy until requests fail.
    pub health: Option<Health>,
    /// Passive ejection; `None` when `eject = false`.
    pub eject: Option<Eject>,
    /// How long a server that comes (back) takes to its whole share; zero: it has it at once.
    pub slow_start: Duration,
    /// The next priority group helps while less than this percentage of a group's weight may serve; 0: only when
    /// nobody of it may.
    pub spill_over: u32,
    /// Below this percentage of servers that may serve, health is ignored; 0: never.
    pub panic_threshold: u32,
    /// Requests at once, of all workers; `None`: as many as clients send.
    pub max_requests: Option<u32>,
    /// Connections at once, idle ones included, of all workers.
    pub max_connections: Option<u32>,
    /// Where requests wait when every server is at its limit.
    pub queue: Queue,
    /// Further attempts after the first; 0 is none.
    pub retries: u32,
    /// What else there is to say of them.
    pub retry: Retry,
    /// From the request to the end of its response; `None`: as long as each stage is within its own limit.
    pub total_timeout: Option<Duration>,
    /// From the beginning of one attempt to its response's head; `None`: as long as each stage is within its own limit.
    pub try_timeout: Option<Duration>,
    /// What `Host` the servers see.
    pub host: HostHeader,
    /// For `https://` servers.
    pub tls: UpstreamTls,
    /// Time to establish a TCP connection.
    pub connect_timeout: Duration,
    /// Time for the TLS handshake with a server.
    pub tls_timeout: Duration,
    /// From the end of the request's head to the end of the response's head; longer is 504.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a response body.
    pub body_idle: Duration,
    /// How long an unused connection is kept; below the server's own limit.
    pub idle_timeout: Duration,
    /// Unused connections kept, per server and worker.
    pub idle_connections: usize,
}

/// One element of `servers`: a backend, or a name behind which there may be several.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// How its addresses are found.
    pub source: Source,
    /// A host name or an IP address (IPv6 without brackets): what certificates are verified by. Of a service it
    /// is the domain, without `_http._tcp.`: what the operator wrote, not a target that anyone could answer with.
    pub host: String,
    /// 0 only for a service: the ports are in its records.
    pub port: u16,
    /// The address began with `https`.
    pub tls: bool,
    /// 1 to 1000; 1 by default.
    pub weight: u32,
    /// 0 is the first group, 9 the last but backups, which are [`BACKUP`].
    pub priority: u8,
    /// Gets no new requests, but those of its sessions.
    pub drain: bool,
    /// Requests at once, of all workers.
    pub max_requests: Option<u32>,
    /// Connections at once, idle ones included, of all workers.
    pub max_connections: Option<u32>,
}

impl Retry {
    /// Whether responses with this status are tried again.
    pub fn names(&self, status: u16) -> bool {
        self.on_statuses.binary_search(&status).is_ok()
    }
}

/// The priority of a backup: after every other.
pub const BACKUP: u8 = 10;

/// `queue = { size, timeout }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Requests that may wait; 0: none.
    pub size: usize,
    /// How long.
    pub timeout: Duration,
}

/// `retry-on`, `retry-budget` and `retry-body`.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// No connection came about.
    pub on_connect: bool,
    /// The server broke off before its response.
    pub on_reset: bool,
    /// No response in time.
    pub on_timeout: bool,
    /// Responses with these statuses, in rising order.
    pub on_statuses: Vec<u16>,
    /// Retries to so many of a hundred requests.
    pub budget_percent: u32,
    /// Retries each second besides.
    pub budget_per_second: u32,
    /// Retries at once, of all workers.
    pub concurrent: u32,
    /// Bytes of a request's body that are kept to be sent again.
    pub body: u64,
}

/// How the addresses of a server are found. Names end in a dot where the operator wrote one: then no search domain
/// is put behind them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// It is one.
    Address(IpAddr),
    /// The A and AAAA records of a host name.
    Name(String),
    /// The SRV records of a service (RFC 2782), and the addresses of their targets.
    Service(String),
}

/// What a hashing strategy hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address (the believed one, behind trusted proxies).
    ClientIp,
    /// The path of the target, without the query.
    Path,
    /// A request header; its name in lower case.
    Header(String),
    /// A cookie, by name.
    Cookie(String),
    /// A query parameter, by name; its first value, as it stands.
    Query(String),
    /// The host the client asks for.
    Host,
}

/// How a client stays with a server.
#[derive(Debug, Clone, PartialEq)]
pub enum Sticky {
    /// `sticky = { cookie, secret-file }`: by a cookie of ours.
    Cookie(StickyCookie),
    /// `sticky = { hash }`: by something of the application's that the client sends.
    Hash(HashKey),
    /// `sticky = { learn }`: by a cookie that a server sets.
    Learn(StickyLearn),
}

/// A cookie of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct StickyCookie {
    /// Its name.
    pub name: String,
    /// At least 32 bytes each: the first signs, all are believed. None: a secret made at start, so sessions do not
    /// survive a restart.
    pub secrets: Vec<Vec<u8>>,
    /// `Max-Age` of the cookie; `None`: until the browser closes.
    pub max_age: Option<Duration>,
}

/// A cookie of the application's.
#[derive(Debug, Clone, PartialEq)]
pub struct StickyLearn {
    /// Its name.
    pub cookie: String,
    /// Sessions that are remembered; beyond, those go that were not used for longest.
    pub size: usize,
    /// How long one is remembered that is not used.
    pub idle: Duration,
}

/// `eject = { failures, error-rate, latency-factor, ... }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Eject {
    /// Failures in a row (connect, reset, time-out, 502-504) that eject a server.
    pub failures: u32,
    /// Failures of a hundred requests within the window that eject a server.
    pub error_rate: Option<u32>,
    /// A server is ejected whose mean time to the first byte, within the window, is more than so many times that of the
    /// pool's median server.
    pub latency_factor: Option<u32>,
    /// What those two look back at.
    pub window: Duration,
    /// Requests to a server within the window, below which the two say nothing.
    pub min_requests: u32,
    /// The first ejection; the n-th in a row takes n times as long.
    pub time: Duration,
    /// The longest.
    pub max_time: Duration,
    /// At most this share of the pool is ejected at once (but one server may always be, in a pool of two or more).
    pub max_percent: u32,
}

/// What `Host` the servers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's.
    Preserve,
    /// The server's own address, as configured.
    Server,
    /// This text.
    Fixed(String),
}

/// `tls = { ca, server-name, insecure }` of an upstream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpstreamTls {
    /// PEM bundle to trust instead of the system's roots.
    pub ca: Option<PathBuf>,
    /// Name to verify (and send as SNI) instead of the server's host.
    pub server_name: Option<String>,
    /// Do not verify. Logged as a warning at start.
    pub insecure: bool,
}

/// `[dns]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dns {
    /// Who is asked; `None`: whom the system asks.
    pub servers: Option<Vec<SocketAddr>>,
    /// For one attempt.
    pub timeout: Duration,
    /// How often a question is asked before it has failed; at least 1.
    pub attempts: usize,
    /// No answer is asked for again sooner, whatever its TTL.
    pub min_ttl: Duration,
    /// No answer is used longer, whatever its TTL; not less than `min_ttl`.
    pub max_ttl: Duration,
    /// Which addresses of a name count.
    pub family: Family,
}

/// Which addresses of a name count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4; IPv6 where a name has no IPv4.
    PreferIpv4,
    /// IPv6; IPv4 where a name has no IPv6.
    PreferIpv6,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both, each address a server of its own.
    Both,
}

/// `[cache]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// Bytes of heads, bodies and keys that are kept.
    pub max_size: u64,
    /// How long a request waits for another's fetch of the same key before it goes alone.
    pub collapse_wait: Duration,
}
