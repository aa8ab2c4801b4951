//! `Transfer-Encoding` (RFC 9112 section 6.1): exactly one `chunked`, over HTTP/1.1, without a length beside it.

use super::table::{check, chunked, get, post, refused, served};

/// Played here before Tidegate alone, and in [`crate::pairs`] with another proxy beside it.
pub const TABLES: &[fn()] = &[
    one_chunked_is_spoken_and_written_anew,
    anything_but_one_chunked_is_refused,
    several_lines_are_refused,
    a_length_beside_it_is_refused,
    a_name_that_is_almost_transfer_encoding_is_refused_or_means_nothing,
    http_1_0_has_no_transfer_codings,
    te_asks_for_trailers_and_nothing_else,
    a_body_of_no_chunks_is_a_body_all_the_same,
];

const BODY: &str = "3\r\nabc\r\n0\r\n\r\n";

fn of(value: &str) -> String {
    post(&format!("Transfer-Encoding: {value}\r\n"), BODY)
}

#[test]
fn one_chunked_is_spoken_and_written_anew() {
    let values = ["chunked", "Chunked", "CHUNKED", "cHuNkEd", "  chunked", "chunked  ", "\tchunked\t"];
    let values = values.map(|value| {
        served(format!("{value:?}"), of(value), &["POST /x abc"])
            .with("transfer-encoding: chunked")
            .without("content-length")
    });
    let lines =
        ["transfer-encoding: chunked\r\n", "TRANSFER-ENCODING: chunked\r\n", "Transfer-Encoding:chunked\r\n"];
    let lines = lines.map(|line| served(line, post(line, BODY), &["POST /x abc"]));
    let methods = ["GET", "HEAD", "DELETE", "OPTIONS", "PUT"].map(|method| {
        let bytes = format!("{method} /x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}");
        served(method, bytes, &[format!("{method} /x abc").as_str()]).with("transfer-encoding: chunked")
    });
    check(values.into_iter().chain(lines).chain(methods));
}

#[test]
fn anything_but_one_chunked_is_refused() {
    let values = [
        "",
        " ",
        "identity",
        "gzip",
        "deflate",
        "compress",
        "br",
        "x-gzip",
        "trailers",
        "cow",
        "0",
        "*",
        "gzip, chunked",
        "gzip,chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,chunked",
        "chunked chunked",
        "identity, chunked",
        "chunked, identity",
        "identity,chunked,identity",
        "chunked,",
        "chunked, ",
        ",chunked",
        ", chunked",
        ",,chunked",
        "chunked,,",
        ",",
        "chunked, ,",
        "chunked;",
        "chunked ;",
        "chunked;q=1",
        "chunked;q=0",
        "chunked; a=b",
        "chunked;a=\"b\"",
        ";chunked",
        "\"chunked\"",
        "'chunked'",
        "`chunked`",
        "(chunked)",
        "[chunked]",
        "<chunked>",
        "xchunked",
        "x-chunked",
        "chunkedx",
        "chunked-x",
        "chunk",
        "chunke",
        "hunked",
        "chunkedchunked",
        "chun ked",
        "chun\tked",
        "x chunked",
        "chunked x",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\u{c}",
        "chunked\0",
        "\0chunked",
        "chun\0ked",
        "chunked\u{1}",
        "\u{1}chunked",
        "chunked\u{7f}",
        "chunked\u{80}",
        "\u{85}chunked",
        "chunked\u{85}",
        "\u{a0}chunked",
        "chunked\u{a0}",
        "ch\u{fc}nked",
        "chun\u{e2}\u{84}\u{aa}ed",
        "\u{ef}\u{bb}\u{bf}chunked",
        "chunked/1",
        "chunked=1",
        "chunked:",
        ":chunked",
        "chunked#",
        "chunked\\",
        "\\chunked",
        "chunked%00",
        "chunked.",
        "chunked\r",
        "\rchunked",
        "ch\u{75}nked, cow",
        "cow, chunked",
        "Content-Length: 3",
    ];
    check(values.iter().map(|value| refused(format!("te {value:?}"), of(value), &[400, 501])));
}

#[test]
fn several_lines_are_refused() {
    let rows = [
        ("chunked", "chunked"),
        ("chunked", "Chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("gzip", "chunked"),
        ("chunked", "gzip"),
        ("chunked", ""),
        ("", "chunked"),
        ("cow", "chunked"),
        ("chunked", "cow"),
        ("chunked", ","),
    ];
    check(rows.map(|(a, b)| {
        let fields = format!("Transfer-Encoding: {a}\r\nTransfer-Encoding: {b}\r\n");
        refused(format!("lines {a:?} {b:?}"), post(&fields, BODY), &[400, 501])
    }));
}

#[test]
fn a_length_beside_it_is_refused() {
    let rows = [
        ("length first", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        ("length second", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("length of the whole", "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n"),
        ("length of nothing", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("length too long", "Content-Length: 300\r\nTransfer-Encoding: chunked\r\n"),
        ("length in upper case", "CONTENT-LENGTH: 3\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
        (
            "length between others",
            "X-A: 1\r\nContent-Length: 3\r\nX-B: 1\r\nTransfer-Encoding: chunked\r\nX-C: 1\r\n",
        ),
        ("length that is none", "Content-Length: x\r\nTransfer-Encoding: chunked\r\n"),
        ("empty length", "Content-Length:\r\nTransfer-Encoding: chunked\r\n"),
        ("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ("length and identity", "Content-Length: 13\r\nTransfer-Encoding: identity\r\n"),
        ("length and gzip", "Content-Length: 13\r\nTransfer-Encoding: gzip\r\n"),
        ("length and no coding", "Content-Length: 13\r\nTransfer-Encoding:\r\n"),
        ("length and a comma", "Content-Length: 13\r\nTransfer-Encoding: ,\r\n"),
        ("length and a look-alike of chunked", "Content-Length: 13\r\nTransfer-Encoding: \u{b}chunked\r\n"),
        (
            "length, and Connection takes one away",
            "Connection: content-length\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "length, and Connection takes the other away",
            "Connection: transfer-encoding\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        ),
    ];
    let cases = rows.map(|(name, fields)| refused(name, post(fields, BODY), &[400, 501]));
    let get_too =
        refused("length on a GET", get("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n") + BODY, &[400]);
    check(cases.into_iter().chain([get_too]));
}

#[test]
fn a_name_that_is_almost_transfer_encoding_is_refused_or_means_nothing() {
    let bad = [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "\tTransfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer Encoding: chunked",
        "Transfer-Encoding\u{b}: chunked",
        "\u{a0}Transfer-Encoding: chunked",
        "Transfer-Encoding\u{a0}: chunked",
        "Transfer-Encod\u{ef}ng: chunked",
        "Transfer-Encoding",
        "Transfer-Encoding chunked",
        "Transfer-Encoding= chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: \r\n\tchunked",
        "Transfer-Encoding: chunked\r\n , gzip",
        "Transfer-Encoding: chunked\r\n ",
        "X-A: 1\r\n Transfer-Encoding: chunked",
        "X-A: 1\r\n\tTransfer-Encoding: chunked",
        "Transfer-Encoding\r: chunked",
        "X-A: 1\rTransfer-Encoding: chunked",
        "\"Transfer-Encoding\": chunked",
        "Transfer-Encoding;: chunked",
        "\u{1}Transfer-Encoding: chunked",
        "Transfer-Encoding\u{7f}: chunked",
    ];
    let bad =
        bad.map(|line| refused(format!("name {line:?}"), post(&format!("{line}\r\n"), BODY), &[400, 501]));
    let nothing = [
        "Transfer_Encoding",
        "transfer_encoding",
        "Transfer.Encoding",
        "Transfer-Encodin",
        "XTransfer-Encoding",
        "Transfer-Encoding-",
    ];
    let nothing = nothing.map(|name| {
        let case =
            served(name, post(&format!("{name}: chunked\r\nContent-Length: 3\r\n"), "abc"), &["POST /x abc"]);
        case.without("transfer_encoding")
            .without("transfer.encoding")
            .without("transfer-encoding")
            .with("content-length: 3")
    });
    check(bad.into_iter().chain(nothing));
}

#[test]
fn http_1_0_has_no_transfer_codings() {
    let old = |fields: &str| format!("POST /x HTTP/1.0\r\nHost: test\r\n{fields}\r\n{BODY}");
    let rows = [
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 13\r\nConnection: keep-alive\r\n",
    ];
    check(rows.map(|fields| refused(format!("1.0 {fields:?}"), old(fields), &[400, 501])));
}

#[test]
fn te_asks_for_trailers_and_nothing_else() {
    let rows = [
        ("gzip", false),
        ("chunked", false),
        ("trailers", true),
        ("Trailers", true),
        ("deflate;q=0.5, trailers", true),
        ("", false),
        ("trailersx", false),
        ("trailers, chunked", true),
    ];
    check(rows.map(|(value, is_passed)| {
        let case = served(format!("{value:?}"), get(&format!("TE: {value}\r\n")), &["GET /x"]);
        if is_passed {
            case.with("te: trailers").with("connection: te")
        } else {
            case.without("te").without("connection")
        }
    }));
}

#[test]
fn a_body_of_no_chunks_is_a_body_all_the_same() {
    check([served("empty", chunked("0\r\n\r\n"), &["POST /x"]).with("transfer-encoding: chunked")]);
}
