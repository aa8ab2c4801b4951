//! An origin, a proxy and a client: what a test needs to prove a promise over real sockets.
//!
//! Plain threads and blocking sockets, on purpose: nothing here shares code with the proxy, so a
//! mistake cannot be made on both sides at once. Every wait has a deadline, nothing sleeps for luck.

pub mod certs;
pub mod client;
pub mod dns;
pub mod frames;
pub mod grpc;
pub mod haproxy;
pub mod http2;
pub mod nginx;
pub mod origin;
pub mod program;
pub mod proxy;
pub mod recorder;
pub mod strict;
pub mod wire;

use std::time::{Duration, Instant};

pub use client::{Client, get};
pub use origin::{Origin, Then, ok, reply};
pub use program::program;
pub use proxy::{Proxy, one_route};
pub use recorder::Recorder;
pub use wire::Message;

/// How long anything in a test may take before the test fails. Generous, because a loaded machine
/// is no reason to fail; a test that passes never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Waits until `condition` holds, and fails the test when it does not before the deadline.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "it never happened that {what}");
        // A poll interval, not a guess: the loop ends as soon as the condition holds.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Something that some threads wait for until another opens it; it opens by itself at the deadline.
#[derive(Clone, Default)]
pub struct Gate(std::sync::Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn wait(&self) {
        let guard = self.0.0.lock().unwrap();
        let (mut is_open, _) = self.0.1.wait_timeout_while(guard, DEADLINE, |is_open| !*is_open).unwrap();
        *is_open = true;
    }

    /// Whether anyone has opened it, or the deadline has: what came before then did not wait for it.
    pub fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }
}

/// A request that a server holds in its hands: `asked` opens when it has it, and it answers when `go` does.
#[derive(Clone, Default)]
pub struct Held {
    pub asked: Gate,
    pub go: Gate,
}

impl Held {
    /// The server's side.
    pub fn hold(&self) {
        self.asked.open();
        self.go.wait();
    }
}
