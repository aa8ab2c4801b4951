//! Several requests on one connection: in order, each with its own answer, and none behind a bad one.

use super::table::{SMUGGLED, check, chunked, get, post, refused, served, served_last, served_then_refused};

fn path(n: usize) -> String {
    format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n")
}

#[test]
fn requests_in_one_piece_are_answered_in_their_order() {
    let twenty: String = (0..20).map(path).collect();
    let wanted: Vec<String> = (0..20).map(|n| format!("GET /{n}")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    check([
        served("twenty", twenty, &wanted),
        served(
            "a body, then none",
            post("Content-Length: 3\r\n", "abc") + &path(1),
            &["POST /x abc", "GET /1"],
        ),
        served("chunks, then none", chunked("3\r\nabc\r\n0\r\n\r\n") + &path(1), &["POST /x abc", "GET /1"]),
        served(
            "two bodies",
            post("Content-Length: 3\r\n", "abc") + &post("Content-Length: 4\r\n", "defg"),
            &["POST /x abc", "POST /x defg"],
        ),
        served(
            "chunks and a body",
            chunked("1\r\na\r\n0\r\n\r\n") + &post("Content-Length: 1\r\n", "b"),
            &["POST /x a", "POST /x b"],
        ),
        served(
            "a request as a body",
            post(&format!("Content-Length: {}\r\n", SMUGGLED.len()), SMUGGLED),
            &[&format!("POST /x {SMUGGLED}")],
        ),
        served(
            "a request as a chunk",
            chunked(&format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())),
            &[&format!("POST /x {SMUGGLED}")],
        ),
        served(
            "HEAD, then GET",
            "HEAD /x HTTP/1.1\r\nHost: test\r\n\r\n".to_owned() + &path(1),
            &["HEAD /x", "GET /1"],
        ),
        served("empty lines between", path(1) + "\r\n" + &path(2), &["GET /1", "GET /2"]),
        served("trailers, then a request", chunked("0\r\nX-T: 1\r\n\r\n") + &path(1), &["POST /x", "GET /1"]),
    ]);
}

#[test]
fn a_bad_request_ends_what_comes_behind_it_and_not_what_came_before() {
    let bad = [
        ("no host", "GET /bad HTTP/1.1\r\n\r\n", &[400][..]),
        ("two hosts", "GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
        ("a bad length", "POST /bad HTTP/1.1\r\nHost: test\r\nContent-Length: +3\r\n\r\nabc", &[400]),
        (
            "two lengths",
            "POST /bad HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
            &[400],
        ),
        ("a bad coding", "POST /bad HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n", &[400, 501]),
        (
            "a bad chunk",
            "POST /bad HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            &[400],
        ),
        (
            "bad data behind a chunk",
            "POST /bad HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            &[400],
        ),
        ("no HTTP", "\u{16}\u{3}\u{1}\r\n\r\n", &[400]),
        ("a bad name", "GET /bad HTTP/1.1\r\nHost: test\r\nX A: 1\r\n\r\n", &[400]),
        ("CONNECT", "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n", &[405, 400, 501]),
        ("too long", &format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(9000)), &[414]),
        (
            "a body that is too large",
            "POST /bad HTTP/1.1\r\nHost: test\r\nContent-Length: 70000\r\n\r\nabc",
            &[413],
        ),
        (
            "an expectation",
            "POST /bad HTTP/1.1\r\nHost: test\r\nExpect: x\r\nContent-Length: 3\r\n\r\nabc",
            &[417],
        ),
    ];
    check(bad.map(|(name, bytes, statuses)| {
        served_then_refused(name, path(1) + &path(2) + bytes + SMUGGLED, &["GET /1", "GET /2"], statuses)
    }));
}

#[test]
fn nothing_is_served_behind_a_close() {
    check([
        served_last("GET", get("Connection: close\r\n") + SMUGGLED, &["GET /x"]),
        served_last(
            "POST",
            post("Connection: close\r\nContent-Length: 3\r\n", "abc") + SMUGGLED,
            &["POST /x abc"],
        ),
        served_last("HTTP/1.0", "GET /x HTTP/1.0\r\nHost: test\r\n\r\n".to_owned() + SMUGGLED, &["GET /x"]),
        refused("a refusal", "GET /x HTTP/1.1\r\n\r\n".to_owned() + SMUGGLED, &[400]),
    ]);
}

#[test]
fn a_length_of_nothing_hides_no_request() {
    // What a server that ignores the length, and one that ignores the body, would read in two ways.
    check([
        served(
            "CL.0",
            post(&format!("Content-Length: {}\r\n", SMUGGLED.len()), SMUGGLED),
            &[&format!("POST /x {SMUGGLED}")],
        ),
        served("0.CL", post("Content-Length: 0\r\n", "") + &path(1), &["POST /x", "GET /1"]),
        served(
            "GET with a request as its body",
            get(&format!("Content-Length: {}\r\n", SMUGGLED.len())) + SMUGGLED,
            &[&format!("GET /x {SMUGGLED}")],
        ),
        served(
            "HEAD with a request as its body",
            format!("HEAD /x HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()),
            &[&format!("HEAD /x {SMUGGLED}")],
        ),
        served(
            "TE.0",
            chunked(&format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())) + &path(1),
            &[&format!("POST /x {SMUGGLED}"), "GET /1"],
        ),
        served(
            "OPTIONS with a request in chunks",
            format!(
                "OPTIONS /x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
                SMUGGLED.len()
            ),
            &[&format!("OPTIONS /x {SMUGGLED}")],
        ),
    ]);
}
