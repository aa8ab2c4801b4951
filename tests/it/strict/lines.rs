//! Line ends of heads (RFC 9112 section 2.2): CR LF and nothing else, and what may stand before a request.

use super::table::{check, get, refused, served};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    a_bare_lf_is_no_line_end,
    a_bare_cr_is_no_line_end_and_no_blank,
    empty_lines_before_a_request_are_skipped_and_nothing_else,
];

#[test]
fn a_bare_lf_is_no_line_end() {
    let rows = [
        ("lf behind the request line", "GET /x HTTP/1.1\nHost: test\r\n\r\n"),
        ("lf behind the first field", "GET /x HTTP/1.1\r\nHost: test\nX-A: 1\r\n\r\n"),
        ("lf behind the last field", "GET /x HTTP/1.1\r\nHost: test\r\nX-A: 1\n\r\n"),
        ("lf behind the head", "GET /x HTTP/1.1\r\nHost: test\r\n\n"),
        ("lf everywhere", "GET /x HTTP/1.1\nHost: test\n\n"),
        ("lf in a value", "GET /x HTTP/1.1\r\nHost: test\r\nX-A: 1\nX-B: 2\r\n\r\n"),
        (
            "lf before a hidden length",
            "POST /x HTTP/1.1\r\nHost: test\r\nX-A: 1\nContent-Length: 3\r\n\r\nabc",
        ),
        (
            "lf before a hidden coding",
            "POST /x HTTP/1.1\r\nHost: test\r\nX-A: 1\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("lf before a hidden host", "GET /x HTTP/1.1\r\nX-A: 1\nHost: test\r\n\r\n"),
        ("lf cr", "GET /x HTTP/1.1\n\rHost: test\n\r\n\r"),
        (
            "lf twice behind a field",
            "GET /x HTTP/1.1\r\nHost: test\n\nGET /second HTTP/1.1\r\nHost: test\r\n\r\n",
        ),
        ("lf before the request", "\nGET /x HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("lf twice before the request", "\n\nGET /x HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("cr lf lf before the request", "\r\n\nGET /x HTTP/1.1\r\nHost: test\r\n\r\n"),
    ];
    check(rows.map(|(name, bytes)| refused(name, bytes, &[400])));
}

#[test]
fn a_bare_cr_is_no_line_end_and_no_blank() {
    let rows = [
        ("cr behind the request line", "GET /x HTTP/1.1\rHost: test\r\n\r\n"),
        ("cr behind a field", "GET /x HTTP/1.1\r\nHost: test\rX-A: 1\r\n\r\n"),
        ("cr behind the head", "GET /x HTTP/1.1\r\nHost: test\r\n\r\r\n"),
        ("cr everywhere", "GET /x HTTP/1.1\rHost: test\r\r\r\n\r\n"),
        ("cr twice", "GET /x HTTP/1.1\r\r\nHost: test\r\n\r\n"),
        ("cr twice behind a field", "GET /x HTTP/1.1\r\nHost: test\r\r\n\r\n"),
        ("cr in a value", "GET /x HTTP/1.1\r\nHost: test\r\nX-A: 1\r2\r\n\r\n"),
        ("cr at the start of a value", "GET /x HTTP/1.1\r\nHost: test\r\nX-A:\r1\r\n\r\n"),
        ("cr in a name", "GET /x HTTP/1.1\r\nHost: test\r\nX\rA: 1\r\n\r\n"),
        ("cr before a name", "GET /x HTTP/1.1\r\n\rHost: test\r\n\r\n"),
        ("cr before the colon", "GET /x HTTP/1.1\r\nHost\r: test\r\n\r\n"),
        ("cr in the target", "GET /x\ry HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("cr in place of a space", "GET\r/x HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("cr before the version", "GET /x\rHTTP/1.1\r\nHost: test\r\n\r\n"),
        ("cr before the request", "\rGET /x HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("cr cr lf before the request", "\r\r\nGET /x HTTP/1.1\r\nHost: test\r\n\r\n"),
        (
            "cr before a hidden length",
            "POST /x HTTP/1.1\r\nHost: test\r\nX-A: 1\rContent-Length: 3\r\n\r\nabc",
        ),
    ];
    check(rows.map(|(name, bytes)| refused(name, bytes, &[400])));
}

#[test]
fn empty_lines_before_a_request_are_skipped_and_nothing_else() {
    let before = |text: &str| format!("{text}{}", get(""));
    check([
        served("one", before("\r\n"), &["GET /x"]),
        served("several", before("\r\n\r\n\r\n"), &["GET /x"]).or_refused(&[400]),
        served("between two", get("") + &before("\r\n"), &["GET /x", "GET /x"]),
        refused("a blank line", before(" \r\n"), &[400]),
        refused("a blank", before("\r\n "), &[400]),
        refused("a tab", before("\t"), &[400]),
        refused("NUL", before("\0"), &[400]),
        refused("a byte order mark", before("\u{ef}\u{bb}\u{bf}"), &[400]),
        refused("a form feed", before("\u{c}"), &[400]),
    ]);
}
