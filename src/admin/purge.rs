//! `POST /api/v1/cache/purge`: stored responses go, or become stale.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::admin::Refused;
use crate::cache::purge::{Address, How, Selector};
use crate::cache::{Key, keyed_target};
use crate::clock::unix_now;
use crate::state::{Keep, Snapshot};

/// Addresses, prefixes and tags in one request.
const NAMES_MAX: usize = 1000;

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    soft: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
pub struct Done {
    /// Stored responses.
    pub purged: u64,
    /// They are stale, not gone.
    pub soft: bool,
    /// In microseconds.
    pub took_us: u64,
}

/// Purges as `body` says.
pub async fn purge(keep: Arc<Keep>, snapshot: &Snapshot, body: &[u8]) -> Result<Done, Refused> {
    let (selector, is_soft) = read(body, snapshot).map_err(|mistake| (StatusCode::BAD_REQUEST, mistake))?;
    let how = if is_soft { How::Soft(unix_now()) } else { How::Hard };
    let began = Instant::now();
    // It may look at everything that is stored: not on the thread that probes servers.
    let purged = tokio::task::spawn_blocking(move || keep.cache.purge(&selector, how)).await;
    let purged = purged.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let took_us = began.elapsed().as_micros() as u64;
    tracing::info!(purged, soft = is_soft, took_us, "cache purged");
    Ok(Done { purged, soft: is_soft, took_us })
}

fn read(body: &[u8], snapshot: &Snapshot) -> Result<(Selector, bool), String> {
    let asked: Asked = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let count = asked.urls.len() + asked.prefixes.len() + asked.tags.len();
    if count == 0 && !asked.all {
        return Err("says nothing to purge: urls, prefixes, tags or all".to_owned());
    }
    if count > NAMES_MAX {
        return Err(format!("{count} names at once are too many; at most {NAMES_MAX}"));
    }
    let parse = |text: &String| text.parse::<Address>().map_err(|error| error.to_string());
    let urls = asked.urls.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let prefixes = asked.prefixes.iter().map(parse).collect::<Result<_, _>>()?;
    let keys = urls.iter().flat_map(|url| keys(url, snapshot)).collect();
    Ok((Selector { keys, prefixes, tags: asked.tags, all: asked.all }, asked.soft))
}

/// Every key that a response of this address may have: whichever route took it, and whatever of its query is or
/// was in the key there.
fn keys(url: &Address, snapshot: &Snapshot) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for (owner, ways) in &snapshot.keyed {
        let first = keys.len();
        for query in ways {
            let key = Key::new(owner, &url.scheme, &url.authority, &keyed_target(&url.target, query));
            if !keys[first..].contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}
