//! Cases that are for pairs: two ways to read one message, and a request hidden in what only one of them sees.

use crate::strict::table::{Case, SMUGGLED, check, chunked, get, post, refused, served};

/// All tables of this file.
pub const TABLES: &[fn()] = &[
    a_coding_that_one_of_two_believes_hides_no_request,
    a_coding_that_means_nothing_hides_no_request,
    a_length_that_one_of_two_believes_hides_no_request,
    a_chunk_that_ends_in_two_places_hides_no_request,
    a_method_or_an_expectation_hides_no_request,
    bytes_behind_an_upgrade_that_nobody_takes_are_no_tunnel,
    what_others_are_known_to_pass_on_is_refused,
];

/// Spellings of a coding that some reader has once taken for `chunked`, and some other for nothing.
const CODINGS: [&str; 24] = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding\0: chunked",
    " Transfer-Encoding: chunked",
    "X-A: 1\r\n Transfer-Encoding: chunked",
    "X-A: 1\nTransfer-Encoding: chunked",
    "X-A: 1\rTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;a=b",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: chunked\u{c}",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding:\u{85}chunked",
];

/// A body that is whole to who goes by its length, and whose chunks end before a request.
fn ends_in_chunks(version: &str, coding: &str) -> String {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    let length = body.len();
    format!("POST /x {version}\r\nHost: test\r\nContent-Length: {length}\r\n{coding}\r\n\r\n{body}")
}

/// A body that is whole to who goes by its chunks, and whose length ends before a request.
fn ends_by_length(version: &str, coding: &str) -> String {
    let size = format!("{:x}\r\n", SMUGGLED.len());
    let length = size.len();
    format!(
        "POST /x {version}\r\nHost: test\r\n{coding}\r\nContent-Length: {length}\r\n\r\n{size}{SMUGGLED}\r\n0\r\n\r\n"
    )
}

#[test]
fn a_coding_that_one_of_two_believes_hides_no_request() {
    let both = |coding: &str| {
        ["HTTP/1.1", "HTTP/1.0"].map(|version| {
            [
                refused(format!("CL.TE {version} {coding:?}"), ends_in_chunks(version, coding), &[400, 501]),
                refused(format!("TE.CL {version} {coding:?}"), ends_by_length(version, coding), &[400, 501]),
            ]
        })
    };
    check(CODINGS.iter().flat_map(|coding| both(coding).into_iter().flatten()));
}

#[test]
fn a_coding_that_means_nothing_hides_no_request() {
    let names = ["Transfer_Encoding", "Transfer.Encoding", "X-Transfer-Encoding", "Transfer-Encoding-", "TE"];
    check(names.map(|name| {
        let body = format!("0\r\n\r\n{SMUGGLED}");
        let bytes = ends_in_chunks("HTTP/1.1", &format!("{name}: chunked"));
        served(format!("CL.TE {name}"), bytes, &[format!("POST /x {body}").as_str()])
    }));
}

#[test]
fn a_length_that_one_of_two_believes_hides_no_request() {
    let length = SMUGGLED.len();
    let fields = [
        format!("Content-Length : {length}"),
        format!("Content-Length\0: {length}"),
        format!(" Content-Length: {length}"),
        format!("X-A: 1\nContent-Length: {length}"),
        format!("X-A: 1\rContent-Length: {length}"),
        format!("X-A: 1\r\n Content-Length: {length}"),
        format!("Content-Length:\r\n {length}"),
        format!("Content-Length: 0\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nContent-Length: 0"),
        format!("Content-Length: 0, {length}"),
        format!("Content-Length: {length}, 0"),
        format!("Content-Length: {length},"),
        format!("Content-Length: +{length}"),
        format!("Content-Length: {length}\u{b}"),
        format!("Content-Length: {length}\0"),
        format!("Content-Length: 0x{length:x}"),
        format!("Content-Length: \"{length}\""),
        format!("Content-Length: {length}.0"),
        format!("Content-Length:\r\nContent-Length: {length}"),
        format!("Content-Length: 1844674407370955{length}00000000000000000000"),
    ];
    let named = |name: &str, field: &str, method: &str| {
        let bytes = format!("{method} /x HTTP/1.1\r\nHost: test\r\n{field}\r\n\r\n{SMUGGLED}");
        refused(format!("{name} {method} {field:?}"), bytes, &[400, 413])
    };
    // A name so long that its length once ran over (CVE-2021-40346): it means nothing.
    let long = format!("Content-Length0{}:", "a".repeat(255));
    let long = served(
        "a name that runs over",
        post(&format!("{long}\r\nContent-Length: {length}\r\n"), SMUGGLED),
        &[format!("POST /x {SMUGGLED}").as_str()],
    );
    check(
        fields
            .iter()
            .flat_map(|field| ["GET", "POST"].map(|method| named("CL", field, method)))
            .chain([long, named("no name", ": x\r\nContent-Length: 3", "POST")]),
    );
}

#[test]
fn a_chunk_that_ends_in_two_places_hides_no_request() {
    let length = SMUGGLED.len();
    let ends = [
        // Where the line of a size ends: in an extension, or behind it.
        format!("2;\nxx\r\n{length:x}\r\n0\r\n\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("2;\rxx\r\n{length:x}\r\n0\r\n\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("2;a\nxx\r\n{length:x}\r\n0\r\n\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("2;a=\"\n\"\r\nxx\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("2\nxx\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        format!("2\rxx\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        // Where a chunk ends: two bytes behind it, or one, or none.
        format!("5\r\nAAAAAXX{:x}\r\n0\r\n\r\n{SMUGGLED}\r\n0\r\n\r\n", length + 5),
        format!("5\r\nAAAAA\n{:x}\r\n0\r\n\r\n{SMUGGLED}\r\n0\r\n\r\n", length + 5),
        format!("5\r\nAAAAA\r{:x}\r\n0\r\n\r\n{SMUGGLED}\r\n0\r\n\r\n", length + 5),
        format!("5\r\nAAAAA{:x}\r\n0\r\n\r\n{SMUGGLED}\r\n0\r\n\r\n", length + 5),
        // Where the body ends.
        format!("0\n\n{SMUGGLED}"),
        format!("0\r\n\n{SMUGGLED}"),
        format!("0\r\n\r{SMUGGLED}"),
        format!("0\n\r\n{SMUGGLED}"),
        format!("0\r\r\n\r\n{SMUGGLED}"),
        format!("00000000000000000\r\n\r\n{SMUGGLED}"),
        format!("-0\r\n\r\n{SMUGGLED}"),
        format!("0x0\r\n\r\n{SMUGGLED}"),
        format!("\r\n{SMUGGLED}"),
        format!("\r\n\r\n{SMUGGLED}"),
        // How large a chunk is: to a reader of 32 or 64 bits, or one that stops at what is no digit.
        format!("10000000000000000\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("3 \r\nabc\r\n0 \r\n\r\n{SMUGGLED}"),
        format!("3_0\r\nabc\r\n0\r\n\r\n{SMUGGLED}"),
        // What is behind the last chunk.
        format!("0\r\nX: 1\n\r\n{SMUGGLED}"),
        format!("0\r\nX: \0\r\n\r\n{SMUGGLED}"),
        format!("0\r\nX: 1\r\n y\r\n\r\n{SMUGGLED}"),
        format!("0\r\n{SMUGGLED}"),
        format!("0\r\n: x\r\n\r\n{SMUGGLED}"),
    ];
    let cases = ends.iter().map(|body| refused(format!("chunks {body:?}"), chunked(body), &[400, 413]));
    let fields = [
        "Content-Length: 100",
        "Transfer-Encoding: chunked",
        "Host: evil",
        "Connection: close",
        "X-Of-Other: forged",
        "X-Request-Id: forged",
    ];
    let trailers = fields.map(|field| {
        let name = field.split(':').next().unwrap_or_default();
        let bytes = post(
            &format!("Transfer-Encoding: chunked\r\nTrailer: {name}\r\n"),
            &format!("3\r\nabc\r\n0\r\n{field}\r\n\r\n"),
        );
        served(format!("trailer {field:?}"), bytes, &["POST /x abc"]).or_refused(&[400])
    });
    // To a reader of 32 bits it is the last; to others it is large, and they wait for its data.
    let waits = chunked(&format!("100000000\r\n\r\n0\r\n\r\n{SMUGGLED}"));
    let waits = refused("a size of 33 bits", waits, &[400, 413]).or_closed().last();
    check(cases.chain(trailers).chain([waits]));
}

#[test]
fn a_method_or_an_expectation_hides_no_request() {
    let length = SMUGGLED.len();
    let with = |method: &str, fields: &str| {
        format!("{method} /x HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {length}\r\n\r\n{SMUGGLED}")
    };
    let whole = |name: String, method: &str, bytes: String| -> Case {
        served(name, bytes, &[format!("{method} /x {SMUGGLED}").as_str()])
    };
    let methods =
        ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "POST", "PROPFIND", "BREW"].map(|method| {
            [
                whole(format!("{method} with a body"), method, with(method, "")),
                whole(
                    format!("{method} that expects"),
                    method,
                    with(method, "Expect: 100-continue\r\n"),
                ),
                whole(
                    format!("{method} in chunks"),
                    method,
                    format!(
                        "{method} /x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n"
                    ),
                ),
            ]
        });
    let bad = ["Expect: x", "Expect: 100-continue, x", "Expect: 100-continue\r\nExpect: y", "Expect:"]
        .map(|field| refused(format!("{field:?}"), with("GET", &format!("{field}\r\n")), &[417, 400]));
    let none = [
        served("an expectation of nothing", get("Expect: 100-continue\r\n"), &["GET /x"]),
        served(
            "an expectation of no bytes",
            post("Expect: 100-continue\r\nContent-Length: 0\r\n", ""),
            &["POST /x"],
        ),
    ];
    check(methods.into_iter().flatten().chain(bad).chain(none));
}

#[test]
fn bytes_behind_an_upgrade_that_nobody_takes_are_no_tunnel() {
    let upgrade =
        |protocol: &str, more: &str| get(&format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n{more}"));
    let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let settings =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let last = |name: &str, bytes: String| {
        served(name, bytes.clone(), &["GET /x"]).or(crate::strict::table::served_last("", bytes, &["GET /x"]))
    };
    check([
        last("websocket", upgrade("websocket", key)),
        last("websocket of another version", upgrade("websocket", "Sec-WebSocket-Version: 777\r\n")),
        last("websocket and h2c", upgrade("websocket, h2c", key)),
        served("h2c", upgrade("h2c", ""), &["GET /x"]).without("upgrade"),
        served("h2c with settings", get(settings), &["GET /x"]).without("upgrade").without("http2-settings"),
        served("TLS", upgrade("TLS/1.2", ""), &["GET /x"]).without("upgrade"),
        refused(
            "websocket with a body",
            post(
                &format!(
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {}\r\n",
                    SMUGGLED.len()
                ),
                SMUGGLED,
            ),
            &[400],
        )
        .or(served("", "", &[format!("POST /x {SMUGGLED}").as_str()])),
        refused(
            "GET, websocket, with a body",
            get(&format!(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: {}\r\n",
                SMUGGLED.len()
            )) + SMUGGLED,
            &[400],
        ),
    ]);
}

#[test]
fn what_others_are_known_to_pass_on_is_refused() {
    let hidden = |head: &str| format!("{head}\r\n\r\n{SMUGGLED}");
    check([
        refused("no host", "GET /x HTTP/1.1\r\n\r\n", &[400]),
        refused("NUL in a value", get("X-A: a\0b\r\n"), &[400]),
        refused("a control character in a value", get("X-A: a\u{1}b\r\n"), &[400]),
        refused(
            "HTTP/1.0 in chunks",
            hidden("POST /x HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked"),
            &[400, 501],
        ),
        refused("CONNECT", "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n", &[405]),
        refused("a fragment", "GET /x#/y HTTP/1.1\r\nHost: test\r\n\r\n", &[400]),
        refused("two hosts", "GET /x HTTP/1.1\r\nHost: test\r\nHost: evil\r\n\r\n", &[400]),
        refused("a user in the host", "GET /x HTTP/1.1\r\nHost: test@evil\r\n\r\n", &[400]),
        refused("a path in the host", "GET /x HTTP/1.1\r\nHost: test/evil\r\n\r\n", &[400]),
        refused("a list of hosts", "GET /x HTTP/1.1\r\nHost: test, evil\r\n\r\n", &[400]),
        refused("an empty host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n", &[400]),
        served(
            "an authority besides a host",
            "GET http://other/x HTTP/1.1\r\nHost: test\r\n\r\n",
            &["GET /x"],
        ),
        refused("an absolute URL and no host", "GET http://other/x HTTP/1.1\r\n\r\n", &[400]),
        refused("a URL of another scheme", "GET ftp://other/x HTTP/1.1\r\nHost: test\r\n\r\n", &[400]),
        refused(
            "a length taken away",
            post("Connection: content-length\r\nContent-Length: 3\r\n", "abc"),
            &[400],
        ),
        refused("a host taken away", get("Connection: host\r\n"), &[400]),
        refused("a version to come", "GET /x HTTP/2.0\r\nHost: test\r\n\r\n", &[400, 505]),
        refused("two spaces", "GET  /x HTTP/1.1\r\nHost: test\r\n\r\n", &[400]),
        refused("a tab", "GET\t/x HTTP/1.1\r\nHost: test\r\n\r\n", &[400]),
        refused(
            "a request in a target",
            "GET /x HTTP/1.1\rGET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n",
            &[400],
        ),
    ]);
}
