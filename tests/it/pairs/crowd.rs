//! Many clients at once through a proxy that keeps its connections to Tidegate: a refusal is for its own client.

use super::rig::{Other, Place, Stage};
use crate::strict::table::BODY_MAX;
use crate::support::Client;

const CLIENTS: usize = 8;
const ROUNDS: usize = 25;

#[test]
fn refusals_through_nginx_are_for_those_who_asked_for_them() {
    mingle(Other::Nginx);
}

#[test]
fn refusals_through_haproxy_are_for_those_who_asked_for_them() {
    mingle(Other::Haproxy);
}

/// What the other proxy passes on, and Tidegate refuses with the end of its connection.
fn bad_ones() -> Vec<String> {
    vec![
        "GET /bad HTTP/1.1\r\nHost: te~st@\r\n\r\n".to_owned(),
        "GET /%00 HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(),
        "GET /bad%2 HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(),
        "TRACE /bad HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(),
        format!(
            "POST /bad HTTP/1.1\r\nHost: test\r\nContent-Length: {0}\r\n\r\n{1}",
            BODY_MAX + 1,
            "x".repeat(BODY_MAX + 1)
        ),
        "OPTIONS /bad HTTP/1.1\r\nHost: test\r\nMax-Forwards: x\r\n\r\n".to_owned(),
    ]
}

#[track_caller]
fn mingle(other: Other) {
    let Some(stage) = Stage::start(other, Place::Before, "") else { return };
    let entry = stage.entry();
    let bad_ones = bad_ones();

    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let bad_ones = &bad_ones;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let bad = &bad_ones[(client + round) % bad_ones.len()];
                    let refused = Client::connect(entry).send(bad).try_response();
                    // Its own proxy may give it up while it is still speaking.
                    assert!(
                        refused.is_err() || refused.is_ok_and(|answer| answer.status() >= 400),
                        "{bad:?}"
                    );
                    let own = format!("GET /own-{client}-{round}");
                    let good = format!("{own} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
                    let answer = Client::connect(entry).send(good).response();
                    assert_eq!((answer.status(), answer.text()), (200, own));
                }
            });
        }
    });

    let log = stage.news();
    assert_eq!(stage.check_log(&log), Ok(()));
    assert_eq!(log.requests.len(), CLIENTS * ROUNDS);
}
