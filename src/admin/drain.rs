//! `POST /api/v1/drain`: a server gets requests of its sessions only, or all that are its share again.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::Refused;
use crate::config::did_you_mean;
use crate::state::{Keep, Snapshot};

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    upstream: String,
    /// As configured, or one address of several as the status page shows it.
    server: String,
    drain: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Done {
    /// Addresses that were not so before.
    changed: usize,
    drain: bool,
    /// Requests that those servers are still busy with.
    in_flight: u32,
}

/// Drains, or undoes it, as `body` says.
pub fn drain(keep: &Keep, snapshot: &Snapshot, body: &[u8]) -> Result<Done, Refused> {
    let wrong = |why: String| (StatusCode::BAD_REQUEST, why);
    let asked: Asked = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let names: Vec<_> = snapshot.upstreams.iter().map(|upstream| upstream.config.name.as_str()).collect();
    let upstream = snapshot.upstreams.iter().find(|upstream| upstream.config.name == asked.upstream);
    let upstream = upstream.ok_or_else(|| wrong(unknown("upstream", &asked.upstream, &names)))?;

    let (members, now) = (upstream.members(), keep.now());
    let is_meant = |id: &str, name: &str| id == asked.server || name == asked.server;
    let meant: Vec<_> = members.servers.iter().filter(|s| is_meant(&s.id, &s.entry.name)).collect();
    if meant.is_empty() {
        let names: Vec<_> = members.servers.iter().map(|server| server.id.as_str()).collect();
        return Err(wrong(unknown("server", &asked.server, &names)));
    }
    let changed = meant.iter().filter(|server| upstream.drain(server, asked.drain, now)).count();
    let in_flight = meant.iter().map(|server| server.state.in_flight()).sum();
    Ok(Done { changed, drain: asked.drain, in_flight })
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    format!("no {what} is called {name:?}; {}", did_you_mean(name, known))
}
