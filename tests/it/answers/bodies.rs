//! Bodies that are shorter or longer than they were to be, and what follows them.

use super::rig::{Case, Outcome, Then, examine, whole};

/// A second response that nobody asked for.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

#[test]
fn a_body_that_is_shorter_than_announced_is_never_made_to_look_whole() {
    let mut cases = Vec::new();
    for (body, what) in [("", "nothing"), ("h", "a byte"), ("hell", "all but one")] {
        for (then, how) in [(Then::Close, "an end"), (Then::Reset, "a reset"), (Then::Keep, "silence")] {
            let says = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}");
            cases.push(Case::new(format!("{what}, then {how}"), says, Outcome::Cut).then(then));
        }
    }
    let says = "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nhello";
    cases.push(Case::new("more than there is", says, Outcome::Cut).then(Then::Close));
    let says = "HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\nhel";
    cases.push(Case::new("of an error", says, Outcome::Cut).then(Then::Close));

    examine(cases);
}

#[test]
fn what_follows_a_body_reaches_nobody() {
    let nothing = |status| Outcome::Whole(status, String::new());
    let of_length = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let mut cases = Vec::new();
    for (extra, what) in [(POISON, "a response"), ("x", "a byte"), ("\r\n", "an empty line"), ("\0", "NUL")] {
        let mut case = |name: &str, says: String, method, expected| {
            cases.push(Case::new(format!("{name}, then {what}"), says + extra, expected).method(method));
        };
        case("a length", of_length(2) + "ok", "GET", whole("ok"));
        case("length 0", of_length(0), "GET", whole(""));
        case("chunks", chunked.to_owned(), "GET", whole("ok"));
        case("204", "HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "GET", nothing(204));
        case("304", "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), "GET", nothing(304));
        case("HEAD", of_length(40), "HEAD", nothing(200));
        case(
            "HEAD of chunks",
            chunked.split_inclusive("\r\n\r\n").next().unwrap().to_owned(),
            "HEAD",
            nothing(200),
        );
    }
    let says = "HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\nhello";
    cases.push(Case::new("205 with a body", says, Outcome::Whole(205, "hello".to_owned())).and_again());
    let with_body = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello";
    cases.push(Case::new("304 with a body", with_body, nothing(304)));

    examine(cases);
}

#[test]
fn a_body_without_a_length_is_whole_when_its_connection_ends_and_not_when_it_is_reset() {
    let says = "HTTP/1.1 200 OK\r\n\r\nhello";
    examine(vec![
        Case::new("an end", says, whole("hello")).then(Then::Close),
        Case::new("an end at once", "HTTP/1.1 200 OK\r\n\r\n", whole("")).then(Then::Close),
        Case::new("a reset", says, Outcome::Cut).then(Then::Reset),
        Case::new("a reset at once", "HTTP/1.1 200 OK\r\n\r\n", Outcome::Cut).then(Then::Reset),
        Case::new("a reset, HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello", Outcome::Cut).then(Then::Reset),
        Case::new("silence", says, Outcome::Cut),
        Case::new(
            "a response that is to be the last",
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{POISON}"),
            whole(POISON),
        )
        .then(Then::Close),
    ]);
}

#[test]
fn a_connection_that_the_server_wants_closed_is_not_used_again() {
    let says = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 2\r\n\r\nok");
    let fields = [
        "Connection: close",
        "connection: CLOSE",
        "Connection: x-a, close",
        "Connection: close, keep-alive",
        "Connection: keep-alive\r\nConnection: close",
        "Connection: close\r\nConnection: keep-alive",
    ];
    let mut cases: Vec<_> = fields.iter().map(|f| Case::new(*f, says(f), whole("ok"))).collect();
    cases.push(Case::new("nothing said", says("X-A: 1"), whole("ok")).and_again());
    cases.push(Case::new("keep-alive", says("Connection: keep-alive"), whole("ok")).and_again());

    examine(cases);
}
