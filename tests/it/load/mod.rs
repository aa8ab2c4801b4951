//! What strangers may cost: at each limit new work is refused, and what is in progress goes on.

mod limits;

use crate::support::Proxy;

/// How often a connection was refused for this reason.
#[track_caller]
fn refused(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric("tidegate_connections_refused_total", &[&format!("reason=\"{reason}\"")])
}

/// Client connections open now.
#[track_caller]
fn open(proxy: &Proxy, listener: &str) -> f64 {
    proxy.metric("tidegate_connections", &[&format!("listener=\"{listener}\"")])
}
