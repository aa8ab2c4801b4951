//! `cache` of a route: what may be stored there, for how long, under which key.

use std::time::Duration;

use http::HeaderName;

use super::keys;
use super::model::{
    Cache, CacheBypass, CacheKey, CacheMode, NamePattern, Negative, QueryKey, RouteCache, ServerFreshness,
    SetCookie,
};
use super::pattern;
use super::reader::{Table, Value};
use super::units::{GIB, MIB, seconds, spell_size};

/// A year: what lasts longer is not a matter of caching.
const TTL_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Names in one list: each is looked for in each request.
const NAMES_MAX: usize = 32;

/// `true`, `false` or a table.
pub(super) fn read(value: &Value<'_>, cache: &Cache) -> Option<RouteCache> {
    // One object may fill a quarter of the cache: more would empty it for a single response.
    let largest = (cache.max_size / 4).min(GIB);
    let mut rules = RouteCache::new((8 * MIB).min(largest));
    if let Some(is_on) = value.as_bool() {
        return is_on.then_some(rules);
    }
    if !value.is_table() {
        return value.expected("true, false or a table", "such as { max-object = \"8MiB\" }");
    }
    let table = value.table(keys::ROUTE_CACHE, "")?;
    if let Some(max_object) = table.get("max-object") {
        rules.max_object = object_size(&max_object, largest).unwrap_or(rules.max_object);
    }
    rules.mode = table.word("mode", rules.mode, &[("on", CacheMode::On), ("observe", CacheMode::Observe)]);
    rules.min_uses = table.number("min-uses", rules.min_uses, 1..=100);
    freshness(&table, &mut rules);
    rules.set_cookie = table.word(
        "set-cookie",
        rules.set_cookie,
        &[("explicit", SetCookie::Explicit), ("never", SetCookie::Never)],
    );
    rules.client_directives = table.boolean("client-directives", rules.client_directives);
    rules.bypass = table.get("bypass").map(|value| bypass(&value)).unwrap_or_default();
    rules.key = table.get("key").map(|value| key(&value)).unwrap_or_default();
    Some(rules)
}

fn freshness(table: &Table<'_>, rules: &mut RouteCache) {
    const SERVER: &[(&str, ServerFreshness)] = &[
        ("respect", ServerFreshness::Respect),
        ("override", ServerFreshness::Override),
        ("ignore", ServerFreshness::Ignore),
    ];
    rules.ttl = table.get("ttl").and_then(|value| value.duration(seconds(1)..=TTL_MAX));
    rules.server_freshness = table.word("server-freshness", rules.server_freshness, SERVER);
    if let Some(value) = table.get("server-freshness")
        && rules.server_freshness != ServerFreshness::Respect
        && table.get("ttl").is_none()
    {
        value.wrong("leaves responses without a lifetime", "say how long they are fresh with ttl");
    }
    rules.heuristic = table.boolean("heuristic", rules.heuristic);
    rules.targeted = table.boolean("targeted", rules.targeted);
    rules.negative = table.get("negative").and_then(|value| negative(&value));
    let window = |name| table.get(name).and_then(|value| value.duration(Duration::ZERO..=TTL_MAX));
    rules.stale_while_revalidate = window("stale-while-revalidate").unwrap_or_default();
    rules.stale_if_error = window("stale-if-error");
}

fn object_size(value: &Value<'_>, largest: u64) -> Option<u64> {
    match value.size(1..=u64::MAX)? {
        bytes if bytes > largest => value.refuse(
            format!("{} is too large for this cache", spell_size(bytes)),
            format!("at most a quarter of cache.max-size and 1GiB: {}", spell_size(largest)),
        ),
        bytes => Some(bytes),
    }
}

fn negative(value: &Value<'_>) -> Option<Negative> {
    const HELP: &str = "such as { statuses = [404, 410], ttl = \"10s\" }";
    let table = value.table(keys::NEGATIVE, HELP)?;
    let statuses = match table.get("statuses") {
        None => vec![404, 410],
        Some(list) => {
            let status = |item: &Value<'_>| item.whole(300..=599).and_then(|s| u16::try_from(s).ok());
            list.array(HELP)?.iter().filter_map(status).collect()
        }
    };
    let ttl = table.need("ttl", HELP)?.duration(seconds(1)..=TTL_MAX)?;
    Some(Negative { statuses, ttl })
}

fn bypass(value: &Value<'_>) -> CacheBypass {
    let table = value.table_or_empty(keys::BYPASS, "such as { cookies = [\"session\"] }");
    CacheBypass {
        headers: list(&table, "headers", header),
        cookies: list(&table, "cookies", |item| item.parsed(pattern::token)),
        query: list(&table, "query", name),
    }
}

fn key(value: &Value<'_>) -> CacheKey {
    let table = value.table_or_empty(keys::CACHE_KEY, "such as { ignore-query = [\"utm_*\"] }");
    let only = table.get("query").and_then(|value| query(&value));
    let query = match (only, table.get("ignore-query")) {
        (only, None) => only.unwrap_or_default(),
        (None | Some(QueryKey::All), Some(_)) => QueryKey::Without(list(&table, "ignore-query", name)),
        (Some(QueryKey::Only(_) | QueryKey::Without(_)), Some(ignored)) => {
            ignored.wrong("query names already what is in the key", "leave one of them out");
            QueryKey::All
        }
    };
    CacheKey {
        query,
        headers: list(&table, "headers", header),
        cookies: list(&table, "cookies", |item| item.parsed(pattern::token)),
    }
}

fn query(value: &Value<'_>) -> Option<QueryKey> {
    if value.is_string() {
        return value
            .word(&[("all", true), ("none", false)])
            .map(|all| if all { QueryKey::All } else { QueryKey::Only(Vec::new()) });
    }
    let items = value.array("write \"all\", \"none\" or the names, as in [\"page\"]")?;
    Some(QueryKey::Only(bounded(value, &items).iter().filter_map(name).collect()))
}

fn list<T>(table: &Table<'_>, key: &'static str, read: impl Fn(&Value<'_>) -> Option<T>) -> Vec<T> {
    let Some(value) = table.get(key) else { return Vec::new() };
    let items = value.array("write names, as in [\"a\", \"b\"]").unwrap_or_default();
    bounded(&value, &items).iter().filter_map(read).collect()
}

fn bounded<'v, 'a>(value: &Value<'_>, items: &'v [Value<'a>]) -> &'v [Value<'a>] {
    if items.len() > NAMES_MAX {
        value.wrong(format!("{} names are too many", items.len()), format!("at most {NAMES_MAX}"));
    }
    items
}

fn header(item: &Value<'_>) -> Option<HeaderName> {
    let text = item.text()?;
    HeaderName::try_from(text).ok().or_else(|| item.refuse(format!("{text:?} is not a header name"), ""))
}

fn name(item: &Value<'_>) -> Option<NamePattern> {
    let text = item.text()?;
    let (text, is_prefix) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
    if text.is_empty() || text.contains(['*', '&', '=', '#', ' ']) {
        return item.refuse("is not a name", "write \"page\", or \"utm_*\" for all that begin so");
    }
    Some(NamePattern { text: text.to_owned(), is_prefix })
}
