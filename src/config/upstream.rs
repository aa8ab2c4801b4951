//! `[upstream.NAME]`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use super::keys;
use super::mistake::did_you_mean;
use super::model::{
    Eject, HashKey, Health, HostHeader, Probe, Server, Source, Sticky, Upstream, UpstreamTls,
};
use super::pattern;
use super::reader::{Table, Value};
use super::units::seconds;

/// Less could be guessed: 32 bytes are the key of HMAC-SHA-256.
const SECRET_BYTES_MIN: usize = 32;
/// A secret is a key, not a film.
const SECRET_BYTES_MAX: usize = 4096;
/// Browsers keep no cookie longer (RFC 6265bis §5.5).
const COOKIE_AGE_MAX: Duration = seconds(400 * 86_400);

/// All upstreams, in the order of their names.
pub(super) fn upstreams(root: &Table<'_>, strategies: &[&str]) -> Vec<Upstream> {
    const HELP: &str = "write [upstream.NAME]";
    let entries = root.get("upstream").and_then(|value| value.entries(HELP)).unwrap_or_default();
    entries.into_iter().map(|(name, value)| upstream(name, &value, strategies)).collect()
}

fn upstream(name: &str, value: &Value<'_>, strategies: &[&str]) -> Upstream {
    if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
        value.wrong("cannot be a name", "use at most 128 bytes and no control characters");
    }
    // A mistake in the table's own type still gives an upstream, so that routes find the name.
    let table = value.table_or_empty(keys::UPSTREAM, "write [upstream.NAME]");
    let servers = table
        .need("servers", "write it as servers = [\"127.0.0.1:3000\"]")
        .map(|value| servers(&value))
        .unwrap_or_default();

    Upstream {
        name: name.to_owned(),
        balance: table
            .get("balance")
            .and_then(|value| balance(&value, strategies))
            .unwrap_or("round-robin".to_owned()),
        hash: table.get("hash").and_then(|value| hash(&value)).unwrap_or(HashKey::ClientIp),
        sticky: table.get("sticky").and_then(|value| sticky(&value)),
        health: table.get("health").and_then(|value| health(&value)),
        eject: eject(table.get("eject")),
        retries: table.number("retries", 2, 0..=10),
        host: table.get("host").and_then(|value| host_header(&value)).unwrap_or(HostHeader::Preserve),
        tls: table.get("tls").and_then(|value| tls(&value, &servers)).unwrap_or_default(),
        connect_timeout: table.duration("connect-timeout", seconds(2)),
        tls_timeout: table.duration("tls-timeout", seconds(5)),
        first_byte_timeout: table.duration("first-byte-timeout", seconds(60)),
        body_idle: table.duration("body-idle", seconds(60)),
        idle_timeout: table.duration("idle-timeout", seconds(30)),
        idle_connections: table.number("idle-connections", 256, 0..=100_000),
        servers,
    }
}

fn servers(value: &Value<'_>) -> Vec<Server> {
    let Some(items) = value.array("write it as [\"127.0.0.1:3000\"]") else { return Vec::new() };
    if items.is_empty() {
        value.wrong("is empty", "at least one server is needed");
    }

    let mut seen = HashSet::new();
    let read = |item: &Value<'_>| {
        let server = server(item)?;
        if !seen.insert((server.source.clone(), server.port, server.tls)) {
            return item.refuse("this server is already listed", "to give it a larger share, use weight");
        }
        Some(server)
    };
    items.iter().filter_map(read).collect()
}

fn server(value: &Value<'_>) -> Option<Server> {
    const HELP: &str = "such as \"127.0.0.1:3000\" or { address = \"127.0.0.1:3000\", weight = 2 }";
    let (address, weight, backup) = if value.is_string() {
        (value.parsed(pattern::server), 1, false)
    } else if value.is_table() {
        let table = value.table(keys::SERVER, HELP)?;
        let address = table.need("address", HELP).and_then(|value| value.parsed(pattern::server));
        let is_service = address.as_ref().is_some_and(|a| matches!(a.source, Source::Service(_)));
        if let Some(weight) = table.get("weight").filter(|_| is_service) {
            weight.wrong("means nothing to a service", "leave it out; the weights are in its SRV records");
        }
        (address, table.number("weight", 1, 1..=1000), table.boolean("backup", false))
    } else {
        return value.expected("a server", HELP);
    };
    let pattern::Address { source, host, port, tls } = address?;
    Some(Server { source, host, port, tls, weight, backup })
}

fn balance(value: &Value<'_>, strategies: &[&str]) -> Option<String> {
    let text = value.text()?;
    if strategies.contains(&text) {
        return Some(text.to_owned());
    }
    value.refuse(format!("unknown strategy {text:?}"), did_you_mean(text, strategies))
}

fn hash(value: &Value<'_>) -> Option<HashKey> {
    const HELP: &str = "write \"client-ip\", \"path\", { header = \"x\" } or { cookie = \"x\" }";
    if value.is_string() {
        return value
            .word(&[("client-ip", 0), ("path", 1)])
            .map(|n| [HashKey::ClientIp, HashKey::Path][n].clone());
    }
    let table = value.table(keys::HASH, HELP)?;
    let token = |value: Value<'_>| value.parsed(pattern::token);
    match (table.get("header"), table.get("cookie")) {
        (Some(header), None) => token(header).map(|name| HashKey::Header(name.to_ascii_lowercase())),
        (None, Some(cookie)) => token(cookie).map(HashKey::Cookie),
        _ => value.refuse("hashes one thing", HELP),
    }
}

fn sticky(value: &Value<'_>) -> Option<Sticky> {
    let table = value.table(keys::STICKY, "such as { cookie = \"tidegate\" }")?;
    let cookie = table.get("cookie").and_then(|value| value.parsed(pattern::token));
    Some(Sticky {
        cookie: cookie.unwrap_or("tidegate".to_owned()),
        secret: table.get("secret-file").and_then(|value| secret(&value)),
        max_age: table.get("max-age").and_then(|value| value.duration(seconds(1)..=COOKIE_AGE_MAX)),
    })
}

fn secret(value: &Value<'_>) -> Option<Vec<u8>> {
    let path = value.path()?;
    match read_secret(&path) {
        Err(error) => value.refuse(format!("cannot read {}: {error}", path.display()), ""),
        Ok(secret) if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) => value.refuse(
            format!("{} has {} bytes", path.display(), secret.len()),
            "a secret has 32 to 4096; make one with: head -c 32 /dev/urandom > FILE",
        ),
        Ok(secret) => Some(secret),
    }
}

/// Reads one byte more than is allowed, so that too much is seen without being read.
fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = Vec::new();
    File::open(path)?.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut secret)?;
    Ok(secret)
}

fn health(value: &Value<'_>) -> Option<Health> {
    const HELP: &str = "write { path = \"/healthz\" } or { tcp = true }";
    let table = value.table(keys::HEALTH, HELP)?;
    let is_tcp = table.boolean("tcp", false);
    let host = table.get("host").and_then(|value| value.parsed(pattern::authority));
    let expect = table.get("expect").and_then(|value| expect(&value)).unwrap_or(vec![(200, 399)]);

    let probe = match (table.get("path"), is_tcp) {
        (Some(path), false) => {
            path.parsed(pattern::probe_path).map(|path| Probe::Http { path, host, expect })
        }
        (None, true) => {
            for value in ["host", "expect"].into_iter().filter_map(|key| table.get(key)) {
                value.wrong("means nothing to a tcp probe", "leave it out, or give a path instead of tcp");
            }
            Some(Probe::Tcp)
        }
        (Some(_), true) => value.refuse("asks for a path and for tcp", HELP),
        (None, false) => value.refuse("does not say what to ask", HELP),
    };
    Some(Health {
        probe: probe.unwrap_or(Probe::Tcp),
        interval: table.duration("interval", seconds(2)),
        timeout: table.duration("timeout", seconds(1)),
        rise: table.number("rise", 2, 1..=100),
        fall: table.number("fall", 3, 1..=100),
    })
}

fn expect(value: &Value<'_>) -> Option<Vec<(u16, u16)>> {
    let items = value.array("write it as [\"200-299\", 304]")?;
    if items.is_empty() {
        return value.refuse("is empty", "no status would be well");
    }
    let range = |item: &Value<'_>| {
        if item.is_string() {
            return item.parsed(pattern::statuses);
        }
        let status = item.whole(100..=599).and_then(|status| u16::try_from(status).ok())?;
        Some((status, status))
    };
    Some(items.iter().filter_map(range).collect())
}

/// On unless the operator says `false`.
fn eject(value: Option<Value<'_>>) -> Option<Eject> {
    let mut eject = Eject { failures: 5, time: seconds(10), max_time: seconds(300), max_percent: 50 };
    let Some(value) = value else { return Some(eject) };
    if let Some(is_on) = value.as_bool() {
        return is_on.then_some(eject);
    }
    if !value.is_table() {
        return value.expected("true, false or a table", "such as { failures = 5 }");
    }

    let table = value.table(keys::EJECT, "")?;
    eject.failures = table.number("failures", eject.failures, 1..=1000);
    eject.time = table.duration("time", eject.time);
    // A first ejection beyond the default longest lengthens it; one beyond a written longest is a mistake.
    eject.max_time = table.duration("max-time", eject.max_time.max(eject.time));
    eject.max_percent = table.number("max-percent", eject.max_percent, 1..=100);
    if let Some(max_time) = table.get("max-time").filter(|_| eject.max_time < eject.time) {
        max_time.wrong("is shorter than time", "the longest ejection cannot be shorter than the first");
    }
    Some(eject)
}

fn host_header(value: &Value<'_>) -> Option<HostHeader> {
    match value.text()? {
        "preserve" => Some(HostHeader::Preserve),
        "server" => Some(HostHeader::Server),
        _ => value.parsed(pattern::authority).map(HostHeader::Fixed),
    }
}

fn tls(value: &Value<'_>, servers: &[Server]) -> Option<UpstreamTls> {
    let table = value.table(keys::UPSTREAM_TLS, "such as { ca = \"internal-ca.pem\" }")?;
    // Else the operator believes that the way to these servers is encrypted.
    if !servers.is_empty() && !servers.iter().any(|server| server.tls) {
        value
            .wrong("no server of this upstream is spoken to over TLS", "begin their addresses with https://");
    }
    let ca_value = table.get("ca");
    let insecure = table.boolean("insecure", false);
    if let Some(ca) = ca_value.as_ref().filter(|_| insecure) {
        ca.wrong("is not used when insecure = true", "leave one of them out");
    }
    Some(UpstreamTls {
        ca: ca_value.and_then(|value| value.path()),
        server_name: table.get("server-name").and_then(|value| value.parsed(pattern::server_name)),
        insecure,
    })
}
