//! `Content-Length` (RFC 9110 section 8.6, RFC 9112 section 6.2): one number, or nothing.

use super::table::{BODY_MAX, SMUGGLED, check, get, post, refused, served};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    one_number_is_a_length_and_is_written_anew,
    what_is_not_one_number_is_refused,
    a_length_beyond_the_routes_limit_is_refused_before_the_body,
    several_lengths_are_refused_also_if_they_are_equal,
    a_name_that_is_almost_content_length_is_refused_or_means_nothing,
    a_method_without_a_usual_body_may_have_one_all_the_same,
    a_request_without_a_length_has_no_body,
    a_body_that_ends_too_early_is_no_request,
];

fn of(value: &str) -> String {
    post(&format!("Content-Length: {value}\r\n"), "abc")
}

#[test]
fn one_number_is_a_length_and_is_written_anew() {
    let values = ["3", "03", "0000000000000000000000003", " 3", "3 ", "\t3\t", "   3   "];
    let numbers = values
        .map(|value| served(format!("{value:?}"), of(value), &["POST /x abc"]).with("content-length: 3"));
    let empty = ["0", "00"].map(|value| {
        served(value, post(&format!("Content-Length: {value}\r\n"), ""), &["POST /x"])
            .with("content-length: 0")
    });
    let names = [
        "content-length: 3\r\n",
        "CONTENT-LENGTH: 3\r\n",
        "Content-Length:3\r\n",
        "X-A: 1\r\nContent-Length: 3\r\n",
    ];
    let names = names.map(|line| served(line, post(line, "abc"), &["POST /x abc"]).with("content-length: 3"));
    check(numbers.into_iter().chain(empty).chain(names));
}

#[test]
fn what_is_not_one_number_is_refused() {
    let values = [
        "",
        " ",
        "\t",
        "+3",
        "-3",
        "+0",
        "-0",
        "--3",
        "3-",
        "3+",
        "3 3",
        "3\t3",
        "3,3",
        "3, 3",
        "3 , 3",
        "3,4",
        "3, 4",
        "4, 3",
        "3,",
        ",3",
        ", 3",
        ",",
        "3;",
        "3;q=1",
        "3; 3",
        "3/1",
        "3.0",
        ".3",
        "3.",
        "3e0",
        "1e1",
        "0x3",
        "0X3",
        "3h",
        "x3",
        "0b11",
        "0o3",
        "#3",
        "$3",
        "1_0",
        "3_",
        "'3'",
        "\"3\"",
        "(3)",
        "[3]",
        "three",
        "a",
        "NaN",
        "inf",
        "null",
        "true",
        "*",
        "%33",
        "3%20",
        "\\3",
        "3\\",
        "3\0",
        "\u{0}3",
        "3\u{b}",
        "\u{b}3",
        "\u{c}3",
        "3\u{c}",
        "3\u{1}",
        "3\u{7f}",
        "3\u{80}",
        "3\u{a0}",
        "\u{a0}3",
        "\u{85}3",
        "\u{b3}",
        "\u{ef}\u{bc}\u{93}",
        "\u{d9}\u{a3}",
        "3\r",
        "\r3",
        "3=3",
        "=3",
        ":3",
        "3:",
        "9223372036854775811",
        "18446744073709551615",
        "18446744073709551619",
        "340282366920938463463374607431768211459",
        "99999999999999999999999999999999999",
    ];
    check(values.iter().map(|value| refused(format!("length {value:?}"), of(value), &[400, 413])));
}

#[test]
fn a_length_beyond_the_routes_limit_is_refused_before_the_body() {
    // Each is 3 to a reader of 16 or 32 bits, or the last that there is.
    let values = ["65539", "4294967299", "9223372036854775807"];
    let exact = format!("{}", BODY_MAX + 1);
    let all = values.into_iter().chain([exact.as_str()]);
    check(all.map(|value| refused(format!("length {value:?}"), of(value), &[413, 400])));
}

#[test]
fn several_lengths_are_refused_also_if_they_are_equal() {
    let rows = [
        ("equal lengths", "3", "3"),
        ("lengths of equal numbers", "3", "03"),
        ("shorter first", "3", "4"),
        ("longer first", "4", "3"),
        ("nothing first", "0", "3"),
        ("nothing second", "3", "0"),
        ("empty first", "", "3"),
        ("empty second", "3", ""),
        ("signed", "3", "+3"),
        ("a list", "3", "3, 3"),
        ("not a number", "3", "x"),
    ];
    let pairs = rows.map(|(name, a, b)| {
        refused(name, post(&format!("Content-Length: {a}\r\nContent-Length: {b}\r\n"), "abc"), &[400])
    });
    let three = "Content-Length: 3\r\n".repeat(3);
    let more = [
        refused("three equal lengths", post(&three, "abc"), &[400]),
        refused("two cases", post("Content-Length: 3\r\ncontent-LENGTH: 4\r\n", "abcd"), &[400]),
        refused("apart", post("Content-Length: 3\r\nX-A: 1\r\nContent-Length: 4\r\n", "abcd"), &[400]),
        refused("on a GET", get("Content-Length: 0\r\nContent-Length: 45\r\n"), &[400]),
    ];
    check(pairs.into_iter().chain(more));
}

#[test]
fn a_name_that_is_almost_content_length_is_refused_or_means_nothing() {
    let bad = [
        "Content-Length : 3",
        "Content-Length\t: 3",
        " Content-Length: 3",
        "\tContent-Length: 3",
        "Content-Length\0: 3",
        "Content Length: 3",
        "Content-Length\u{b}: 3",
        "\u{a0}Content-Length: 3",
        "Content-Length\u{a0}: 3",
        "Content-\u{c4}Length: 3",
        "Content-Length",
        "Content-Length 3",
        "Content-Length= 3",
        "Content-Length;: 3",
        "Content-Length:\r\n 3",
        "Content-Length: \r\n\t3",
        "Content-Length: 3\r\n 4",
        "X-A: 1\r\n Content-Length: 3",
        "Content-Length\r: 3",
        "\"Content-Length\": 3",
        "(Content-Length): 3",
        "Content-Length,: 3",
    ];
    let bad = bad.map(|line| refused(format!("name {line:?}"), post(&format!("{line}\r\n"), "abc"), &[400]));
    let nothing = [
        "Content_Length",
        "content_length",
        "Content.Length",
        "Content--Length",
        "Content-Lengt",
        "XContent-Length",
    ];
    let nothing = nothing.map(|name| {
        let case = served(name, post(&format!("{name}: 35\r\n"), ""), &["POST /x"]).with("content-length: 0");
        case.without("content_length").without("content.length")
    });
    check(bad.into_iter().chain(nothing));
}

#[test]
fn a_method_without_a_usual_body_may_have_one_all_the_same() {
    let methods = ["GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "BREW"];
    let body = SMUGGLED.replace("GET", "PUT");
    check(methods.map(|method| {
        let bytes =
            format!("{method} /x HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        served(method, bytes, &[format!("{method} /x {body}").as_str()])
            .with(&format!("content-length: {}", body.len()))
    }));
}

#[test]
fn a_request_without_a_length_has_no_body() {
    check([
        served("POST", post("", ""), &["POST /x"]).with("content-length: 0"),
        served("PUT", "PUT /x HTTP/1.1\r\nHost: test\r\n\r\n", &["PUT /x"]).with("content-length: 0"),
        served("GET", get(""), &["GET /x"]).without("content-length").without("transfer-encoding"),
        // What follows is not its body.
        refused("POST, and something", post("", "abc\r\n\r\n"), &[400])
            .or(super::table::served_then_refused("", post("", ""), &["POST /x"], &[400])),
    ]);
}

#[test]
fn a_body_that_ends_too_early_is_no_request() {
    let rows = [("some", "abc"), ("none", ""), ("all but one", "abcdefghi")];
    check(
        rows.map(|(name, body)| {
            refused(name, post("Content-Length: 10\r\n", body), &[400]).or_closed().last()
        }),
    );
}
