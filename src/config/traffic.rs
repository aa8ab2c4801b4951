//! `[[listener]]` and `[[route]]`.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};

use super::keys;
use super::mistake::did_you_mean;
use super::model::{
    Admin, Cache, Certificate, HostPattern, Listener, ListenerTls, PathPattern, Route, TlsVersion,
};
use super::pattern;
use super::reader::{Table, Value};
use super::route_cache;

/// All listeners, in the order of the file.
pub(super) fn listeners(root: &Table<'_>, admin: Option<&Admin>) -> Vec<Listener> {
    let mut names = HashSet::new();
    let mut binds: HashMap<SocketAddr, String> = HashMap::new();
    if let Some(admin) = admin {
        binds.insert(admin.bind, "[admin]".to_owned());
    }

    let tables = root.sections("listener", keys::LISTENER);
    tables.iter().map(|table| listener(table, &mut names, &mut binds)).collect()
}

fn listener(
    table: &Table<'_>,
    names: &mut HashSet<String>,
    binds: &mut HashMap<SocketAddr, String>,
) -> Listener {
    let bind_value = table.need("bind", "write it as bind = \"0.0.0.0:8080\"");
    let bind = bind_value.as_ref().and_then(|value| value.parsed(pattern::bind));
    let name_value = table.get("name");
    let name = match &name_value {
        Some(value) => value.name().unwrap_or_default(),
        None => bind.map(|bind| bind.to_string()).unwrap_or_default(),
    };

    let is_new_name = name.is_empty() || names.insert(name.clone());
    let other = bind.and_then(|bind| taken_by(bind, &name, binds));
    match (&bind_value, &name_value, other) {
        (Some(value), _, Some(other)) => value.wrong(format!("this address is already bound by {other}"), ""),
        (_, Some(value), None) if !is_new_name => {
            value.wrong(format!("there is already a listener named {name:?}"), "")
        }
        // Two of port 0 at one address: both may be bound, but they cannot be told apart.
        (Some(value), None, None) if !is_new_name => {
            value.wrong(format!("there is already a listener named {name:?}"), "give this one a name")
        }
        _ => {}
    }

    Listener {
        name,
        bind: bind.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
        tls: table.get("tls").and_then(|value| listener_tls(&value)),
        trusted_proxies: table.get("trusted-proxies").map(|value| networks(&value)).unwrap_or_default(),
        max_connections: table.optional("max-connections", 1..=10_000_000),
    }
}

/// Who has this address already. Port 0 is a new port each time, so two of them do not collide.
fn taken_by(bind: SocketAddr, name: &str, binds: &mut HashMap<SocketAddr, String>) -> Option<String> {
    if bind.port() == 0 {
        return None;
    }
    binds.insert(bind, format!("listener {name:?}"))
}

fn networks(value: &Value<'_>) -> Vec<ipnet::IpNet> {
    let items = value.array("write it as [\"10.0.0.0/8\"]").unwrap_or_default();
    items.iter().filter_map(|item| item.parsed(pattern::network)).collect()
}

fn listener_tls(value: &Value<'_>) -> Option<ListenerTls> {
    const HELP: &str = "write { certificates = [{ cert = \"site.pem\", key = \"site.key\" }] }";
    const VERSIONS: &[(&str, TlsVersion)] = &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];

    let table = value.table(keys::LISTENER_TLS, HELP)?;
    let min_version = table.word("min-version", TlsVersion::V1_2, VERSIONS);
    let listed = table.need("certificates", HELP)?;
    let items = listed.array(HELP)?;
    if items.is_empty() {
        listed.wrong("is empty", "at least one certificate is needed");
    }
    let certificates = items.iter().filter_map(certificate).collect();
    Some(ListenerTls { certificates, min_version })
}

fn certificate(value: &Value<'_>) -> Option<Certificate> {
    let table = value.table(keys::CERTIFICATE, "write { cert = \"site.pem\", key = \"site.key\" }")?;
    let cert = table.need("cert", "the PEM file of the chain, leaf first").and_then(|value| value.path());
    let key = table.need("key", "the PEM file of the private key").and_then(|value| value.path());
    Some(Certificate { cert: cert?, key: key? })
}

/// What a route may refer to.
pub(super) struct Known<'k> {
    pub(super) listeners: &'k [&'k str],
    pub(super) upstreams: &'k [&'k str],
    pub(super) cache: &'k Cache,
}

/// All routes, in the order of the file.
pub(super) fn routes(root: &Table<'_>, known: &Known<'_>) -> Vec<Route> {
    let tables = root.sections("route", keys::ROUTE);
    let mut names = HashSet::new();
    // Given names first: a name that we make up must step aside for one that was given.
    for value in tables.iter().filter_map(|table| table.get("name")) {
        if let Some(name) = value.name().filter(|name| !names.insert(name.clone())) {
            value.wrong(format!("there is already a route named {name:?}"), "");
        }
    }

    let mut seen = HashSet::new();
    tables.iter().map(|table| route(table, known, &mut names, &mut seen)).collect()
}

type Matcher = (Option<usize>, HostPattern, PathPattern);

fn route(
    table: &Table<'_>,
    known: &Known<'_>,
    names: &mut HashSet<String>,
    seen: &mut HashSet<Matcher>,
) -> Route {
    let listener = table.get("listener").map(|value| refer(&value, "listener", known.listeners));
    let host = table.get("host").map_or(Some(HostPattern::Any), |value| value.parsed(pattern::host));
    let path = table
        .get("path")
        .map_or(Some(PathPattern::Prefix("/".to_owned())), |value| value.parsed(pattern::path));
    let upstream = table
        .need("upstream", "write the name of an [upstream.NAME]")
        .and_then(|value| refer(&value, "upstream", known.upstreams));

    if let (Some(host), Some(path)) = (&host, &path)
        && listener != Some(None)
        && !seen.insert((listener.flatten(), host.clone(), path.clone()))
    {
        table
            .wrong("an earlier route takes the same listener, host and path", "this one would never be used");
    }

    Route {
        name: table
            .get("name")
            .and_then(|value| value.peek().map(str::to_owned))
            .unwrap_or_else(|| made_up(table, names)),
        listener: listener.flatten(),
        host: host.unwrap_or(HostPattern::Any),
        path: path.unwrap_or(PathPattern::Prefix("/".to_owned())),
        upstream: upstream.unwrap_or_default(),
        cache: table.get("cache").and_then(|value| route_cache::read(&value, known.cache)),
        max_body: table.get("max-body").and_then(|value| value.size(0..=u64::MAX)),
    }
}

/// The index of the thing that a value names.
fn refer(value: &Value<'_>, what: &str, names: &[&str]) -> Option<usize> {
    let text = value.text()?;
    let found = names.iter().position(|name| *name == text);
    found.or_else(|| value.refuse(format!("there is no {what} named {text:?}"), did_you_mean(text, names)))
}

/// `host` + `path` as written; behind an `@` the listener, and then a number, where that is taken.
fn made_up(table: &Table<'_>, names: &mut HashSet<String>) -> String {
    let written = |key, default| table.get(key).and_then(|value| value.peek()).unwrap_or(default);
    let plain = format!("{}{}", written("host", "*"), written("path", "/*"));
    let with_listener = format!("{plain}@{}", written("listener", "*"));
    let numbered = (2..).map(|n| format!("{with_listener}#{n}"));

    let mut candidates = [plain, with_listener.clone()].into_iter().chain(numbered);
    candidates.find(|name| names.insert(name.clone())).expect("the numbers do not end")
}
