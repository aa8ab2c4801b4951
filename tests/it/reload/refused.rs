//! A file with a mistake changes nothing, and every mistake is told.

use std::net::TcpListener;

use super::json;
use crate::support::certs::Cert;
use crate::support::{Client, Message, Origin, Proxy, eventually, one_route};

/// The text with two listeners, which is sound, with one piece of it replaced.
fn with(origin: &Origin, from: &str, to: &str) -> String {
    let text = format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n{}\n[cache]\ncollapse-wait = \"5s\"\n",
        one_route("", "retries = 1", &[origin])
    );
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

#[test]
fn a_wrong_file_changes_nothing_and_each_mistake_is_told_with_its_place() {
    let (origin, other) = (Origin::saying("old"), Origin::saying("new"));
    let proxy = Proxy::start(&with(&origin, "retries", "retries"));
    let mut client = proxy.client();
    client.get("/");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let cert = Cert::of(&["site.test"]);
    let foreign = Cert::of(&["other.test"]);
    let tls = |cert: &str, key: &str| {
        format!(
            "retries = 1\n[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ cert = {cert:?}, key = {key:?} }}] }}\n"
        )
    };
    let (pem, foreign_key) = (cert.pem_path.to_str().unwrap(), foreign.key_path.to_str().unwrap());
    let second = format!("[[listener]]\nname = \"second\"\nbind = \"{taken}\"\n[[route]]");
    let ca = "retries = 1\ntls = { ca = \"nowhere.pem\" }";
    let servers = format!("{}, \"https://localhost:1\"", origin.toml());

    for (from, to, told) in [
        ("retries = 1", "retries = one", &["tidegate.toml:"][..]),
        ("retries = 1", "retires = 1", &["upstream.app.retires", "retries"]),
        ("upstream = \"app\"", "upstream = \"ap\"", &["did you mean \"app\""]),
        ("retries = 1", "retries = 1\nbalance = \"best\"\nslow-start = \"x\"", &["balance", "slow-start"]),
        ("retries = 1", &tls("nowhere.pem", "nowhere.key"), &["listener tls", "nowhere.pem"]),
        ("retries = 1", &tls(pem, foreign_key), &["listener tls"]),
        ("[[route]]", &second, &[&taken.to_string(), "listen"]),
        (
            "retries = 1",
            "retries = 1\n[log]\nevents = \"json\"\naccess = \"/nowhere/access.log\"",
            &["log.access", "/nowhere"],
        ),
    ] {
        // What would also be changed, if anything was.
        let text = with(&origin, from, to).replace("collapse-wait = \"5s\"", "collapse-wait = \"6s\"");
        proxy.rewrite(&text.replace(&origin.toml(), &other.toml()));
        refused(&proxy, told);
        assert_eq!(client.get("/").text(), "old", "{to}");
        assert_eq!(proxy.get("/").text(), "old", "{to}");
    }
    // Two kinds of mistakes in one file are told together.
    let both =
        with(&origin, "retries = 1", &format!("{ca}\n{}", &tls("nowhere.pem", "k")["retries = 1".len()..]));
    proxy.rewrite(&both.replace(&origin.toml(), &servers));
    refused(&proxy, &["listener tls", "upstream app", "nowhere.pem"]);

    assert_eq!(proxy.metric("tidegate_config_reloads_total", &["failed"]), 9.0);
    assert_eq!(proxy.metric("tidegate_config_reloads_total", &["ok"]), 0.0);
    assert_eq!(proxy.metric("tidegate_config_last_reload_successful", &[]), 0.0);
    let metrics = proxy.metrics();
    assert!(!metrics.contains("\"tls\"") && !metrics.contains("\"second\""), "no number of what never was");
    proxy.reload(&with(&other, "retries", "retries"));
    assert_eq!(client.get("/").text(), "new");
    assert_eq!(proxy.metric("tidegate_config_last_reload_successful", &[]), 1.0);
    assert!(proxy.metric("tidegate_config_last_reload_success_timestamp_seconds", &[]) > 1.7e9);
}

#[track_caller]
fn refused(proxy: &Proxy, told: &[&str]) {
    let answer = proxy.try_reload();
    assert_eq!(answer.status(), 400, "{}", answer.text());
    let mistakes = json(&answer)["mistakes"].to_string();
    assert!(
        told.iter().all(|word| mistakes.contains(&word.replace('"', "\\\""))),
        "{told:?} not in {mistakes}"
    );
    let is_logged = |word: &&str| {
        let word = word.replace('"', "\\\"");
        proxy.events().iter().any(|line| line.contains("a mistake in the") && line.contains(&word))
    };
    eventually("the log says it too", || told.iter().all(is_logged));
}

#[test]
fn a_page_in_a_browser_cannot_reload_and_a_bare_post_can() {
    let origin = Origin::saying("a");
    let proxy = Proxy::start(&one_route("", "", &[&origin]));
    let ask = |method: &str, path: &str, fields: &str, body: &str| -> Message {
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{fields}\r\n{body}");
        Client::connect(proxy.admin()).send(request).response()
    };
    let json = "Content-Type: application/json\r\nContent-Length: 2\r\n";

    for (method, path, fields, body, status) in [
        ("POST", "/reload", "", "", 200),
        ("POST", "/reload", "Content-Length: 0\r\n", "", 200),
        ("POST", "/api/v1/reload", "", "", 200),
        ("POST", "/api/v1/reload", json, "{}", 200),
        ("POST", "/reload", "Origin: http://evil.example\r\n", "", 415),
        ("POST", "/reload", "Content-Type: text/plain\r\nContent-Length: 2\r\n", "{}", 415),
        ("POST", "/reload", &json.replace('2', "9"), "{\"all\":1}", 400),
        ("GET", "/reload", "", "", 405),
        ("GET", "/api/v1/reload", "", "", 405),
    ] {
        let answer = ask(method, path, fields, body);
        assert_eq!(answer.status(), status, "{method} {path} {fields} {body}: {}", answer.text());
    }
    assert_eq!(proxy.metric("tidegate_config_reloads_total", &["ok"]), 4.0);
}

#[test]
fn what_waits_for_a_restart_is_told_until_it_comes() {
    let origin = Origin::saying("a");
    let route = one_route("", "", &[&origin]);
    let proxy = Proxy::start(&route);
    let waiting = format!(
        "[runtime]\nworkers = 1\n[admin]\nbind = \"127.0.0.2:0\"\nhosts = [\"test\"]\n[cache]\nmax-size = \"8MiB\"\n{route}"
    );

    for _ in 0..2 {
        let report = proxy.reload(&waiting);
        let expected = serde_json::json!(["runtime.workers", "admin.bind", "cache.max-size"]);
        assert_eq!(report["waits_for_restart"], expected, "it still does");
    }
    assert_eq!(proxy.metric("tidegate_workers", &[]), 2.0);
    assert_eq!(proxy.status()["cache"]["bytes_max"], 256 << 20, "what is so is told, not what will be");

    assert_eq!(proxy.reload(&route)["waits_for_restart"], serde_json::json!([]));
}
