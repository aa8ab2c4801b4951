//! What strangers may cost: at each limit new work is refused, and what is in progress goes on; whoever is slow, silent or
//! hoards is ended in its time, and others are served meanwhile.

mod descriptors;
mod limits;
mod slow;
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Gate, Origin, Proxy, get, ok};

/// Between two drops of what is dripped.
const DROP_EVERY: Duration = Duration::from_millis(20);

/// How often a connection was refused for this reason.
#[track_caller]
fn refused(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("tidegate_connections_refused_total", &[&format!("reason=\"{reason}\"")])
}

/// How often a request was answered by the proxy itself, or ended, for this reason.
#[track_caller]
fn refusals(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("tidegate_refusals_total", &[&format!("reason=\"{reason}\"")])
}

/// Client connections open now.
#[track_caller]
fn open(proxy: &Proxy, listener: &str) -> f64 {
    proxy.metric("tidegate_connections", &[&format!("listener=\"{listener}\"")])
}

#[track_caller]
fn memory(proxy: &Proxy) -> f64 {
    proxy.metric("process_resident_memory_bytes", &[])
}

/// An origin that answers `/slow` when the gate is open, and all else at once.
fn gated() -> (Origin, Gate) {
    let gate = Gate::default();
    (gated_by(&gate), gate)
}

/// The same behind a gate that others have too.
fn gated_by(gate: &Gate) -> Origin {
    let waits = gate.clone();
    Origin::start(move |request| {
        if request.target() == "/slow" {
            waits.wait();
        }
        ok("served")
    })
}

/// Sends `bytes` one by one, with a pause after each, until the other side hangs up or there are none left. Says how
/// long that took since `began` and what came back. Every now and then `proxy` must serve a healthy client.
#[track_caller]
///
/// That is a moment before the connection was made, so before any limit of it began to run.
fn drip(
    proxy: &Proxy,
    healthy: &str,
    (tcp, began): (&mut TcpStream, Instant),
    bytes: &[u8],
) -> (Duration, Vec<u8>) {
    let mut heard = Vec::new();
    // To read for that long is the pause, and finds the end.
    tcp.set_read_timeout(Some(DROP_EVERY)).unwrap();
    for (nth, byte) in bytes.iter().enumerate() {
        if tcp.write_all(&[*byte]).is_err() || has_ended(tcp, &mut heard) {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "it was not ended in its time");
        if nth % 10 == 0 {
            assert_eq!(get(proxy.address(healthy), "/").status(), 200);
        }
    }
    (began.elapsed(), heard)
}

fn has_ended(tcp: &mut TcpStream, heard: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    match tcp.read(&mut buffer) {
        Ok(0) => true,
        Ok(count) => {
            heard.extend(&buffer[..count]);
            false
        }
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
