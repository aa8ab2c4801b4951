//! Answers that come before a request has ended, and bodies that nobody reads: none becomes a request.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use super::table::SMUGGLED;
use crate::support::strict::{self, Exact, latin1};
use crate::support::{Client, Gate, Origin, Proxy, Recorder, client, eventually, one_route};

/// Everything until the connection ends, as answers to these methods.
fn answers(proxy: &Proxy, bytes: &str, methods: &[&str]) -> Vec<Exact> {
    let mut socket = client::dial(proxy.public());
    let _ = socket.write_all(&strict::bytes(bytes));
    let mut got = Vec::new();
    socket.read_to_end(&mut got).unwrap_or_else(|error| panic!("{error} behind {:?}", latin1(&got)));
    let (mut answers, mut at) = (Vec::new(), 0);
    while at < got.len() {
        let method = methods.get(answers.len()).unwrap_or(&"GET");
        let (answer, length) = strict::response(&got[at..], method, true)
            .unwrap_or_else(|stop| panic!("{stop:?} in {:?}", latin1(&got[at..])));
        at += length;
        answers.push(answer);
    }
    answers
}

fn statuses(answers: &[Exact]) -> Vec<u16> {
    answers.iter().map(Exact::status).collect()
}

const LAST: &str = "GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

#[test]
fn a_body_that_no_route_takes_is_never_read_as_a_request() {
    let recorder = Recorder::start();
    let proxy = Proxy::start(&one_route("host = \"test\"", "", &[&recorder.origin]));
    let length = SMUGGLED.len();

    for (name, bytes) in [
        (
            "with a length",
            format!("POST /x HTTP/1.1\r\nHost: other\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"),
        ),
        (
            "in chunks",
            format!(
                "POST /x HTTP/1.1\r\nHost: other\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"
            ),
        ),
        ("of a GET", format!("GET /x HTTP/1.1\r\nHost: other\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}")),
        (
            "large",
            format!(
                "POST /x HTTP/1.1\r\nHost: other\r\nContent-Length: {}\r\n\r\n{}",
                length * 5000,
                SMUGGLED.repeat(5000)
            ),
        ),
    ] {
        let got = answers(&proxy, &(bytes + LAST), &["POST", "GET"]);
        let requests: Vec<String> = recorder.log().requests.iter().map(Exact::summary).collect();
        assert!(!requests.iter().any(|request| request.contains("smuggled")), "{name}: {requests:?}");
        let got: Vec<(u16, &str)> =
            got.iter().map(|answer| (answer.status(), answer.body.as_str())).collect();
        assert!(matches!(got[..], [(404, _)] | [(404, _), (200, "GET /last")]), "{name}: {got:?}");
    }
}

#[test]
fn a_body_over_the_limit_is_never_read_as_a_request() {
    let recorder = Recorder::start();
    let proxy = Proxy::start(&one_route("max-body = \"1KiB\"", "", &[&recorder.origin]));
    let body = SMUGGLED.repeat(100);

    for bytes in [
        format!("POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        format!(
            "POST /x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ),
        format!(
            "POST /x HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    ] {
        assert_eq!(statuses(&answers(&proxy, &(bytes + LAST), &["POST"])), [413]);
    }

    assert_eq!(recorder.log().requests.len(), 0);
    assert_eq!(recorder.log().faults, [""; 0]);
}

/// A server that answers as soon as it has a head, and notes all else that comes by its connections.
fn hasty(answer: &'static str) -> (Origin, Arc<Mutex<Vec<Vec<u8>>>>) {
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let notes = seen.clone();
    let origin = Origin::by_hand(move |mut stream| {
        let place = {
            let mut notes = notes.lock().unwrap();
            notes.push(Vec::new());
            notes.len() - 1
        };
        let (mut piece, mut is_answered) = ([0; 4096], false);
        while let Ok(count @ 1..) = stream.read(&mut piece) {
            let mut notes = notes.lock().unwrap();
            notes[place].extend_from_slice(&piece[..count]);
            let has_head = notes[place].windows(4).any(|four| four == b"\r\n\r\n");
            drop(notes);
            if has_head && !is_answered {
                is_answered = true;
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    (origin, seen)
}

#[test]
fn a_server_that_answers_before_the_body_ends_is_not_asked_again_on_that_connection() {
    let (origin, seen) = hasty("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
    let proxy = Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", "", &[&origin])));

    let mut slow = proxy.client();
    slow.send("POST /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nabc");
    assert_eq!(slow.response().text(), "early");
    // Its body is not done: whoever comes now must not be sent into the middle of it.
    assert_eq!(proxy.get("/other").text(), "early");
    slow.send(SMUGGLED);
    drop(slow);

    let connections = seen.lock().unwrap().clone();
    let text: Vec<String> = connections.iter().map(|bytes| latin1(bytes)).collect();
    assert_eq!(text.iter().filter(|text| text.starts_with("GET /other ")).count(), 1, "{text:?}");
    assert!(
        !text.iter().any(|text| text.starts_with("POST /slow ") && text.contains("GET /other")),
        "{text:?}"
    );
}

#[test]
fn the_rest_of_a_body_that_was_answered_early_is_never_read_as_a_request() {
    let (origin, seen) = hasty("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let proxy = Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", "", &[&origin])));
    let body = SMUGGLED.repeat(50);

    for head in [
        format!("POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()),
        format!("POST /x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len()),
    ] {
        let before = seen.lock().unwrap().len();
        let mut client = proxy.client();
        client.send(head);
        let answer = client.response();
        assert_eq!(answer.status(), 413);
        client.send(&body).send("\r\n0\r\n\r\n").finish();
        let rest = client.rest();
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{:?}", latin1(&rest));
        let connections = seen.lock().unwrap()[before..].to_vec();
        assert_eq!(
            connections.len(),
            1,
            "{:?}",
            connections.iter().map(|bytes| latin1(bytes)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn answers_that_have_no_body_are_not_followed_by_one() {
    let recorder = Recorder::answering(|request| match request.target() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/204-length" => b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec(),
        "/304-length" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_vec(),
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec(),
        "/head-chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        _ => crate::support::recorder::echo(request),
    });
    let proxy = Proxy::start(&format!(
        "[runtime]\nworkers = 1\n{}",
        one_route("", "eject = false", &[&recorder.origin])
    ));

    for (method, target, status) in [
        ("GET", "/204", 204),
        ("GET", "/204-length", 204),
        ("GET", "/304", 304),
        ("GET", "/304-length", 304),
        ("HEAD", "/head", 200),
        ("HEAD", "/head-chunked", 200),
        ("HEAD", "/204", 204),
        ("HEAD", "/x", 200),
    ] {
        let got = answers(
            &proxy,
            &format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n{LAST}"),
            &[method, "GET"],
        );
        assert_eq!(statuses(&got), [status, 200], "{method} {target}");
        assert_eq!((got[0].body.as_str(), got[1].body.as_str()), ("", "GET /last"), "{method} {target}");
        assert_eq!(proxy.get("/own").text(), "GET /own", "{method} {target}");
    }
}

#[test]
fn bytes_behind_an_answer_without_a_body_never_reach_the_next_client() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";
    let recorder = Recorder::answering(move |request| match (request.method(), request.target()) {
        (_, "/204") => format!("HTTP/1.1 204 No Content\r\n\r\n{poison}").into_bytes(),
        (_, "/304") => format!("HTTP/1.1 304 Not Modified\r\n\r\n{poison}").into_bytes(),
        ("HEAD", _) => {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{poison}", poison.len()).into_bytes()
        }
        (_, "/zero") => format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{poison}").into_bytes(),
        (_, "/chunks") => {
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{poison}").into_bytes()
        }
        _ => crate::support::recorder::echo(request),
    });
    let proxy = Proxy::start(&format!(
        "[runtime]\nworkers = 1\n{}",
        one_route("", "eject = false", &[&recorder.origin])
    ));

    for (method, target) in
        [("GET", "/204"), ("GET", "/304"), ("HEAD", "/x"), ("GET", "/zero"), ("GET", "/chunks")]
    {
        let got = answers(
            &proxy,
            &format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n{LAST}"),
            &[method, "GET"],
        );
        assert_eq!(got.len(), 2, "{method} {target}: {got:?}");
        assert_eq!(got[1].body, "GET /last", "{method} {target}");
        assert_eq!(proxy.get("/own").text(), "GET /own", "{method} {target}");
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_leaves_no_half_request_to_others() {
    let recorder = Recorder::start();
    let proxy = Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", "", &[&recorder.origin])));

    for head in ["Content-Length: 100\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n64\r\nabc"] {
        let connections = recorder.log().connections.len();
        let mut client = proxy.client();
        client.send(format!("POST /half HTTP/1.1\r\nHost: test\r\n{head}"));
        let has_half = |bytes: &Vec<u8>| latin1(bytes).contains("POST /half") && bytes.ends_with(b"abc");
        eventually("the server has a half", || recorder.log().connections.iter().any(has_half));
        drop(client);
        assert_eq!(proxy.get("/own").text(), "GET /own");
        assert!(recorder.log().connections.len() > connections, "it came by another connection");
    }

    let log = recorder.log();
    assert_eq!(log.faults, [""; 0]);
    assert!(log.requests.iter().all(|request| request.summary() == "GET /own"), "{:?}", log.requests);
}

#[test]
fn a_tunnel_begins_with_the_servers_101_and_not_before() {
    let gate = Gate::default();
    let waits = gate.clone();
    let recorder = Recorder::answering(move |request| {
        if request.target() != "/ws" {
            return crate::support::recorder::echo(request);
        }
        waits.wait();
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec()
    });
    let proxy = Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", "", &[&recorder.origin])));

    let mut client = proxy.client();
    client.send("GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.send(SMUGGLED);
    let is_asked = |recorder: &Recorder| {
        recorder.log().connections.iter().any(|bytes| latin1(bytes).starts_with("GET /ws "))
    };
    eventually("the server has the handshake", || is_asked(&recorder));
    let early = recorder.log().connections.iter().any(|bytes| latin1(bytes).contains("smuggled"));
    assert!(!early && !gate.is_open(), "bytes behind a handshake went out before it was taken");
    gate.open();

    assert_eq!(client.head().status(), 101);
    // From here on they are the protocol's, and come back.
    assert_eq!(latin1(&client.bytes(SMUGGLED.len())), SMUGGLED);
    assert_eq!(recorder.log().requests.len(), 1);
    assert_eq!(proxy.get("/own").text(), "GET /own");
}

#[test]
fn a_101_that_nobody_asked_for_is_no_tunnel() {
    let answer = |protocol: &str| {
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\nhello")
            .into_bytes()
    };
    let recorder = Recorder::answering(move |request| match request.target() {
        "/websocket" => answer("websocket"),
        "/h2c" => answer("h2c"),
        "/both" => answer("websocket, h2c"),
        _ => crate::support::recorder::echo(request),
    });
    let proxy = Proxy::start(&format!(
        "[runtime]\nworkers = 1\n{}",
        one_route("", "eject = false\nretries = 0", &[&recorder.origin])
    ));

    let asked = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (target, fields) in [
        ("/websocket", ""),
        ("/websocket", "Upgrade: websocket\r\n"),
        ("/websocket", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        ("/h2c", ""),
        ("/h2c", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        ("/h2c", asked),
        ("/both", asked),
    ] {
        let got = answers(
            &proxy,
            &format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{LAST}"),
            &["GET", "GET"],
        );
        assert_eq!(got[0].status(), 502, "{target} {fields:?}");
        assert!(got.len() == 1 || got[1].body == "GET /last", "{target} {fields:?}: {got:?}");
        assert_eq!(proxy.get("/own").text(), "GET /own", "{target} {fields:?}");
    }
}

#[test]
fn chunks_are_taken_out_for_a_client_of_http_1_0() {
    let recorder = Recorder::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n".to_vec()
    });
    let proxy = Proxy::start(&one_route("", "", &[&recorder.origin]));

    for fields in ["", "Connection: keep-alive\r\n"] {
        let got = answers(&proxy, &format!("GET /x HTTP/1.0\r\nHost: test\r\n{fields}\r\n{LAST}"), &["GET"]);
        assert_eq!(got.len(), 1, "{got:?}");
        assert_eq!((got[0].body.as_str(), got[0].all("transfer-encoding").len()), ("abc", 0));
    }
}

#[test]
fn what_reaches_a_server_is_these_bytes_and_no_others() {
    let recorder = Recorder::start();
    let proxy = Proxy::before(&recorder.origin);

    let mut client = Client::connect(proxy.public());
    client.send(
        "POST /a?b HTTP/1.1\r\nhOST:  test:81\r\nX-Kept:\t1 \r\nContent-Length: 03\r\nConnection: X-Named\r\nX-Named: 1\r\n\
         X_Odd: 1\r\nX-Request-Id: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\r\nabc",
    );
    let answer = client.response();

    let id = answer.field("x-request-id").expect("an id");
    let port = proxy.public().port();
    let expected = format!(
        "POST /a?b HTTP/1.1\r\nhost: test:81\r\nx-kept: 1\r\ncontent-length: 3\r\nx-forwarded-for: 127.0.0.1\r\n\
         x-forwarded-proto: http\r\nx-forwarded-port: {port}\r\nx-real-ip: 127.0.0.1\r\nx-forwarded-host: test:81\r\n\
         forwarded: for=127.0.0.1;proto=http;host=\"test:81\"\r\nvia: 1.1 tidegate\r\n\
         x-request-id: {id}\r\n\r\nabc"
    );
    assert_eq!(recorder.log().connections.iter().map(|bytes| latin1(bytes)).collect::<Vec<_>>(), [expected]);
    assert_eq!(answer.text(), "POST /a?b abc");
}

#[test]
fn a_response_behind_which_the_connection_ends_says_so() {
    let (origin, _) = hasty("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
    let proxy = Proxy::start(&format!("[runtime]\nworkers = 1\n{}", one_route("", "", &[&origin])));

    for size in ["Content-Length: 1000\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3e8\r\nabc"] {
        let mut client = proxy.client();
        client.send(format!("POST /x HTTP/1.1\r\nHost: test\r\n{size}"));
        let answer = client.response();
        if answer.field("connection") == Some("close") {
            continue;
        }
        client.send("x".repeat(997)).send(if size.starts_with('T') { "\r\n0\r\n\r\n" } else { "" });
        client.send("GET /next HTTP/1.1\r\nHost: test\r\n\r\n");
        let next = client.try_response();
        assert!(
            next.as_ref().is_ok_and(|next| next.text() == "early"),
            "{size:?}: {answer:?}, then {next:?}"
        );
    }
}
