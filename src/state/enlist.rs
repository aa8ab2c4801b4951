//! Which servers an upstream's entries stand for, with the state that each had before.

use std::sync::Arc;
use std::time::Duration;

use crate::state::Keep;
use crate::upstream::discovery::Endpoint;
use crate::upstream::pool::{Entries, Upstream};
use crate::upstream::server::Server;

/// The servers of the upstream called `upstream`.
pub fn enlist(upstream: &str, entries: &Entries, keep: &Keep) -> Vec<Arc<Server>> {
    let mut servers = Vec::new();
    for (entry, endpoints) in entries {
        for endpoint in endpoints {
            let id = match entry.is_name {
                true => format!("{}/{}", entry.name, endpoint.address),
                false => entry.name.clone(),
            };
            servers.push(Arc::new(Server {
                address: endpoint.address,
                weight: endpoint.weight,
                // A service's own priorities are within its entry's.
                priority: entry.priority << u16::BITS | u32::from(endpoint.priority),
                state: keep.server(upstream, &id, entry),
                entry: entry.clone(),
                id,
            }));
        }
    }
    servers
}

/// What the entry called `name` stood for under the configuration before.
pub fn known(entries: &Entries, name: &str) -> Vec<Endpoint> {
    let known = entries.iter().find(|(entry, _)| entry.is_name && entry.name == name);
    known.map(|(_, endpoints)| endpoints.clone()).unwrap_or_default()
}

/// The entry at `index` stands for other addresses from now on; `now` is `None` before anyone is served.
pub fn renew(upstream: &Upstream, index: usize, endpoints: &[Endpoint], keep: &Keep, now: Option<Duration>) {
    let mut entries = upstream.entries();
    entries[index].1 = endpoints.to_vec();
    keep.forget_unused();
    let servers = enlist(&upstream.config.name, &entries, keep);
    upstream.replace(entries, servers, now);
}
