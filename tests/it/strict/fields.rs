//! Field names and values (RFC 9110 section 5, RFC 9112 section 5): tokens, and no control characters but tabs.

use super::table::{check, get, post, refused, served};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    a_name_is_a_token_right_before_its_colon,
    names_of_the_grammar_pass,
    a_value_has_no_control_character_but_a_tab,
    other_values_pass_unchanged,
    a_field_is_one_line,
    fields_are_not_too_many_nor_too_large,
    repeated_fields_stay_in_their_order,
    expectations_other_than_100_continue_are_refused,
];

fn line(line: &str) -> String {
    get(&format!("{line}\r\n"))
}

#[test]
fn a_name_is_a_token_right_before_its_colon() {
    let lines = [
        "X-A : 1",
        "X-A\t: 1",
        "X-A  : 1",
        ": 1",
        " : 1",
        "X A: 1",
        "X\tA: 1",
        "X(A): 1",
        "X,A: 1",
        "X;A: 1",
        "X<A>: 1",
        "X=A: 1",
        "X?A: 1",
        "X@A: 1",
        "X[A]: 1",
        "X{A}: 1",
        "X\\A: 1",
        "X/A: 1",
        "\"X\": 1",
        "X\0: 1",
        "\0X: 1",
        "X\u{1}A: 1",
        "X\u{b}: 1",
        "X\u{c}: 1",
        "X\u{1b}: 1",
        "X\u{7f}: 1",
        "X\u{80}: 1",
        "X\u{a0}: 1",
        "X-\u{e9}: 1",
        "X-\u{c3}\u{a9}: 1",
        "\u{ef}\u{bb}\u{bf}X: 1",
        "X",
        "X-A 1",
        "X-A=1",
        "nothing at all",
        "GET /smuggled HTTP/1.1",
        "X-A\u{a0}: 1",
        "\u{b}X: 1",
    ];
    check(lines.map(|text| refused(format!("name {text:?}"), line(text), &[400])));
}

#[test]
fn names_of_the_grammar_pass() {
    let names = [
        "X", "x-a", "X-1", "1", "X!", "X#A", "X$A", "X%A", "X&A", "X'A", "X*", "X+A", "X^A", "X`A", "X|A",
        "X~A", "-", "X-",
    ];
    let mut cases = names
        .map(|name| {
            served(format!("name {name:?}"), line(&format!("{name}: 1")), &["GET /x"])
                .with(&format!("{name}: 1"))
        })
        .to_vec();
    let long = "X".repeat(300);
    cases.push(served("a long name", line(&format!("{long}: 1")), &["GET /x"]).with(&format!("{long}: 1")));
    // `_` is a token character, but what many servers take for `-` stays here.
    for name in ["X_A", "_", "X_", "_X"] {
        cases.push(served(name, line(&format!("{name}: 1")), &["GET /x"]).without(name));
    }
    check(cases);
}

#[test]
fn a_value_has_no_control_character_but_a_tab() {
    let bad: Vec<String> = (0..0x20_u8)
        .filter(|b| !b"\t\r\n".contains(b))
        .chain([0x7f])
        .map(|b| char::from(b).to_string())
        .collect();
    let within = bad.iter().map(|c| refused(format!("within {c:?}"), line(&format!("X-A: a{c}b")), &[400]));
    let ends = ["\0", "\u{b}", "\u{c}", "\u{7f}"].map(|c| {
        [
            refused(format!("first {c:?}"), line(&format!("X-A: {c}a")), &[400]),
            refused(format!("last {c:?}"), line(&format!("X-A: a{c}")), &[400]),
        ]
    });
    check(within.chain(ends.into_iter().flatten()));
}

#[test]
fn other_values_pass_unchanged() {
    let rows = [
        ("a b", "a b"),
        ("a\tb", "a\tb"),
        ("  a", "a"),
        ("a  ", "a"),
        ("\ta\t", "a"),
        ("a   b", "a   b"),
        ("", ""),
        ("   ", ""),
        (":", ":"),
        ("a:b", "a:b"),
        ("\u{80}", "\u{80}"),
        ("caf\u{e9}", "caf\u{e9}"),
        ("caf\u{c3}\u{a9}", "caf\u{c3}\u{a9}"),
        ("\u{ff}", "\u{ff}"),
        ("\u{a0}a\u{a0}", "\u{a0}a\u{a0}"),
        ("\u{85}", "\u{85}"),
        ("\"a", "\"a"),
        ("a, b", "a, b"),
        ("\\", "\\"),
        ("GET /smuggled HTTP/1.1", "GET /smuggled HTTP/1.1"),
        ("%0d%0aX-B: 1", "%0d%0aX-B: 1"),
        ("\\r\\nX-B: 1", "\\r\\nX-B: 1"),
    ];
    check(rows.map(|(sent, seen)| {
        served(format!("value {sent:?}"), line(&format!("X-A: {sent}")), &["GET /x"])
            .with(&format!("x-a: {seen}"))
            .without("x-b")
    }));
}

#[test]
fn a_field_is_one_line() {
    let rows = [
        "X-A: 1\r\n 2",
        "X-A: 1\r\n\t2",
        "X-A: 1\r\n  2",
        "X-A:\r\n 1",
        "X-A:\r\n\t1",
        "X-A: 1\r\n ",
        "X-A: 1\r\n\t",
        "X-A: 1\r\n \r\n 2",
        "X-A: 1\r\n X-B: 2",
        "X-A: 1\r\n Content-Length: 3",
        "X-A: 1\r\n\tTransfer-Encoding: chunked",
        "Cookie: a=1\r\n ; b=2",
        "Connection: close\r\n , x-a",
        "X-A: 1\r\n :",
    ];
    let first = [" X-A: 1", "\tX-A: 1", " ", "\t"].map(|text| {
        refused(
            format!("first line {text:?}"),
            format!("GET /x HTTP/1.1\r\n{text}\r\nHost: test\r\n\r\n"),
            &[400],
        )
    });
    check(rows.map(|text| refused(format!("folded {text:?}"), line(text), &[400])).into_iter().chain(first));
}

#[test]
fn fields_are_not_too_many_nor_too_large() {
    let many = |count: usize| (0..count).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let same = "X-A: 1\r\n".repeat(150);
    let empty = "X-A:\r\n".repeat(150);
    check([
        served("ninety", get(&many(90)), &["GET /x"]),
        refused("a hundred and one", get(&many(101)), &[431]),
        refused("thousands", get(&many(5000)), &[431]),
        refused("of one name", get(&same), &[431]),
        refused("empty ones", get(&empty), &[431]),
        refused("a large value", line(&format!("X-A: {}", "x".repeat(40_000))), &[431]),
        refused("a huge value", line(&format!("X-A: {}", "x".repeat(400_000))), &[431]),
        refused("a large name", line(&format!("{}: 1", "x".repeat(40_000))), &[431, 400]),
        refused("a name beyond all", line(&format!("{}: 1", "x".repeat(70_000))), &[431, 400]),
        refused("large cookies", line(&format!("Cookie: a={}", "x".repeat(40_000))), &[431]),
        refused(
            "a large host",
            format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(40_000)),
            &[431, 400],
        ),
        served("large, but not too large", line(&format!("X-A: {}", "x".repeat(16_000))), &["GET /x"]),
    ]);
}

#[test]
fn repeated_fields_stay_in_their_order() {
    check([served("cookies", get("Cookie: a=1\r\nCookie: b=2\r\n"), &["GET /x"]).with("cookie: a=1; b=2")]);
}

#[test]
fn expectations_other_than_100_continue_are_refused() {
    let with = |value: &str| post(&format!("Expect: {value}\r\nContent-Length: 3\r\n"), "abc");
    let unknown = [
        "200-ok",
        "100",
        "continue",
        "100-continues",
        "x100-continue",
        "100-continue, x",
        "100-continue;q=1",
        "\"100-continue\"",
        "",
        "100-continue,",
    ];
    let unknown = unknown.map(|value| refused(format!("expect {value:?}"), with(value), &[417, 400]));
    let known = ["100-continue", "100-Continue", "100-CONTINUE", " 100-continue "]
        .map(|value| served(format!("expect {value:?}"), with(value), &["POST /x abc"]).without("expect"));
    let old = "POST /x HTTP/1.0\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc";
    let more = [
        served("without a body", get("Expect: 100-continue\r\n"), &["GET /x"]).without("expect"),
        served(
            "chunked",
            post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
            &["POST /x abc"],
        )
        .without("expect"),
        super::table::served_last("in HTTP/1.0", old, &["POST /x abc"]).without("expect"),
        refused(
            "twice, one unknown",
            post("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 3\r\n", "abc"),
            &[417, 400],
        ),
        refused(
            "with a length and a coding",
            post("Expect: 100-continue\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            &[400],
        ),
        refused(
            "before an ambiguous length",
            post("Expect: 100-continue\r\nContent-Length: 3\r\nContent-Length: 4\r\n", "abc"),
            &[400],
        ),
        refused(
            "its name with a blank",
            post("Expect : 100-continue\r\nContent-Length: 3\r\n", "abc"),
            &[400],
        ),
    ];
    check(unknown.into_iter().chain(known).chain(more));
}
