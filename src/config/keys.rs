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
pub const ADMIN: &[&str] = &["bind"];
/// `[log]`.
pub const LOG: &[&str] = &["level", "events", "access", "format"];
/// `[limits]`.
pub const LIMITS: &[&str] = &[
    "connections",
    "connections-per-client",
    "headers",
    "header-bytes",
    "uri-bytes",
    "head-timeout",
    "tls-timeout",
    "body-idle",
    "keep-alive",
    "write-idle",
    "tunnel-idle",
    "http2-streams",
    "http2-resets",
    "http2-header-list",
];
/// `[[listener]]`.
pub const LISTENER: &[&str] = &["name", "bind", "tls", "trusted-proxies"];
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
    "sticky",
    "health",
    "eject",
    "retries",
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
pub const SERVER: &[&str] = &["address", "weight", "backup"];
/// `hash` of an upstream, as a table.
pub const HASH: &[&str] = &["header", "cookie"];
/// `sticky` of an upstream.
pub const STICKY: &[&str] = &["cookie", "secret-file", "max-age"];
/// `health` of an upstream.
pub const HEALTH: &[&str] = &["path", "host", "expect", "tcp", "interval", "timeout", "rise", "fall"];
/// `eject` of an upstream.
pub const EJECT: &[&str] = &["failures", "time", "max-time", "max-percent"];
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
    ("upstream.NAME.health", HEALTH),
    ("upstream.NAME.eject", EJECT),
    ("upstream.NAME.tls", UPSTREAM_TLS),
    ("dns", DNS),
    ("cache", CACHE),
];
