//! `[upstream.NAME]`.

use std::collections::HashSet;

use super::health::health;
use super::keys;
use super::mistake::did_you_mean;
use super::model::{BACKUP, HashKey, HostHeader, Server, Source, Upstream, UpstreamTls};
use super::pattern;
use super::reader::{Table, Value};
use super::resilience;
use super::sticky;
use super::units::seconds;

/// More at once than any machine carries.
const AT_ONCE_MAX: u64 = 10_000_000;

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

    let chosen = table.get("balance").and_then(|value| balance(&value, strategies));
    let balance = chosen.as_deref().unwrap_or("round-robin");
    fair_turns(&table, balance, &servers);

    Upstream {
        name: name.to_owned(),
        balance: balance.to_owned(),
        hash: table.get("hash").and_then(|value| hash(&value)).unwrap_or(HashKey::ClientIp),
        load_factor: table.get("load-factor").and_then(|value| load_factor(&value, balance)),
        sticky: table.get("sticky").and_then(|value| sticky::read(&value)),
        health: table.get("health").and_then(|value| health(&value, &servers)),
        eject: resilience::eject(table.get("eject")),
        slow_start: table.wait("slow-start", seconds(10)),
        spill_over: table.number("spill-over", 0, 0..=100),
        panic_threshold: table.number("panic-threshold", 0, 0..=100),
        max_requests: table.optional("max-requests", 1..=AT_ONCE_MAX),
        max_connections: table.optional("max-connections", 1..=AT_ONCE_MAX),
        queue: resilience::queue(&table),
        retries: table.number("retries", 2, 0..=10),
        retry: resilience::retry(&table),
        total_timeout: table.get("total-timeout").and_then(|value| value.time_out()),
        try_timeout: table.get("try-timeout").and_then(|value| value.time_out()),
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
    if !value.is_string() && !value.is_table() {
        return value.expected("a server", HELP);
    }
    let (address, table) = match value.is_string() {
        true => (value.parsed(pattern::server), value.absent(keys::SERVER)),
        false => {
            let table = value.table(keys::SERVER, HELP)?;
            (table.need("address", HELP).and_then(|value| value.parsed(pattern::server)), table)
        }
    };
    let pattern::Address { source, host, port, tls } = address?;
    if let (Source::Service(_), Some(weight)) = (&source, table.get("weight")) {
        weight.wrong("means nothing to a service", "leave it out; the weights are in its SRV records");
    }
    Some(Server {
        source,
        host,
        port,
        tls,
        weight: table.number("weight", 1, 1..=1000),
        priority: priority(&table),
        drain: table.boolean("drain", false),
        max_requests: table.optional("max-requests", 1..=AT_ONCE_MAX),
        max_connections: table.optional("max-connections", 1..=AT_ONCE_MAX),
    })
}

fn priority(table: &Table<'_>) -> u8 {
    let priority = table.number("priority", 0, 0..=9);
    if !table.boolean("backup", false) {
        return priority;
    }
    if let Some(value) = table.get("priority") {
        value
            .wrong("means nothing to a backup", "a backup comes after every priority; leave one of them out");
    }
    BACKUP
}

/// Else the operator believes that a server gets the share that is written beside it.
fn fair_turns(table: &Table<'_>, balance: &str, servers: &[Server]) {
    let mut weights = [None; BACKUP as usize + 1];
    let differs = |server: &Server| {
        *weights[usize::from(server.priority)].get_or_insert(server.weight) != server.weight
    };
    if balance == "round-robin" && servers.iter().any(differs) {
        let help = "write balance = \"weighted-round-robin\"";
        match table.get("servers") {
            Some(value) => value.wrong("round-robin gives each server the same, whatever its weight", help),
            None => table.wrong("round-robin gives each server the same, whatever its weight", help),
        }
    }
}

fn load_factor(value: &Value<'_>, balance: &str) -> Option<u32> {
    if balance != "consistent-hash" {
        value.wrong(format!("means nothing to {balance}"), "leave it out, or balance = \"consistent-hash\"");
    }
    value.whole(101..=1000).and_then(|percent| u32::try_from(percent).ok())
}

fn balance(value: &Value<'_>, strategies: &[&str]) -> Option<String> {
    let text = value.text()?;
    if strategies.contains(&text) {
        return Some(text.to_owned());
    }
    value.refuse(format!("unknown strategy {text:?}"), did_you_mean(text, strategies))
}

/// What of a request is hashed.
pub(super) fn hash(value: &Value<'_>) -> Option<HashKey> {
    const HELP: &str = "write \"client-ip\", \"path\", \"host\", { header = \"x\" }, { cookie = \"x\" } or { query = \"x\" }";
    if value.is_string() {
        const WORDS: [HashKey; 3] = [HashKey::ClientIp, HashKey::Path, HashKey::Host];
        return value.word(&[("client-ip", 0), ("path", 1), ("host", 2)]).map(|n| WORDS[n].clone());
    }
    let table = value.table(keys::HASH, HELP)?;
    let token = |value: Value<'_>| value.parsed(pattern::token);
    match (table.get("header"), table.get("cookie"), table.get("query")) {
        (Some(header), None, None) => token(header).map(|name| HashKey::Header(name.to_ascii_lowercase())),
        (None, Some(cookie), None) => token(cookie).map(HashKey::Cookie),
        (None, None, Some(query)) => token(query).map(HashKey::Query),
        _ => value.refuse("hashes one thing", HELP),
    }
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
