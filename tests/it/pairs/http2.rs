//! A client of HTTP/2 before both: what its frames say must not become other requests of HTTP/1.1.

use super::rig::{Other, Place, Stage};
use crate::http2_rules::{TABLES, cases_of};
use crate::strict::table::SMUGGLED;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, FrameClient, GOAWAY, HEADERS, RST_STREAM, block, frame, get,
};

#[test]
fn nginx_with_http_2_before_tidegate_lets_nothing_be_smuggled() {
    play(Other::Nginx, Place::Before, "http2");
}

#[test]
fn haproxy_with_http_2_before_tidegate_lets_nothing_be_smuggled() {
    play(Other::Haproxy, Place::Before, "proto h2");
}

#[test]
fn tidegate_with_http_2_before_nginx_lets_nothing_be_smuggled() {
    play(Other::Nginx, Place::Behind, "");
}

#[test]
fn tidegate_with_http_2_before_haproxy_lets_nothing_be_smuggled() {
    play(Other::Haproxy, Place::Behind, "");
}

#[track_caller]
fn play(other: Other, place: Place, parameters: &str) {
    let Some(stage) = Stage::start(other, place, parameters) else { return };
    let of_rules = TABLES.iter().copied().flatten().flat_map(|table| cases_of(*table));
    let of_rules = of_rules.map(|(name, bytes, _)| (name.to_owned(), bytes));
    let cases: Vec<(String, Vec<u8>)> = of_rules.chain(requests_in_bodies()).collect();
    assert!(cases.len() > 100, "{} cases", cases.len());

    let mut wrong = Vec::new();
    for (n, (name, bytes)) in cases.iter().enumerate() {
        if let Err(why) = play_one(&stage, n, bytes) {
            wrong.push(format!("- {name}: {why}"));
        }
    }

    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    stage.check_end(cases.len());
}

/// What HTTP/1.1 must frame as a body, whatever the method and however its length was said.
fn requests_in_bodies() -> Vec<(String, Vec<u8>)> {
    let chunks = format!("0\r\n\r\n{SMUGGLED}");
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "BREW"] {
        for (kind, body) in [("a request", SMUGGLED), ("chunks that end early", &chunks)] {
            let head = [(":method", method), (":scheme", "http"), (":path", "/x"), (":authority", "test")];
            let length = body.len().to_string();
            for further in [&[][..], &[("content-length", length.as_str())]] {
                let head = block(&[&head, further].concat());
                let bytes = [frame(HEADERS, END_HEADERS, 1, head), frame(DATA, END_STREAM, 1, body)].concat();
                cases.push((format!("{kind} as the body of {method}, {further:?}"), bytes));
            }
        }
    }
    cases
}

fn play_one(stage: &Stage, n: usize, bytes: &[u8]) -> Result<(), String> {
    let mut client = FrameClient::connect(stage.entry());
    client.send(bytes);
    let next = ask(&mut client, &format!("/next-{n}"));
    let own = ask(&mut FrameClient::connect(stage.entry()), &format!("/own-{n}"));

    // A request of an earlier case may come late: it bears its mark all the same.
    stage.check_log(&stage.news())?;
    match (next, own) {
        (Answer::Other(text), _) => Err(format!("the next request got {text:?}")),
        (_, Answer::Its) => Ok(()),
        (_, own) => Err(format!("a stranger got {own:?}")),
    }
}

/// What comes of a request.
#[derive(Debug)]
enum Answer {
    Its,
    /// The connection or the stream ended.
    None,
    Other(String),
}

fn ask(client: &mut FrameClient, path: &str) -> Answer {
    client.send(get(1001, path));
    let mut body = Vec::new();
    while let Some(frame) = client.next() {
        match frame.kind {
            GOAWAY => return Answer::None,
            RST_STREAM if frame.stream == 1001 => return Answer::None,
            DATA if frame.stream == 1001 => body.extend(&frame.payload),
            HEADERS if frame.stream == 1001 => {}
            _ => continue,
        }
        if frame.flags & END_STREAM != 0 {
            let text = String::from_utf8_lossy(&body).into_owned();
            return if text == format!("GET {path}") { Answer::Its } else { Answer::Other(text) };
        }
    }
    Answer::None
}
