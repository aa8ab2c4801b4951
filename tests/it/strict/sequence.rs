//! Several requests on one connection: in order, each with its own answer, and none behind a bad one.

use super::table::{SMUGGLED, check, chunked, get, post, refused, served, served_last, served_then_refused};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    requests_in_one_piece_are_answered_in_their_order,
    a_bad_request_ends_what_comes_behind_it_and_not_what_came_before,
    it_makes_no_difference_where_the_bytes_are_parted,
    it_makes_no_difference_how_much_there_is,
    nothing_is_served_behind_a_close,
    a_length_of_nothing_hides_no_request,
];

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
fn it_makes_no_difference_where_the_bytes_are_parted() {
    let handshake = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
    let cases = [
        served("GET", get("X-A: 1\r\n"), &["GET /x"]).with("x-a: 1"),
        served("two GETs", path(1) + &path(2), &["GET /1", "GET /2"]),
        served("a body", post("Content-Length: 10\r\n", "0123456789"), &["POST /x 0123456789"]),
        served("chunks", chunked("3\r\nabc\r\n00a\r\n0123456789\r\n0\r\n\r\n"), &["POST /x abc0123456789"]),
        served("an extension", chunked("3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n"), &["POST /x abc"]),
        served(
            "a trailer",
            post("Transfer-Encoding: chunked\r\nTrailer: X-T\r\n", "1\r\na\r\n0\r\nX-T: 1\r\n\r\n"),
            &["POST /x a"],
        )
        .with_trailer("x-t: 1"),
        served("line ends as data", chunked("4\r\n\r\n\r\n\r\n0\r\n\r\n"), &["POST /x \r\n\r\n"]),
        served(
            "a request as data",
            chunked(&format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())),
            &[&format!("POST /x {SMUGGLED}")],
        ),
        served("an upgrade that is not taken", get(handshake), &["GET /x"]),
        served(
            "an expectation",
            post("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc"),
            &["POST /x abc"],
        ),
        served("an empty line before", "\r\n".to_owned() + &get(""), &["GET /x"]),
        served_last("HTTP/1.0", "GET /x HTTP/1.0\r\nHost: test\r\n\r\n", &["GET /x"]),
        refused("no host", "GET /x HTTP/1.1\r\n\r\n", &[400]),
        refused("a bad length", post("Content-Length: 3x\r\n", "abc"), &[400]),
        refused("two lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), &[400]),
        refused("a bad size", chunked("x\r\n"), &[400]),
        refused("a bare LF behind a size", chunked("3\nabc\r\n0\r\n\r\n"), &[400]),
        refused("a bare LF behind data", chunked("3\r\nabc\n0\r\n\r\n"), &[400]),
        refused("a bare CR in a head", "GET /x HTTP/1.1\r\nHost: test\rX-A: 1\r\n\r\n", &[400]),
        refused("too much data", chunked("3\r\nabcd\r\n0\r\n\r\n"), &[400]),
        refused("a folded field", get("X-A: 1\r\n 2\r\n"), &[400]),
        refused("no version", "GET /x\r\nHost: test\r\n\r\n", &[400]),
        served_then_refused("good, then bad", path(1) + "GET /bad HTTP/1.1\r\n\r\n", &["GET /1"], &[400]),
    ];
    check(cases.into_iter().flat_map(|case| [case.clone(), case.byte_by_byte()]));
}

#[test]
fn it_makes_no_difference_how_much_there_is() {
    let large =
        |n: usize| format!("GET /{n} HTTP/1.1\r\nHost: test\r\nX-A: {}\r\n\r\n", "x".repeat(n * 37 % 5000));
    let hundred: String = (0..100).map(large).collect();
    let wanted: Vec<String> = (0..100).map(|n| format!("GET /{n}")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let data = "0123456789abcdef".repeat(4000);
    let tiny: String = (0..5000).map(|_| "1\r\nx\r\n").collect();
    let uneven: String = (1..300).map(|n| format!("{n:x}\r\n{}\r\n", "y".repeat(n))).collect();
    check([
        served("a hundred heads of all sizes", hundred, &wanted),
        served(
            "a large body",
            post(&format!("Content-Length: {}\r\n", data.len()), &data) + &path(1),
            &[&format!("POST /x {data}"), "GET /1"],
        ),
        served(
            "a large chunk",
            chunked(&format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len())) + &path(1),
            &[&format!("POST /x {data}"), "GET /1"],
        ),
        served(
            "thousands of chunks",
            chunked(&format!("{tiny}0\r\n\r\n")) + &path(1),
            &[&format!("POST /x {}", "x".repeat(5000)), "GET /1"],
        ),
        served(
            "chunks of all sizes",
            chunked(&format!("{uneven}0\r\n\r\n")) + &path(1),
            &[&format!("POST /x {}", "y".repeat(299 * 150)), "GET /1"],
        ),
    ]);
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
