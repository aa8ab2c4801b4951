//! Interim responses (1xx) of servers: to clients of HTTP/1.1 at once, and never in a wrong place.

use std::io::Write;

use crate::support::certs::Cert;
use crate::support::frames::{self, END_HEADERS, END_STREAM, FrameClient, HEADERS};
use crate::support::http2::{self, rest, talk};
use crate::support::origin::Conn;
use crate::support::wire::{self, Message};
use crate::support::{Client, Gate, Origin, Proxy, Then, eventually, ok, one_route, reply};

const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
const LINK: Option<&str> = Some("</style.css>; rel=preload");

fn say(conn: &mut Conn, bytes: impl AsRef<[u8]>) {
    let _ = conn.get_mut().write_all(bytes.as_ref());
    let _ = conn.get_mut().flush();
}

/// Says these bytes in one piece, to each request.
fn saying(bytes: Vec<u8>) -> Origin {
    Origin::start(move |_| bytes.clone())
}

/// Hints at once, and `ok("late")` when the gate is open.
fn hints_then_gate(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::raw(move |_, conn| {
        say(conn, HINTS);
        gate.wait();
        say(conn, reply("200 OK", "Cache-Control: max-age=60\r\n", "late"));
        Then::Keep
    })
}

/// Asks, hears the hints while there is nothing else to hear, and then the rest.
#[track_caller]
fn hear_hints_first(mut client: Client, gate: &Gate) {
    let hints = client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    assert_eq!((hints.status(), hints.field("link")), (103, LINK));
    assert_eq!(hints.fields.len(), 1, "{hints:?}");
    assert!(!gate.is_open(), "they must not wait for the final response");

    gate.open();
    let last = client.response();
    assert_eq!((last.status(), last.text(), last.field("link")), (200, "late".to_owned(), None));
}

#[test]
fn early_hints_arrive_before_there_is_a_final_response() {
    let gate = Gate::default();
    let origin = hints_then_gate(&gate);
    let proxy = Proxy::before(&origin);

    hear_hints_first(proxy.client(), &gate);
}

#[test]
fn early_hints_arrive_under_tls_too() {
    let gate = Gate::default();
    let origin = hints_then_gate(&gate);
    let cert = Cert::of(&["site.test"]);
    let listener = format!(
        "[[listener]]\nname = \"public\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{}] }}\n",
        cert.toml()
    );
    let proxy = Proxy::start(&format!("{listener}{}", one_route("", "", &[&origin])));

    hear_hints_first(Client::connect_tls(proxy.public(), "site.test", &cert.trust()), &gate);
}

#[test]
fn hints_and_the_final_response_in_one_piece_arrive_in_order() {
    let origin = saying([HINTS, &ok("whole")].concat());
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    for _ in 0..3 {
        let hints = client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
        let last = client.response();

        assert_eq!((hints.status(), hints.field("link")), (103, LINK));
        assert_eq!((last.status(), last.text(), last.field("link")), (200, "whole".to_owned(), None));
    }
    assert_eq!(origin.connections(), 1, "an interim response is no reason to close");
}

#[test]
fn several_pass_in_order_but_for_100_and_none_says_a_length() {
    let interims = "HTTP/1.1 102 Processing\r\nContent-Length: 5\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
                    HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\nLink: <a>\r\nLink: <b>\r\n\r\n\
                    HTTP/1.1 199 Whatever\r\nConnection: x-mine\r\nX-Mine: 1\r\nX-Else: 2\r\n\r\n";
    let origin = saying([interims.as_bytes(), &ok("last")].concat());
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let heads: Vec<Message> = (0..3).map(|_| client.head()).collect();
    let last = client.response();

    let fields = |head: &Message| head.fields.iter().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>();
    let heads: Vec<_> = heads.iter().map(|head| (head.status(), fields(head))).collect();
    let expected = [(102, vec![]), (103, vec!["link: <a>", "link: <b>"]), (199, vec!["x-else: 2"])];
    assert_eq!(
        heads,
        expected.map(|(status, fields)| (status, fields.into_iter().map(str::to_owned).collect()))
    );
    assert_eq!((last.status(), last.text()), (200, "last".to_owned()));
}

#[test]
fn pipelined_requests_stay_in_order_with_interim_responses_in_between() {
    // More than a socket's buffer takes at once, so that responses go out in many writes.
    let length = 600_000;
    let origin = Origin::start(move |request| {
        let hints = format!("HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n", request.target());
        let body = request.target().as_bytes()[1..].repeat(length);
        [hints.repeat(3).into_bytes(), ok(body)].concat()
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    let names = ["a", "b", "c", "d", "e", "f"];
    client.send(names.map(|name| format!("GET /{name} HTTP/1.1\r\nHost: test\r\n\r\n")).concat());

    for name in names {
        for _ in 0..3 {
            let hints = client.head();
            assert_eq!((hints.status(), hints.field("link")), (103, Some(format!("</{name}>").as_str())));
        }
        let last = client.response();
        assert_eq!(last.status(), 200);
        assert!(last.text() == name.repeat(length), "the body of {name}");
    }
}

#[test]
fn an_http_1_0_client_gets_none() {
    let origin = saying([HINTS, &ok("plain")].concat());
    let proxy = Proxy::before(&origin);

    let answer = proxy.client().send("GET / HTTP/1.0\r\nHost: test\r\n\r\n").response();

    assert_eq!((answer.status(), answer.text(), answer.field("link")), (200, "plain".to_owned(), None));
}

/// Fields of the interim heads that precede a stream's final one, which is read to its end.
fn heads(client: &mut FrameClient, stream: u32) -> Vec<u16> {
    let mut statuses = Vec::new();
    loop {
        let frame = client.until("an answer", |f| f.stream == stream && f.kind < 2);
        if frame.kind == HEADERS {
            statuses.push(frame.status());
        }
        if frame.flags & END_STREAM != 0 {
            return statuses;
        }
    }
}

#[test]
fn an_http_2_client_gets_hints_while_there_is_nothing_else_to_hear() {
    let gate = Gate::default();
    let origin = hints_then_gate(&gate);
    let proxy = Proxy::before(&origin);
    let mut client = FrameClient::connect(proxy.public());

    client.send(frames::get(1, "/"));
    let hints = client.until("hints", |f| f.stream == 1);
    assert_eq!((hints.kind, hints.flags, hints.status()), (HEADERS, END_HEADERS, 103));
    assert!(!gate.is_open(), "they must not wait for the final response");
    gate.open();
    assert_eq!(heads(&mut client, 1), [200]);
    // And whoever does not look for them is not disturbed.
    talk(proxy.public(), 65_535, async |requests, _| {
        let mut answer = http2::get(&requests, "/").await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("link")), (200, None));
        assert_eq!(rest(answer.body_mut()).await.unwrap().0, b"late");
    });
}

#[test]
fn an_http_2_client_that_waits_to_be_told_is_told_to_send_its_body() {
    let origin = Origin::start(|request| ok(&request.body));
    let proxy = Proxy::before(&origin);
    let mut client = FrameClient::connect(proxy.public());

    client.send(frames::post(1, "/", &[("expect", "100-continue")]));
    let told = client.until("to be told", |f| f.stream == 1);
    assert_eq!((told.kind, told.flags, told.status()), (HEADERS, END_HEADERS, 100));
    client.send(frames::frame(frames::DATA, END_STREAM, 1, b"body"));
    assert_eq!(client.body(1), (200, b"body".to_vec()));

    // One that has sent it already need not be told.
    let whole = [
        frames::post(3, "/", &[("expect", "100-continue")]),
        frames::frame(frames::DATA, END_STREAM, 3, b"body"),
    ];
    client.send(whole.concat());
    assert_eq!(heads(&mut client, 3), [200]);
}

#[test]
fn hints_and_100_continue_do_not_disturb_each_other() {
    let origin = Origin::raw(|request, conn| {
        say(conn, HINTS);
        let _ = wire::read_request_body(conn, request);
        say(conn, HINTS);
        say(conn, ok(&request.body));
        Then::Keep
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
        let mut early = [client.head().status(), client.head().status()];
        early.sort_unstable();
        let late = client.send("body").head().status();
        let last = client.response();

        assert_eq!((early, late), ([100, 103], 103));
        assert_eq!((last.status(), last.text()), (200, "body".to_owned()));
    }
}

#[test]
fn hints_may_come_before_a_websocket() {
    let origin = Origin::raw(|_, conn| {
        let accepted =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        say(conn, [HINTS, accepted.as_bytes(), b"hello"].concat());
        Then::Close
    });
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");

    assert_eq!((client.head().status(), client.head().status()), (103, 101));
    assert_eq!(client.rest(), b"hello");
}

#[test]
fn more_than_sixteen_are_refused_and_the_next_request_is_well() {
    let origin = Origin::start(|request| match request.target() {
        "/flood" => [HINTS.repeat(17), ok("too late")].concat(),
        _ => [HINTS.repeat(16), ok("well")].concat(),
    });
    let proxy = Proxy::start(&one_route("", "eject = false", &[&origin]));
    // The interim responses that were sent, and the final one.
    let ask = |client: &mut Client, path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let mut count = 0;
        loop {
            match client.response() {
                hints if hints.status() == 103 => count += 1,
                last => return (count, last),
            }
        }
    };

    let mut client = proxy.client();
    let (hints, refusal) = ask(&mut client, "/flood");
    let (_, well) = ask(&mut client, "/");

    assert_eq!((hints, refusal.status()), (16, 502));
    assert!(refusal.text().contains("reason: response-interim-flood"), "{}", refusal.text());
    assert!(refusal.field("proxy-status").is_some_and(|value| value.contains("http_protocol_error")));
    assert_eq!((well.status(), well.text()), (200, "well".to_owned()));
    assert_eq!(origin.connections(), 2, "the connection of a flood is not used again");
    assert_eq!(origin.count(), 2, "a flood is not tried again");
    assert_eq!(proxy.metric("tidegate_refusals_total", &["reason=\"response-interim-flood\""]), 1.0);
}

#[test]
fn an_endless_series_is_broken_off() {
    let origin = Origin::raw(|_, conn| {
        while conn.get_mut().write_all(HINTS).is_ok() {}
        Then::Close
    });
    let proxy = Proxy::start(&one_route("", "eject = false", &[&origin]));

    talk(proxy.public(), 65_535, async |requests, _| {
        assert_eq!(http2::get(&requests, "/").await.unwrap().status(), 502);
    });
    assert_eq!(proxy.metric("tidegate_refusals_total", &["reason=\"response-interim-flood\""]), 1.0);
}

#[test]
fn an_interim_response_is_no_first_byte() {
    let gate = Gate::default();
    let origin = hints_then_gate(&gate);
    let proxy = Proxy::start(&one_route("", "first-byte-timeout = \"200ms\"", &[&origin]));

    let mut client = proxy.client();
    let hints = client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    let last = client.response();

    assert_eq!((hints.status(), last.status(), gate.is_open()), (103, 504, false));
    gate.open();
    assert!(last.text().contains("first-byte-timed-out"), "{}", last.text());
}

#[test]
fn hints_are_not_stored() {
    let origin = saying([HINTS, &reply("200 OK", "Cache-Control: max-age=60\r\n", "stored")].concat());
    let proxy = Proxy::start(&one_route("cache = true", "", &[&origin]));

    let mut client = proxy.client();
    let hints = client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").head();
    let miss = client.response();
    let hit = client.get("/");

    assert_eq!((hints.status(), hints.field("cache-status")), (103, None));
    for answer in [&miss, &hit] {
        assert_eq!((answer.status(), answer.text()), (200, "stored".to_owned()));
        assert_eq!(answer.field("link"), None);
    }
    assert!(hit.field("cache-status").is_some_and(|value| value.starts_with("tidegate; hit")));
    assert_eq!(origin.count(), 1);
}

#[test]
fn of_a_shared_fetch_only_the_first_client_gets_the_hints() {
    let gate = Gate::default();
    let origin = hints_then_gate(&gate);
    let proxy = Proxy::start(&one_route("cache = true", "", &[&origin]));
    let ask = || {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client
    };

    let mut first = ask();
    assert_eq!((first.head().status(), gate.is_open()), (103, false));
    let mut second = ask();
    eventually("both are in flight", || {
        proxy.metric("tidegate_requests_in_flight", &["listener=\"public\""]) == 2.0
    });
    gate.open();

    assert_eq!((first.response().text(), second.response().text()), ("late".to_owned(), "late".to_owned()));
    assert_eq!(origin.count(), 1);
}
