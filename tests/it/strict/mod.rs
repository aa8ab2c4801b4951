//! What a client may send over HTTP/1.1 and what must come of it, in bytes.
//!
//! Each case goes out on a connection of its own, in one piece with a further request behind it, the canary. Then three
//! things are looked at: what the client got until its connection ended, what reached the server, read by the letter
//! ([`crate::support::strict`]), and whether a stranger who is served over the same connection to the server gets an
//! answer of his own. A request that nobody sent fails its case, however it came about.

mod table;

mod chunks;
mod connection;
mod early;
mod fields;
mod host;
mod identity;
mod length;
mod lines;
mod paths;
mod request_line;
mod sequence;
mod transfer_encoding;

/// Cases that cannot pass while hyper reads the heads and chunks of clients: it mends them, or takes the trace of them
/// away, before we can look. They must be unambiguous all the same: what reaches the server is by the letter, and every
/// answer belongs to a request that reached it. One that passes must be taken off this list.
pub const UNTIL_OUR_OWN_PARSER: &[&str] = &[
    // Bare LF in heads.
    "lf behind the request line",
    "lf behind the first field",
    "lf behind the last field",
    "lf behind the head",
    "lf everywhere",
    "lf in a value",
    "lf before a hidden length",
    "lf before a hidden coding",
    "lf before a hidden host",
    "lf twice behind a field",
    "lf before the request",
    "lf twice before the request",
    "cr lf lf before the request",
    // Fragments.
    r#"target "/x#""#,
    r#"target "/x#f""#,
    r#"target "/#""#,
    r#"target "/x?q#f""#,
    r#"target "/x##""#,
    r#"target "/x#f?q""#,
    r#"target "/x#/../y""#,
    r#"target "http://test/x#f""#,
    r#"target "http://test#f""#,
    // A length beside a coding.
    "length first",
    "length second",
    "length of the whole",
    "length of nothing",
    "length too long",
    "length in upper case",
    "length between others",
    "length on a GET",
    "with a length and a coding",
    // Equal lengths, of which hyper shows us one.
    "equal lengths",
    "lengths of equal numbers",
    "three equal lengths",
    // A length that hyper takes for too large a head: 431.
    r#"length "18446744073709551615""#,
    // `http://test` is `http://test/` to `http::Uri`.
    "OPTIONS of a URL without a path",
    // White space behind a chunk's size.
    r#"size "3 ""#,
    r#"size "3\t""#,
    r#"size "3  ""#,
    r#"last "0 ""#,
    r#"last "0\t""#,
    // Extensions, which hyper does not look at.
    r#"extension "3;""#,
    r#"extension "3;;""#,
    r#"extension "3;;a""#,
    r#"extension "3;a;""#,
    r#"extension "3;=b""#,
    r#"extension "3;a=""#,
    r#"extension "3;a=b=c""#,
    r#"extension "3;a b""#,
    r#"extension "3;a=b c""#,
    r#"extension "3;a=\"b""#,
    r#"extension "3;a=\"b\"c""#,
    r#"extension "3;a\0""#,
    r#"extension "3;a=\0""#,
    r#"extension "3;a=\"\0\"""#,
    r#"extension "3;\u{1}""#,
    r#"extension "3;a=\u{1b}""#,
    r#"extension "3;a=\u{7f}""#,
    r#"extension "3;a=\u{b}""#,
    r#"extension "3;(a)""#,
    r#"extension "3;a=b,c""#,
    r#"extension "3;a=[b]""#,
    r#"extension "3;a:b""#,
    r#"extension "3;é""#,
    r#"extension "3;a=é""#,
    // Bare LF in trailers.
    r#"chunks "3\r\nabc\r\n0\r\n\n""#,
    r#"chunks "3\r\nabc\r\n0\r\nX-T: 1\n\r\n""#,
    r#"chunks "3\r\nabc\r\n0\r\nX-T: 1\r\n\n""#,
];
