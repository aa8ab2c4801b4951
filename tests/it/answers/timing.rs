//! Answers that take too long, in every part.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::eventually;

use super::rig::{Conn, Outcome, Server, Then, over_http1, over_http2};

/// A byte now and then, until the other side has had enough; at most for a minute.
pub fn drip(conn: &mut Conn) {
    conn.get_ref().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    for _ in 0..3000 {
        if conn.get_mut().write_all(b"a").is_err() {
            return;
        }
        match conn.get_mut().read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => return,
        }
    }
}

#[test]
fn a_head_that_drips_is_answered_504_when_the_first_byte_was_due() {
    let begun = [
        "HTTP/1.1 200 ",
        "HTTP/1.1 200 OK\r\nX-",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nX-A: ",
    ];
    for begun in begun {
        let is_told = Arc::new(AtomicBool::new(false));
        let told = is_told.clone();
        let server = Server::start(move |_, conn| {
            let _ = conn.get_mut().write_all(begun.as_bytes());
            drip(conn);
            told.store(true, Ordering::SeqCst);
            Then::Close
        });
        let proxy = server.proxy("", "first-byte-timeout = \"300ms\"\nretries = 0\neject = false");

        let late = Outcome::Refused(504, "first-byte-timed-out".to_owned());
        assert_eq!(over_http1(proxy.public(), "GET", "/"), late, "{begun:?}");
        eventually("its connection is closed", || is_told.load(Ordering::SeqCst));
        assert_eq!(over_http2(proxy.public(), "GET", "/"), late, "{begun:?}");
    }
}

#[test]
fn a_head_that_stops_is_answered_504() {
    let server = Server::start(|request, conn| {
        let length = request.target().trim_start_matches('/').parse::<usize>().unwrap();
        let _ = conn.get_mut().write_all(&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r"[..length]);
        let _ = conn.get_mut().read(&mut [0]);
        Then::Close
    });
    let proxy = server.proxy("", "first-byte-timeout = \"200ms\"\nretries = 0\neject = false");

    let late = Outcome::Refused(504, "first-byte-timed-out".to_owned());
    for length in [0, 4, 20, 37] {
        assert_eq!(over_http1(proxy.public(), "GET", &format!("/{length}")), late);
        assert_eq!(over_http2(proxy.public(), "GET", &format!("/{length}")), late);
    }
    assert_eq!(server.connections(), 8);
}
