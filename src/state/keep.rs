//! What outlives a configuration: found again, by name, by the next one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::cache::Cache;
use crate::config;
use crate::net::descriptors::Descriptors;
use crate::observe::Metrics;
use crate::state::SocketId;
use crate::upstream::pool_state::PoolState;
use crate::upstream::server::{Entry, ServerState};

/// The process's own state.
pub struct Keep {
    /// All numbers.
    pub metrics: Arc<Metrics>,
    /// All stored responses.
    pub cache: Cache,
    /// Who is connected.
    pub seats: Arc<Seats>,
    /// For whom the process's file descriptors are.
    pub descriptors: Arc<Descriptors>,
    began: Instant,
    workers: usize,
    sockets: AtomicU64,
    listeners: Mutex<HashMap<String, Arc<Guests>>>,
    pools: Mutex<HashMap<String, Arc<PoolState>>>,
    servers: Mutex<HashMap<(String, String), Arc<ServerState>>>,
    /// Signs sticky cookies where no secret is configured.
    secret: [u8; 32],
}

/// Client connections: how many each worker has, and each client.
pub struct Seats {
    by_worker: Box<[CachePadded<AtomicUsize>]>,
    /// Locked when a connection begins and ends, never by a request.
    by_client: Box<[Mutex<HashMap<IpAddr, usize, foldhash::fast::RandomState>>]>,
    handshakes: CachePadded<AtomicUsize>,
}

/// Client connections of one listener.
pub type Guests = CachePadded<AtomicUsize>;

/// A connection's place; free again when it is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    worker: usize,
    client: IpAddr,
    listener: Arc<Guests>,
}

/// A TLS handshake's place; free again when it is dropped.
pub struct Handshake(Arc<Seats>);

/// What limits a connection that has just been accepted.
pub struct Room<'a> {
    /// Connections of the process.
    pub process: usize,
    /// Connections of one client.
    pub client: usize,
    /// Connections of its listener, and how many there are.
    pub listener: (usize, &'a Arc<Guests>),
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The process has as many connections as it may.
    Process,
    /// Its listener has.
    Listener,
    /// This client has.
    Client,
}

/// Shards of the table of clients: enough that workers rarely meet in one.
const CLIENT_SHARDS: usize = 64;

impl Keep {
    /// For a process of so many workers, which has these descriptors.
    pub fn new(workers: usize, cache: &config::Cache, descriptors: Arc<Descriptors>) -> Arc<Self> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).expect("the system has randomness, or TLS could not work either");
        Arc::new(Keep {
            metrics: Metrics::new(workers),
            cache: Cache::new(cache),
            seats: Arc::new(Seats::new(workers)),
            descriptors,
            began: Instant::now(),
            workers,
            sockets: AtomicU64::default(),
            listeners: Mutex::default(),
            pools: Mutex::default(),
            servers: Mutex::default(),
            secret,
        })
    }

    /// Worker threads.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// When the process began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Time since the process began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Signs sticky cookies where no secret is configured; a new one each start.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// A number for the sockets of a new listener.
    pub fn next_socket(&self) -> SocketId {
        self.sockets.fetch_add(1, Relaxed)
    }

    /// How many connections a listener has, the same as long as anybody has it.
    pub fn guests(&self, listener: &str) -> Arc<Guests> {
        lock(&self.listeners).entry(listener.to_owned()).or_default().clone()
    }

    /// What workers share of an upstream, the same as long as anybody has it.
    pub fn pool(&self, upstream: &str) -> Arc<PoolState> {
        let new = || Arc::new(PoolState::new(self.workers));
        lock(&self.pools).entry(upstream.to_owned()).or_insert_with(new).clone()
    }

    /// The state of a server by its id, the same as long as anybody has it; `entry` says how one that is new begins.
    pub fn server(&self, upstream: &str, id: &str, entry: &Entry) -> Arc<ServerState> {
        let pool = self.pool(upstream);
        let (probe, is_draining) = entry.first;
        let new = || Arc::new(ServerState::new(self.workers, pool, probe, is_draining));
        lock(&self.servers).entry((upstream.to_owned(), id.to_owned())).or_insert_with(new).clone()
    }

    /// Forgets servers that nobody has any more: a name may stand for other addresses each minute.
    pub fn forget_unused(&self) {
        lock(&self.servers).retain(|_, state| Arc::strong_count(state) > 1);
    }

    /// Forgets upstreams and listeners, too, that no configuration has any more, and nobody who began under one.
    pub fn forget_all_unused(&self) {
        self.forget_unused();
        lock(&self.pools).retain(|_, state| Arc::strong_count(state) > 1);
        lock(&self.listeners).retain(|_, guests| Arc::strong_count(guests) > 1);
    }
}

impl Seats {
    fn new(workers: usize) -> Self {
        Seats {
            by_worker: (0..workers).map(|_| CachePadded::default()).collect(),
            by_client: (0..CLIENT_SHARDS).map(|_| Mutex::default()).collect(),
            handshakes: CachePadded::default(),
        }
    }

    /// The worker that should have the next connection: `mine`, unless it has more than `imbalance`
    /// above the emptiest.
    pub fn emptiest(&self, mine: usize, imbalance: usize) -> usize {
        let load = |worker: usize| self.by_worker[worker].load(Relaxed);
        let least = (0..self.by_worker.len()).min_by_key(|&worker| load(worker)).unwrap_or(mine);
        if load(mine) > load(least) + imbalance { least } else { mine }
    }

    /// Connections open now.
    pub fn taken(&self) -> usize {
        self.by_worker.iter().map(|cell| cell.load(Relaxed)).sum()
    }

    /// Connections that `worker` has.
    pub fn taken_by(&self, worker: usize) -> usize {
        self.by_worker[worker].load(Relaxed)
    }

    /// A seat with `worker`, where all limits have room.
    pub fn sit(self: &Arc<Self>, worker: usize, client: IpAddr, room: &Room<'_>) -> Result<Seat, Full> {
        if self.taken() >= room.process {
            return Err(Full::Process);
        }
        let (listener_max, listener) = room.listener;
        if !one_more(listener, listener_max) {
            return Err(Full::Listener);
        }
        let client = client_of(client);
        let mut clients = self.shard(client);
        let seats = clients.entry(client).or_default();
        if *seats >= room.client {
            listener.fetch_sub(1, Relaxed);
            return Err(Full::Client);
        }
        *seats += 1;
        self.by_worker[worker].fetch_add(1, Relaxed);
        Ok(Seat { seats: self.clone(), worker, client, listener: listener.clone() })
    }

    /// A place for one more TLS handshake, if there are fewer than `max`.
    pub fn handshake(self: &Arc<Self>, max: usize) -> Option<Handshake> {
        one_more(&self.handshakes, max).then(|| Handshake(self.clone()))
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize, foldhash::fast::RandomState>> {
        let last = match client {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[7],
        };
        lock(&self.by_client[last as usize % CLIENT_SHARDS])
    }
}

impl Seat {
    /// The connection is another worker's after all.
    pub fn move_to(&mut self, worker: usize) {
        self.seats.by_worker[self.worker].fetch_sub(1, Relaxed);
        self.seats.by_worker[worker].fetch_add(1, Relaxed);
        self.worker = worker;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.by_worker[self.worker].fetch_sub(1, Relaxed);
        self.listener.fetch_sub(1, Relaxed);
        let mut clients = self.seats.shard(self.client);
        if let Some(seats) = clients.get_mut(&self.client) {
            *seats -= 1;
            if *seats == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Relaxed);
    }
}

/// Counts one more, unless there are `max` already.
fn one_more(count: &AtomicUsize, max: usize) -> bool {
    count.fetch_update(Relaxed, Relaxed, |taken| (taken < max).then(|| taken + 1)).is_ok()
}

/// Who counts as one client: an IPv4 address, or an IPv6 /64, of which anyone has 2^64 addresses.
fn client_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: usize = 100;

    fn sit(seats: &Arc<Seats>, client: &str, process: usize, per_client: usize) -> Result<Seat, Full> {
        let room = Room { process, client: per_client, listener: (ROOMY, &Arc::default()) };
        seats.sit(0, client.parse().unwrap(), &room)
    }

    #[test]
    fn a_client_has_only_so_many_seats_and_gets_one_back_when_it_leaves() {
        let seats = Arc::new(Seats::new(2));

        let seat = sit(&seats, "2001:db8::1", 10, 1).ok();
        assert_eq!(sit(&seats, "2001:db8::2", 10, 1).err(), Some(Full::Client), "the same /64");
        drop(seat);

        assert!(sit(&seats, "2001:db8::2", 10, 1).is_ok());
        assert!(seats.by_client.iter().all(|shard| lock(shard).is_empty()));
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_64() {
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8:0:1::", "2001:db8:0:1:ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("2001:db8:0:1::1", "2001:db9:0:1::1", false),
        ] {
            let of = |text: &str| client_of(text.parse().unwrap());
            assert_eq!(of(one) == of(other), is_same, "{one} and {other}");
        }
    }

    #[test]
    fn the_process_has_only_so_many_seats() {
        let seats = Arc::new(Seats::new(2));
        let _seat = sit(&seats, "10.0.0.1", 1, 9).ok();
        assert_eq!(sit(&seats, "10.0.0.2", 1, 9).err(), Some(Full::Process));
    }

    #[test]
    fn a_listener_has_only_so_many_seats_and_none_is_lost_to_a_client_that_is_refused() {
        let (seats, listener) = (Arc::new(Seats::new(1)), Arc::default());
        let sit = |last: u8| {
            let room = Room { process: ROOMY, client: 1, listener: (2, &listener) };
            seats.sit(0, [10, 0, 0, last].into(), &room)
        };

        let first = sit(1).ok();
        assert_eq!(sit(1).err(), Some(Full::Client));
        let second = sit(2).ok();
        assert_eq!(sit(3).err(), Some(Full::Listener));
        drop((first, second));

        assert!(sit(3).is_ok());
        assert_eq!(listener.load(Relaxed), 0);
    }

    #[test]
    fn there_are_only_so_many_handshakes() {
        let seats = Arc::new(Seats::new(1));
        let first = seats.handshake(1);
        assert!(first.is_some() && seats.handshake(1).is_none());
        drop(first);
        assert!(seats.handshake(1).is_some());
    }

    #[test]
    fn a_connection_goes_to_the_emptiest_worker_only_when_it_pays() {
        let seats = Arc::new(Seats::new(2));
        let all: Vec<_> = (0..3).map(|i| sit(&seats, &format!("10.0.0.{i}"), 9, 9).ok()).collect();
        assert_eq!(seats.emptiest(0, 2), 1);
        drop(all);
        assert_eq!(seats.emptiest(0, 2), 0);
    }
}
