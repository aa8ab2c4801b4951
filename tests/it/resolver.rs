//! What DNS says of a name, asked of a real name server: `net::resolve`, and `upstream::discovery` that follows it.

use std::future::Future;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate::config::{self, Config};
use tidegate::net::resolve::{Addresses, ResolveError, Resolver, Service};
use tidegate::observe::Metrics;
use tidegate::upstream::discovery::{Entry, Limits, Meters, Watch};
use tokio::runtime::{Builder, LocalOptions};

use crate::support::dns::{A, AAAA, Dns, Mood, Record, SRV};
use crate::support::{DEADLINE, eventually};

const ONE: Record = Record::A(std::net::Ipv4Addr::new(10, 0, 0, 1));
const TWO: Record = Record::A(std::net::Ipv4Addr::new(10, 0, 0, 2));
const SIX: Record = Record::Aaaa(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6));

/// A configuration with these servers, and with `[dns]` as it is given.
fn configuration(servers: &str, dns: &str) -> Config {
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [{servers}]\n{dns}"
    );
    config::parse(&text, Path::new("t.toml"), &["round-robin"]).unwrap()
}

fn resolver(dns: &str) -> Resolver {
    Resolver::new(&configuration("\"127.0.0.1:1\"", dns).dns).unwrap()
}

/// As on the control thread.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(future)
}

/// The addresses of `app.test`, asked for once.
fn ask(dns: &str) -> Result<Addresses, ResolveError> {
    wait(async { resolver(dns).addresses("app.test").await })
}

fn sorted(addresses: Addresses) -> Vec<String> {
    let mut texts: Vec<String> = addresses.found.values.iter().map(IpAddr::to_string).collect();
    texts.sort();
    texts
}

#[test]
fn addresses_come_with_the_least_ttl() {
    let dns = Dns::start();
    dns.set("app.test", 30, &[ONE, TWO]);
    dns.set("alias.test", 5, &[Record::Cname("app.test")]);
    let resolver = resolver(&dns.toml());

    let (direct, alias) = wait(async {
        (resolver.addresses("App.test").await.unwrap(), resolver.addresses("alias.test").await.unwrap())
    });

    assert_eq!(direct.found.valid_for, Duration::from_secs(30));
    assert_eq!(sorted(direct), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(alias.found.valid_for, Duration::from_secs(5), "the alias may change first");
    assert_eq!(sorted(alias), ["10.0.0.1", "10.0.0.2"]);
}

#[test]
fn that_there_is_nothing_is_another_thing_than_a_failure() {
    for (mood, expected, is_nothing) in [
        (Mood::Well, "the name has no such records", true),
        (Mood::Empty, "there is no such name", true),
        (Mood::Failing, "the name server answers servfail", false),
        (Mood::Refusing, "the name server answers refused", false),
        (Mood::Silent, "no answer within 200ms", false),
    ] {
        let dns = Dns::start();
        dns.set("app.test", 30, &[Record::Srv { priority: 0, weight: 0, port: 80, target: "a.test" }]);
        dns.turn(mood);

        let error = ask(&dns.toml()).unwrap_err();

        assert_eq!((error.to_string().as_str(), error.is_nothing()), (expected, is_nothing));
    }
}

#[test]
fn a_name_server_that_is_not_there_is_a_failure() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

    let error =
        ask(&format!("[dns]\nservers = [\"{nobody}\"]\ntimeout = \"200ms\"\nattempts = 1")).unwrap_err();

    assert!(!error.is_nothing(), "{error}");
}

#[test]
fn nothing_is_remembered_between_two_questions() {
    let dns = Dns::start();
    dns.set("app.test", 3600, &[ONE]);
    let resolver = resolver(&dns.toml());

    wait(async {
        assert_eq!(sorted(resolver.addresses("app.test").await.unwrap()), ["10.0.0.1"]);
        dns.set("app.test", 3600, &[TWO]);
        assert_eq!(sorted(resolver.addresses("app.test").await.unwrap()), ["10.0.0.2"]);
        dns.remove("app.test");
        assert!(resolver.addresses("app.test").await.is_err());
        dns.set("app.test", 3600, &[ONE]);
        assert_eq!(sorted(resolver.addresses("app.test").await.unwrap()), ["10.0.0.1"]);
    });
}

#[test]
fn a_family_that_is_not_wanted_is_not_asked_for() {
    let dual = [ONE, SIX].as_slice();
    for (family, records, expected, asked) in [
        ("prefer-ipv4", dual, &["10.0.0.1"][..], &[A][..]),
        ("prefer-ipv4", &[SIX], &["2001:db8::6"], &[A, AAAA]),
        ("prefer-ipv6", dual, &["2001:db8::6"], &[AAAA]),
        ("prefer-ipv6", &[ONE], &["10.0.0.1"], &[A, AAAA]),
        ("ipv4", dual, &["10.0.0.1"], &[A]),
        ("ipv6", dual, &["2001:db8::6"], &[AAAA]),
        ("both", dual, &["10.0.0.1", "2001:db8::6"], &[A, AAAA]),
        ("both", &[ONE], &["10.0.0.1"], &[A, AAAA]),
    ] {
        let dns = Dns::start();
        dns.set("app.test", 30, records);

        let found = ask(&format!("{}family = {family:?}", dns.toml())).unwrap();

        assert!(found.missing.is_none(), "{family} {records:?}");
        assert_eq!(sorted(found), expected, "{family} {records:?}");
        let mut kinds: Vec<u16> = dns.questions().into_iter().map(|(_, kind)| kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds, asked, "{family} {records:?}");
    }
}

#[test]
fn half_an_answer_says_what_is_missing_and_a_preferred_family_that_fails_is_no_answer() {
    let dns = Dns::start();
    dns.set("app.test", 30, &[ONE, SIX]);
    dns.turn_for("app.test", A, Mood::Failing);

    let half = ask(&format!("{}family = \"both\"", dns.toml())).unwrap();
    assert!(matches!(half.missing, Some(ResolveError::Refused(_))), "{half:?}");
    assert_eq!(sorted(half), ["2001:db8::6"]);

    let error = ask(&format!("{}family = \"prefer-ipv4\"", dns.toml())).unwrap_err();
    assert!(!error.is_nothing());
}

#[test]
fn an_answer_that_does_not_fit_into_udp_comes_over_tcp() {
    let dns = Dns::start();
    let many: Vec<Record> = (0..200).map(|n| Record::A([10, 0, 1, n].into())).collect();
    dns.set("app.test", 30, &many);
    dns.truncate();

    let found = ask(&dns.toml()).unwrap();

    assert_eq!(found.found.values.len(), 200);
}

#[test]
fn a_question_is_asked_as_often_as_configured_and_of_the_next_name_server_too() {
    let (bad, good) = (Dns::start(), Dns::start());
    good.set("app.test", 30, &[ONE]);
    bad.turn(Mood::Failing);
    let thrice = bad.toml().replace("attempts = 1", "attempts = 3");
    assert!(ask(&thrice).is_err());
    assert_eq!(bad.count("app.test"), 3);

    bad.turn(Mood::Silent);
    let both = format!("[dns]\nservers = [\"{}\", \"{}\"]\ntimeout = \"5s\"", bad.address(), good.address());
    let begin = Instant::now();
    assert_eq!(sorted(ask(&both).unwrap()), ["10.0.0.1"]);
    assert!(begin.elapsed() < Duration::from_secs(5), "nobody waits for the silent one");
}

#[test]
fn a_service_has_targets_ports_priorities_and_weights() {
    let dns = Dns::start();
    let srv = |priority, weight, port, target| Record::Srv { priority, weight, port, target };
    dns.set(
        "_http._tcp.app.test",
        20,
        &[srv(2, 0, 8080, "b.test"), srv(1, 5, 80, "a.test"), srv(0, 0, 80, ".")],
    );
    dns.set("_http._tcp.gone.test", 20, &[srv(0, 0, 80, ".")]);
    let resolver = resolver(&dns.toml());

    let (found, gone) = wait(async {
        (
            resolver.services("_http._tcp.app.test").await.unwrap(),
            resolver.services("_http._tcp.gone.test").await,
        )
    });

    let service =
        |target: &str, port, priority, weight| Service { target: target.into(), port, priority, weight };
    assert_eq!(found.valid_for, Duration::from_secs(20));
    assert_eq!(found.values, [service("b.test.", 8080, 2, 0), service("a.test.", 80, 1, 5)]);
    assert!(gone.unwrap_err().is_nothing(), "decidedly not available (RFC 2782)");
}

/// Watches the first server of a configuration on a thread of its own, as the control thread does, until it is dropped.
struct Watched {
    sets: Arc<Mutex<Vec<Vec<String>>>>,
    metrics: Arc<Metrics>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watched {
    fn start(server: &str, dns: &str) -> Watched {
        let config = configuration(server, dns);
        let (sets, metrics) = (Arc::new(Mutex::new(Vec::new())), Metrics::new(1));
        let (end, ended) = tokio::sync::oneshot::channel();
        let (published, counted) = (sets.clone(), metrics.clone());
        let thread = std::thread::spawn(move || {
            wait(async move {
                let resolver = Rc::new(Resolver::new(&config.dns).unwrap());
                let entry = Entry::of(&config.upstreams[0], &config.upstreams[0].servers[0]).unwrap();
                let meters = Meters::new(&counted, counted.cells(1), &entry);
                let watch = Watch::new(entry, resolver, Limits::from(&config.dns), meters);
                tokio::task::spawn_local(watch.run(move |set| {
                    let text =
                        set.iter().map(|e| format!("{} {} {}", e.address, e.priority, e.weight)).collect();
                    published.lock().unwrap().push(text);
                }));
                let _ = ended.await;
            });
        });
        Watched { sets, metrics, end: Some(end), thread: Some(thread) }
    }

    fn sets(&self) -> Vec<Vec<String>> {
        self.sets.lock().unwrap().clone()
    }

    fn last(&self) -> Vec<String> {
        self.sets().pop().unwrap_or_default()
    }

    /// The value of a sample whose line begins so.
    fn metric(&self, line: &str) -> u64 {
        let text = self.metrics.render();
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.map_or(0, |value| value.trim().parse().unwrap())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.end.take());
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn a_watch_tells_each_change_once_and_keeps_the_last_good_set_while_dns_fails() {
    let dns = Dns::start();
    dns.set("app.test", 0, &[ONE]);
    let watched = Watched::start("{ address = \"app.test:80\", weight = 3 }", &dns.toml());

    eventually("the first set is there", || watched.last() == ["10.0.0.1:80 0 3"]);
    dns.set("app.test", 0, &[TWO, ONE]);
    eventually("the second is there", || watched.last() == ["10.0.0.1:80 0 3", "10.0.0.2:80 0 3"]);
    dns.set("app.test", 0, &[ONE, TWO]);
    for mood in [Mood::Well, Mood::Silent, Mood::Failing, Mood::Empty] {
        dns.turn(mood);
        let before = dns.count("app.test");
        eventually("it is asked again", || dns.count("app.test") >= before + 2);
    }
    assert_eq!(watched.sets().len(), 2, "{:?}", watched.sets());
    dns.set("app.test", 0, &[TWO]);
    dns.turn(Mood::Well);
    eventually("the third is there", || watched.last() == ["10.0.0.2:80 0 3"]);

    for outcome in ["ok", "nothing", "timed-out", "failed"] {
        let line = format!("tidegate_dns_lookups_total{{upstream=\"app\",outcome=\"{outcome}\"}}");
        eventually("it is counted", || watched.metric(&line) >= 1);
    }
    assert_eq!(watched.metric("tidegate_dns_addresses{upstream=\"app\",name=\"app.test:80\"}"), 1);
}

#[test]
fn an_answer_is_used_as_long_as_its_ttl_and_the_bounds_say() {
    let dns = Dns::start();
    dns.set("app.test", 3600, &[ONE]);
    let watched = Watched::start("\"app.test:80\"", &format!("{}max-ttl = \"100ms\"", dns.toml()));
    eventually("it is asked again, for the bound is less than the TTL", || dns.count("app.test") >= 3);
    drop(watched);

    dns.set("other.test", 1, &[ONE]);
    let begin = Instant::now();
    let _watched = Watched::start("\"other.test:80\"", &dns.toml());
    eventually("it is asked again", || dns.count("other.test") >= 2);
    assert!(begin.elapsed() >= Duration::from_secs(1), "not before the TTL is over");
    assert!(begin.elapsed() < DEADLINE / 2);
}

#[test]
fn a_watch_follows_a_service_and_the_addresses_of_its_targets() {
    let dns = Dns::start();
    let srv = |priority, weight, port, target| Record::Srv { priority, weight, port, target };
    dns.set("_http._tcp.app.test", 0, &[srv(10, 2, 8001, "a.test"), srv(20, 0, 8002, "b.test")]);
    dns.set("a.test", 0, &[ONE]);
    let watched = Watched::start("\"http+srv://_http._tcp.app.test\"", &dns.toml());

    eventually("a target without addresses is none", || watched.last() == ["10.0.0.1:8001 10 2"]);
    dns.turn_for("a.test", A, Mood::Failing);
    dns.set("b.test", 0, &[TWO]);
    eventually("a target that fails keeps what is known", || {
        watched.last() == ["10.0.0.1:8001 10 2", "10.0.0.2:8002 20 1"]
    });
    dns.turn_for("a.test", A, Mood::Well);
    dns.set("_http._tcp.app.test", 0, &[srv(20, 0, 8002, "b.test")]);
    eventually("a target that is gone is gone", || watched.last() == ["10.0.0.2:8002 20 1"]);
    let before = dns.questions().len();
    dns.turn_for("_http._tcp.app.test", SRV, Mood::Empty);
    eventually("it is asked again", || dns.questions().len() >= before + 3);
    assert_eq!(watched.last(), ["10.0.0.2:8002 20 1"]);
    let partial = "tidegate_dns_lookups_total{upstream=\"app\",outcome=\"partial\"}";
    assert!(watched.metric(partial) >= 1);
}

#[test]
fn an_address_is_nothing_to_watch() {
    let config = configuration("\"127.0.0.1:1\", \"[::1]:1\"", "");
    let addresses: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];

    for (server, address) in config.upstreams[0].servers.iter().zip(addresses) {
        assert!(Entry::of(&config.upstreams[0], server).is_none());
        assert_eq!(server.source, config::Source::Address(address.ip()));
    }
}
