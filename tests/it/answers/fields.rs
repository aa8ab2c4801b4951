//! The fields of an answer (RFC 9110 section 5).

use std::io::Write;

use crate::support::http2::{self, talk};

use super::rig::{Case, Outcome, Server, Then, examine, refused, whole};

fn with(fields: &str, expected: Outcome) -> Case {
    let shown: String = fields.chars().take(60).collect();
    Case::new(
        format!("{shown:?}"),
        format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 2\r\n\r\nok"),
        expected,
    )
}

#[test]
fn a_field_that_is_none_is_answered_502() {
    let fields = [
        "X-A : 1",
        "X-A\t: 1",
        "X-A",
        ": 1",
        "X A: 1",
        " X-A: 1",
        "\tX-A: 1",
        "X-A: 1\r\n 2",
        "X-A: 1\r\n\t2",
        "X-A:\r\n 2",
        "X-A: 1\0",
        "X-A: \x001",
        "X-A: 1\r2",
        "X-A: 1\r",
        "X-A: 1\x01",
        "X-A: 1\x08",
        "X-A: 1\x0b",
        "X-A: 1\x1b[2J",
        "X-A: 1\x7f",
        "X-\0A: 1",
        "X-\rA: 1",
        "X-Ä: 1",
        "X(A): 1",
        "X/A: 1",
        "\"X-A\": 1",
        ":status: 500",
        "{\"a\": 1}",
    ];
    let mut cases: Vec<_> = fields.iter().map(|field| with(field, refused("malformed-response"))).collect();
    let many: Vec<_> = (0..100).map(|n| format!("X-{n}: 1")).collect();
    cases.push(with(&many.join("\r\n"), refused("malformed-response")));
    cases.push(with(&vec!["X-A: 1"; 100].join("\r\n"), refused("malformed-response")));
    cases.push(with(&format!("X-A: {}", "a".repeat(70_000)), refused("malformed-response")));
    cases.push(with(&format!("X-{}: 1", "a".repeat(70_000)), refused("malformed-response")));
    let large = format!("X-A: {}", "a".repeat(1000));
    cases.push(with(&vec![large; 70].join("\r\n"), refused("malformed-response")));

    examine(cases);
}

#[test]
fn a_field_that_is_only_odd_is_passed_on() {
    let many: Vec<_> = (0..99).map(|n| format!("X-{n}: 1")).collect();
    let fields = [
        "X_A: 1",
        "!#$%&'*+-.^_`|~: 1",
        "X-A:1",
        "X-A:   1   ",
        "X-A:",
        "X-A: a\tb",
        "X-A: schön",
        "X-A: \u{feff}1",
        "Date: never",
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nDate: x",
        "Content-Type: a\r\nContent-Type: b",
        "Status: 500",
        "Host: evil",
        "Connection: ,,",
        "Connection: \"x\"",
        "Keep-Alive: timeout=99999999999",
        &many.join("\r\n"),
    ];
    examine(fields.iter().map(|fields| with(fields, whole("ok")).and_again()).collect());
}

#[test]
fn what_a_server_says_to_its_neighbour_stays_there_and_the_rest_passes() {
    let cookies: String = (0..40).map(|n| format!("Set-Cookie: c{n}={n}; Path=/\r\n")).collect();
    let says = format!(
        "HTTP/1.1 200 OK\r\nConnection: X-Mine, keep-alive, Content-Length, transfer-encoding\r\nX-Mine: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\n\
         TE: trailers\r\nHTTP2-Settings: x\r\nX-Request-Id: theirs\r\nX-Else: 2\r\nx_under: 3\r\n\
         Date: never\r\n{cookies}Content-Length: 2\r\n\r\nok"
    );
    let server = Server::start(move |_, conn| {
        let _ = conn.get_mut().write_all(says.as_bytes());
        Then::Keep
    });
    let proxy = server.proxy("", "");
    let gone = [
        "x-mine",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "upgrade",
        "te",
        "http2-settings",
        "transfer-encoding",
    ];

    let mut client = proxy.client();
    let http1 = client.get("/");
    let http2 = talk(proxy.public(), 1 << 20, async |requests, _| {
        http2::get(&requests, "/").await.unwrap().headers().clone()
    });

    assert_eq!(http1.text(), "ok");
    for name in gone {
        assert_eq!(http1.field(name), None, "{name}");
        assert!(!http2.contains_key(name), "{name}");
    }
    assert!(!http2.contains_key("connection"));
    for (name, value) in [("x-else", "2"), ("x_under", "3"), ("date", "never"), ("content-length", "2")] {
        assert_eq!(http1.all(name), [value], "{name}");
        assert_eq!(http2.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}");
    }
    let ids = http1.all("x-request-id");
    assert!(ids.len() == 1 && ids[0] != "theirs", "{ids:?}");
    let cookies: Vec<String> = (0..40).map(|n| format!("c{n}={n}; Path=/")).collect();
    assert_eq!(http1.all("set-cookie"), cookies);
    assert!(http2.get_all("set-cookie").iter().eq(cookies.iter()));
}

#[test]
fn a_length_is_written_anew() {
    let server = Server::start(|_, conn| {
        let says = "HTTP/1.1 200 OK\r\nContent-Length: 0005\r\nContent-Length: 5\r\n\r\nhello";
        let _ = conn.get_mut().write_all(says.as_bytes());
        Then::Keep
    });

    let answer = server.proxy("", "").get("/");

    assert_eq!((answer.all("content-length"), answer.text()), (vec!["5"], "hello".to_owned()));
}
