use std::fs;
use std::time::SystemTime;

use super::*;

fn dns(family: Family) -> Dns {
    Dns {
        servers: None,
        timeout: Duration::from_millis(100),
        attempts: 1,
        min_ttl: Duration::from_secs(1),
        max_ttl: Duration::from_secs(60),
        family,
    }
}

/// A resolver on a system of its own, in a folder that lives as long as it is held.
fn on_a_system(family: Family, resolv_conf: &str, hosts: &str) -> (Resolver, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { resolv_conf: folder.path().join("resolv.conf"), hosts: folder.path().join("hosts") };
    fs::write(&files.resolv_conf, resolv_conf).unwrap();
    fs::write(&files.hosts, hosts).unwrap();
    (Resolver::with_files(&dns(family), files).unwrap(), folder)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn some(addresses: &[&str], seconds: u64) -> Result<Found<IpAddr>, ResolveError> {
    let values = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Ok(Found { values, valid_for: Duration::from_secs(seconds) })
}

fn late() -> Result<Found<IpAddr>, ResolveError> {
    Err(ResolveError::TimedOut { after: Duration::from_secs(4) })
}

fn none() -> Result<Found<IpAddr>, ResolveError> {
    Err(ResolveError::NoRecords)
}

/// An answer in short, to be compared.
fn text(answer: Result<Addresses, ResolveError>) -> String {
    match answer {
        Ok(Addresses { found, missing }) => {
            format!("{:?} for {}s, missing {missing:?}", found.values, found.valid_for.as_secs())
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_name_is_tried_in_the_search_domains_as_its_dots_say() {
    let conf = "nameserver 127.0.0.1\nsearch a.internal b.internal\n";
    let cases = [
        (conf.to_owned(), "app", vec!["app.a.internal.", "app.b.internal.", "app."]),
        (conf.to_owned(), "app.team", vec!["app.team.", "app.team.a.internal.", "app.team.b.internal."]),
        (conf.to_owned(), "app.", vec!["app."]),
        (
            format!("{conf}options ndots:2\n"),
            "app.team",
            vec!["app.team.a.internal.", "app.team.b.internal.", "app.team."],
        ),
        ("nameserver 127.0.0.1\ndomain c.internal\n".to_owned(), "app", vec!["app.c.internal.", "app."]),
    ];

    for (resolv_conf, name, expected) in cases {
        let (resolver, _folder) = on_a_system(Family::Both, &resolv_conf, "");
        let names = resolver.sources().candidates(&Name::from_ascii(name).unwrap());
        let names: Vec<String> = names.iter().map(Name::to_ascii).collect();
        assert_eq!(names, expected, "{name:?} with {resolv_conf:?}");
    }
}

#[test]
fn configured_name_servers_have_no_search_domains() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { resolv_conf: folder.path().join("resolv.conf"), hosts: folder.path().join("hosts") };
    fs::write(&files.resolv_conf, "nameserver 127.0.0.1\nsearch a.internal\n").unwrap();
    let config = Dns { servers: Some(vec!["127.0.0.1:5353".parse().unwrap()]), ..dns(Family::Both) };

    let resolver = Resolver::with_files(&config, files).unwrap();

    let names = resolver.sources().candidates(&Name::from_ascii("app").unwrap());
    assert_eq!(names, [Name::from_ascii("app.").unwrap()]);
}

#[test]
fn a_search_goes_on_when_there_is_nothing_and_ends_when_a_question_fails() {
    let names = ["a.", "b.", "c."].map(|name| Name::from_ascii(name).unwrap()).to_vec();
    let ask = |answers: [Result<Found<IpAddr>, ResolveError>; 3]| {
        let names = names.clone();
        let answers = RefCell::new(answers.into_iter());
        wait(async move {
            let next = async |_: &Name| answers.borrow_mut().next().unwrap();
            whole(first_of(names, next).await)
        })
    };
    let no_name = || Err(ResolveError::NoSuchName);

    assert_eq!(text(ask([no_name(), some(&["10.0.0.2"], 9), late()])), "[10.0.0.2] for 9s, missing None");
    assert_eq!(text(ask([no_name(), late(), some(&["10.0.0.3"], 9)])), "no answer within 4s");
    assert_eq!(text(ask([no_name(), none(), no_name()])), "there is no such name");
}

#[test]
fn the_other_family_is_asked_for_only_where_the_first_has_nothing() {
    let ask = |first, other: Result<Found<IpAddr>, ResolveError>| {
        text(whole(wait(preferring(first, || async { other }))))
    };

    assert_eq!(ask(some(&["10.0.0.1"], 5), some(&["::2"], 5)), "[10.0.0.1] for 5s, missing None");
    assert_eq!(ask(none(), some(&["::2"], 5)), "[::2] for 5s, missing None");
    assert_eq!(ask(late(), some(&["::2"], 5)), "no answer within 4s");
    assert_eq!(ask(none(), none()), "the name has no such records");
}

#[test]
fn of_both_families_the_one_that_fails_is_missed_and_the_one_without_records_is_not() {
    let timed_out = "TimedOut { after: 4s }";
    for (ipv4, ipv6, expected) in [
        (some(&["10.0.0.1"], 30), some(&["::2"], 5), "[10.0.0.1, ::2] for 5s, missing None".to_owned()),
        (some(&["10.0.0.1"], 30), none(), "[10.0.0.1] for 30s, missing None".to_owned()),
        (none(), some(&["::2"], 5), "[::2] for 5s, missing None".to_owned()),
        (some(&["10.0.0.1"], 30), late(), format!("[10.0.0.1] for 30s, missing Some({timed_out})")),
        (late(), some(&["::2"], 5), format!("[::2] for 5s, missing Some({timed_out})")),
        (none(), none(), "the name has no such records".to_owned()),
        (none(), late(), "no answer within 4s".to_owned()),
        (late(), none(), "no answer within 4s".to_owned()),
        (late(), late(), "no answer within 4s".to_owned()),
    ] {
        let case = format!("{ipv4:?} and {ipv6:?}");
        assert_eq!(text(both(ipv4, ipv6)), expected, "{case}");
    }
}

#[test]
fn the_hosts_file_comes_first_and_has_its_families_too() {
    let hosts = "127.0.0.1 localhost app\n::1 localhost\n::1 six # and 10.0.0.9 six\n10.0.0.7 four\n";
    for (family, name, expected) in [
        (Family::PreferIpv4, "localhost", "[127.0.0.1]"),
        (Family::PreferIpv6, "localhost", "[::1]"),
        (Family::Both, "localhost", "[127.0.0.1, ::1]"),
        (Family::Both, "LocalHost.", "[127.0.0.1, ::1]"),
        (Family::Ipv6, "localhost", "[::1]"),
        (Family::PreferIpv4, "six", "[::1]"),
        (Family::PreferIpv6, "four", "[10.0.0.7]"),
        (Family::Ipv4, "app", "[127.0.0.1]"),
    ] {
        let (resolver, _folder) = on_a_system(family, "", hosts);
        let answer = text(wait(resolver.addresses(name)));
        assert_eq!(answer, format!("{expected} for 5s, missing None"), "{name} {family:?}");
    }
}

#[test]
fn localhost_needs_no_hosts_file_and_no_name_server() {
    let (resolver, folder) = on_a_system(Family::PreferIpv4, "", "");
    fs::remove_file(folder.path().join("hosts")).unwrap();

    let answer = wait(resolver.addresses("localhost")).unwrap();

    assert_eq!(answer.found.values, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
}

#[test]
fn files_that_change_are_read_again() {
    let (resolver, folder) = on_a_system(Family::Ipv4, "nameserver 127.0.0.1\n", "10.0.0.1 app\n");
    let conf = folder.path().join("resolv.conf");
    let app = Name::from_ascii("app").unwrap();
    assert_eq!(text(wait(resolver.addresses("app"))), "[10.0.0.1] for 5s, missing None");
    assert!(Rc::ptr_eq(&resolver.sources(), &resolver.sources()), "what did not change is not read again");

    fs::write(folder.path().join("hosts"), "10.0.0.2 app\n").unwrap();
    fs::write(&conf, "nameserver 127.0.0.1\nsearch a.internal\n").unwrap();
    // Some file systems keep no fractions of a second: two writes in one could look like one.
    let later = SystemTime::now() + Duration::from_secs(60);
    for name in ["hosts", "resolv.conf"] {
        fs::File::options().write(true).open(folder.path().join(name)).unwrap().set_modified(later).unwrap();
    }

    assert_eq!(text(wait(resolver.addresses("app"))), "[10.0.0.2] for 5s, missing None");
    assert_eq!(resolver.sources().candidates(&app).len(), 2);
}

#[test]
fn an_address_that_no_server_can_have_is_none() {
    use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
    let a = |text: &str| address(&RData::A(A(text.parse().unwrap())));
    let aaaa = |text: &str| address(&RData::AAAA(AAAA(text.parse().unwrap())));

    assert_eq!(a("10.0.0.1"), Some("10.0.0.1".parse().unwrap()));
    assert_eq!(aaaa("2001:db8::1"), Some("2001:db8::1".parse().unwrap()));
    assert_eq!(aaaa("::ffff:10.0.0.1"), Some("10.0.0.1".parse().unwrap()), "one address, written otherwise");
    for nobody in [a("0.0.0.0"), a("255.255.255.255"), a("224.0.0.1"), aaaa("::"), aaaa("ff02::1")] {
        assert_eq!(nobody, None);
    }

    let srv =
        |target: &str, port| service(&RData::SRV(SRV::new(1, 2, port, Name::from_ascii(target).unwrap())));
    let expected = Service { target: "a.internal.".to_owned(), port: 80, priority: 1, weight: 2 };
    assert_eq!(srv("a.internal.", 80), Some(expected));
    assert_eq!(srv(".", 80), None, "decidedly not available");
    assert_eq!(srv("a.internal.", 0), None);
}

#[test]
fn errors_are_one_line_and_keep_their_cause() {
    for (error, expected, has_source) in [
        (ResolveError::from(NetError::NoConnections), "the name servers cannot be asked", true),
        (
            NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)).into(),
            "the name server answers servfail",
            false,
        ),
        (ResolveError::NotAName(Name::from_ascii("a..b").unwrap_err()), "this is no name", true),
    ] {
        assert_eq!(error.to_string(), expected);
        assert_eq!(std::error::Error::source(&error).is_some(), has_source, "{expected}");
        assert!(!error.is_nothing(), "{expected}");
    }
}
