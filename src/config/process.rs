//! The tables of the process as a whole: `[runtime]`, `[admin]`, `[log]`, `[limits]`, `[dns]`,
//! `[cache]`.

use std::net::{Ipv4Addr, SocketAddr};

use super::keys;
use super::model::{
    AccessFormat, AccessTarget, Admin, Cache, Dns, EventFormat, Family, HostPattern, Level, Limits, Log,
    Runtime,
};
use super::pattern;
use super::reader::{Table, Value};
use super::units::{GIB, KIB, MIB, seconds};

/// `[runtime]`.
pub(super) fn runtime(root: &Table<'_>) -> Runtime {
    let table = root.section("runtime", keys::RUNTIME);
    Runtime {
        workers: table.get("workers").and_then(|value| workers(&value)),
        drain_timeout: table.wait("drain-timeout", seconds(30)),
    }
}

fn workers(value: &Value<'_>) -> Option<usize> {
    value.whole(1..=1024).and_then(|workers| usize::try_from(workers).ok())
}

/// `[admin]`: without the table there is no admin server.
pub(super) fn admin(root: &Table<'_>) -> Option<Admin> {
    root.get("admin")?;
    let table = root.section("admin", keys::ADMIN);
    let bind = table.get("bind").and_then(|value| value.parsed(pattern::bind));
    Some(Admin {
        bind: bind.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 9900))),
        hosts: table.get("hosts").map(|value| hosts(&value)).unwrap_or_default(),
    })
}

fn hosts(value: &Value<'_>) -> Vec<HostPattern> {
    let hosts = value.array("write the names in brackets, as [\"metrics.internal\"]").unwrap_or_default();
    hosts.iter().filter_map(|host| host.parsed(pattern::host)).collect()
}

/// `[log]`.
pub(super) fn log(root: &Table<'_>) -> Log {
    const LEVELS: &[(&str, Level)] =
        &[("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];

    let table = root.section("log", keys::LOG);
    Log {
        level: table.word("level", Level::Info, LEVELS),
        events: table.word(
            "events",
            EventFormat::Text,
            &[("text", EventFormat::Text), ("json", EventFormat::Json)],
        ),
        access: table.get("access").and_then(|value| access(&value)).unwrap_or(AccessTarget::Off),
        format: table.word(
            "format",
            AccessFormat::Json,
            &[("json", AccessFormat::Json), ("common", AccessFormat::Common)],
        ),
    }
}

/// A bare word is never a path: `access = "of"` must not make a file named `of`.
fn access(value: &Value<'_>) -> Option<AccessTarget> {
    match value.text()? {
        "off" => Some(AccessTarget::Off),
        "stdout" => Some(AccessTarget::Stdout),
        text if text.contains(['/', '.']) => value.path().map(AccessTarget::File),
        text => value.refuse(
            format!("unknown value {text:?}"),
            "write \"off\", \"stdout\" or a path with a / or a . in it",
        ),
    }
}

/// `[limits]`: the largest values are what the machine, or a library, can still hold.
pub(super) fn limits(root: &Table<'_>) -> Limits {
    let table = root.section("limits", keys::LIMITS);
    let default = Limits::default();
    let limits = Limits {
        connections: table.number("connections", default.connections, 1..=10_000_000),
        connections_per_client: table.number(
            "connections-per-client",
            default.connections_per_client,
            1..=10_000_000,
        ),
        handshakes: table.number("handshakes", default.handshakes, 1..=10_000_000),
        requests_per_connection: table.number(
            "requests-per-connection",
            default.requests_per_connection,
            1..=1_000_000_000,
        ),
        headers: table.number("headers", default.headers, 10..=1_000),
        // Less, and fields that a browser sends of itself would be refused.
        header_bytes: table.size("header-bytes", default.header_bytes, 8 * KIB..=MIB),
        // http::Uri takes no more than 65,534 bytes, and says so by another status.
        uri_bytes: table.size("uri-bytes", default.uri_bytes, 256..=60 * KIB),
        head_timeout: table.duration("head-timeout", default.head_timeout),
        tls_timeout: table.duration("tls-timeout", default.tls_timeout),
        body_idle: table.duration("body-idle", default.body_idle),
        body_rate: table.size("body-rate", default.body_rate, 0..=GIB),
        keep_alive: table.duration("keep-alive", default.keep_alive),
        write_idle: table.duration("write-idle", default.write_idle),
        tunnel_idle: table.duration("tunnel-idle", default.tunnel_idle),
        http2_streams: table.number("http2-streams", default.http2_streams, 1..=10_000),
        http2_resets: table.number("http2-resets", default.http2_resets, 1..=10_000),
        buffered_bytes: table.size("buffered-bytes", default.buffered_bytes, MIB..=1024 * GIB),
        http2_header_list: table.size("http2-header-list", default.http2_header_list, 4 * KIB..=MIB),
    };
    if let Some(value) = table.get("uri-bytes").filter(|_| limits.uri_bytes > limits.header_bytes) {
        value.wrong("is more than header-bytes", "the target is a part of the head");
    }
    limits
}

/// `[dns]`.
pub(super) fn dns(root: &Table<'_>) -> Dns {
    const FAMILIES: &[(&str, Family)] = &[
        ("prefer-ipv4", Family::PreferIpv4),
        ("prefer-ipv6", Family::PreferIpv6),
        ("ipv4", Family::Ipv4),
        ("ipv6", Family::Ipv6),
        ("both", Family::Both),
    ];

    let table = root.section("dns", keys::DNS);
    let min_ttl = table.duration("min-ttl", seconds(1));
    // A shortest beyond the default longest lengthens it; one beyond a written longest is a mistake.
    let max_ttl = table.duration("max-ttl", seconds(3600).max(min_ttl));
    if let Some(value) = table.get("max-ttl").filter(|_| max_ttl < min_ttl) {
        value.wrong("is shorter than min-ttl", "the longest time cannot be shorter than the shortest");
    }
    Dns {
        servers: table.get("servers").and_then(|value| name_servers(&value)),
        timeout: table.duration("timeout", seconds(2)),
        attempts: table.number("attempts", 2, 1..=10),
        min_ttl,
        max_ttl,
        family: table.word("family", Family::PreferIpv4, FAMILIES),
    }
}

fn name_servers(value: &Value<'_>) -> Option<Vec<SocketAddr>> {
    let items = value.array("write it as [\"127.0.0.1:53\"]")?;
    if items.is_empty() {
        return value.refuse("is empty", "leave it out to ask the system's name servers");
    }
    Some(items.iter().filter_map(|item| item.parsed(pattern::name_server)).collect())
}

/// `[cache]`.
pub(super) fn cache(root: &Table<'_>) -> Cache {
    let table = root.section("cache", keys::CACHE);
    Cache {
        max_size: table.size("max-size", 256 * MIB, MIB..=1024 * GIB),
        collapse_wait: table.wait("collapse-wait", seconds(5)),
    }
}
