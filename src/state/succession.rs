//! What changes outside a configuration when another one takes its place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config;
use crate::observe::{Discarded, Labels};
use crate::state::{Keep, Snapshot};
use crate::upstream::pool::Upstream;
use crate::upstream::queue::Call;

/// The state of servers becomes what `now` wants it to be after `before`. What it says nothing about stays: who is well,
/// who was taken out of service by an operator.
pub fn settle(before: &Snapshot, now: &Snapshot, keep: &Keep) {
    let last: HashMap<_, _> = before.upstreams.iter().map(|u| (u.config.name.as_str(), u)).collect();
    for upstream in &now.upstreams {
        match last.get(upstream.config.name.as_str()) {
            Some(last) if Arc::ptr_eq(last, upstream) => {}
            Some(last) => settle_upstream(last, upstream, keep),
            // Who was gone and comes back may be known, by a request that has outlived it.
            None => {
                for server in &upstream.members().servers {
                    server.state.drain(server.entry.first.1, keep.now());
                }
            }
        }
    }
}

fn settle_upstream(last: &Upstream, upstream: &Upstream, keep: &Keep) {
    let (before, members, now) = (last.members(), upstream.members(), keep.now());
    for server in &members.servers {
        let state = &server.state;
        let (_, drains) = server.entry.first;
        match before.index_of(&server.id).map(|index| &before.servers[index]) {
            // Who changes the file means it; who does not leaves it to whoever else has.
            Some(old) if old.entry.first.1 == drains => {}
            Some(_) => {
                state.drain(drains, now);
            }
            None => {
                state.drain(drains, now);
                if !before.servers.is_empty() {
                    state.comes_back(now);
                }
            }
        }
        if last.config.health.is_some() && upstream.config.health.is_none() {
            state.forget_probes();
        }
        if last.config.eject.is_some() && upstream.config.eject.is_none() {
            state.forget_ejection(now);
        }
    }
    upstream.state.changed();
    last.supersede();
    // Limits may have been raised: who waits under those of before lets others pass.
    upstream.state.queue.call(Call::Look);
}

/// Ends the metrics of what `now` does not have any more. Their cells are for whoever comes when nobody has older
/// configurations any more.
pub fn forget(now: &Snapshot, keep: &Keep) -> Discarded {
    let listeners: HashSet<_> = now.listeners.iter().map(|listener| listener.name.as_str()).collect();
    let config = &now.config;
    let owner = |route: &config::Route| config.upstreams[route.upstream].name.as_str();
    let routes: HashMap<_, _> =
        config.routes.iter().map(|route| (route.name.as_str(), owner(route))).collect();
    let upstreams: HashMap<_, HashSet<_>> =
        now.upstreams.iter().map(|upstream| (upstream.config.name.as_str(), names(upstream))).collect();
    keep.metrics.retain(|labels: &Labels<'_>| {
        let upstream = labels.get("upstream");
        let has_upstream = || upstream.is_none_or(|name| upstreams.contains_key(name));
        let has_server =
            |server: &str| upstream.and_then(|u| upstreams.get(u)).is_some_and(|all| all.contains(server));
        let has_listener = labels.get("listener").is_none_or(|name| listeners.contains(name));
        has_listener
            && match (labels.get("route"), labels.get("server").or_else(|| labels.get("name"))) {
                (Some(route), _) => {
                    let owners = [routes.get(route).copied(), (route == "none").then_some("none")];
                    owners
                        .into_iter()
                        .flatten()
                        .any(|owner| upstream.is_none_or(|upstream| upstream == owner))
                }
                (None, Some(server)) => has_server(server),
                (None, None) => has_upstream(),
            }
    })
}

/// What the servers of an upstream are called in metrics.
fn names(upstream: &Upstream) -> HashSet<String> {
    upstream.entries().iter().map(|(entry, _)| entry.name.clone()).collect()
}
