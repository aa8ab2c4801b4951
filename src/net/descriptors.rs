//! File descriptors: how many the process may have, and for whom they are.
//!
//! Every connection is one. What the process needs for itself (event queues,
//! logs, the admin listener, DNS, probes) is set aside first; clients may have
//! half of the rest, because a client's request wants a server's connection,
//! and servers have what clients leave. So neither can take what the others
//! need to go on, and the operator can look in when all is taken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set aside whatever the configuration says: standard streams, the control thread's event queue and signals, the access
/// log, name servers, `/proc` for metrics, and some dozens of connections to the admin listener.
const OWN: usize = 64;
/// Set aside for each worker: its event queue, its wake-ups, and a few to spare.
const OWN_OF_WORKER: usize = 4;
/// Of each worker's listeners: the socket, and a connection that is accepted only to be refused.
const OWN_OF_SOCKET: usize = 2;
/// Between two warnings that there are none.
const WARNING_EVERY: Duration = Duration::from_secs(1);

/// How the descriptors of the process are shared out.
pub struct Descriptors {
    limit: usize,
    clients: AtomicUsize,
    servers: AtomicUsize,
    /// Connections to servers.
    open: AtomicUsize,
    /// When the next warning is due, in milliseconds since the process began.
    warning: AtomicU64,
}

/// A connection to a server may be opened; given back when it is dropped.
pub struct Descriptor(Arc<Descriptors>);

/// What the configuration wants of descriptors.
#[derive(Debug, Clone, Copy)]
pub struct Wants {
    /// Connections of clients at once.
    pub clients: usize,
    /// Worker threads.
    pub workers: usize,
    /// Listeners, each with a socket of each worker.
    pub listeners: usize,
    /// Probes at once.
    pub probes: usize,
}

/// Raises the soft limit on descriptors to the hard one, as every proxy does: the soft one is low for the sake of programs
/// that use `select`. Says what it is then.
pub fn raise() -> usize {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    // Refused only where "unlimited" is more than the kernel gives anyone; then it stays as it is.
    let limit = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => now.maximum,
        Err(_) => now.current,
    };
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Whether nothing but a shortage on this machine kept a socket from being opened: nobody else is to blame.
pub fn is_shortage(error: &io::Error) -> bool {
    // Not ADDRNOTAVAIL: besides a shortage of ports it says that there is no way to that address.
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

impl Wants {
    /// What is set aside before anyone connects.
    fn own(self) -> usize {
        OWN + self.probes + self.workers * (OWN_OF_WORKER + self.listeners * OWN_OF_SOCKET)
    }

    /// How many descriptors would do.
    pub fn enough(self) -> usize {
        self.own() + 2 * self.clients
    }
}

impl Descriptors {
    /// Shares out `limit` descriptors.
    pub fn share(limit: usize, wants: Wants) -> Arc<Self> {
        let shared = Arc::new(Descriptors {
            limit,
            clients: AtomicUsize::default(),
            servers: AtomicUsize::default(),
            open: AtomicUsize::default(),
            warning: AtomicU64::default(),
        });
        shared.share_again(wants);
        shared
    }

    /// Shares them out for another configuration. What is open stays open.
    pub fn share_again(&self, wants: Wants) {
        let rest = self.limit.saturating_sub(wants.own());
        // At least one: a process that serves nobody is of no use to find out why.
        let clients = wants.clients.min(rest / 2).max(1);
        self.clients.store(clients, Relaxed);
        self.servers.store(rest.saturating_sub(clients).max(1), Relaxed);
    }

    /// How many there are in all.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Connections that clients may have at once.
    pub fn clients(&self) -> usize {
        self.clients.load(Relaxed)
    }

    /// One for a connection to a server.
    ///
    /// # Errors
    /// There is none to spare, in the kernel's words.
    pub fn for_server(self: &Arc<Self>) -> io::Result<Descriptor> {
        let more = |open: usize| (open < self.servers.load(Relaxed)).then(|| open + 1);
        match self.open.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(Descriptor(self.clone())),
            Err(_) => Err(Errno::MFILE.into()),
        }
    }

    /// Whether the log may say now that there are none: once a second. `now` is the time since the process began.
    pub fn may_warn(&self, now: Duration) -> bool {
        let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let is_due = |due: u64| (due <= in_ms(now)).then(|| in_ms(now + WARNING_EVERY));
        self.warning.fetch_update(Relaxed, Relaxed, is_due).is_ok()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTS: Wants = Wants { clients: 1000, workers: 2, listeners: 2, probes: 10 };

    #[test]
    fn clients_have_half_of_what_the_process_does_not_need_itself_and_servers_the_rest() {
        let own = 64 + 10 + 2 * (4 + 2 * 2);
        for (limit, clients, servers) in [
            (1_000_000, 1000, 1_000_000 - own - 1000),
            (WANTS.enough(), 1000, 1000),
            (own + 501, 250, 251),
            // Too few for anything: one client all the same, to ask what is wrong.
            (own, 1, 1),
            (10, 1, 1),
        ] {
            let shared = Descriptors::share(limit, WANTS);
            assert_eq!((shared.clients(), shared.servers.load(Relaxed)), (clients, servers), "{limit}");
        }
    }

    #[test]
    fn servers_get_no_more_than_their_share_and_what_is_given_back_is_there_again() {
        let shared = Descriptors::share(0, WANTS);
        let first = shared.for_server();

        let refused = shared.for_server().err().unwrap();
        assert!(is_shortage(&refused), "{refused}");
        drop(first);

        assert!(shared.for_server().is_ok());
    }

    #[test]
    fn a_warning_is_due_once_a_second() {
        let shared = Descriptors::share(0, WANTS);
        let at = |ms| shared.may_warn(Duration::from_millis(ms));
        assert_eq!([at(5), at(6), at(1004), at(1005), at(1006)], [true, false, false, true, false]);
    }

    #[test]
    fn only_a_shortage_of_ours_is_one() {
        for (errno, is_ours) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOBUFS, true),
            (Errno::CONNREFUSED, false),
            (Errno::NETUNREACH, false),
            (Errno::ADDRNOTAVAIL, false),
        ] {
            assert_eq!(is_shortage(&errno.into()), is_ours, "{errno}");
        }
    }
}
