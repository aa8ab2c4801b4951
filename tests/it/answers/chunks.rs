//! Chunked bodies (RFC 9112 section 7.1), broken in every way.

use std::io::Write;

use crate::support::http2::{self, rest, talk};
use crate::support::{DEADLINE, eventually};

use super::rig::{Case, Outcome, Server, Then, examine, over_http1, whole};

const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunked(body: &str, expected: Outcome) -> Case {
    let shown: String = body.chars().take(60).collect();
    Case::new(format!("{shown:?}"), format!("{HEAD}{body}"), expected)
}

#[test]
fn a_chunk_that_is_none_cuts_the_body() {
    let bodies = [
        // Bare LF.
        "2\nok\r\n0\r\n\r\n",
        "2\r\nok\n0\r\n\r\n",
        "2\r\nok\r\n0\n\r\n",
        "2;a\nok\r\n0\r\n\r\n",
        "2;a=\"\n\"\r\nok\r\n0\r\n\r\n",
        // Bare CR.
        "2\rok\r\n0\r\n\r\n",
        "2\r\nok\r0\r\n\r\n",
        "2;a\rb\r\nok\r\n0\r\n\r\n",
        "2\r\r\nok\r\n0\r\n\r\n",
        "2 \r\r\nok\r\n0\r\n\r\n",
        "2;a\r\r\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n0\r\r\n\r\n",
        // A blank that is none.
        "2\x0c\r\nok\r\n0\r\n\r\n",
        // A size that is none.
        "\r\nok\r\n0\r\n\r\n",
        "zz\r\nok\r\n0\r\n\r\n",
        "-2\r\nok\r\n0\r\n\r\n",
        "+2\r\nok\r\n0\r\n\r\n",
        "0x2\r\nok\r\n0\r\n\r\n",
        " 2\r\nok\r\n0\r\n\r\n",
        "2 2\r\nok\r\n0\r\n\r\n",
        "2_0\r\nok\r\n0\r\n\r\n",
        "2,\r\nok\r\n0\r\n\r\n",
        "2\0\r\nok\r\n0\r\n\r\n",
        "2\x0c\r\nok\r\n0\r\n\r\n",
        "10000000000000002\r\nok\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nok\r\n0\r\n\r\n",
        "8000000000000002\r\nok\r\n0\r\n\r\n",
        // Data of another size.
        "2\r\nokX\r\n0\r\n\r\n",
        "2\r\nok!!\r\n0\r\n\r\n",
        "2\r\nok0\r\n\r\n",
        "3\r\nok\r\n0\r\n\r\n",
        "5\r\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n\r\n0\r\n\r\n",
        // Trailers that are none.
        "2\r\nok\r\n0\r\nX-A: 1\0\r\n\r\n",
        "2\r\nok\r\n0\r\nX-A: 1\x01\r\n\r\n",
        "2\r\nok\r\n0\r\nX-A: 1\r2\r\n\r\n",
        "2\r\nok\r\n0\r\n:status: 200\r\n\r\n",
        "2\r\nok\r\n0\r\nX-A\r\n\r\n",
        "2\r\nok\r\n0\r\nX-A : 1\r\n\r\n",
        "2\r\nok\r\n0\r\nX A: 1\r\n\r\n",
        "2\r\nok\r\n0\r\n: 1\r\n\r\n",
        "2\r\nok\r\n0\r\nX-A: 1\r\n 2\r\n\r\n",
        "2\r\nok\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n",
        "2\r\nok\r\n0\r\nX-Ä: 1\r\n\r\n",
    ];
    examine(bodies.iter().map(|body| chunked(body, Outcome::Cut)).collect());
}

#[test]
fn a_chunked_body_that_ends_before_its_end_is_cut() {
    let body = "2;a=b\r\nok\r\n0\r\nX-A: 1\r\n\r\n";
    let mut cases = Vec::new();
    for length in 0..body.len() {
        // Every place, and each way of ending once in a while: silence costs time.
        cases.push(chunked(&body[..length], Outcome::Cut).then(Then::Close));
        if length % 4 == 0 {
            cases.push(chunked(&body[..length], Outcome::Cut).then(Then::Reset));
        }
    }
    cases.push(chunked("2\r\nok\r\n0\r\n", Outcome::Cut));

    examine(cases);
}

#[test]
fn what_is_too_much_around_a_body_cuts_it() {
    let long = "a".repeat(17_000);
    let many_trailers: String = (0..120).map(|n| format!("X-{n}: 1\r\n")).collect();
    examine(vec![
        chunked(&format!("2;{long}\r\nok\r\n0\r\n\r\n"), Outcome::Cut),
        chunked(&format!("2{}\r\nok\r\n0\r\n\r\n", " ".repeat(4096)), Outcome::Cut),
        chunked(&format!("{}0\r\n\r\n", "1;aaaaaaaa\r\na\r\n".repeat(3000)), Outcome::Cut),
        chunked(&format!("2\r\nok\r\n0\r\nX-A: {}\r\n\r\n", "a".repeat(70_000)), Outcome::Cut),
        chunked(&format!("2\r\nok\r\n0\r\n{many_trailers}\r\n"), Outcome::Cut),
    ]);
}

#[test]
fn a_chunked_body_that_is_only_odd_is_whole() {
    let bodies = [
        ("0\r\n\r\n", ""),
        ("2\r\nok\r\n0\r\n\r\n", "ok"),
        ("0002\r\nok\r\n000\r\n\r\n", "ok"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("2;a=b;c=\"d\"\r\nok\r\n0;e\r\n\r\n", "ok"),
        ("2 \r\nok\r\n0\r\n\r\n", "ok"),
        ("2\t \r\nok\r\n0 \r\n\r\n", "ok"),
        ("1\r\no\r\n1\r\nk\r\n0\r\nX-A: 1\r\n\r\n", "ok"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    ];
    examine(bodies.iter().map(|(body, expected)| chunked(body, whole(expected)).and_again()).collect());
}

#[test]
fn a_trailer_that_belongs_into_a_head_reaches_nobody() {
    let fields = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nKeep-Alive: 1\r\n\
        Upgrade: h2c\r\nTE: gzip\r\nTrailer: x\r\nHost: evil\r\nSet-Cookie: a=b\r\nCache-Control: public\r\n\
        Content-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Range: bytes 0-1/9\r\nVary: *\r\n\
        Location: /evil\r\nWWW-Authenticate: Basic\r\nAuthorization: x\r\nProxy-Connection: x\r\n\
        HTTP2-Settings: x\r\nAge: 0\r\nExpires: 0\r\nDate: x\r\nRetry-After: 1\r\n";
    let announced: String =
        fields.lines().filter_map(|l| l.split(':').next()).map(|n| format!("{n}, ")).collect();
    let says = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: {announced}X-Sum\r\nConnection: x-hop\r\n\r\n\
         2\r\nok\r\n0\r\n{fields}X-Sum: 1\r\nX-Hop: 1\r\n\r\n"
    );
    let server = Server::start(move |_, conn| {
        let _ = conn.get_mut().write_all(says.as_bytes());
        Then::Keep
    });
    let proxy = server.proxy("", "");

    let mut client = proxy.client();
    let http1 = client.get_with("/", "TE: trailers\r\n");
    let trailers = talk(proxy.public(), 1 << 20, async |requests, _| {
        let mut response = http2::get(&requests, "/").await.unwrap();
        rest(response.body_mut()).await.unwrap().1.unwrap()
    });

    assert_eq!(http1.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    assert_eq!(trailers.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), ["x-sum"]);
    assert_eq!(server.connections(), 1);
}

#[test]
fn extensions_that_drip_are_no_progress() {
    let server = Server::start(|request, conn| {
        if request.target() == "/well" {
            let _ = conn.get_mut().write_all(&crate::support::ok("well"));
            return Then::Keep;
        }
        let _ = conn.get_mut().write_all(format!("{HEAD}2\r\nok\r\n2;").as_bytes());
        super::timing::drip(conn);
        Then::Close
    });
    let proxy = server.proxy("", "body-idle = \"300ms\"");

    let began = std::time::Instant::now();
    let outcome = over_http1(proxy.public(), "GET", "/");

    assert_eq!(outcome, Outcome::Cut);
    assert!(began.elapsed() < DEADLINE);
    assert_eq!(over_http1(proxy.public(), "GET", "/well"), whole("well"));
    eventually("the connection of the drip is closed", || server.connections() == 2);
}
