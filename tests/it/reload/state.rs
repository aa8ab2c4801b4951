//! What was learned of servers, clients and responses is found again by name.

use super::{connected, routes};
use crate::support::certs::Cert;
use crate::support::dns::{Dns, Mood, Record};
use crate::support::{Client, Origin, Proxy, eventually, ok, one_route, reply};

#[test]
fn connections_to_a_server_that_stays_stay_open_and_those_to_one_that_goes_are_closed() {
    let (stays, goes, comes) = (Origin::saying("stays"), Origin::saying("goes"), Origin::saying("comes"));
    let text = |origins: &[(&str, &[&Origin], &str)]| routes(origins);
    let proxy =
        Proxy::start(&text(&[("same", &[&stays], ""), ("other", &[&stays, &goes], "slow-start = \"0s\"")]));
    connected(&proxy, "/same/");
    connected(&proxy, "/other/");
    connected(&proxy, "/other/");
    let (before, gone) = (stays.connections(), goes.connections());
    assert!(before > 0 && gone > 0);
    let open = |server: &Origin| {
        let label = format!("server=\"{}\"", server.address());
        proxy.metric("tidegate_server_connections", &["upstream=\"other\"", &label])
    };
    eventually("it is said how many there are", || open(&goes) > 0.0);

    // One upstream is as it was, of the other a server stays.
    proxy.reload(&text(&[("same", &[&stays], ""), ("other", &[&stays, &comes], "slow-start = \"0s\"")]));

    eventually("those of the server that is gone are closed", || goes.open_connections() == 0);
    assert_eq!(open(&goes), 0.0);
    for path in ["/same/", "/other/", "/other/"] {
        connected(&proxy, path);
    }
    assert_eq!(stays.connections(), before, "no new one was needed");
    assert_eq!(goes.connections(), gone);
    assert!(comes.count() > 0);
}

#[test]
fn connections_are_made_anew_where_they_would_be_others() {
    let origin = Origin::saying("a");
    let text = |keys: &str| one_route("", keys, &[&origin]);
    let proxy = Proxy::start(&text(""));
    connected(&proxy, "/");
    let before = origin.connections();

    proxy.reload(&text("idle-connections = 5"));

    eventually("the old ones are closed", || origin.open_connections() == 0);
    connected(&proxy, "/");
    assert!(origin.connections() > before);
}

#[test]
fn who_is_unhealthy_or_drained_by_an_operator_stays_so_and_what_the_file_changes_is_done() {
    let (well, ill, drained) = (
        Origin::saying("well"),
        Origin::start(|request| match request.target() {
            "/health" => reply("500 Oh", "", ""),
            _ => ok("ill"),
        }),
        Origin::saying("drained"),
    );
    let health = "health = { path = \"/health\", interval = \"50ms\", fall = 1, rise = 1 }";
    let servers = |drain: &str| {
        format!(
            "[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [{}, {}, {{ address = {}{drain} }}]\n",
            well.toml(),
            ill.toml(),
            drained.toml()
        )
    };
    let proxy = Proxy::start(&format!("{}{health}\n", servers("")));
    eventually("it is found to be ill", || proxy.state_of(&ill) == "unhealthy");
    crate::resilience::drain(&proxy, "app", &drained.address().to_string(), true);

    // Another upstream altogether, but for the names.
    proxy.reload(&format!("{}{health}\nretries = 0\nbalance = \"random\"\n", servers("")));
    assert_eq!(proxy.state_of(&ill), "unhealthy", "before any probe says it again");
    assert_eq!(proxy.state_of(&drained), "draining");
    assert!((0..10).all(|_| proxy.get("/").text() == "well"));

    proxy.reload(&format!("{}{health}\n", servers(", drain = true")));
    assert_eq!(proxy.state_of(&drained), "draining", "now the file wants it too");
    proxy.reload(&format!("{}{health}\n", servers("")));
    assert_eq!(proxy.state_of(&drained), "healthy", "and now not any more");

    // Nobody probes any more, so nobody could find it well.
    proxy.reload(&servers(""));
    assert_eq!(proxy.state_of(&ill), "healthy");
}

#[test]
fn probes_go_on_for_who_stays_begin_for_who_comes_and_end_for_who_goes() {
    let (stays, goes, comes) = (Origin::saying(""), Origin::saying(""), Origin::saying(""));
    let health = "health = { path = \"/health\", interval = \"20ms\" }";
    let text = |servers: &[&Origin]| one_route("", health, servers);
    let proxy = Proxy::start(&text(&[&stays, &goes]));
    eventually("both are probed", || stays.count() > 2 && goes.count() > 2);

    proxy.reload(&text(&[&stays, &comes]));

    let (asked, gone) = (stays.count(), goes.count());
    eventually("they are probed", || stays.count() > asked + 2 && comes.count() > 2);
    assert!(goes.count() <= gone + 1, "a probe may have been under way, and no more than one");
}

#[test]
fn stored_responses_and_sessions_outlive_a_reload() {
    let (a, b) = (
        Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", "a")),
        Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", "b")),
    );
    let text = |retries: u32| {
        format!(
            "[[route]]\npath = \"/stored\"\nupstream = \"app\"\ncache = true\n{}",
            one_route("", &format!("sticky = {{ cookie = \"gate\" }}\nretries = {retries}"), &[&a, &b])
        )
    };
    let proxy = Proxy::start(&text(1));
    let stored = proxy.get("/stored").text();
    let bound = proxy.get("/");
    let cookie = bound.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();

    for retries in 2..5 {
        proxy.reload(&text(retries));
        let hit = proxy.get("/stored");
        assert_eq!(hit.text(), stored);
        assert!(hit.field("cache-status").unwrap().contains("hit"), "{hit:?}");
        for _ in 0..4 {
            let answer = proxy.client().get_with("/", &format!("Cookie: {cookie}\r\n"));
            assert_eq!((answer.text(), answer.field("set-cookie")), (bound.text(), None));
        }
    }
}

#[test]
fn what_is_purged_or_changed_while_the_cache_is_off_does_not_come_back_with_it() {
    let origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", "x"));
    let on = one_route("cache = { key = { ignore-query = [\"utm_*\"] } }", "", &[&origin]);
    let off = one_route("cache = false", "", &[&origin]);
    let otherwise = one_route("cache = true", "", &[&origin]);
    let elsewhere = off.replace("\"app\"", "\"other\"").replace("upstream.app", "upstream.other");
    let purge = |proxy: &Proxy| {
        let json = r#"{"urls": ["http://test/?utm_x=1"]}"#;
        let head = "POST /api/v1/cache/purge HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
        let request = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{json}", json.len());
        assert_eq!(super::json(&Client::connect(proxy.admin()).send(request).response())["purged"], 1);
    };
    let post = |proxy: &Proxy| {
        let request = "POST /?utm_x=1 HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(proxy.client().send(request).response().status(), 200);
    };
    for (between, change) in [
        (&off, &purge as &dyn Fn(&Proxy)),
        (&off, &post),
        (&otherwise, &purge),
        (&otherwise, &post),
        (&elsewhere, &purge),
    ] {
        let proxy = Proxy::start(&on);
        proxy.get("/?utm_x=1");
        proxy.reload(between);
        proxy.reload(&off);
        proxy.reload(between);

        change(&proxy);

        proxy.reload(&on);
        let answer = proxy.get("/?utm_x=1");
        assert!(!answer.field("cache-status").unwrap().contains("hit"), "{between}: {answer:?}");
    }
}

#[test]
fn counters_go_on_for_what_stays_and_end_for_what_is_gone() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = Proxy::start(&routes(&[("one", &[&a], ""), ("two", &[&b], "")]));
    connected(&proxy, "/one/");
    connected(&proxy, "/two/");
    let requests =
        |route: &str| proxy.metric("tidegate_requests_total", &[&format!("upstream=\"{route}\""), "2xx"]);
    eventually("they are counted", || (requests("one"), requests("two")) == (8.0, 8.0));

    proxy.reload(&routes(&[("one", &[&a], "retries = 0")]));

    assert_eq!(requests("one"), 8.0);
    let metrics = proxy.metrics();
    let of_two = metrics.lines().filter(|line| line.contains("\"two\"") || line.contains(&b.toml()));
    assert_eq!(of_two.collect::<Vec<_>>(), [""; 0]);
    proxy.reload(&routes(&[("one", &[&a], "retries = 0"), ("two", &[&b], "")]));
    assert_eq!(requests("two"), 0.0, "it begins anew");
    connected(&proxy, "/two/");
    eventually("it is counted", || requests("two") == 8.0);
}

#[test]
fn servers_that_are_trusted_otherwise_are_verified_again() {
    let trusted = Cert::of(&["localhost"]);
    let (ca, other) = (trusted.pem_path.clone(), Cert::of(&["localhost"]));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::copy(&ca, &file).unwrap();
    let origin = Origin::start_tls(trusted, |_| ok("secure"));
    let text = format!(
        "[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [\"https://{}\"]\nretries = 0\n\
         tls = {{ ca = {file:?}, server-name = \"localhost\" }}\n",
        origin.address()
    );
    let proxy = Proxy::start(&text);
    let mut client = proxy.client();
    assert_eq!(client.get("/").text(), "secure");

    // The file's text is the same; what it names is not.
    std::fs::copy(&other.pem_path, &file).unwrap();
    let report = proxy.reload(&text);

    assert_eq!(report["upstreams"]["details"], serde_json::json!(["app: changed certificates"]));
    assert_eq!(client.get("/").status(), 502, "not over the connection of before either");
    std::fs::copy(&ca, &file).unwrap();
    proxy.reload(&text);
    assert_eq!(client.get("/").text(), "secure");
}

#[test]
fn the_access_log_goes_on_elsewhere_and_no_line_is_lost() {
    let origin = Origin::saying("a");
    let proxy = Proxy::start(&one_route("", "", &[&origin]));
    let text = |access: &str| {
        format!("[log]\nevents = \"json\"\naccess = {access:?}\n{}", one_route("", "", &[&origin]))
    };
    let file = |name: &str| proxy.dir().join(name);
    let lines = |name: &str| std::fs::read_to_string(file(name)).unwrap_or_default().lines().count();

    proxy.reload(&text(file("one.log").to_str().unwrap()));
    connected(&proxy, "/");
    proxy.reload(&text(file("two.log").to_str().unwrap()));
    assert_eq!(lines("one.log"), 8, "all of them, when the reload has returned");
    connected(&proxy, "/");
    proxy.reload(&one_route("", "", &[&origin]));
    connected(&proxy, "/");

    assert_eq!((lines("one.log"), lines("two.log")), (8, 8));
    assert_eq!(proxy.metric("tidegate_access_log_lost_total", &[]), 0.0);
}

#[test]
fn the_level_of_events_is_changed() {
    let origin = Origin::saying("a");
    let text = |level: &str| {
        format!("[log]\nevents = \"json\"\nlevel = {level:?}\n{}", one_route("", "", &[&origin]))
    };
    let proxy = Proxy::start(&text("info"));
    let refuse = || {
        let request = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
        assert_eq!(Client::connect(proxy.admin()).send(request).response().status(), 421);
    };
    let is_told = || proxy.events().iter().any(|line| line.contains("admin request for a host"));

    refuse();
    proxy.reload(&text("debug"));
    assert!(!is_told());
    refuse();
    eventually("details are told", is_told);
}

#[test]
fn what_dns_has_said_counts_on_while_it_fails_and_names_that_are_as_before_are_not_asked_again() {
    let dns = Dns::start();
    let a = Origin::saying("a");
    let b = Origin::beside(&a, 2, "b");
    let port = a.address().port();
    dns.set_addresses("app.test", &[a.address()]);
    // Good for an hour.
    dns.set("same.test", 3600, &[Record::A(std::net::Ipv4Addr::LOCALHOST)]);
    dns.set_addresses("new.test", &[b.address()]);
    let text = |servers: &str, keys: &str| {
        format!(
            "{}[[route]]\nupstream = \"app\"\n[[route]]\npath = \"/same\"\nupstream = \"same\"\n\
             [upstream.same]\nservers = [\"same.test:{port}\"]\n\
             [upstream.app]\nservers = [{servers}]\n{keys}\n",
            dns.toml().replace("min-ttl", "max-ttl = \"1h\"\nfamily = \"ipv4\"\nmin-ttl")
        )
    };
    let app = format!("\"app.test:{port}\"");
    let proxy = Proxy::start(&text(&app, ""));
    assert_eq!((proxy.get("/").text(), proxy.get("/same").text()), ("a".to_owned(), "a".to_owned()));

    dns.turn(Mood::Failing);
    let asked = dns.count("app.test");
    proxy.reload(&text(&app, "retries = 0"));
    assert_eq!((proxy.get("/").text(), proxy.get("/same").text()), ("a".to_owned(), "a".to_owned()));
    eventually("who is looked after anew is asked about anew", || dns.count("app.test") > asked);

    dns.turn(Mood::Well);
    proxy.reload(&text(&format!("{app}, \"new.test:{port}\""), "slow-start = \"0s\""));
    let said: std::collections::BTreeSet<_> = (0..8).map(|_| proxy.get("/").text()).collect();
    assert_eq!(dns.count("same.test"), 1, "nobody asks again what is known");
    assert_eq!(said.len(), 2, "a new name has its servers when the reload returns: {said:?}");
}

#[test]
fn reloads_that_come_while_one_runs_are_one_more_and_there_are_only_so_many() {
    let dns = Dns::start();
    let origin = Origin::saying("a");
    let text = |servers: &str| {
        let dns = dns.toml().replace("200ms", "10s");
        format!("{dns}[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [{servers}]\n")
    };
    let proxy = Proxy::start(&text(&origin.toml()));
    // The first one waits for a name server that says nothing.
    dns.turn(Mood::Silent);
    proxy.rewrite(&text(&format!("{}, \"slow.test:1\"", origin.toml())));
    let ask = || {
        let mut client = Client::connect(proxy.admin());
        client.send("POST /reload HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        client
    };
    let mut first = ask();
    eventually("it runs", || dns.count("slow.test") > 0);
    // Whoever asks later is answered.
    dns.turn(Mood::Well);

    let all: Vec<_> = (0..18).map(|_| ask()).collect();
    // In any order: who is refused hears it at once, the others when their one is done.
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let waiting: Vec<_> =
            all.into_iter().map(|mut client| scope.spawn(move || client.response().status())).collect();
        waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });

    assert_eq!(first.response().status(), 200);
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 16, "{statuses:?}");
    assert_eq!(proxy.metric("tidegate_config_reloads_total", &["ok"]), 2.0);
}
