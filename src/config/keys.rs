//! Every key that the parser knows, table by table.
//!
//! A reader may ask only for keys listed here (a debug assertion holds it), an
//! unknown key is answered with the nearest of them, and a test holds
//! `config/reference.toml` against them.

/// The file itself.
pub const ROOT: &[&str] =
    &["runtime", "admin", "log", "limits", "listener", "route", "upstream", "dns", "cache"];
/// `[runtime]`.
pub const RUNTIME: &[&str] = &["workers", "drain-timeout"];
/// `[admin]`.
pub const ADMIN: &[&str] = &["bind", "hosts"];
/// `[log]`.
pub const LOG: &[&str] = &["level", "events", "access", "format"];
/// `[limits]`.
pub const LIMITS: &[&str] = &[
    "connections",
    "connections-per-client",
    "handshakes",
    "requests-per-connection",
    "headers",
    "header-bytes",
    "uri-bytes",
    "head-timeout",
    "tls-timeout",
    "body-idle",
    "body-rate",
    "keep-alive",
    "write-idle",
    "tunnel-idle",
    "buffered-bytes",
    "http2-streams",
    "http2-resets",
    "http2-header-list",
];
/// `[[listener]]`.
pub const LISTENER: &[&str] = &["name", "bind", "tls", "trusted-proxies", "max-connections"];
/// `tls` of a listener.
pub const LISTENER_TLS: &[&str] = &["certificates", "min-version"];
/// One of `certificates`.
pub const CERTIFICATE: &[&str] = &["cert", "key"];
/// `[[route]]`.
pub const ROUTE: &[&str] = &["name", "listener", "host", "path", "upstream", "cache", "max-body"];
/// `cache` of a route.
pub const ROUTE_CACHE: &[&str] = &[
    "mode",
    "max-object",
    "min-uses",
    "ttl",
    "server-freshness",
    "heuristic",
    "targeted",
    "negative",
    "stale-while-revalidate",
    "stale-if-error",
    "set-cookie",
    "client-directives",
    "bypass",
    "key",
];
/// `negative` of a route's cache.
pub const NEGATIVE: &[&str] = &["statuses", "ttl"];
/// `bypass` of a route's cache.
pub const BYPASS: &[&str] = &["headers", "cookies", "query"];
/// `key` of a route's cache.
pub const CACHE_KEY: &[&str] = &["query", "ignore-query", "headers", "cookies"];
/// `[upstream.NAME]`.
pub const UPSTREAM: &[&str] = &[
    "servers",
    "balance",
    "hash",
    "load-factor",
    "sticky",
    "health",
    "eject",
    "slow-start",
    "spill-over",
    "panic-threshold",
    "max-requests",
    "max-connections",
    "queue",
    "retries",
    "retry-on",
    "retry-budget",
    "retry-body",
    "total-timeout",
    "try-timeout",
    "host",
    "tls",
    "connect-timeout",
    "tls-timeout",
    "first-byte-timeout",
    "body-idle",
    "idle-timeout",
    "idle-connections",
];
/// One of `servers`, as a table.
pub const SERVER: &[&str] =
    &["address", "weight", "priority", "backup", "drain", "max-requests", "max-connections"];
/// `hash` of an upstream, as a table.
pub const HASH: &[&str] = &["header", "cookie", "query"];
/// `sticky` of an upstream.
pub const STICKY: &[&str] = &["cookie", "secret-file", "max-age", "hash", "learn", "size", "idle"];
/// `queue` of an upstream.
pub const QUEUE: &[&str] = &["size", "timeout"];
/// `retry-budget` of an upstream.
pub const RETRY_BUDGET: &[&str] = &["percent", "per-second", "concurrent"];
/// `health` of an upstream.
pub const HEALTH: &[&str] = &[
    "path", "method", "host", "headers", "expect", "body", "tcp", "tls", "grpc", "port", "interval",
    "timeout", "rise", "fall", "start",
];
/// `eject` of an upstream.
pub const EJECT: &[&str] = &[
    "failures",
    "error-rate",
    "latency-factor",
    "window",
    "min-requests",
    "time",
    "max-time",
    "max-percent",
];
/// `tls` of an upstream.
pub const UPSTREAM_TLS: &[&str] = &["ca", "server-name", "insecure"];
/// `[dns]`.
pub const DNS: &[&str] = &["servers", "timeout", "attempts", "min-ttl", "max-ttl", "family"];
/// `[cache]`.
pub const CACHE: &[&str] = &["max-size", "collapse-wait"];

/// Each table's path, with `NAME` where the operator chooses, and its keys.
pub const ALL: &[(&str, &[&str])] = &[
    ("", ROOT),
    ("runtime", RUNTIME),
    ("admin", ADMIN),
    ("log", LOG),
    ("limits", LIMITS),
    ("listener", LISTENER),
    ("listener.tls", LISTENER_TLS),
    ("listener.tls.certificates", CERTIFICATE),
    ("route", ROUTE),
    ("route.cache", ROUTE_CACHE),
    ("route.cache.negative", NEGATIVE),
    ("route.cache.bypass", BYPASS),
    ("route.cache.key", CACHE_KEY),
    ("upstream.NAME", UPSTREAM),
    ("upstream.NAME.servers", SERVER),
    ("upstream.NAME.hash", HASH),
    ("upstream.NAME.sticky", STICKY),
    ("upstream.NAME.queue", QUEUE),
    ("upstream.NAME.retry-budget", RETRY_BUDGET),
    ("upstream.NAME.health", HEALTH),
    ("upstream.NAME.eject", EJECT),
    ("upstream.NAME.tls", UPSTREAM_TLS),
    ("dns", DNS),
    ("cache", CACHE),
];
