//! What is in force for a request is what was in force when it began.

use super::{connected, routes};
use crate::support::frames::FrameClient;
use crate::support::proxy::tidegate;
use crate::support::{Client, Origin, Proxy, eventually, ok, one_route};

#[test]
fn when_a_reload_returns_the_next_request_of_each_connection_meets_the_new_configuration() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let to = |origin| one_route("", "", &[origin]);
    let proxy = Proxy::start(&to(&a));
    let mut clients = connected(&proxy, "/");
    let mut http2 = FrameClient::connect(proxy.public());

    for round in 0..10 {
        let (origin, said) = if round % 2 == 0 { (&b, "b") } else { (&a, "a") };
        proxy.reload(&to(origin));

        for client in &mut clients {
            assert_eq!(client.get("/").text(), said, "round {round}, over a connection of before");
        }
        assert_eq!(proxy.get("/").text(), said, "round {round}, over a new one");
        let stream = 2 * round + 1;
        http2.send(crate::support::frames::get(stream, "/"));
        assert_eq!(http2.body(stream), (200, said.into()), "round {round}, over HTTP/2");
    }
}

#[test]
fn a_request_under_way_ends_as_it_began_though_its_route_and_its_upstream_are_gone() {
    let (old, held) = Origin::holding();
    let new = Origin::saying("new");
    let proxy = Proxy::start(&routes(&[("old", &[&old], "")]));
    let mut waiting = proxy.client();
    waiting.send("GET /old/held HTTP/1.1\r\nHost: test\r\n\r\n");
    held.asked.wait();

    proxy.reload(&routes(&[("new", &[&new], "")]));

    assert_eq!(proxy.get("/old/").status(), 404);
    assert_eq!(proxy.get("/new/").text(), "new");
    held.go.open();
    let answer = waiting.response();
    assert_eq!((answer.status(), answer.text()), (200, "/old/held".to_owned()));
    assert_eq!(waiting.get("/new/").text(), "new", "and its connection goes on");
    eventually("the one to the server is closed", || old.open_connections() == 0);
}

#[test]
fn a_tunnel_and_an_upload_go_on_through_reloads_that_remove_their_routes() {
    let tunnel = Origin::raw(|request, conn| {
        use std::io::{Read, Write};
        if request.field("upgrade").is_none() {
            let whole = crate::support::wire::read_request_body(conn, request);
            let body = if whole.is_ok() { request.body.clone() } else { b"cut".to_vec() };
            conn.get_mut().write_all(&ok(body)).unwrap();
            return crate::support::Then::Keep;
        }
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        conn.get_mut().write_all(agreed.as_bytes()).unwrap();
        let mut byte = [0];
        while conn.read_exact(&mut byte).is_ok() && conn.get_mut().write_all(&byte).is_ok() {}
        crate::support::Then::Close
    });
    let other = Origin::saying("other");
    let proxy = Proxy::start(&routes(&[("old", &[&tunnel], "")]));
    let mut socket = proxy.client();
    let asks = "GET /old/ HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(socket.send(asks).head().status(), 101);
    let mut upload = proxy.client();
    upload.send("POST /old/ HTTP/1.1\r\nHost: test\r\nContent-Length: 12\r\n\r\n0");
    eventually("the server has the upload's head", || tunnel.count() == 2);

    for round in 1..=5 {
        let name = format!("new{round}");
        proxy.reload(&routes(&[(&name, &[&other], "")]));
        assert_eq!(socket.send([round]).bytes(1), [round], "the tunnel carries on");
        upload.send("12");
    }

    upload.send("x");
    let answer = upload.response();
    assert_eq!((answer.status(), answer.text()), (200, "01212121212x".to_owned()));
    assert_eq!(socket.send("end").bytes(3), b"end");
}

#[test]
fn a_request_that_waits_for_a_server_goes_on_waiting_and_keeps_nobody_from_a_limit_that_was_raised() {
    for raised in ["", "max-requests = 5", "max-connections = 5"] {
        let (origin, held) = Origin::holding();
        let proxy = Proxy::start(&one_route("", "max-requests = 1", &[&origin]));
        let mut first = proxy.client();
        first.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
        held.asked.wait();
        let mut queued = proxy.client();
        queued.send("GET /queued HTTP/1.1\r\nHost: test\r\n\r\n");
        let waiting = || proxy.metric("tidegate_requests_queued", &["app"]);
        eventually("it waits", || waiting() == 1.0);

        proxy.reload(&one_route("", raised, &[&origin]));

        for _ in 0..4 {
            assert_eq!(proxy.get("/free").text(), "/free", "{raised}: whoever comes now may");
        }
        assert_eq!(waiting(), 1.0, "{raised}: who waits has its own limit");
        held.go.open();
        assert_eq!(first.response().text(), "/held");
        assert_eq!(queued.response().text(), "/queued");
    }
}

#[test]
fn limits_and_trusted_proxies_hold_for_the_next_request_of_an_open_connection() {
    let origin = Origin::start(|request| ok(request.field("x-forwarded-for").unwrap_or("none")));
    let with = |limits: &str, trusted: &str| {
        format!(
            "[limits]\n{limits}\n[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\n\
             trusted-proxies = [{trusted}]\n{}",
            one_route("", "", &[&origin])
        )
    };
    let proxy = Proxy::start(&with("", ""));
    let mut client = proxy.client();
    let said = "X-Forwarded-For: 192.0.2.7\r\n";
    assert_eq!(client.get_with("/", said).text(), "127.0.0.1");

    proxy.reload(&with("", "\"127.0.0.0/8\""));
    assert_eq!(client.get_with("/", said).text(), "192.0.2.7, 127.0.0.1", "it is believed now");
    proxy.reload(&with("headers = 10", ""));
    assert_eq!(client.get_with("/", said).text(), "127.0.0.1", "and is not any more");

    let many: String = (0..20).map(|n| format!("A{n}: b\r\n")).collect();
    assert_eq!(client.get_with("/", &many).status(), 431);
}

#[test]
fn sighup_and_the_command_line_reload_as_the_admin_listener_does() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let proxy = Proxy::start(&one_route("", "", &[&a]));

    proxy.rewrite(&one_route("", "", &[&b]));
    assert_eq!(proxy.get("/").text(), "a", "nobody has told it");
    proxy.hang_up();
    eventually("the signal is heard", || proxy.get("/").text() == "b");
    let said = |line: &String| line.contains("configuration reloaded") && line.contains("SIGHUP");
    eventually("it says so", || proxy.events().iter().any(said));

    proxy.rewrite(&one_route("", "", &[&a]));
    let done = tidegate(&["reload", "--admin", &proxy.admin().to_string()]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["servers"]["added"], &report["servers"]["removed"]), (&1.into(), &1.into()));
    assert_eq!(proxy.get("/").text(), "a");

    proxy.rewrite("[[route]]");
    let done = tidegate(&["reload", "--admin", &proxy.admin().to_string()]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("tidegate.toml:"), "{done:?}");
}

#[test]
fn signals_that_come_together_are_reloads_one_after_the_other_and_the_last_file_counts() {
    let (a, b) = (Origin::saying("a"), Origin::saying("b"));
    let mut proxy = Proxy::start(&one_route("", "", &[&a]));

    for round in 0..20 {
        proxy.rewrite(&one_route("", "", &[if round % 2 == 0 { &a } else { &b }]));
        proxy.hang_up();
    }

    eventually("the last one is in force", || proxy.get("/").text() == "b");
    let reloads = || proxy.metric("tidegate_config_reloads_total", &["ok"]);
    // Each of these is another one, after all of those.
    let before = reloads();
    proxy.reload(&one_route("", "", &[&a]));
    assert!((1.0..=21.0).contains(&before) && reloads() > before, "{before}");
    assert_eq!(proxy.get("/").text(), "a");
    assert!(proxy.is_running());
}

#[test]
fn a_process_that_drains_reloads_nothing() {
    let (origin, held) = Origin::holding();
    let mut proxy = Proxy::start(&one_route("", "", &[&origin]));
    let mut admin = Client::connect(proxy.admin());
    let mut waiting = proxy.client();
    waiting.send("GET /held HTTP/1.1\r\nHost: test\r\n\r\n");
    held.asked.wait();

    proxy.terminate();
    eventually("it drains", || admin.get("/readyz").text() == "draining\n");
    proxy.hang_up();
    let is_said = |line: &String| line.contains("SIGHUP ignored");
    eventually("it says that it does not reload", || proxy.events().iter().any(is_said));
    let refused = admin.send("POST /reload HTTP/1.1\r\nHost: test\r\n\r\n").response();

    assert_eq!(refused.status(), 503, "{}", refused.text());
    held.go.open();
    assert_eq!(waiting.response().text(), "/held");
    assert!(proxy.wait().success());
}
