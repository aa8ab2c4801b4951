//! How an answer's body is framed (RFC 9112 section 6.3): by one thing only.

use super::rig::{Case, Outcome, Then, examine, refused, whole};

fn framed(fields: &str, body: &str, expected: Outcome) -> Case {
    Case::new(format!("{fields:?}"), format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}"), expected)
}

#[test]
fn a_length_that_is_not_one_number_is_answered_502() {
    let ours = "response-content-length";
    let lengths = [
        "5, 7",
        "7, 5",
        "5,",
        "-5",
        "+5",
        "abc",
        "",
        "0x5",
        "5 5",
        "5.0",
        "5;a",
        "\"5\"",
        "５",
        "18446744073709551616",
        "99999999999999999999999999999999",
        "5, 5",
    ];
    let mut cases: Vec<_> = lengths
        .iter()
        .map(|length| framed(&format!("Content-Length: {length}"), "hello", refused(ours)))
        .collect();
    cases.push(framed("Content-Length: 5\r\nContent-Length: 7", "hello", refused(ours)));
    cases.push(framed("Content-Length: 7\r\nContent-Length: 5", "hello", refused(ours)));
    cases.push(framed("Content-Length: 5\r\nContent-Length: ", "hello", refused(ours)));
    // Where there is no body it is looked at all the same.
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
        for length in ["5, 7", "abc", "", "-5"] {
            let says = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            cases
                .push(Case::new(format!("{method} {status} {length:?}"), says, refused(ours)).method(method));
        }
    }

    examine(head_only(cases));
}

/// An answer to HEAD has no body to say a reason in.
fn head_only(cases: Vec<Case>) -> Vec<Case> {
    let bare = |case: Case| match (case.method, &case.expected) {
        ("HEAD", Outcome::Refused(status, _)) => {
            Case { expected: Outcome::Refused(*status, String::new()), ..case }
        }
        _ => case,
    };
    cases.into_iter().map(bare).collect()
}

#[test]
fn a_length_that_is_said_twice_is_one_length() {
    examine(vec![
        framed("Content-Length: 5\r\nContent-Length: 5", "hello", whole("hello")).and_again(),
        framed("Content-Length: 005", "hello", whole("hello")).and_again(),
    ]);
}

#[test]
fn a_transfer_coding_other_than_one_chunked_is_answered_502() {
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let codings = [
        "gzip, chunked",
        "gzip",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "xchunked",
        "x chunked",
        "chunked;q=1",
        "\"chunked\"",
        "",
        "chunkéd",
    ];
    let reason = refused("response-transfer-encoding");
    let mut cases: Vec<_> = codings
        .iter()
        .map(|coding| framed(&format!("Transfer-Encoding: {coding}"), chunked, reason.clone()))
        .collect();
    for second in ["chunked", "gzip", "identity", ""] {
        let fields = format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {second}");
        cases.push(framed(&fields, chunked, reason.clone()));
    }
    cases.push(framed("Transfer-Encoding: \x0bchunked", chunked, refused("malformed-response")));
    cases.push(Case::new(
        "chunked in HTTP/1.0",
        format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        reason.clone(),
    ));
    for (method, status) in [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")] {
        let says = format!("HTTP/1.0 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
        cases.push(
            Case::new(format!("chunked in HTTP/1.0, {method} {status}"), says, reason.clone()).method(method),
        );
        let says = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
        cases.push(Case::new(format!("gzip, {method} {status}"), says, reason.clone()).method(method));
    }

    examine(head_only(cases));
}

#[test]
fn a_length_and_chunks_together_are_answered_502() {
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    let reason = refused("response-content-length");
    examine(vec![
        framed("Content-Length: 5\r\nTransfer-Encoding: chunked", chunked, reason.clone()),
        framed("Transfer-Encoding: chunked\r\nContent-Length: 15", chunked, reason.clone()),
        framed("Transfer-Encoding: chunked\r\nContent-Length: 0", chunked, reason),
    ]);
}

#[test]
fn what_has_no_body_says_how_long_it_would_be() {
    let nothing = |status| Outcome::Whole(status, String::new());
    let says = |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n");
    examine(vec![
        Case::new("HEAD, length", says("200 OK", "Content-Length: 5"), nothing(200))
            .method("HEAD")
            .and_again(),
        Case::new("HEAD, chunks", says("200 OK", "Transfer-Encoding: chunked"), nothing(200))
            .method("HEAD")
            .and_again(),
        Case::new("304, length", says("304 Not Modified", "Content-Length: 5"), nothing(304)).and_again(),
        Case::new("304, chunks", says("304 Not Modified", "Transfer-Encoding: chunked"), nothing(304))
            .and_again(),
        Case::new("204", says("204 No Content", "X-A: 1"), nothing(204)).and_again(),
        Case::new("204, no length", says("204 No Content", "Content-Length: 0"), nothing(204)).and_again(),
        // It should not say so (RFC 9110 section 8.6): what it says may follow.
        Case::new("204, length", says("204 No Content", "Content-Length: 5"), nothing(204)),
        Case::new("204, chunks", says("204 No Content", "Transfer-Encoding: chunked"), nothing(204)),
    ]);
}

#[test]
fn a_response_of_http_1_0_is_taken_and_its_connection_is_not_used_again() {
    let says = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello";
    let until_the_end = "HTTP/1.0 200 OK\r\n\r\nhello";
    examine(vec![
        Case::new("with a length", says, whole("hello")),
        Case::new("without one", until_the_end, whole("hello")).then(Then::Close),
    ]);
}
