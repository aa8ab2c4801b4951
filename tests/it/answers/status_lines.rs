//! The first line of an answer (RFC 9112 section 4).

use super::rig::{Case, Outcome, Then, examine, refused, whole};

/// This line, and behind it a response that is well.
fn with(name: &str, line: &str, expected: Outcome) -> Case {
    Case::new(name, format!("{line}\r\nContent-Length: 2\r\n\r\nok"), expected)
}

#[test]
fn a_status_line_that_is_none_is_answered_502() {
    let malformed = |(name, line): &(&str, &str)| with(name, line, refused("malformed-response"));
    let lines = [
        ("HTTP/2", "HTTP/2.0 200 OK"),
        ("HTTP/1.2", "HTTP/1.2 200 OK"),
        ("HTTP/1.10", "HTTP/1.10 200 OK"),
        ("HTTP/0.9", "HTTP/0.9 200 OK"),
        ("a version of one number", "HTTP/1 200 OK"),
        ("another protocol", "ICY 200 OK"),
        ("lower case", "http/1.1 200 OK"),
        ("a space in the version", "HTTP /1.1 200 OK"),
        ("no version", "200 OK"),
        ("a request", "GET / HTTP/1.1"),
        ("two spaces", "HTTP/1.1  200 OK"),
        ("a tab for a space", "HTTP/1.1\t200 OK"),
        ("no space", "HTTP/1.1200 OK"),
        ("no status", "HTTP/1.1"),
        ("no status but a space", "HTTP/1.1 "),
        ("two digits", "HTTP/1.1 20 OK"),
        ("four digits", "HTTP/1.1 2000 OK"),
        ("000", "HTTP/1.1 000 OK"),
        ("099", "HTTP/1.1 099 OK"),
        ("a negative status", "HTTP/1.1 -20 OK"),
        ("letters", "HTTP/1.1 abc OK"),
        ("a letter among digits", "HTTP/1.1 2x0 OK"),
        ("a hexadecimal status", "HTTP/1.1 0xc8 OK"),
        ("a status and a comma", "HTTP/1.1 200, OK"),
        ("a NUL in the reason", "HTTP/1.1 200 O\0K"),
        ("a control character in the reason", "HTTP/1.1 200 O\x01K"),
        ("DEL in the reason", "HTTP/1.1 200 O\x7fK"),
        ("a CR in the reason", "HTTP/1.1 200 O\rK"),
        ("a CR and a field in the reason", "HTTP/1.1 200 OK\rXX-A: 1"),
        ("two CRs", "HTTP/1.1 200 OK\r"),
        ("a leading space", " HTTP/1.1 200 OK"),
        ("a leading NUL", "\0HTTP/1.1 200 OK"),
        ("a leading word", "garbage HTTP/1.1 200 OK"),
        ("a leading line", "garbage\r\nHTTP/1.1 200 OK"),
        ("a leading empty line", "\r\nHTTP/1.1 200 OK"),
        ("leading LF", "\nHTTP/1.1 200 OK"),
        ("another server's greeting", "220 mail.test ESMTP"),
    ];
    let mut cases: Vec<_> = lines.iter().map(malformed).collect();
    let long = "a".repeat(70_000);
    cases.push(with("a reason without end", &format!("HTTP/1.1 200 {long}"), refused("malformed-response")));
    for status in ["600", "666", "999"] {
        cases.push(with(status, &format!("HTTP/1.1 {status} Odd"), refused("response-status")));
    }

    examine(cases);
}

#[test]
fn a_status_line_that_only_says_little_or_much_is_taken() {
    let long = format!("HTTP/1.1 200 {}", "a".repeat(4000));
    let lines = [
        ("no reason", "HTTP/1.1 200 "),
        ("no space behind the status", "HTTP/1.1 200"),
        ("a tab in the reason", "HTTP/1.1 200 O\tK"),
        ("a reason that is no ASCII", "HTTP/1.1 200 schön"),
        ("a long reason", &long),
    ];
    examine(lines.iter().map(|(name, line)| with(name, line, whole("ok")).and_again()).collect());
}

#[test]
fn a_head_with_a_line_that_ends_in_lf_alone_is_answered_502() {
    let head = "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n";
    let at = |line: usize| {
        let place = head.match_indices("\r\n").nth(line).unwrap().0;
        format!("{}\n{}ok", &head[..place], &head[place + 2..])
    };
    let mut cases: Vec<_> = (0..4)
        .map(|line| Case::new(format!("line {line}"), at(line), refused("malformed-response")))
        .collect();
    let all = head.replace("\r\n", "\n") + "ok";
    cases.push(Case::new("every line", all, refused("malformed-response")));
    // What a server that keeps only CR out of its values could be made to say.
    let split = "HTTP/1.1 200 OK\r\nX-A: 1\n\nHTTP/1.1 200 OK\nContent-Length: 3\n\nbad\r\nContent-Length: 2\r\n\r\nok";
    cases.push(Case::new("a response within a value", split, refused("malformed-response")));

    examine(cases);
}

#[test]
fn a_head_that_breaks_off_is_answered_502() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    let mut cases = Vec::new();
    for length in [0, 1, 7, 8, 9, 12, 15, 16, 17, 30, head.len() - 2, head.len() - 1] {
        for (then, how) in [(Then::Close, "ends"), (Then::Reset, "is reset")] {
            let name = format!("after {length} bytes it {how}");
            cases.push(Case::new(name, &head[..length], refused("reset")).then(then));
        }
    }

    examine(cases);
}
