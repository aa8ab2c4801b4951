//! What Prometheus is told, and that it is true.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Origin, Proxy, eventually, get, one_route, program, reply};

#[test]
fn promtool_finds_nothing_to_say() {
    let Some(promtool) = program("promtool") else { return };
    let origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", "x"));
    let upstream = "health = { tcp = true, interval = \"100ms\" }\nsticky = { cookie = \"gate\" }";
    let proxy = Proxy::start(&one_route("cache = true", upstream, &[&origin]));
    proxy.get("/");
    proxy.get("/");

    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(proxy.metrics().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();

    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn requests_are_counted_once_by_route_and_class() {
    let origin = Origin::start(|request| match request.target() {
        "/missing" => reply("404 Not Found", "", ""),
        _ => reply("200 OK", "", "12345"),
    });
    let proxy = Proxy::start(&one_route("name = \"main\"", "", &[&origin]));

    let mut client = proxy.client();
    for _ in 0..7 {
        client.get("/");
    }
    for _ in 0..3 {
        proxy.get("/missing");
    }

    let of = |class: &str| {
        let class = format!("class=\"{class}\"");
        proxy.metric("tidegate_requests_total", &["route=\"main\"", "listener=\"public\"", &class])
    };
    // A request is counted once its last byte is out, which its client may see a moment earlier.
    eventually("all are counted", || of("2xx") + of("4xx") >= 10.0);
    assert_eq!((of("2xx"), of("4xx")), (7.0, 3.0));
    assert_eq!(proxy.metric("tidegate_server_requests_total", &["upstream=\"app\""]), 10.0);
    assert_eq!(proxy.metric("tidegate_request_duration_seconds_count", &["route=\"main\""]), 10.0);
    assert_eq!(proxy.metric("tidegate_response_sent_bytes_total", &["listener=\"public\""]), 35.0);
}

#[test]
fn what_is_over_is_no_longer_in_flight_nor_connected() {
    let origin = Origin::saying("x");
    let proxy = Proxy::before(&origin);

    for _ in 0..5 {
        proxy.get("/");
    }

    eventually("nothing is in flight", || {
        proxy.metric("tidegate_requests_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_connections", &["listener=\"public\""]) == 0.0
    });
    assert_eq!(proxy.metric("tidegate_connections_total", &["listener=\"public\""]), 5.0);
}

#[test]
fn hits_and_misses_are_counted() {
    let origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", "x"));
    let proxy = Proxy::start(&one_route("cache = true", "", &[&origin]));

    for _ in 0..5 {
        proxy.get("/");
    }

    let of = |result: &str| proxy.metric("tidegate_cache_requests_total", &[&format!("result=\"{result}\"")]);
    eventually("all are counted", || of("hit") + of("miss") >= 5.0);
    assert_eq!((of("hit"), of("miss")), (4.0, 1.0));
}

#[test]
fn whatever_the_cache_does_is_counted_and_nothing_by_address() {
    let origin = Origin::start(|request| {
        let word = request.target().trim_start_matches('/').split('-').next().unwrap();
        let control = match word {
            "stale" => "max-age=60, stale-while-revalidate=3600",
            "private" => "private",
            _ => "max-age=3600",
        };
        let age = if matches!(word, "stale" | "old") { 100 } else { 0 };
        let fields = format!("Cache-Control: {control}\r\nAge: {age}\r\nETag: \"a\"\r\n");
        match request.field("if-none-match") {
            Some(_) => reply("304 Not Modified", &fields, ""),
            None => reply("200 OK", &fields, "x"),
        }
    });
    let proxy = Proxy::start(&one_route("cache = true", "", &[&origin]));
    let of = |name: &str, label: &str| proxy.metric(&format!("tidegate_cache_{name}"), &[label]);
    let series = || {
        let text = proxy.metrics();
        text.lines().filter(|line| line.starts_with("tidegate_cache_")).count()
    };
    let before = series();
    let again = "Cache-Control: no-cache\r\n";

    for (path, fields, name, label) in [
        ("/fresh", "", "requests_total", "result=\"miss\""),
        ("/fresh", "", "requests_total", "result=\"hit\""),
        ("/fresh", "", "hits_by_age_total", "age=\"1s\""),
        ("/fresh", again, "requests_total", "result=\"revalidated\""),
        ("/old", "", "stored_total", ""),
        ("/old", "", "hits_by_age_total", "age=\"10m\""),
        ("/stale", "", "requests_total", "result=\"miss\""),
        ("/stale", "", "requests_total", "result=\"stale\""),
        ("/private", "", "not_stored_total", "reason=\"private\""),
        ("/fresh", "Cache-Control: no-store\r\n", "requests_total", "result=\"bypass\""),
        ("/fresh", "Cache-Control: no-store\r\n", "bypassed_total", "reason=\"request-no-store\""),
        ("/fresh", "Range: bytes=0-1,3-4\r\n", "bypassed_total", "reason=\"range\""),
        ("/fresh", "X-Host: evil\r\n", "bypassed_total", "reason=\"unkeyed-input\""),
    ] {
        let counted = of(name, label);
        proxy.client().get_with(path, fields);
        eventually(&format!("{path} {fields:?} counts in {name} {label}"), || {
            of(name, label) == counted + 1.0
        });
    }
    // What is stored is counted in the course of further requests.
    let mut paths = (0..).map(|n| format!("/fresh-{n}"));
    eventually("its size is known", || {
        proxy.get(&paths.next().unwrap());
        of("bytes", "") > 20_000.0 && of("entries", "") > 20.0
    });
    assert_eq!(series(), before, "nothing by address");
}

#[test]
fn the_build_and_every_server_are_there_before_the_first_request() {
    let origin = Origin::saying("x");
    let proxy = Proxy::before(&origin);

    let server = format!("server=\"{}\"", origin.address());

    assert_eq!(proxy.metric("tidegate_build_info", &[env!("CARGO_PKG_VERSION")]), 1.0);
    assert_eq!(proxy.metric("tidegate_server_healthy", &[&server]), 1.0);
    assert!(proxy.metrics().contains("tidegate_requests_total{"));
}

#[test]
fn a_client_cannot_make_new_series() {
    let origin = Origin::saying("x");
    let proxy = Proxy::before(&origin);
    proxy.get("/");
    let series = || proxy.metrics().lines().filter(|line| !line.starts_with('#')).count();

    let before = series();
    for n in 0..20 {
        let request = format!("GET /{n} HTTP/1.1\r\nHost: host-{n}.test\r\nX-Thing: {n}\r\n\r\n");
        proxy.client().send(request).response();
    }

    assert_eq!(series(), before);
}

#[test]
fn the_admin_listener_says_whether_it_lives_and_is_ready() {
    let origin = Origin::saying("x");
    let proxy = Proxy::before(&origin);

    assert_eq!(get(proxy.admin(), "/livez").status(), 200);
    assert_eq!(get(proxy.admin(), "/readyz").status(), 200);
    assert_eq!(get(proxy.admin(), "/nothing").status(), 404);
    let metrics = get(proxy.admin(), "/metrics");
    assert!(metrics.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
}

#[test]
fn the_status_page_names_listeners_routes_and_servers() {
    let origin = Origin::saying("x");
    let proxy = Proxy::start(&one_route("name = \"main\"", "balance = \"random\"", &[&origin]));
    proxy.get("/");

    let status = proxy.status();

    let public = status["listeners"].as_array().unwrap().iter().find(|listener| listener["name"] == "public");
    assert_eq!(public.unwrap()["address"], proxy.public().to_string());
    assert_eq!(status["routes"][0]["name"], "main");
    assert_eq!(status["upstreams"][0]["name"], "app");
    assert_eq!(status["upstreams"][0]["balance"], "random");
    let server = &status["upstreams"][0]["servers"][0];
    assert_eq!(server["state"], "healthy");
    eventually("the request is counted", || proxy.status()["upstreams"][0]["servers"][0]["requests"] == 1);
}
