//! Text in, [`Config`] or every mistake in it out.
//!
//! The files in reading order: the type the house uses (`model`), the keys that
//! exist (`keys`), what is said about mistakes (`mistake`), the walk over TOML
//! (`reader`), the small languages inside strings (`units`, `pattern`), then one
//! file for each group of tables.

mod model;

pub mod keys;
mod mistake;
mod reader;
mod resilience;

mod pattern;
mod units;

mod health;
mod process;
mod route_cache;
mod sticky;
mod traffic;
mod upstream;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use toml::de::DeTable;

pub use self::mistake::{Mistake, Mistakes, Place, did_you_mean};
pub use self::model::*;
use self::reader::Reader;
use self::traffic::Known;

/// After a few broken lines the rest of a file is noise.
const SYNTAX_MISTAKES_MAX: usize = 3;

/// Reads a file. Paths in it begin at its folder.
pub fn load(path: &Path, strategies: &[&str]) -> Result<Config, Mistakes> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, path, strategies),
        Err(error) => Err(Mistake::whole(path, "", format!("cannot be read: {error}"), "").into()),
    }
}

/// Reads `text` as if it stood in `file`, whose folder its paths begin at. `strategies` are the
/// names that `balance` may say.
pub fn parse(text: &str, file: &Path, strategies: &[&str]) -> Result<Config, Mistakes> {
    let reader = Reader::new(text, file);
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors.iter().take(SYNTAX_MISTAKES_MAX) {
        reader.note(error.span().unwrap_or_default(), "", error.message(), "");
    }
    // What could be recovered of a broken file would be blamed for what could not.
    reader.finish()?;

    let root = reader.root(tree.get_ref(), keys::ROOT);
    let cache = process::cache(&root);
    let admin = process::admin(&root);
    let listeners = traffic::listeners(&root, admin.as_ref());
    let upstreams = upstream::upstreams(&root, strategies);
    let known = Known {
        listeners: &listeners.iter().map(|listener| listener.name.as_str()).collect::<Vec<_>>(),
        upstreams: &upstreams.iter().map(|upstream| upstream.name.as_str()).collect::<Vec<_>>(),
        cache: &cache,
    };
    let routes = traffic::routes(&root, &known);
    let runtime = process::runtime(&root);
    let log = process::log(&root);
    let limits = process::limits(&root);
    let dns = process::dns(&root);

    reader.finish()?;
    Ok(Config { runtime, admin, log, limits, listeners, routes, upstreams, dns, cache })
}

/// The configuration of `tidegate proxy --from ADDR --to ADDR [--to ADDR]`.
pub fn for_proxy(from: SocketAddr, to: Vec<String>) -> Result<Config, Mistakes> {
    let command_line = Path::new("command line");
    let refused = |server: &String| {
        let refused = pattern::server(server).err()?;
        Some(Mistake::whole(command_line, "--to", refused.message, refused.help))
    };
    let mistakes: Vec<Mistake> = to.iter().filter_map(refused).collect();
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes));
    }

    let servers = toml::Value::from(to);
    let text = format!(
        "[[listener]]\nbind = \"{from}\"\n[[route]]\nupstream = \"to\"\n[upstream.to]\nservers = {servers}\n"
    );
    parse(&text, command_line, &[])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use toml::Table;

    use super::*;

    const STRATEGIES: &[&str] = &[
        "round-robin",
        "weighted-round-robin",
        "least-connections",
        "power-of-two",
        "peak-ewma",
        "random",
        "consistent-hash",
        "maglev",
        "rendezvous",
        "ip-hash",
    ];

    /// Six lines, so that what a test appends begins in line 7, inside `[upstream.app]`.
    const BASE: &str = "[[listener]]\nbind = \"127.0.0.1:80\"\n[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [\"10.0.0.1:80\"]\n";

    fn headlines(text: &str) -> Vec<String> {
        let mistakes = parse(text, Path::new("t.toml"), STRATEGIES).expect_err(text);
        mistakes.0.iter().map(Mistake::headline).collect()
    }

    fn base_and(text: &str) -> Config {
        let text = format!("{BASE}{text}");
        parse(&text, Path::new("etc/t.toml"), STRATEGIES).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    /// The reference, and the reference with every key that it only mentions.
    fn references() -> (String, String) {
        let stated = fs::read_to_string("config/reference.toml").unwrap();
        let key =
            |line: &&str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase());
        let open = |line| if key(&line) { &line[1..] } else { line };
        let all = stated.lines().map(open).collect::<Vec<_>>().join("\n");
        (stated, all)
    }

    /// Every table of the tree by its path in `keys::ALL`, with the keys it has.
    fn collect(path: &str, value: &toml::Value, found: &mut BTreeSet<(String, String)>) {
        match value {
            toml::Value::Array(items) => items.iter().for_each(|item| collect(path, item, found)),
            toml::Value::Table(table) => {
                for (name, child) in table {
                    let name = if path == "upstream" { "NAME" } else { name };
                    found.insert((path.to_owned(), name.to_owned()));
                    collect(format!("{path}.{name}").trim_start_matches('.'), child, found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_file_in_config_is_valid() {
        let mut count = 0;
        for entry in fs::read_dir("config").unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                load(&path, STRATEGIES).unwrap_or_else(|mistakes| panic!("{mistakes}"));
                count += 1;
            }
        }

        assert!(count >= 5, "{count} files");
    }

    #[test]
    fn the_reference_has_every_key_that_the_parser_knows() {
        let (_, all) = references();
        let mut found = BTreeSet::new();
        collect("", &toml::Value::Table(all.parse::<Table>().unwrap()), &mut found);

        for (table, known) in keys::ALL {
            for key in *known {
                assert!(
                    found.contains(&((*table).to_owned(), (*key).to_owned())),
                    "{table}: {key} is missing"
                );
            }
        }
    }

    #[test]
    fn the_reference_is_valid_with_every_key_that_it_mentions() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reference.toml");
        fs::write(&file, references().1).unwrap();
        fs::write(folder.path().join("sticky.key"), [7; 32]).unwrap();
        fs::write(folder.path().join("new.key"), [8; 32]).unwrap();

        let config = load(&file, STRATEGIES).unwrap_or_else(|mistakes| panic!("{mistakes}"));

        let sessions = config.upstreams.iter().find(|upstream| upstream.name == "sessions").unwrap();
        let Some(Sticky::Cookie(sticky)) = &sessions.sticky else { panic!("{:?}", sessions.sticky) };
        assert_eq!(sticky.secrets, [vec![8; 32], vec![7; 32]]);
    }

    #[test]
    fn the_reference_states_the_defaults() {
        let stated = parse(&references().0, Path::new("t.toml"), STRATEGIES).unwrap();

        let silent = parse(
            r#"
            [admin]
            [[listener]]
            bind = "0.0.0.0:8080"
            [[listener]]
            name = "secure"
            bind = "0.0.0.0:8443"
            tls = { certificates = [{ cert = "site.pem", key = "site.key" }] }
            [[route]]
            upstream = "app"
            [[route]]
            host = "static.example.com"
            upstream = "assets"
            cache = true
            [upstream.app]
            servers = ["127.0.0.1:3000", "127.0.0.1:3001"]
            [upstream.assets]
            servers = [{ address = "https://assets-1.internal", max-requests = 500, max-connections = 500 }, { address = "https://assets-2.internal:8443", backup = true }]
            balance = "consistent-hash"
            hash = { header = "x-tenant" }
            health = { path = "/healthz" }
            [upstream.orders]
            servers = ["127.0.0.1:50051"]
            health = { grpc = "" }
            [upstream.sessions]
            servers = ["127.0.0.1:4000", "127.0.0.1:4001"]
            hash = { cookie = "session" }
            sticky = {}
            [upstream.tenants]
            servers = ["127.0.0.1:4100", "127.0.0.1:4101"]
            hash = { query = "tenant" }
            sticky = { hash = { query = "tenant" } }
            [upstream.shop]
            servers = ["127.0.0.1:4200", "127.0.0.1:4201"]
            sticky = { learn = "JSESSIONID" }
            "#,
            Path::new("t.toml"),
            STRATEGIES,
        );
        assert_eq!(stated, silent.unwrap());
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = base_and("");

        let limits = &config.limits;
        assert_eq!(config.runtime, Runtime { workers: None, drain_timeout: Duration::from_secs(30) });
        assert_eq!(config.admin, None);
        assert_eq!(config.log.access, AccessTarget::Off);
        assert_eq!((limits.connections, limits.connections_per_client), (20_000, 1_000));
        assert_eq!((limits.headers, limits.header_bytes, limits.uri_bytes), (100, 32_768, 8_192));
        assert_eq!((limits.http2_streams, limits.http2_resets, limits.http2_header_list), (128, 20, 32_768));
        assert_eq!(config.listeners[0].name, "127.0.0.1:80");
        assert_eq!(config.routes[0].name, "*/*");
        assert_eq!(config.routes[0].path, PathPattern::Prefix("/".to_owned()));
        assert_eq!((config.upstreams[0].balance.as_str(), config.upstreams[0].retries), ("round-robin", 2));
        assert_eq!(config.upstreams[0].eject.as_ref().unwrap().failures, 5);
        assert_eq!(config.cache.max_size, 256 << 20);
    }

    #[test]
    fn paths_begin_at_the_folder_of_the_file() {
        let config = base_and(
            "[log]\naccess = \"/var/log/a.log\"\n[[listener]]\nbind = \"[::]:443\"\n\
             tls = { certificates = [{ cert = \"a.pem\", key = \"../b.key\" }] }",
        );

        let certificate = &config.listeners[1].tls.as_ref().unwrap().certificates[0];
        assert_eq!(certificate.cert, Path::new("etc/a.pem"));
        assert_eq!(certificate.key, Path::new("etc/../b.key"));
        assert_eq!(config.log.access, AccessTarget::File("/var/log/a.log".into()));
    }

    #[test]
    fn made_up_route_names_step_aside_for_given_ones() {
        let config = base_and(
            "[[route]]\nlistener = \"127.0.0.1:80\"\nupstream = \"app\"\n\
             [[route]]\npath = \"/b\"\nupstream = \"app\"\n\
             [[route]]\nname = \"*/b\"\npath = \"/c\"\nupstream = \"app\"",
        );

        let names: Vec<&str> = config.routes.iter().map(|route| route.name.as_str()).collect();
        assert_eq!(names, ["*/*", "*/*@127.0.0.1:80", "*/b@*", "*/b"]);
    }

    #[test]
    fn two_listeners_may_both_ask_for_a_free_port() {
        let text = BASE.replace("127.0.0.1:80", "127.0.0.1:0");
        let other = "[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:0\"";

        let config = parse(&format!("{text}{other}"), Path::new("t.toml"), STRATEGIES).unwrap();

        assert_eq!(config.listeners.len(), 2);
    }

    #[test]
    fn a_small_cache_makes_the_default_object_smaller() {
        let config = base_and(
            "[[route]]\nhost = \"a\"\nupstream = \"app\"\ncache = true\n[cache]\nmax-size = \"4MiB\"",
        );

        assert_eq!(config.routes[1].cache, Some(RouteCache::new(1 << 20)));
    }

    #[test]
    fn an_ejection_can_be_turned_off_or_lengthened() {
        assert_eq!(base_and("eject = false").upstreams[0].eject, None);

        let longer = base_and("eject = { time = \"10m\" }").upstreams[0].eject.clone().unwrap();
        assert_eq!((longer.time, longer.max_time), (Duration::from_secs(600), Duration::from_secs(600)));
    }

    #[test]
    fn names_are_resolved_by_the_system_unless_the_file_says_otherwise() {
        let seconds = Duration::from_secs;

        let dns = base_and("").dns;
        assert_eq!((dns.servers, dns.timeout, dns.attempts), (None, seconds(2), 2));
        assert_eq!((dns.min_ttl, dns.max_ttl, dns.family), (seconds(1), seconds(3600), Family::PreferIpv4));

        let dns = base_and("[dns]\nservers = [\"10.0.0.2\"]\nmin-ttl = \"2h\"\nfamily = \"both\"").dns;
        assert_eq!(dns.servers, Some(vec!["10.0.0.2:53".parse().unwrap()]));
        assert_eq!((dns.min_ttl, dns.max_ttl, dns.family), (seconds(7200), seconds(7200), Family::Both));
    }

    #[test]
    fn one_host_may_have_several_services() {
        let config = base_and(
            "[upstream.b]\nservers = [\"http+srv://_a._tcp.b\", { address = \"http+srv://_b._tcp.b\", backup = true }]",
        );

        let servers = &config.upstreams[1].servers;
        assert_eq!(servers[0].source, Source::Service("_a._tcp.b".to_owned()));
        assert_eq!((servers[1].host.as_str(), servers[1].port, servers[1].priority), ("b", 0, BACKUP));
    }

    #[test]
    fn a_proxy_needs_no_file() {
        let from = "127.0.0.1:8080".parse().unwrap();

        let config = for_proxy(from, vec!["127.0.0.1:3000".to_owned(), "https://[::1]".to_owned()]).unwrap();
        assert_eq!(config.listeners[0].bind, from);
        assert_eq!(
            (config.upstreams[0].servers[1].host.as_str(), config.upstreams[0].servers[1].tls),
            ("::1", true)
        );

        let mistakes = for_proxy(from, vec!["localhost".to_owned(), "\"\n".to_owned()]).unwrap_err();
        assert_eq!(mistakes.0.len(), 2);
        assert_eq!(
            mistakes.0[0].to_string(),
            "command line: --to: \"localhost\" has no port; write \"host:port\" or \"https://host:port\""
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_mistake() {
        let mistakes = load(Path::new("nowhere/t.toml"), STRATEGIES).unwrap_err();

        assert!(mistakes.to_string().starts_with("nowhere/t.toml: cannot be read: "), "{mistakes}");
    }

    #[test]
    fn a_secret_is_read_and_must_be_long_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        let text = format!("{BASE}sticky = {{ secret-file = \"short.key\" }}");
        fs::write(folder.path().join("short.key"), "too short").unwrap();

        let short = parse(&text, &file, STRATEGIES).unwrap_err().0.remove(0);
        assert!(short.message.ends_with("short.key has 9 bytes"), "{short}");

        let absent = parse(&text.replace("short", "absent"), &file, STRATEGIES).unwrap_err().0.remove(0);
        assert!(absent.message.starts_with("cannot read "), "{absent}");
    }

    #[test]
    fn a_few_secrets_may_take_turns_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.key"), [7; 32]).unwrap();
        let with = |count: usize| {
            let files = vec!["\"a.key\""; count].join(", ");
            let text = format!("{BASE}sticky = {{ secret-file = [{files}] }}");
            parse(&text, &folder.path().join("t.toml"), STRATEGIES)
                .map_err(|mistakes| mistakes.0[0].message.clone())
        };

        assert!(with(8).is_ok());
        assert_eq!(with(9).unwrap_err(), "9 secrets are too many");
        assert_eq!(with(0).unwrap_err(), "is empty");
    }

    #[test]
    fn a_mistake_shows_its_line_and_points_at_it() {
        let text = format!("{BASE}\tbalance = \"round-robbin\" # fair");

        let mistakes = parse(&text, Path::new("config/app.toml"), STRATEGIES).unwrap_err();

        assert_eq!(
            mistakes.to_string(),
            "config/app.toml:7:12: upstream.app.balance: unknown strategy \"round-robbin\"; did you mean \"round-robin\"?\n\
             7 | \tbalance = \"round-robbin\" # fair\n\
             \x20 | \t          ^^^^^^^^^^^^^^"
        );
    }

    #[test]
    fn all_mistakes_are_reported_at_once_and_in_order() {
        let text = "[runtime]\nworker = 2\n[[listener]]\nbind = 80\n[[route]]\nupstream = \"ap\"\n\
                    [upstream.app]\nservers = []\nretries = 11\n";

        assert_eq!(
            headlines(text),
            [
                "t.toml:2:1: runtime.worker: unknown key; did you mean \"workers\"?",
                "t.toml:4:8: listener[0].bind: expected a string, found a whole number",
                "t.toml:6:12: route[0].upstream: there is no upstream named \"ap\"; did you mean \"app\"?",
                "t.toml:8:11: upstream.app.servers: is empty; at least one server is needed",
                "t.toml:9:11: upstream.app.retries: 11 is out of range; allowed: 0 to 10",
            ]
        );
    }

    #[test]
    fn an_empty_file_lacks_a_listener_and_a_route() {
        assert_eq!(
            headlines(""),
            [
                "t.toml: listener: there is no [[listener]]; at least one is needed",
                "t.toml: route: there is no [[route]]; at least one is needed",
            ]
        );
    }

    #[test]
    fn three_mistakes_of_syntax_are_shown_and_nothing_else() {
        let text = "a = \nb = \nc = \nd = \n[limits]\nheaders = \"x\"";

        let found = headlines(text);

        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(found[0].starts_with("t.toml:1:"), "{found:#?}");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(at in 0_usize..20_000, cut in 0_usize..40, put in "[\\PC\\n\\[\\]{}=\"#*]{0,12}") {
            let mut text = references().1;
            let start = text.floor_char_boundary(at);
            let end = text.floor_char_boundary(start + cut);
            text.replace_range(start..end, &put);

            if let Err(mistakes) = parse(&text, Path::new("t.toml"), STRATEGIES) {
                proptest::prop_assert!(!mistakes.to_string().is_empty());
            }
        }
    }

    #[test]
    fn each_mistake_says_where_what_and_what_instead() {
        let mut differences = Vec::new();
        for (text, expected) in MISTAKES {
            let found = headlines(&format!("{BASE}{text}"));
            if found != [format!("t.toml:{expected}")] {
                differences.push((text, expected, found));
            }
        }

        assert!(differences.is_empty(), "{differences:#?}");
    }

    /// What is appended to `BASE`, and the one headline it earns.
    const MISTAKES: &[(&str, &str)] = &[
        (
            "[[route]]\nupstream = \"app\"\nhost = \"a\"\n[route.cache]\nserver-freshness = \"ignore\"",
            "11:20: route[1].cache.server-freshness: leaves responses without a lifetime; say how long they are fresh with ttl",
        ),
        (
            "[[route]]\nupstream = \"app\"\nhost = \"a\"\n[route.cache.key]\nquery = [\"a\"]\nignore-query = [\"b\"]",
            "12:16: route[1].cache.key.ignore-query: query names already what is in the key; leave one of them out",
        ),
        (
            "[[route]]\nupstream = \"app\"\nhost = \"a\"\n[route.cache.bypass]\nquery = [\"*\"]",
            "11:10: route[1].cache.bypass.query[0]: is not a name; write \"page\", or \"utm_*\" for all that begin so",
        ),
        (
            "[[route]]\nupstream = \"app\"\nhost = \"a\"\ncache = { negative = { statuses = [200], ttl = \"1s\" } }",
            "10:36: route[1].cache.negative.statuses[0]: 200 is out of range; allowed: 300 to 599",
        ),
        (
            "[[upstream.b]]\nservers = []",
            "7:1: upstream.b: expected a table, found an array; write [upstream.NAME]",
        ),
        ("[[route]]\nupstream = \"\"\nhost = \"a\"", "8:12: route[1].upstream: is empty"),
        (
            "colour = 1",
            "7:1: upstream.app.colour: unknown key; known: servers, balance, hash, load-factor, sticky, health, eject, slow-start, spill-over, panic-threshold, max-requests, max-connections, queue, retries, retry-on, retry-budget, retry-body, total-timeout, try-timeout, host, tls, connect-timeout, tls-timeout, first-byte-timeout, body-idle, idle-timeout, idle-connections",
        ),
        (
            "connect_timeout = \"1s\"",
            "7:1: upstream.app.connect_timeout: unknown key; did you mean \"connect-timeout\"?",
        ),
        (
            "connect-timeout = 5",
            "7:19: upstream.app.connect-timeout: 5 has no unit; write a duration, such as \"5s\"",
        ),
        (
            "connect-timeout = \"5 sec\"",
            "7:19: upstream.app.connect-timeout: \"5 sec\" is not a duration; write a whole number and its unit (ms, s, m, h or d), such as \"30s\"",
        ),
        (
            "connect-timeout = \"0s\"",
            "7:19: upstream.app.connect-timeout: 0s is out of range; allowed: 1ms to 1d",
        ),
        (
            "connect-timeout = true",
            "7:19: upstream.app.connect-timeout: expected a duration, found true; write a whole number and its unit (ms, s, m, h or d), such as \"30s\"",
        ),
        ("retries = -1", "7:11: upstream.app.retries: -1 is out of range; allowed: 0 to 10"),
        (
            "retries = \"2\"",
            "7:11: upstream.app.retries: expected a whole number, found a string; allowed: 0 to 10",
        ),
        (
            "balance = \"fastest\"",
            "7:11: upstream.app.balance: unknown strategy \"fastest\"; known: round-robin, weighted-round-robin, least-connections, power-of-two, peak-ewma, random, consistent-hash, maglev, rendezvous, ip-hash",
        ),
        (
            "hash = \"client_ip\"",
            "7:8: upstream.app.hash: unknown value \"client_ip\"; did you mean \"client-ip\"?",
        ),
        (
            "hash = { header = \"a\", cookie = \"b\" }",
            "7:8: upstream.app.hash: hashes one thing; write \"client-ip\", \"path\", \"host\", { header = \"x\" }, { cookie = \"x\" } or { query = \"x\" }",
        ),
        (
            "health = {}",
            "7:10: upstream.app.health: does not say what to ask; write one of path = \"/healthz\", tcp = true, tls = true and grpc = \"\"",
        ),
        (
            "health = { path = \"/\", expect = [\"200-99\"] }",
            "7:34: upstream.app.health.expect[0]: \"200-99\" is not a range of statuses; write it as \"200-299\", within 100 to 599",
        ),
        (
            "health = { tcp = true, host = \"a\" }",
            "7:31: upstream.app.health.host: means nothing to a tcp probe; leave it out, or give a path instead of tcp",
        ),
        (
            "eject = { time = \"1m\", max-time = \"30s\" }",
            "7:35: upstream.app.eject.max-time: is shorter than time; the longest ejection cannot be shorter than the first",
        ),
        (
            "eject = 5",
            "7:9: upstream.app.eject: expected true, false or a table, found a whole number; such as { failures = 5 }",
        ),
        (
            "sticky = { cookie = \"a b\" }",
            "7:21: upstream.app.sticky.cookie: \"a b\" cannot be a name here; use letters, digits, - and _",
        ),
        (
            "tls = { insecure = true }",
            "7:7: upstream.app.tls: no server of this upstream is spoken to over TLS; begin their addresses with https://",
        ),
        (
            "[upstream.b]\nservers = [\"app\"]",
            "8:12: upstream.b.servers[0]: \"app\" has no port; write \"host:port\" or \"https://host:port\"",
        ),
        (
            "[upstream.b]\nservers = [\"a:1\", { address = \"A:1\" }]",
            "8:19: upstream.b.servers[1]: this server is already listed; to give it a larger share, use weight",
        ),
        (
            "[upstream.b]\nservers = [{ address = \"a:1\", weight = 0 }]",
            "8:40: upstream.b.servers[0].weight: 0 is out of range; allowed: 1 to 1000",
        ),
        ("[upstream.b]", "7:1: upstream.b.servers: is missing; write it as servers = [\"127.0.0.1:3000\"]"),
        ("[[listener]]", "7:1: listener[1].bind: is missing; write it as bind = \"0.0.0.0:8080\""),
        (
            "[[listener]]\nbind = \"localhost:80\"",
            "8:8: listener[1].bind: \"localhost:80\" is not an IP address and a port; write it as \"0.0.0.0:8080\" or \"[::]:8080\"",
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:80\"",
            "8:8: listener[1].bind: this address is already bound by listener \"127.0.0.1:80\"",
        ),
        (
            "[[listener]]\nname = \"127.0.0.1:80\"\nbind = \"[::]:80\"",
            "8:8: listener[1].name: there is already a listener named \"127.0.0.1:80\"",
        ),
        (
            "[[listener]]\nbind = \"[::]:80\"\ntrusted-proxies = [\"10.0.0.1/8\"]",
            "9:20: listener[1].trusted-proxies[0]: \"10.0.0.1/8\" has bits beyond its prefix; write the first address of the network",
        ),
        (
            "[[listener]]\nbind = \"[::]:80\"\ntls = { certificates = [{ cert = \"a\" }] }",
            "9:25: listener[1].tls.certificates[0].key: is missing; the PEM file of the private key",
        ),
        (
            "[[listener]]\nbind = \"[::]:80\"\ntls = { certificates = [], min-version = \"1.2\" }",
            "9:24: listener[1].tls.certificates: is empty; at least one certificate is needed",
        ),
        (
            "[admin]\nbind = \"127.0.0.1:80\"",
            "2:8: listener[0].bind: this address is already bound by [admin]",
        ),
        (
            "[[route]]\nupstream = \"app\"\nhost = \"*\"",
            "7:1: route[1]: an earlier route takes the same listener, host and path; this one would never be used",
        ),
        (
            "[[route]]\nupstream = \"app\"\nlistener = \"pubic\"",
            "9:12: route[1].listener: there is no listener named \"pubic\"; known: 127.0.0.1:80",
        ),
        (
            "[[route]]\nupstream = \"app\"\nhost = \"a.b:80\"",
            "9:8: route[1].host: \"a.b:80\" has a port; write the host alone; the port is the listener's",
        ),
        (
            "[[route]]\nupstream = \"app\"\npath = \"/api*\"",
            "9:8: route[1].path: \"/api*\" has a * beside other text; a * is a whole segment, as in \"/api/*\"",
        ),
        (
            "[[route]]\nupstream = \"app\"\nhost = \"a\"\ncache = { max-object = \"65MiB\" }",
            "10:24: route[1].cache.max-object: 65MiB is too large for this cache; at most a quarter of cache.max-size and 1GiB: 64MiB",
        ),
        (
            "[[route]]\nupstream = \"app\"\nhost = \"a\"\nmax-body = \"10MB\"",
            "10:12: route[1].max-body: \"10MB\" is not a size; write a whole number and its unit (B, KiB, MiB or GiB), such as \"64KiB\"",
        ),
        (
            "[limits]\nuri-bytes = \"64KiB\"",
            "8:13: limits.uri-bytes: 64KiB is out of range; allowed: 256B to 60KiB",
        ),
        (
            "[limits]\nheader-bytes = \"8KiB\"\nuri-bytes = \"9KiB\"",
            "9:13: limits.uri-bytes: is more than header-bytes; the target is a part of the head",
        ),
        ("[log]\nlevel = \"warning\"", "8:9: log.level: unknown value \"warning\"; did you mean \"warn\"?"),
        (
            "[log]\naccess = \"stderr\"",
            "8:10: log.access: unknown value \"stderr\"; write \"off\", \"stdout\" or a path with a / or a . in it",
        ),
        (
            "[dns]\nservers = [\"dns.internal\"]",
            "8:12: dns.servers[0]: \"dns.internal\" is not the address of a name server; write an IP address, perhaps with a port, as in \"127.0.0.1:53\"",
        ),
        ("[dns]\nservers = []", "8:11: dns.servers: is empty; leave it out to ask the system's name servers"),
        ("[dns]\nattempts = 0", "8:12: dns.attempts: 0 is out of range; allowed: 1 to 10"),
        (
            "[dns]\nmin-ttl = \"10s\"\nmax-ttl = \"5s\"",
            "9:11: dns.max-ttl: is shorter than min-ttl; the longest time cannot be shorter than the shortest",
        ),
        ("[dns]\nfamily = \"ip4\"", "8:10: dns.family: unknown value \"ip4\"; did you mean \"ipv4\"?"),
        (
            "[upstream.b]\nservers = [\"srv://_http._tcp.b\"]",
            "8:12: upstream.b.servers[0]: unknown scheme \"srv\"; known: http, https, http+srv, https+srv",
        ),
        (
            "[upstream.b]\nservers = [\"http+srv://_http._tcp.b:80\"]",
            "8:12: upstream.b.servers[0]: \"_http._tcp.b:80\" has a port; write the name alone; the ports are in its SRV records",
        ),
        (
            "[upstream.b]\nservers = [{ address = \"http+srv://_http._tcp.b\", weight = 2 }]",
            "8:60: upstream.b.servers[0].weight: means nothing to a service; leave it out; the weights are in its SRV records",
        ),
        ("[caches]", "7:2: caches: unknown key; did you mean \"cache\"?"),
        (
            "[cache]\nmax-size = 256",
            "8:12: cache.max-size: 256 has no unit; write a size, such as \"256KiB\"",
        ),
        ("[runtime]\nworkers = 0", "8:11: runtime.workers: 0 is out of range; allowed: 1 to 1024"),
        (
            "[[route]]\nhost = \"a\"",
            "7:1: route[1].upstream: is missing; write the name of an [upstream.NAME]",
        ),
        (
            "[[route]]\nname = \"x\"\nhost = \"a\"\nupstream = \"app\"\n[[route]]\nname = \"x\"\nhost = \"b\"\nupstream = \"app\"",
            "12:8: route[2].name: there is already a route named \"x\"",
        ),
        ("[[limits]]", "7:1: limits: expected a table, found an array; write [limits]"),
        (
            "[upstream.b]\nservers = [{ address = \"a:1\" }, { address = \"b:1\", weight = 2 }]",
            "8:11: upstream.b.servers: round-robin gives each server the same, whatever its weight; write balance = \"weighted-round-robin\"",
        ),
        (
            "[upstream.b]\nservers = [{ address = \"a:1\", backup = true, priority = 1 }]",
            "8:57: upstream.b.servers[0].priority: means nothing to a backup; a backup comes after every priority; leave one of them out",
        ),
        (
            "[upstream.b]\nservers = [{ address = \"a:1\", priority = 10 }]",
            "8:42: upstream.b.servers[0].priority: 10 is out of range; allowed: 0 to 9",
        ),
        (
            "[upstream.b]\nservers = [{ address = \"a:1\", max-requests = 0 }]",
            "8:46: upstream.b.servers[0].max-requests: 0 is out of range; allowed: 1 to 10000000",
        ),
        (
            "load-factor = 125",
            "7:15: upstream.app.load-factor: means nothing to round-robin; leave it out, or balance = \"consistent-hash\"",
        ),
        (
            "balance = \"consistent-hash\"\nload-factor = 100",
            "8:15: upstream.app.load-factor: 100 is out of range; allowed: 101 to 1000",
        ),
        (
            "sticky = { learn = \"sid\", cookie = \"gate\" }",
            "7:10: upstream.app.sticky: sticks in 2 ways at once; such as { cookie = \"tidegate\" }, { hash = { cookie = \"session\" } } or { learn = \"session\" }",
        ),
        (
            "sticky = { cookie = \"gate\", size = 100 }",
            "7:36: upstream.app.sticky.size: means nothing here: it belongs to learn; such as { cookie = \"tidegate\" }, { hash = { cookie = \"session\" } } or { learn = \"session\" }",
        ),
        (
            "sticky = { learn = \"sid\", max-age = \"1d\" }",
            "7:37: upstream.app.sticky.max-age: means nothing here: it belongs to cookie; such as { cookie = \"tidegate\" }, { hash = { cookie = \"session\" } } or { learn = \"session\" }",
        ),
        (
            "sticky = { hash = \"path\", secret-file = \"sticky.key\" }",
            "7:41: upstream.app.sticky.secret-file: means nothing here: it belongs to cookie; such as { cookie = \"tidegate\" }, { hash = { cookie = \"session\" } } or { learn = \"session\" }",
        ),
        (
            "sticky = { learn = \"sid\", size = 0 }",
            "7:34: upstream.app.sticky.size: 0 is out of range; allowed: 1 to 10000000",
        ),
        (
            "retry-on = [\"connect\", \"rest\"]",
            "7:24: upstream.app.retry-on[1]: unknown value \"rest\"; did you mean \"reset\"?",
        ),
        ("retry-on = [503, 200]", "7:18: upstream.app.retry-on[1]: 200 is out of range; allowed: 400 to 599"),
        (
            "retry-on = \"reset\"",
            "7:12: upstream.app.retry-on: expected an array, found a string; write it as [\"connect\", \"reset\", \"timeout\", 503]",
        ),
        (
            "retry-body = \"17MiB\"",
            "7:14: upstream.app.retry-body: 17MiB is out of range; allowed: 0B to 16MiB",
        ),
        (
            "retry-budget = { percent = 1001 }",
            "7:28: upstream.app.retry-budget.percent: 1001 is out of range; allowed: 0 to 1000",
        ),
        (
            "retry-budget = { concurrent = 0 }",
            "7:31: upstream.app.retry-budget.concurrent: 0 is out of range; allowed: 1 to 1000000",
        ),
        (
            "retry-budget = 20",
            "7:16: upstream.app.retry-budget: expected a table, found a whole number; write [upstream.app.retry-budget]",
        ),
        ("queue = { size = -1 }", "7:18: upstream.app.queue.size: -1 is out of range; allowed: 0 to 1000000"),
        (
            "queue = { timeout = \"0s\" }",
            "7:21: upstream.app.queue.timeout: 0s is out of range; allowed: 1ms to 1d",
        ),
        (
            "max-connections = 0",
            "7:19: upstream.app.max-connections: 0 is out of range; allowed: 1 to 10000000",
        ),
        ("spill-over = 101", "7:14: upstream.app.spill-over: 101 is out of range; allowed: 0 to 100"),
        (
            "panic-threshold = 101",
            "7:19: upstream.app.panic-threshold: 101 is out of range; allowed: 0 to 100",
        ),
        (
            "eject = { error-rate = 0 }",
            "7:24: upstream.app.eject.error-rate: 0 is out of range; allowed: 1 to 100",
        ),
        (
            "eject = { latency-factor = 1 }",
            "7:28: upstream.app.eject.latency-factor: 1 is out of range; allowed: 2 to 100",
        ),
        (
            "eject = { window = \"500ms\" }",
            "7:20: upstream.app.eject.window: 500ms is out of range; allowed: 1s to 1h",
        ),
        ("try-timeout = \"0s\"", "7:15: upstream.app.try-timeout: 0s is out of range; allowed: 1ms to 1d"),
        (
            "total-timeout = 5",
            "7:17: upstream.app.total-timeout: 5 has no unit; write a duration, such as \"5s\"",
        ),
        (
            "slow-start = \"fast\"",
            "7:14: upstream.app.slow-start: \"fast\" is not a duration; write a whole number and its unit (ms, s, m, h or d), such as \"30s\"",
        ),
    ];
}
