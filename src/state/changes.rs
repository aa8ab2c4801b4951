//! What one configuration changes of another: what stays, what comes and what goes, each by its name and with its reason.
//!
//! Pure. What files hold that the configuration only names, such as certificates, comes in as a [`Mark`] of it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::{Serialize, Serializer};

use crate::config::{self, Config, Listener, Route, Server, Upstream};
use crate::net::tls::Mark;
use crate::state::snapshot::server_name;

/// Names of changed things that one report tells; it counts all of them.
const TOLD_MAX: usize = 100;

/// A configuration, and what it was made of besides.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// What the file says.
    pub config: &'a Config,
    /// The contents of its other files.
    pub marks: &'a Marks,
}

/// What certificates and keys hold, by the name of who shows or believes them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Marks {
    /// Of listeners that speak TLS.
    pub listeners: HashMap<String, Mark>,
    /// Of upstreams with servers that do.
    pub upstreams: HashMap<String, Mark>,
}

/// What becomes of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is what it was.
    Kept,
    /// It stays, with other values of these keys.
    Changed(Vec<&'static str>),
    /// There was none of its name.
    Added,
    /// There is none of its name any more.
    Removed,
}

/// One thing and its fate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What the file calls it; a server with its upstream's name before it.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// All that becomes of things of one kind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes(pub Vec<Change>);

/// All that one configuration changes of another.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "named as the tables of the file are")]
pub struct Difference {
    pub listeners: Changes,
    pub routes: Changes,
    pub upstreams: Changes,
    pub servers: Changes,
}

/// What a process has once and for all, from the configuration that it was started with.
#[derive(Debug, Clone, PartialEq)]
pub struct Lasting {
    workers: Option<usize>,
    admin: Option<std::net::SocketAddr>,
    events: config::EventFormat,
    cache_max_size: u64,
}

/// What becomes of everything when `new` takes the place of `old`.
pub fn between(old: Side<'_>, new: Side<'_>) -> Difference {
    let by_listener = |side: Side<'_>, listener: &Listener| side.marks.listeners.get(&listener.name).copied();
    let by_upstream = |side: Side<'_>, upstream: &Upstream| side.marks.upstreams.get(&upstream.name).copied();
    Difference {
        listeners: compare(
            old.config.listeners.iter().map(|listener| (listener.name.clone(), listener)),
            new.config.listeners.iter().map(|listener| (listener.name.clone(), listener)),
            |before, now| of_listener((before, by_listener(old, before)), (now, by_listener(new, now))),
        ),
        routes: compare(
            old.config.routes.iter().map(|route| (route.name.clone(), route)),
            new.config.routes.iter().map(|route| (route.name.clone(), route)),
            |before, now| of_route((old.config, before), (new.config, now)),
        ),
        upstreams: compare(
            old.config.upstreams.iter().map(|upstream| (upstream.name.clone(), upstream)),
            new.config.upstreams.iter().map(|upstream| (upstream.name.clone(), upstream)),
            |before, now| {
                let mut keys = of_upstream((before, by_upstream(old, before)), (now, by_upstream(new, now)));
                if has_names(now) && old.config.dns != new.config.dns {
                    keys.push("dns");
                }
                keys
            },
        ),
        servers: compare(servers(old.config), servers(new.config), of_server),
    }
}

/// The keys of `now` that wait for a restart, because the process has them once and for all.
pub fn waiting(lasting: &Lasting, now: &Config) -> Vec<&'static str> {
    let wanted = Lasting::of(now);
    let mut keys = Vec::new();
    let mut note = |key, is_other: bool| is_other.then(|| keys.push(key));
    note("runtime.workers", lasting.workers != wanted.workers);
    note("admin.bind", lasting.admin != wanted.admin);
    note("log.events", lasting.events != wanted.events);
    note("cache.max-size", lasting.cache_max_size != wanted.cache_max_size);
    keys
}

impl Lasting {
    /// What a process that is started with `config` has.
    pub fn of(config: &Config) -> Self {
        Lasting {
            workers: config.runtime.workers,
            admin: config.admin.as_ref().map(|admin| admin.bind),
            events: config.log.events,
            cache_max_size: config.cache.max_size,
        }
    }

    /// Has `config` say what is so, and not what will be after a restart.
    pub fn hold(&self, config: &mut Config) {
        config.runtime.workers = self.workers;
        config.log.events = self.events;
        config.cache.max_size = self.cache_max_size;
        config.admin = self.admin.map(|bind| config::Admin {
            bind,
            hosts: config.admin.as_ref().map(|admin| admin.hosts.clone()).unwrap_or_default(),
        });
    }
}

/// For each listener of `new`, the one of `old` whose sockets it goes on with: that of its name and address, or else one of
/// its address alone, which has another name now. Port 0 is another port each time.
pub fn sockets(old: &[Listener], new: &[Listener]) -> Vec<Option<usize>> {
    let of = |listener: &Listener| (listener.name.clone(), listener.bind);
    let by_both: HashMap<_, _> =
        old.iter().enumerate().map(|(index, listener)| (of(listener), index)).collect();
    let mut found: Vec<_> = new.iter().map(|listener| by_both.get(&of(listener)).copied()).collect();
    let taken: HashSet<usize> = found.iter().flatten().copied().collect();
    let left = old
        .iter()
        .enumerate()
        .filter(|(index, listener)| !taken.contains(index) && listener.bind.port() != 0);
    let mut by_address: HashMap<_, _> = left.map(|(index, listener)| (listener.bind, index)).collect();
    for (listener, found) in new.iter().zip(&mut found) {
        if found.is_none() {
            *found = by_address.remove(&listener.bind);
        }
    }
    found
}

fn compare<'a, T: 'a>(
    old: impl Iterator<Item = (String, &'a T)>,
    new: impl Iterator<Item = (String, &'a T)>,
    keys: impl Fn(&T, &T) -> Vec<&'static str>,
) -> Changes {
    let mut before: HashMap<String, &T> = old.collect();
    let mut changes = Vec::new();
    for (name, now) in new {
        let fate = match before.remove(&name).map(|before| keys(before, now)) {
            None => Fate::Added,
            Some(keys) if keys.is_empty() => Fate::Kept,
            Some(keys) => Fate::Changed(keys),
        };
        changes.push(Change { name, fate });
    }
    let mut gone: Vec<_> = before.into_keys().collect();
    gone.sort_unstable();
    changes.extend(gone.into_iter().map(|name| Change { name, fate: Fate::Removed }));
    Changes(changes)
}

fn servers(config: &Config) -> impl Iterator<Item = (String, &Server)> {
    let of = |upstream: &'_ Upstream| upstream.name.clone();
    config.upstreams.iter().flat_map(move |upstream| {
        let name = of(upstream);
        upstream.servers.iter().map(move |server| (format!("{name} {}", server_name(server)), server))
    })
}

fn has_names(upstream: &Upstream) -> bool {
    upstream.servers.iter().any(|server| !matches!(server.source, config::Source::Address(_)))
}

/// Taken apart whole in the four functions below: a key that the model gets must be compared here, or this does not build.
macro_rules! differing {
    ($before:ident, $now:ident, $kind:ident { $($field:ident: $key:literal),* $(,)? } but { $($other:ident),* }) => {{
        let $kind { $($field: _,)* $($other: _,)* } = $now;
        let mut keys: Vec<&'static str> = Vec::new();
        $(if $before.$field != $now.$field { keys.push($key); })*
        keys.dedup();
        keys
    }};
}

fn of_listener(
    (before, mark_before): (&Listener, Option<Mark>),
    (now, mark): (&Listener, Option<Mark>),
) -> Vec<&'static str> {
    let mut keys = differing!(before, now, Listener {
        bind: "bind",
        tls: "tls",
        trusted_proxies: "trusted-proxies",
        max_connections: "max-connections",
    } but { name });
    if before.tls == now.tls && mark_before != mark {
        keys.push("certificates");
    }
    keys
}

fn of_route((old, before): (&Config, &Route), (new, now): (&Config, &Route)) -> Vec<&'static str> {
    let mut keys = differing!(before, now, Route {
        host: "host",
        path: "path",
        cache: "cache",
        max_body: "max-body",
    } but { name, listener, upstream });
    // Numbers of two configurations say nothing to each other.
    let listener =
        |config: &Config, route: &Route| route.listener.map(|at| config.listeners[at].name.clone());
    if listener(old, before) != listener(new, now) {
        keys.push("listener");
    }
    if old.upstreams[before.upstream].name != new.upstreams[now.upstream].name {
        keys.push("upstream");
    }
    keys
}

fn of_upstream(
    (before, mark_before): (&Upstream, Option<Mark>),
    (now, mark): (&Upstream, Option<Mark>),
) -> Vec<&'static str> {
    let mut keys = differing!(before, now, Upstream {
        servers: "servers",
        balance: "balance",
        hash: "hash",
        load_factor: "load-factor",
        sticky: "sticky",
        health: "health",
        eject: "eject",
        slow_start: "slow-start",
        spill_over: "spill-over",
        panic_threshold: "panic-threshold",
        max_requests: "max-requests",
        max_connections: "max-connections",
        queue: "queue",
        retries: "retries",
        retry: "retry",
        total_timeout: "total-timeout",
        try_timeout: "try-timeout",
        host: "host",
        tls: "tls",
        connect_timeout: "connect-timeout",
        tls_timeout: "tls-timeout",
        first_byte_timeout: "first-byte-timeout",
        body_idle: "body-idle",
        idle_timeout: "idle-timeout",
        idle_connections: "idle-connections",
    } but { name });
    if before.tls == now.tls && before.servers == now.servers && mark_before != mark {
        keys.push("certificates");
    }
    keys
}

fn of_server(before: &Server, now: &Server) -> Vec<&'static str> {
    differing!(before, now, Server {
        source: "address",
        host: "address",
        port: "address",
        tls: "tls",
        weight: "weight",
        priority: "priority",
        drain: "drain",
        max_requests: "max-requests",
        max_connections: "max-connections",
    } but {})
}

impl Fate {
    /// The word for reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Fate::Kept => "kept",
            Fate::Changed(_) => "changed",
            Fate::Added => "added",
            Fate::Removed => "removed",
        }
    }
}

impl Changes {
    /// How many were kept, changed, added and removed.
    pub fn counts(&self) -> [(&'static str, usize); 4] {
        ["kept", "changed", "added", "removed"]
            .map(|word| (word, self.0.iter().filter(|change| change.fate.as_str() == word).count()))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fate {
            Fate::Changed(keys) => write!(f, "{}: changed {}", self.name, keys.join(", ")),
            fate => write!(f, "{}: {}", self.name, fate.as_str()),
        }
    }
}

/// "1 kept, 2 added"; what did not happen is not mentioned.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = self.counts().into_iter().filter(|(_, count)| *count > 0);
        let words: Vec<_> = some.map(|(word, count)| format!("{count} {word}")).collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

/// The counts, and the first names of what is not as it was.
impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields: serde_json::Map<String, serde_json::Value> =
            self.counts().into_iter().map(|(word, count)| (word.to_owned(), count.into())).collect();
        let told = self.0.iter().filter(|change| change.fate != Fate::Kept).take(TOLD_MAX);
        fields.insert("details".to_owned(), told.map(Change::to_string).collect());
        fields.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BASE: &str = r#"
        [[listener]]
        name = "public"
        bind = "127.0.0.1:80"
        [[route]]
        name = "all"
        upstream = "app"
        [upstream.app]
        servers = ["10.0.0.1:80", "10.0.0.2:80"]
    "#;

    fn parse(text: &str) -> Config {
        config::parse(text, Path::new("t.toml"), &["round-robin", "random"]).unwrap_or_else(|m| panic!("{m}"))
    }

    fn difference(old: &str, new: &str) -> Difference {
        let (old, new, marks) = (parse(old), parse(new), Marks::default());
        between(Side { config: &old, marks: &marks }, Side { config: &new, marks: &marks })
    }

    /// All that is not kept, as it is told.
    fn told(difference: &Difference) -> Vec<String> {
        let Difference { listeners, routes, upstreams, servers } = difference;
        let all = [("listener", listeners), ("route", routes), ("upstream", upstreams), ("server", servers)];
        let changed = |changes: &Changes| -> Vec<Change> {
            changes.0.iter().filter(|change| change.fate != Fate::Kept).cloned().collect()
        };
        all.iter()
            .flat_map(|(kind, changes)| {
                changed(changes).into_iter().map(move |change| format!("{kind} {change}"))
            })
            .collect()
    }

    #[test]
    fn each_change_has_its_name_and_its_reason() {
        let more = |text: &str| format!("{BASE}{text}");
        let second = r#"
            [[listener]]
            name = "second"
            bind = "127.0.0.1:81"
        "#;
        for (old, new, expected) in [
            (BASE.to_owned(), BASE.to_owned(), &[][..]),
            (BASE.to_owned(), more(second), &["listener second: added"]),
            (more(second), BASE.to_owned(), &["listener second: removed"]),
            (
                BASE.to_owned(),
                BASE.replace("127.0.0.1:80", "127.0.0.1:82"),
                &["listener public: changed bind"],
            ),
            (
                BASE.to_owned(),
                BASE.replace(
                    "[[route]]",
                    "trusted-proxies = [\"10.0.0.0/8\"]\nmax-connections = 7\n[[route]]",
                ),
                &["listener public: changed trusted-proxies, max-connections"],
            ),
            (
                BASE.to_owned(),
                BASE.replace("name = \"all\"", "name = \"all\"\nmax-body = \"1KiB\"\nhost = \"a.example\""),
                &["route all: changed host, max-body"],
            ),
            (
                BASE.to_owned(),
                BASE.replace("name = \"all\"", "name = \"other\""),
                &["route other: added", "route all: removed"],
            ),
            (
                BASE.to_owned(),
                more("balance = \"random\"\nretries = 0\n"),
                &["upstream app: changed balance, retries"],
            ),
            (
                BASE.to_owned(),
                BASE.replace("\"10.0.0.2:80\"", "{ address = \"10.0.0.2:80\", priority = 1, drain = true }"),
                &["upstream app: changed servers", "server app 10.0.0.2:80: changed priority, drain"],
            ),
            (
                BASE.to_owned(),
                BASE.replace("10.0.0.2:80", "10.0.0.3:80"),
                &[
                    "upstream app: changed servers",
                    "server app 10.0.0.3:80: added",
                    "server app 10.0.0.2:80: removed",
                ],
            ),
            (
                BASE.to_owned(),
                BASE.replace("app", "web"),
                &[
                    "route all: changed upstream",
                    "upstream web: added",
                    "upstream app: removed",
                    "server web 10.0.0.1:80: added",
                    "server web 10.0.0.2:80: added",
                    "server app 10.0.0.1:80: removed",
                    "server app 10.0.0.2:80: removed",
                ],
            ),
            // Their order is not their identity.
            (
                BASE.to_owned(),
                more("[upstream.aaa]\nservers = [\"10.0.0.9:80\"]\n"),
                &["upstream aaa: added", "server aaa 10.0.0.9:80: added"],
            ),
            // Names are asked for by other name servers from then on, addresses never were.
            (
                BASE.replace("10.0.0.2", "app.internal"),
                format!("[dns]\nmin-ttl = \"2s\"\n{}", BASE.replace("10.0.0.2", "app.internal")),
                &["upstream app: changed dns"],
            ),
            (BASE.to_owned(), format!("[dns]\nmin-ttl = \"2s\"\n{BASE}"), &[]),
        ] {
            assert_eq!(told(&difference(&old, &new)), expected, "{new}");
        }
    }

    #[test]
    fn everything_that_is_there_is_counted_once() {
        let difference = difference(BASE, &BASE.replace("10.0.0.2:80", "10.0.0.3:80"));

        assert_eq!(difference.servers.to_string(), "1 kept, 1 added, 1 removed");
        assert_eq!(difference.upstreams.to_string(), "1 changed");
        assert_eq!(Changes::default().to_string(), "none");
        let json = serde_json::to_value(&difference.servers).unwrap();
        assert_eq!((&json["kept"], &json["changed"]), (&1.into(), &0.into()));
        assert_eq!(
            json["details"],
            serde_json::json!(["app 10.0.0.3:80: added", "app 10.0.0.2:80: removed"])
        );
    }

    #[test]
    fn a_report_names_only_so_many_and_counts_all() {
        let change = |n: usize| Change { name: n.to_string(), fate: Fate::Added };
        let json = serde_json::to_value(Changes((0..TOLD_MAX + 1).map(change).collect())).unwrap();

        assert_eq!(json["added"], TOLD_MAX + 1);
        assert_eq!(json["details"].as_array().map(Vec::len), Some(TOLD_MAX));
    }

    #[test]
    fn the_contents_of_files_count_as_well_as_their_names() {
        let tls = BASE.replace(
            "bind = \"127.0.0.1:80\"",
            "bind = \"127.0.0.1:80\"\ntls = { certificates = [{ cert = \"a.pem\", key = \"a.key\" }] }",
        );
        let config = parse(&tls.replace("10.0.0.2:80", "https://10.0.0.2"));
        let trusts = crate::net::tls::Trusts::default();
        let mark = |name: &str| {
            let tls = config::UpstreamTls { server_name: Some(name.to_owned()), insecure: true, ca: None };
            trusts.of(&tls).unwrap().mark()
        };
        let marks = |listener: &str, upstream: &str| Marks {
            listeners: [("public".to_owned(), mark(listener))].into(),
            upstreams: [("app".to_owned(), mark(upstream))].into(),
        };
        for (old, new, expected) in [
            (marks("a", "b"), marks("a", "b"), &[][..]),
            (marks("a", "b"), marks("c", "b"), &["listener public: changed certificates"]),
            (marks("a", "b"), marks("a", "c"), &["upstream app: changed certificates"]),
        ] {
            let side = |marks| Side { config: &config, marks };
            assert_eq!(told(&between(side(&old), side(&new))), expected);
        }
    }

    #[test]
    fn a_listener_goes_on_with_the_sockets_of_its_name_and_address_or_of_its_address() {
        let listeners = |text: &str| {
            let all = text.split_whitespace().map(|one| {
                let (name, port) = one.split_once(':').unwrap();
                format!("[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:{port}\"\n")
            });
            let rest = BASE.split_once("[[route]]").unwrap().1;
            parse(&format!("{}[[route]]{rest}", all.collect::<String>())).listeners
        };
        for (old, new, expected) in [
            ("a:80 b:81", "a:80 b:81", &[Some(0), Some(1)][..]),
            ("a:80 b:81", "b:81 a:80", &[Some(1), Some(0)]),
            ("a:80", "a:82", &[None]),
            ("a:80", "c:80", &[Some(0)]),
            ("a:80 b:81", "b:80 a:81", &[Some(0), Some(1)]),
            ("a:80", "a:80 b:81", &[Some(0), None]),
            ("a:0 b:0", "b:0 a:0", &[Some(1), Some(0)]),
            ("a:0", "c:0", &[None]),
        ] {
            assert_eq!(sockets(&listeners(old), &listeners(new)), expected, "{old} -> {new}");
        }
    }

    #[test]
    fn what_the_process_has_for_good_waits_and_goes_on_waiting() {
        let started = parse(BASE);
        let lasting = Lasting::of(&started);
        for (text, expected) in [
            ("", &[][..]),
            ("[runtime]\nworkers = 3\n", &["runtime.workers"]),
            ("[runtime]\ndrain-timeout = \"3s\"\n[log]\nlevel = \"debug\"\n", &[]),
            ("[admin]\nbind = \"127.0.0.1:9\"\n[log]\nevents = \"json\"\n", &["admin.bind", "log.events"]),
            ("[cache]\nmax-size = \"1MiB\"\ncollapse-wait = \"9s\"\n", &["cache.max-size"]),
        ] {
            let mut wanted = parse(&format!("{text}{BASE}"));

            assert_eq!(waiting(&lasting, &wanted), expected, "{text}");
            lasting.hold(&mut wanted);
            assert_eq!(waiting(&lasting, &wanted), [""; 0], "{text}: what is in force says what is so");
        }
        let mut admin = parse(&format!("[admin]\nbind = \"127.0.0.1:9\"\n{BASE}"));
        let lasting = Lasting::of(&admin);
        admin.admin = None;
        assert_eq!(waiting(&lasting, &admin), ["admin.bind"]);
        lasting.hold(&mut admin);
        assert!(admin.admin.is_some());
    }
}
