//! `sticky` of an upstream: three ways for a client to stay with a server.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use super::keys;
use super::model::{Sticky, StickyCookie, StickyLearn};
use super::pattern;
use super::reader::{Table, Value};
use super::units::seconds;
use super::upstream;

/// Less could be guessed: 32 bytes are the key of HMAC-SHA-256.
const SECRET_BYTES_MIN: usize = 32;
/// A secret is a key, not a film.
const SECRET_BYTES_MAX: usize = 4096;
/// One that signs, one that signed before it, one that will: more is a mistake.
const SECRETS_MAX: usize = 8;
/// Browsers keep no cookie longer (RFC 6265bis section 5.5).
const COOKIE_AGE_MAX: Duration = seconds(400 * 86_400);
/// Of remembered sessions: about a gibibyte.
const SESSIONS_MAX: u64 = 10_000_000;
/// The keys that each way has for itself.
const WAYS: [(&str, &[&str]); 3] =
    [("learn", &["size", "idle"]), ("hash", &[]), ("cookie", &["secret-file", "max-age"])];

/// By a cookie of ours, unless `hash` or `learn` is there.
pub(super) fn read(value: &Value<'_>) -> Option<Sticky> {
    const HELP: &str =
        "such as { cookie = \"tidegate\" }, { hash = { cookie = \"session\" } } or { learn = \"session\" }";
    let table = value.table(keys::STICKY, HELP)?;
    let named: Vec<_> =
        ["learn", "hash", "cookie"].into_iter().filter(|way| table.get(way).is_some()).collect();
    if named.len() > 1 {
        return value.refuse(format!("sticks in {} ways at once", named.len()), HELP);
    }
    let way = named.first().copied().unwrap_or("cookie");
    for (other, keys) in WAYS.iter().filter(|(other, _)| *other != way) {
        for value in keys.iter().filter_map(|key| table.get(key)) {
            value.wrong(format!("means nothing here: it belongs to {other}"), HELP);
        }
    }
    match way {
        "learn" => learn(&table).map(Sticky::Learn),
        "hash" => table.get("hash").and_then(|value| upstream::hash(&value)).map(Sticky::Hash),
        _ => Some(Sticky::Cookie(cookie(&table))),
    }
}

fn cookie(table: &Table<'_>) -> StickyCookie {
    let name = table.get("cookie").and_then(|value| value.parsed(pattern::token));
    StickyCookie {
        name: name.unwrap_or("tidegate".to_owned()),
        secrets: table.get("secret-file").map(|value| secrets(&value)).unwrap_or_default(),
        max_age: table.get("max-age").and_then(|value| value.duration(seconds(1)..=COOKIE_AGE_MAX)),
    }
}

fn learn(table: &Table<'_>) -> Option<StickyLearn> {
    let cookie = table.get("learn").and_then(|value| value.parsed(pattern::token))?;
    Some(StickyLearn {
        cookie,
        size: table.number("size", 100_000, 1..=SESSIONS_MAX),
        idle: table.duration("idle", seconds(3600)),
    })
}

/// One file, or several of which the first signs: how a key is changed without losing a session.
fn secrets(value: &Value<'_>) -> Vec<Vec<u8>> {
    if value.is_string() {
        return secret(value).into_iter().collect();
    }
    const HELP: &str = "write \"sticky.key\", or [\"new.key\", \"old.key\"]";
    let Some(files) = value.array(HELP) else { return Vec::new() };
    if files.is_empty() {
        // Else one would be made up, and every restart would void all sessions.
        value.wrong("is empty", HELP);
    }
    if files.len() > SECRETS_MAX {
        value.wrong(format!("{} secrets are too many", files.len()), format!("at most {SECRETS_MAX}"));
    }
    files.iter().take(SECRETS_MAX).filter_map(secret).collect()
}

fn secret(value: &Value<'_>) -> Option<Vec<u8>> {
    let path = value.path()?;
    match read_secret(&path) {
        Err(error) => value.refuse(format!("cannot read {}: {error}", path.display()), ""),
        Ok(secret) if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) => value.refuse(
            format!("{} has {} bytes", path.display(), secret.len()),
            "a secret has 32 to 4096; make one with: head -c 32 /dev/urandom > FILE",
        ),
        Ok(secret) => Some(secret),
    }
}

/// Reads one byte more than is allowed, so that too much is seen without being read.
fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = Vec::new();
    File::open(path)?.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut secret)?;
    Ok(secret)
}
