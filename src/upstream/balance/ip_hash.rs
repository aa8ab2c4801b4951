//! The same client to the same server, whatever the configuration hashes for others.

use super::KeyKind;
use super::Maglev;
use super::Pick;
use super::Pool;
use super::ServerSpec;
use super::Strategy;

/// The key is the client's IPv4 address or its IPv6 /64, in which one subscriber changes addresses (RFC 8981); the table is
/// that of [`Maglev`]. nginx's `ip_hash`, which hashes three bytes of an IPv4 address, sends a /24 to one server; this
/// sends each address its own way.
#[derive(Debug, Clone)]
pub struct IpHash {
    table: Maglev,
}

impl IpHash {
    /// The table of `servers`, in the order of the pool.
    pub fn new(servers: &[ServerSpec]) -> Self {
        IpHash { table: Maglev::new(servers) }
    }
}

impl Strategy for IpHash {
    fn pick(&mut self, pool: &Pool<'_>, key: Option<u64>, rng: &mut fastrand::Rng) -> Option<Pick> {
        self.table.pick(pool, key, rng)
    }

    fn for_worker(&self, _seed: u64) -> Box<dyn Strategy> {
        Box::new(self.clone())
    }

    fn key(&self) -> KeyKind {
        KeyKind::ClientNetwork
    }
}
