//! Chunked bodies (RFC 9112 section 7.1): CR LF only, sizes of digits only, extensions dropped, trailers by announcement.

use super::table::{BODY_MAX, Case, check, chunked, post, refused, served};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    whole_bodies_are_chunked_anew,
    lines_end_in_cr_lf,
    a_chunk_is_as_long_as_it_says,
    a_size_is_hexadecimal_digits_and_nothing_else,
    a_size_beyond_the_limit_is_refused_before_its_data,
    extensions_are_of_the_grammar_and_few,
    trailers_pass_only_when_they_are_announced_and_harmless,
    trailers_that_are_no_fields_are_refused,
    a_body_that_ends_too_early_is_no_request,
];

/// Such a body is never whole: the server sees none of it, or a part and the end of the connection.
fn broken(body: &str) -> Case {
    refused(format!("chunks {body:?}"), chunked(body), &[400])
}

#[test]
fn whole_bodies_are_chunked_anew() {
    let rows = [
        ("3\r\nabc\r\n0\r\n\r\n", "abc"),
        ("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc"),
        ("03\r\nabc\r\n0\r\n\r\n", "abc"),
        ("000003\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3\r\nabc\r\n00\r\n\r\n", "abc"),
        ("3\r\nabc\r\n0000\r\n\r\n", "abc"),
        ("a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        ("3;a=b\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a=\"b c;d\"\r\nabc\r\n0\r\n\r\n", "abc"),
        ("3;a=b;c=d\r\nabc\r\n0;e=f\r\n\r\n", "abc"),
    ];
    check(rows.map(|(body, data)| {
        let case = served(format!("{body:?}"), chunked(body), &[format!("POST /x {data}").as_str()]);
        case.with("transfer-encoding: chunked")
    }));
}

#[test]
fn lines_end_in_cr_lf() {
    check(
        [
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc\r\n0\n\r\n",
            "3\r\nabc\r\n0\r\n\n",
            "3\nabc\n0\n\n",
            "3\rabc\r\n0\r\n\r\n",
            "3\r\nabc\r0\r\n\r\n",
            "3\r\nabc\r\n0\r\r\n",
            "3\r\nabc\r\n0\r\n\r\r\n",
            "3\r\r\nabc\r\n0\r\n\r\n",
            "3\n\r\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n\r0\r\n\r\n",
            "3\r\nabc\n\n0\r\n\r\n",
            "3\r\nabc\r\r\n0\r\n\r\n",
            "3;a\nabc\r\n0\r\n\r\n",
            "3;a=b\nabc\r\n0\r\n\r\n",
            "3;a\rabc\r\n0\r\n\r\n",
            "3;a=\"\n\"\r\nabc\r\n0\r\n\r\n",
            "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n",
            "3;a=\"\r\"\r\nabc\r\n0\r\n\r\n",
            "3;\nabc\r\n0\r\n\r\n",
            "3;a\r\r\nabc\r\n0\r\n\r\n",
            "3\r\nabc\r\n0;a\n\r\n",
            "3\r\nabc\r\n0\r\nX-T: 1\n\r\n",
            "3\r\nabc\r\n0\r\nX-T: 1\r\n\n",
            "3\r\nabc\r\n0\r\n\rX-T: 1\r\n\r\n",
        ]
        .map(broken),
    );
}

#[test]
fn a_chunk_is_as_long_as_it_says() {
    check(
        [
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabcX0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "3\r\nab\r\n0\r\n\r\n",
            "3\r\nabc \r\n0\r\n\r\n",
            "3\r\nabc;\r\n0\r\n\r\n",
            "5\r\nhello!!\r\n0\r\n\r\n",
            "4\r\nabc\r\n0\r\n\r\n",
            "3\r\nabcGET /smuggled HTTP/1.1\r\n\r\n",
            "3\r\nabc\0\r\n0\r\n\r\n",
            "0\r\nabc\r\n\r\n",
            "3\r\n\r\nabc\r\n0\r\n\r\n",
        ]
        .map(broken),
    );
}

#[test]
fn a_size_is_hexadecimal_digits_and_nothing_else() {
    let sizes = [
        "",
        " ",
        "+3",
        "-3",
        "-0",
        "+0",
        "0x3",
        "0X3",
        "x3",
        "x",
        "g",
        "3g",
        "3h",
        "3.0",
        "3,",
        "3_0",
        "_3",
        "3-",
        "3+",
        "'3'",
        "\"3\"",
        "(3)",
        "3 3",
        "3\t3",
        "3 a",
        "3=a",
        "3:a",
        "3,a",
        "3/a",
        "3#",
        "\t3",
        " 3",
        "3\0",
        "\u{0}3",
        "3\u{1}",
        "3\u{b}",
        "\u{b}3",
        "\u{c}3",
        "3\u{c}",
        "3\u{7f}",
        "3\u{80}",
        "3\u{a0}",
        "\u{a0}3",
        "\u{b3}",
        "\u{ef}\u{bc}\u{93}",
        ";a=b",
        ";",
        "$3",
        "%33",
        "\\3",
        "three",
        "10000000000000003",
        "100000000000000000000000000000003",
        "8000000000000003",
        "ffffffffffffffff",
        "fffffffffffffffff",
        "ffffffffffffffffffffffffffffffff",
    ];
    let sizes = sizes.iter().map(|size| {
        refused(format!("size {size:?}"), chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n")), &[400])
    });
    // White space is of the grammar before an extension alone, and there nobody should send it.
    let bad_blanks = ["3 ;a=b", "3\t;a", "3; a=b", "3;a =b", "3;a= b"].map(|size| {
        served(format!("size {size:?}"), chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n")), &["POST /x abc"])
            .or_refused(&[400])
    });
    let blanks = ["3 ", "3\t", "3  "];
    let blanks = blanks.iter().map(|size| {
        refused(format!("size {size:?}"), chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n")), &[400])
    });
    let last = ["-0", "+0", "0x0", " 0", "0\0", "0\u{b}", "0,", "", "00x", "0 0", "O"];
    let last = last.iter().map(|size| {
        refused(format!("last {size:?}"), chunked(&format!("3\r\nabc\r\n{size}\r\n\r\n")), &[400])
    });
    let last_blank = ["0 ", "0\t"];
    let last_blank = last_blank.iter().map(|size| {
        refused(format!("last {size:?}"), chunked(&format!("3\r\nabc\r\n{size}\r\n\r\n")), &[400])
    });
    check(sizes.chain(bad_blanks).chain(blanks).chain(last).chain(last_blank));
}

#[test]
fn a_size_beyond_the_limit_is_refused_before_its_data() {
    // Each is 3 to a reader of 16 or 32 bits, or the last that there is.
    let sizes = ["10003", "100000003", "7fffffffffffffff"];
    let zeros = format!("{}3", "0".repeat(200));
    let long = refused("many zeros", chunked(&format!("{zeros}\r\nabc\r\n0\r\n\r\n")), &[400]).or(served(
        "",
        "",
        &["POST /x abc"],
    ));
    let data = "x".repeat(BODY_MAX + 1);
    let whole =
        refused("too much data", chunked(&format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len())), &[413]);
    // The limit is on what comes: a size that is only announced is waited for, and here the client leaves.
    let sizes = sizes.map(|size| {
        refused(format!("size {size:?}"), chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n")), &[400, 413])
            .or_closed()
            .last()
    });
    check(sizes.into_iter().chain([long, whole]));
}

#[test]
fn extensions_are_of_the_grammar_and_few() {
    let bad = [
        "3;",
        "3;;",
        "3;;a",
        "3;a;",
        "3;=b",
        "3;a=",
        "3;a=b=c",
        "3;a b",
        "3;a=b c",
        "3;a=\"b",
        "3;a=\"b\"c",
        "3;a\0",
        "3;a=\0",
        "3;a=\"\0\"",
        "3;\u{1}",
        "3;a=\u{1b}",
        "3;a=\u{7f}",
        "3;a=\u{b}",
        "3;(a)",
        "3;a=b,c",
        "3;a=[b]",
        "3;a:b",
        "3;é",
        "3;a=é",
    ];
    let bad = bad.iter().map(|size| {
        refused(format!("extension {size:?}"), chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n")), &[400])
    });
    let huge = format!("3;a={}\r\nabc\r\n0\r\n\r\n", "x".repeat(64 * 1024));
    let piecemeal: String = (0..1000).map(|_| format!("1;a={}\r\nx\r\n", "y".repeat(100))).collect();
    let quoted = format!("3;a=\"{}\"\r\nabc\r\n0\r\n\r\n", "\\x".repeat(32 * 1024));
    let many = format!("3{}\r\nabc\r\n0\r\n\r\n", ";a=b".repeat(16 * 1024));
    let long = [
        refused("a huge extension", chunked(&huge), &[400, 431, 413]),
        refused("a huge quoted extension", chunked(&quoted), &[400, 431, 413]),
        refused("many extensions of one chunk", chunked(&many), &[400, 431, 413]),
        refused("extensions of many chunks", chunked(&format!("{piecemeal}0\r\n\r\n")), &[400, 431, 413]),
    ];
    check(bad.chain(long));
}

#[test]
fn trailers_pass_only_when_they_are_announced_and_harmless() {
    let with = |announced: &str, trailers: &str| {
        post(
            &format!("Transfer-Encoding: chunked\r\nTrailer: {announced}\r\n"),
            &format!("3\r\nabc\r\n0\r\n{trailers}\r\n"),
        )
    };
    let forbidden = [
        "Content-Length: 9",
        "Transfer-Encoding: gzip",
        "Host: evil",
        "Authorization: Basic eA==",
        "Cookie: a=1",
        "Connection: close",
        "Trailer: X-A",
        "TE: trailers",
        "Content-Type: text/html",
        "Content-Encoding: gzip",
        "Content-Range: bytes 0-1/2",
        "Cache-Control: no-store",
        "Expect: 100-continue",
        "Max-Forwards: 0",
        "Range: bytes=0-1",
        "If-Match: \"a\"",
        "Upgrade: websocket",
        "Keep-Alive: 5",
        "Proxy-Authorization: Basic eA==",
        "Proxy-Connection: close",
        "Forwarded: for=6.6.6.6",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "X-Forwarded-User: root",
        "X-Real-IP: 6.6.6.6",
        "X-Request-Id: mine",
        "Via: 1.1 evil",
        "X_Forwarded_For: 6.6.6.6",
        "HTTP2-Settings: x",
        "Set-Cookie: a=1",
    ];
    // They follow a head without them; what a server that merged them would believe must not come through.
    const OURS: [&str; 9] = [
        "host",
        "transfer-encoding",
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-real-ip",
        "x-request-id",
    ];
    let forbidden = forbidden.map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        let case = served(format!("trailer {name:?}"), with(name, &format!("{line}\r\n")), &["POST /x abc"])
            .or_refused(&[400]);
        let is_ours = OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours));
        if is_ours {
            case.without_trailers().without_value(value)
        } else {
            case.without_trailers().without(name)
        }
    });
    let plain = [
        served("announced", with("X-Sum", "X-Sum: 1\r\n"), &["POST /x abc"])
            .with("trailer: X-Sum")
            .with_trailer("x-sum: 1"),
        served("two announced", with("X-Sum, X-More", "X-Sum: 1\r\nX-More: 2\r\n"), &["POST /x abc"])
            .with_trailer("x-sum: 1")
            .with_trailer("x-more: 2"),
        served("one of two announced", with("X-Sum", "X-Sum: 1\r\nX-More: 2\r\n"), &["POST /x abc"])
            .with_trailer("x-sum: 1")
            .without("x-more"),
        served("announced and not sent", with("X-Sum", ""), &["POST /x abc"]).without_trailers(),
        served("not announced", chunked("3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"), &["POST /x abc"])
            .without("x-sum"),
        served("not announced, without data", chunked("0\r\nX-Sum: 1\r\n\r\n"), &["POST /x"])
            .without("x-sum"),
        served(
            "announced with what is forbidden",
            with("X-Sum, Host", "Host: evil\r\nX-Sum: 1\r\n"),
            &["POST /x abc"],
        )
        .or_refused(&[400])
        .without_value("evil"),
    ];
    check(forbidden.into_iter().chain(plain));
}

#[test]
fn trailers_that_are_no_fields_are_refused() {
    let trailers = [
        "X T: 1\r\n\r\n",
        "X-T : 1\r\n\r\n",
        "X-T\t: 1\r\n\r\n",
        ": 1\r\n\r\n",
        "nothing\r\n\r\n",
        "X-T: 1\r\n 2\r\n\r\n",
        " X-T: 1\r\n\r\n",
        "X-T: \0\r\n\r\n",
        "X-T: \u{1}\r\n\r\n",
        "X-T: \u{7f}\r\n\r\n",
        "X\0T: 1\r\n\r\n",
        "X-\u{e9}: 1\r\n\r\n",
        "X-T: a\rb\r\n\r\n",
        "X(T): 1\r\n\r\n",
        "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n",
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
    ];
    let bad = trailers.map(|text| {
        refused(format!("trailer {text:?}"), chunked(&format!("3\r\nabc\r\n0\r\n{text}")), &[400])
    });
    let many: String = (0..1000).map(|n| format!("X-{n}: 1\r\n")).collect();
    let large = format!("X-T: {}\r\n", "x".repeat(128 * 1024));
    let over = [
        refused("too many trailers", chunked(&format!("3\r\nabc\r\n0\r\n{many}\r\n")), &[400, 431]),
        refused("trailers too large", chunked(&format!("3\r\nabc\r\n0\r\n{large}\r\n")), &[400, 431]),
    ];
    check(bad.into_iter().chain(over));
}

#[test]
fn a_body_that_ends_too_early_is_no_request() {
    let bodies = [
        "",
        "3",
        "3\r",
        "3\r\n",
        "3\r\nab",
        "3\r\nabc",
        "3\r\nabc\r",
        "3\r\nabc\r\n",
        "3\r\nabc\r\n0",
        "3\r\nabc\r\n0\r\n",
        "3\r\nabc\r\n0\r\n\r",
        "3\r\nabc\r\n0\r\nX-T: 1\r\n",
        "3;a",
        "3;a=\"",
        "3abc\r\n0\r\n\r\n",
        "ffffffff\r\nabc",
    ];
    check(bodies.map(|body| refused(format!("early {body:?}"), chunked(body), &[400]).or_closed().last()));
}
