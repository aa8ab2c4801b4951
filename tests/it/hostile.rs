//! Bad input, from clients and from servers: refused, explained, and over.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Client, Origin, Proxy, eventually, ok, one_route};

/// Small limits, so that a test can be over them.
const LIMITS: &str = "[limits]\nuri-bytes = \"1KiB\"\nheader-bytes = \"8KiB\"\nheaders = 20\n\
    head-timeout = \"300ms\"\nbody-idle = \"300ms\"\nkeep-alive = \"5s\"\n";

fn limited(origin: &Origin) -> Proxy {
    Proxy::start(&format!("{LIMITS}{}", one_route("max-body = \"1KiB\"", "", &[origin])))
}

/// Requests that are each refused with a status, and after which the connection ends.
fn bad_requests() -> Vec<(&'static str, String, &'static [u16])> {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}");
    let many: String = (0..40).map(|n| format!("X-{n}: 1\r\n")).collect();
    vec![
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), &[400]),
        ("two hosts", get("Host: other\r\n"), &[400]),
        ("the same host twice", get("Host: test\r\n"), &[400]),
        ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".to_owned(), &[400]),
        ("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), &[400]),
        ("a host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned(), &[400]),
        ("a space before the colon", get("X-A : 1\r\n"), &[400]),
        ("an empty name", get(": 1\r\n"), &[400]),
        ("a folded field", get("X-A: 1\r\n  2\r\n"), &[400]),
        ("a NUL in a value", get("X-A: 1\0\r\n"), &[400]),
        ("a bare CR in a value", get("X-A: 1\r2\r\n"), &[400]),
        ("a control character in the target", "GET /\x01 HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), &[400]),
        ("a space in the target", "GET /a b HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), &[400]),
        ("no target", "GET HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), &[400]),
        ("an unknown version", "GET / HTTP/9.9\r\nHost: test\r\n\r\n".to_owned(), &[400, 505]),
        ("not HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(), &[400]),
        ("two lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), &[400]),
        ("a list of lengths", post("Content-Length: 3, 4\r\n", "abcd"), &[400]),
        ("a signed length", post("Content-Length: +3\r\n", "abc"), &[400]),
        ("a negative length", post("Content-Length: -3\r\n", "abc"), &[400]),
        ("a length that is no number", post("Content-Length: 0x3\r\n", "abc"), &[400]),
        ("a length beyond all numbers", post("Content-Length: 99999999999999999999\r\n", ""), &[400, 413]),
        ("a length and chunks of no known coding", post("Transfer-Encoding: xchunked\r\n", ""), &[400, 501]),
        ("gzip before chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[400, 501]),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            &[400],
        ),
        (
            "chunked before identity",
            post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
            &[400, 501],
        ),
        (
            "chunked in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a target that is too long",
            format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "a".repeat(2000)),
            &[414],
        ),
        ("too many fields", get(&many), &[431]),
        ("fields that are too large", get(&format!("X-A: {}\r\n", "a".repeat(20_000))), &[431]),
        ("a body over the route's limit", post("Content-Length: 2000\r\n", ""), &[413]),
        ("TRACE", "TRACE / HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), &[400, 405, 501]),
        ("CONNECT", "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n".to_owned(), &[400, 405, 501]),
    ]
}

#[test]
fn a_bad_request_is_refused_and_its_connection_ends() {
    let origin = Origin::saying("served");
    let proxy = limited(&origin);

    let mut wrong = Vec::new();
    for (name, bytes, statuses) in bad_requests() {
        let mut client = proxy.client();
        // A second request behind it must not be served: where it begins is what is in doubt.
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
        client.send(bytes + smuggled);
        let status = client.try_response().map(|answer| answer.status());
        let rest = client.rest();
        if !status.as_ref().is_ok_and(|status| statuses.contains(status)) {
            wrong.push(format!("{name}: {status:?} instead of {statuses:?}"));
        } else if !rest.is_empty() {
            wrong.push(format!("{name}: answered further: {}", String::from_utf8_lossy(&rest)));
        }
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(origin.count(), 0, "{:?}", origin.requests().iter().map(|r| &r.first).collect::<Vec<_>>());
    assert_eq!(proxy.get("/").text(), "served");
}

#[test]
fn a_request_with_length_and_chunks_is_forwarded_unambiguous_or_refused() {
    let origin = Origin::start(|request| ok(&request.body));
    let proxy = limited(&origin);

    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n");
    let answer = client.response();

    assert!(answer.status() == 400 || answer.text() == "abc", "{answer:?}");
    assert!(client.is_closed(), "the connection must end");
    for request in origin.requests() {
        assert_ne!(request.target(), "/smuggled");
        let framings = request.all("content-length").len() + request.all("transfer-encoding").len();
        assert_eq!(framings, 1, "{request:?}");
    }
}

#[test]
fn a_broken_chunk_is_never_taken_for_a_whole_body() {
    let origin = Origin::start(|request| ok(&request.body));
    let proxy = limited(&origin);

    for body in [
        "3\nabc\n0\n\n",
        "zz\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcX0\r\n\r\n",
        "-3\r\nabc\r\n",
        "fffffffffffffffff\r\n",
    ] {
        let mut client = proxy.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        client.finish();
        let status = client.try_response().map(|answer| answer.status());
        assert!(!matches!(status, Ok(200)), "{body:?}: {status:?}");
    }

    assert_eq!(origin.count(), 0);
}

#[test]
fn a_refusal_says_what_is_wrong_in_plain_text_with_its_id() {
    let origin = Origin::saying("x");
    let proxy = Proxy::start(&one_route("host = \"only.test\"", "", &[&origin]));

    let answer = proxy.get("/");

    assert_eq!(answer.status(), 404);
    assert!(answer.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    let id = answer.field("x-request-id").expect("a request id");
    assert!(answer.text().contains(id) && answer.body.len() < 500, "{}", answer.text());
    assert!(answer.field("proxy-status").is_some_and(|value| value.starts_with("tidegate; error=")));
}

#[test]
fn a_head_that_does_not_end_in_time_is_answered_408() {
    let origin = Origin::saying("x");
    let proxy = limited(&origin);

    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: te");

    assert_eq!(client.response().status(), 408);
    assert!(client.is_closed());
}

#[test]
fn a_body_that_stops_is_answered_408_and_not_blamed_on_the_server() {
    let (origin, other) = (Origin::saying("x"), Origin::saying("x"));
    let eject = "first-byte-timeout = \"100ms\"\neject = { failures = 1, max-percent = 100 }";
    // Two, because the last that may serve is never ejected.
    let proxy = Proxy::start(&format!("{LIMITS}{}", one_route("", eject, &[&origin, &other])));

    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc");

    assert_eq!(client.response().status(), 408);
    assert!(client.is_closed());
    let servers = proxy.status()["upstreams"][0]["servers"].clone();
    for server in servers.as_array().unwrap() {
        assert_eq!((&server["state"], &server["ejections"]), (&"healthy".into(), &0.into()));
    }
}

#[test]
fn a_client_that_says_nothing_is_hung_up_on() {
    let origin = Origin::saying("x");
    let proxy = limited(&origin);

    let silent = proxy.client().rest();

    assert!(silent.is_empty() || silent.starts_with(b"HTTP/1.1 408"), "{silent:?}");
}

#[test]
fn more_connections_than_one_client_may_have_are_refused() {
    let origin = Origin::saying("x");
    let text = format!("[limits]\nconnections-per-client = 4\n{}", one_route("", "", &[&origin]));
    let proxy = Proxy::start(&text);

    let mut held: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut held {
        assert_eq!(client.get("/").status(), 200);
    }
    let refused = Client::connect(proxy.public()).send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").try_response();
    drop(held);

    assert!(!refused.is_ok_and(|answer| answer.status() == 200));
    eventually("there is room again", || {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client.try_response().is_ok_and(|answer| answer.status() == 200)
    });
}

#[test]
fn more_connections_than_the_process_may_have_are_refused() {
    let origin = Origin::saying("x");
    let text = format!("[limits]\nconnections = 4\n{}", one_route("", "", &[&origin]));
    let proxy = Proxy::start(&text);

    let mut held: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for client in &mut held {
        assert_eq!(client.get("/").status(), 200);
    }
    let refused = Client::connect(proxy.public()).send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").try_response();

    assert!(refused.is_err(), "{refused:?}");
    let count = proxy.metric("tidegate_connections_refused_total", &["reason=\"limit-connections\""]);
    assert_eq!(count, 1.0);
    assert_eq!(held[0].get("/").status(), 200, "those who are in stay in");
}

#[test]
fn refusals_before_a_request_are_counted_by_reason() {
    let origin = Origin::saying("x");
    let proxy = limited(&origin);
    let count = |reason: &str| proxy.metric("tidegate_refusals_total", &[&format!("reason=\"{reason}\"")]);

    for (bytes, status, reason) in [
        (
            format!("GET / HTTP/1.1\r\nHost: test\r\nX-A: {}\r\n\r\n", "a".repeat(20_000)),
            431,
            "head-too-large",
        ),
        ("GET / HTTP/1.1\r\nHost : test\r\n\r\n".to_owned(), 400, "malformed"),
    ] {
        let answer = proxy.client().send(bytes).response();
        assert_eq!(answer.status(), status);
        eventually("it is counted", || count(reason) == 1.0);
    }

    let mut client = proxy.client();
    client.send(format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "a".repeat(66_000)));
    assert_eq!(client.response().status(), 414);
    eventually("it is counted", || count("uri-too-long") == 1.0);
    assert_eq!((count("malformed"), count("head-too-large")), (1.0, 1.0));
}

/// Responses that are no responses, or more than one.
const BAD_RESPONSES: &[(&str, &str)] = &[
    ("not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("no status", "HTTP/1.1\r\n\r\n"),
    ("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"),
    ("a status of letters", "HTTP/1.1 abc OK\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    ("a length that is no number", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab"),
    ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab"),
    ("a coding nobody knows", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("a NUL in a value", "HTTP/1.1 200 OK\r\nX-A: \0\r\nContent-Length: 0\r\n\r\n"),
    ("a name with a space", "HTTP/1.1 200 OK\r\nX A: 1\r\nContent-Length: 0\r\n\r\n"),
    ("an unasked upgrade", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ("half a head", "HTTP/1.1 200 OK\r\nContent-Le"),
    ("nothing", ""),
];

#[test]
fn a_server_that_breaks_http_gives_502_and_the_next_client_is_well() {
    let turn = AtomicUsize::new(0);
    let origin = Origin::raw(move |request, conn| {
        use std::io::Write;
        if request.target() == "/well" {
            let _ = conn.get_mut().write_all(&ok("well"));
            return crate::support::Then::Keep;
        }
        let _ = turn.fetch_add(1, Ordering::SeqCst);
        let index: usize = request.target().trim_start_matches('/').parse().unwrap();
        let _ = conn.get_mut().write_all(BAD_RESPONSES[index].1.as_bytes());
        crate::support::Then::Close
    });
    let proxy = Proxy::start(&one_route("", "eject = false", &[&origin]));

    let mut wrong = Vec::new();
    for (index, (name, _)) in BAD_RESPONSES.iter().enumerate() {
        let answer = proxy.get(&format!("/{index}"));
        if answer.status() != 502 {
            wrong.push(format!("{name}: {}", answer.status()));
        }
        assert_eq!(proxy.get("/well").text(), "well", "after {name}");
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bytes_behind_a_response_never_reach_the_next_client() {
    use std::io::Write;
    let origin = Origin::raw(|request, conn| {
        let own = request.target().to_owned();
        let extra = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";
        let _ = conn.get_mut().write_all(&[ok(&own), extra.as_bytes().to_vec()].concat());
        crate::support::Then::Keep
    });
    let proxy =
        Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", "eject = false", &[&origin])));

    let mut client = proxy.client();
    for n in 0..20 {
        let path = format!("/{n}");
        assert_eq!(client.get(&path).text(), path);
    }
}

#[test]
fn a_response_that_is_cut_off_ends_the_clients_connection() {
    let origin = Origin::start(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\npart".to_vec()
    });
    let proxy = Proxy::before(&origin);

    let cut = proxy.client().send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").try_response();

    assert!(cut.is_err(), "the client must see that it is cut: {cut:?}");
}

#[test]
fn a_response_head_without_end_is_answered_502() {
    use std::io::Write;
    let origin = Origin::raw(|_, conn| {
        let _ = conn.get_mut().write_all(b"HTTP/1.1 200 OK\r\n");
        let field = format!("X-Big: {}\r\n", "a".repeat(8000));
        while conn.get_mut().write_all(field.as_bytes()).is_ok() {}
        crate::support::Then::Close
    });
    let proxy = Proxy::start(&one_route("", "eject = false\nretries = 0", &[&origin]));

    assert_eq!(proxy.get("/").status(), 502);
}

#[test]
fn a_response_with_more_fields_than_are_allowed_is_answered_502() {
    let fields = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let origin = Origin::start(move |request| {
        let count = request.target().trim_start_matches('/').parse().unwrap();
        crate::support::reply("200 OK", &fields(count), "x")
    });
    let proxy = Proxy::start(&one_route("", "eject = false\nretries = 0", &[&origin]));

    // With Content-Length there is one more.
    assert_eq!(proxy.get("/99").status(), 200);
    assert_eq!(proxy.get("/100").status(), 502);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|request| ok(request.target()));
    let proxy = Proxy::before(&origin);

    let mut client = proxy.client();
    let all: String = (0..10).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n")).collect();
    client.send(all);

    for n in 0..10 {
        assert_eq!(client.response().text(), format!("/{n}"));
    }
}

#[test]
fn noise_does_not_end_the_proxy() {
    let origin = Origin::saying("well");
    let mut proxy = Proxy::before(&origin);

    // A small generator of our own: the same noise each time, so that a failure can be seen again.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    for round in 0..60 {
        let mut request = b"POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody".to_vec();
        for _ in 0..=round % 5 {
            let place = usize::from(byte()) % request.len();
            request[place] = byte();
        }
        let mut client = proxy.client();
        client.send(&request);
        client.finish();
        client.rest();
    }

    assert!(proxy.is_running());
    assert_eq!(proxy.get("/").text(), "well");
    assert!(!proxy.events().iter().any(|line| line.contains("panicked")), "{:?}", proxy.events());
}
