//! A server is taken out of service gently: by the file, by the admin listener, by the command line.

use super::groups::{share, shares, with_rules};
use super::{alone, asking, proxy};
use crate::support::proxy::tidegate;
use crate::support::{Client, Message, Origin, Proxy, eventually, one_route};

const JSON: &str = "application/json";

fn post(proxy: &Proxy, kind: &str, body: &str) -> Message {
    let head = "POST /api/v1/drain HTTP/1.1\r\nHost: test\r\nConnection: close\r\n";
    let length = body.len();
    let request = format!("{head}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
    Client::connect(proxy.admin()).send(request).response()
}

/// Drains a server, or undoes it; what the admin listener says of it.
#[track_caller]
pub fn drain(proxy: &Proxy, upstream: &str, server: &str, is_draining: bool) -> serde_json::Value {
    let body = serde_json::json!({ "upstream": upstream, "server": server, "drain": is_draining });
    let answer = post(proxy, JSON, &body.to_string());
    assert_eq!(answer.status(), 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn sticky(proxy: &Proxy, cookie: &str) -> Message {
    let answer = proxy.client().get_with("/", &format!("Cookie: {cookie}\r\n"));
    assert_eq!(answer.status(), 200);
    answer
}

/// A session with each of two servers.
fn sessions(proxy: &Proxy) -> [String; 2] {
    let mut found = [const { None }; 2];
    eventually("there is a session with each", || {
        let answer = proxy.get("/");
        let cookie = answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        found[usize::from(answer.text() == "b")] = Some(cookie);
        found.iter().all(Option::is_some)
    });
    found.map(Option::unwrap)
}

#[test]
fn a_server_that_drains_keeps_its_sessions_and_gets_no_new_ones() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = proxy("sticky = { cookie = \"gate\" }\nslow-start = \"0s\"", &[&a, &b]);
    let [of_a, of_b] = sessions(&proxy);

    let done = drain(&proxy, "app", &b.address().to_string(), true);

    assert_eq!((&done["changed"], &done["drain"]), (&1.into(), &true.into()));
    assert_eq!(proxy.state_of(&b), "draining");
    for _ in 0..6 {
        assert_eq!(proxy.get("/").text(), "a", "new ones go elsewhere");
        let answer = sticky(&proxy, &of_b);
        assert_eq!((answer.text(), answer.field("set-cookie")), ("b".to_owned(), None), "they stay");
        assert_eq!(sticky(&proxy, &of_a).text(), "a");
    }
    assert_eq!(drain(&proxy, "app", &b.address().to_string(), true)["changed"], 0, "it does so already");

    assert_eq!(drain(&proxy, "app", &b.address().to_string(), false)["changed"], 1);
    assert_eq!(proxy.state_of(&b), "healthy");
    eventually("it gets new ones again", || proxy.get("/").text() == "b");
    eventually("both are logged", || {
        let said = proxy.events().join("\n");
        said.contains("server is draining") && said.contains("server serves again")
    });
}

#[test]
fn a_server_that_the_file_drains_gets_none_until_it_is_undone() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = with_rules("slow-start = \"0s\"", &[(&a, "weight = 1"), (&b, "drain = true")]);

    assert_eq!(proxy.state_of(&b), "draining");
    assert_eq!(share(&shares(&proxy, 20), "b"), 0);
    drain(&proxy, "app", &b.address().to_string(), false);

    assert_eq!(share(&shares(&proxy, 20), "b"), 10);
}

#[test]
fn what_a_server_is_busy_with_goes_on_while_it_drains() {
    let (origin, hands) = Origin::holding();
    let other = Origin::saying("other");
    let proxy = alone("", &[&origin, &other]);
    let mut waiting: Vec<_> = (0..2).map(|_| asking(&proxy, "/held")).collect();
    eventually("both are asked", || origin.count() + other.count() == 2);

    let done = drain(&proxy, "app", &origin.address().to_string(), true);

    assert_eq!(done["in_flight"], 1);
    assert!(!hands.go.is_open());
    hands.go.open();
    let mut texts: Vec<_> = waiting.iter_mut().map(|client| client.response().text()).collect();
    texts.sort();
    assert_eq!(texts, ["/held", "other"]);
}

#[test]
fn where_all_drain_there_is_nobody() {
    let a = Origin::saying("a");
    let proxy = proxy("", &[&a]);

    drain(&proxy, "app", &a.address().to_string(), true);

    assert_eq!((proxy.get("/").status(), super::reason(&proxy.get("/"))), (503, "no-server"));
}

#[test]
fn a_session_whose_draining_server_dies_moves() {
    let (a, mut b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = proxy("sticky = { cookie = \"gate\" }", &[&a, &b]);
    let [_, of_b] = sessions(&proxy);
    drain(&proxy, "app", &b.address().to_string(), true);

    b.stop();
    let moved = sticky(&proxy, &of_b);

    assert_eq!(moved.text(), "a");
    assert!(moved.field("set-cookie").is_some());
}

#[test]
fn a_mistake_is_answered_400_with_the_nearest_word() {
    let a = Origin::saying("a");
    let proxy = Proxy::start(&one_route("", "", &[&a]).replace("app", "shop"));
    let server = a.address().to_string();
    let near = format!("{server}9");

    for (body, word) in [
        (serde_json::json!({ "upstream": "shp", "server": server, "drain": true }), "\"shop\""),
        (serde_json::json!({ "upstream": "shop", "server": near, "drain": true }), server.as_str()),
        (serde_json::json!({ "upstream": "shop", "server": server }), "drain"),
        (serde_json::json!({ "upstream": "shop", "server": server, "drain": true, "now": 1 }), "now"),
        (serde_json::json!({ "upstream": "shop", "server": server, "drain": "yes" }), "boolean"),
    ] {
        let answer = post(&proxy, JSON, &body.to_string());
        let text = answer.text();
        let error = serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["error"].clone();
        assert_eq!(answer.status(), 400, "{text}");
        assert!(error.as_str().unwrap().contains(word), "{body}: {text}");
    }
    for body in ["", "{", "[]"] {
        assert_eq!(post(&proxy, JSON, body).status(), 400, "{body}");
    }
    assert_eq!(proxy.state_of(&a), "healthy");
}

#[test]
fn only_json_and_only_post_are_taken() {
    let a = Origin::saying("a");
    let proxy = proxy("", &[&a]);
    let body = serde_json::json!({ "upstream": "app", "server": a.address().to_string(), "drain": true });

    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        assert_eq!(post(&proxy, kind, &body.to_string()).status(), 415, "{kind}");
    }
    let read = crate::support::get(proxy.admin(), "/api/v1/drain");

    assert_eq!((read.status(), read.field("allow")), (405, Some("POST")));
    assert_eq!(proxy.state_of(&a), "healthy");
    assert_eq!(post(&proxy, "Application/JSON; charset=utf-8", &body.to_string()).status(), 200);
}

#[test]
fn the_command_line_drains_and_undoes_it() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = alone("slow-start = \"0s\"", &[&a, &b]);
    let (admin, server) = (proxy.admin().to_string(), b.address().to_string());
    let run = |more: &[&str]| {
        let arguments = [&["drain", "--admin", &admin], more].concat();
        let output = tidegate(&arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };

    let (code, said, _) = run(&["--upstream", "app", "--server", &server]);
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said).unwrap()["changed"], 1);
    assert_eq!(share(&shares(&proxy, 10), "a"), 10);

    assert_eq!(run(&["--upstream", "app", "--server", &server, "--undo"]).0, Some(0));
    assert_eq!(share(&shares(&proxy, 10), "b"), 5);

    let (code, _, said) = run(&["--upstream", "ap", "--server", &server]);
    assert!(code == Some(1) && said.contains("did you mean") && said.contains("app"), "{said}");
    assert_eq!(run(&["--upstream", "app"]).0, Some(2), "a server is needed");
}
