//! One line for each request, with all that an operator asks at night.

use crate::support::{DEADLINE, Origin, Proxy, get, ok, one_route, reply};

const JSON_TO_STDOUT: &str = "[log]\nevents = \"json\"\naccess = \"stdout\"\n";

/// The line of the request for this target, once it is written.
#[track_caller]
fn line_of(proxy: &Proxy, target: &str) -> serde_json::Value {
    let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
    let is_it = |line: &str| parse(line).is_some_and(|entry| entry["target"] == target);
    let lines = proxy.access_lines().until(is_it);
    let lines = lines.unwrap_or_else(|lines| panic!("no line for {target} within {DEADLINE:?}: {lines:?}"));
    parse(lines.iter().find(|line| is_it(line)).unwrap()).unwrap()
}

#[test]
fn a_line_says_who_asked_what_and_what_became_of_it() {
    let origin = Origin::start(|request| ok(&request.body));
    let proxy = Proxy::start(&format!("{JSON_TO_STDOUT}{}", one_route("name = \"main\"", "", &[&origin])));

    let request =
        "POST /path?q=1 HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nUser-Agent: tests\r\n\r\nbody";
    let answer = proxy.client().send(request).response();
    let line = line_of(&proxy, "/path?q=1");

    for (field, value) in [
        ("client", "127.0.0.1"),
        ("listener", "public"),
        ("method", "POST"),
        ("host", "test"),
        ("version", "HTTP/1.1"),
        ("route", "main"),
        ("upstream", "app"),
        ("server", &origin.address().to_string()),
        ("user_agent", "tests"),
        ("request_id", answer.field("x-request-id").unwrap()),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    for (field, value) in [("status", 200), ("bytes_received", 4), ("bytes_sent", 4), ("attempts", 1)] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    let total = line["total_us"].as_u64().expect("the time it took");
    let first_byte = line["first_byte_us"].as_u64().expect("the time to the first byte");
    assert!(0 < first_byte && first_byte <= total, "{line}");
}

#[test]
fn a_line_says_what_the_cache_did() {
    let origin = Origin::start(|_| reply("200 OK", "Cache-Control: max-age=60\r\n", "x"));
    let proxy = Proxy::start(&format!("{JSON_TO_STDOUT}{}", one_route("cache = true", "", &[&origin])));

    proxy.get("/x");
    let miss = line_of(&proxy, "/x");
    proxy.get("/x");

    let is_hit = |line: &str| line.contains("\"cache\":\"hit\"");
    assert_eq!(miss["cache"], "miss");
    proxy.access_lines().until(is_hit).expect("a line with a hit");
}

#[test]
fn a_line_says_why_the_proxy_answered_itself() {
    let mut origin = Origin::saying("x");
    let proxy = Proxy::start(&format!("{JSON_TO_STDOUT}{}", one_route("path = \"/app/*\"", "", &[&origin])));
    origin.stop();

    proxy.get("/nowhere");
    proxy.get("/app/dead");

    for (target, status) in [("/nowhere", 404), ("/app/dead", 502)] {
        let line = line_of(&proxy, target);
        assert_eq!(line["status"], status, "{line}");
        assert!(line["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{line}");
    }
}

#[test]
fn a_hostile_field_stays_within_its_line() {
    let origin = Origin::saying("x");
    let proxy = Proxy::start(&format!("{JSON_TO_STDOUT}{}", one_route("", "", &[&origin])));

    let agent = "a\"b\\c\t{\"status\":200}\u{2028}";
    proxy.client().get_with("/hostile", &format!("User-Agent: {agent}\r\n"));
    let line = line_of(&proxy, "/hostile");

    assert_eq!(line["user_agent"], agent);
}

#[test]
fn the_log_goes_to_a_file_in_the_common_format() {
    let origin = Origin::saying("hello");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("access.log");
    let log = format!("[log]\nevents = \"json\"\naccess = {file:?}\nformat = \"common\"\n");
    let proxy = Proxy::start(&format!("{log}{}", one_route("", "", &[&origin])));

    proxy.get("/common");
    let mut text = String::new();
    crate::support::eventually("the line is written", || {
        text = std::fs::read_to_string(&file).unwrap_or_default();
        text.ends_with('\n')
    });

    assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
    assert!(text.contains("] \"GET /common HTTP/1.1\" 200 5"), "{text}");
}

#[test]
fn the_last_lines_are_written_before_the_end() {
    let origin = Origin::saying("x");
    let mut proxy = Proxy::start(&format!("{JSON_TO_STDOUT}{}", one_route("", "", &[&origin])));
    for n in 0..20 {
        get(proxy.public(), &format!("/{n}"));
    }

    proxy.terminate();
    proxy.wait();

    for n in 0..20 {
        line_of(&proxy, &format!("/{n}"));
    }
}
