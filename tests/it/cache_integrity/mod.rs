//! What a cache that many share must never get wrong: which bytes, for whom, and who waits for whom.

mod bodies;
mod collapse;
mod key;
mod rules;

use crate::support::{Client, Message, Origin, Proxy, eventually, one_route};

/// One route with these keys of its cache.
fn cached(rules: &str, origin: &Origin) -> Proxy {
    Proxy::start(&one_route(&format!("cache = {{ {rules} }}"), "eject = false", &[origin]))
}

/// What a request of these very bytes is answered, on a connection of its own.
#[track_caller]
fn ask(proxy: &Proxy, request: &str) -> Message {
    proxy.client().send(request).response()
}

/// The member of Cache-Status that is ours.
fn cache_status(answer: &Message) -> &str {
    answer.field("cache-status").unwrap_or_default()
}

/// It came from the store, or from a fetch for another that is just being stored.
fn is_shared(answer: &Message) -> bool {
    let status = cache_status(answer);
    status.starts_with("tidegate; hit") || status.contains("; collapsed")
}

/// A JSON body for the purge page of the admin listener.
#[track_caller]
fn purge(proxy: &Proxy, json: &str) {
    let head = "POST /api/v1/cache/purge HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Connection: close\r\nContent-Length: {}\r\n\r\n{json}", json.len());
    let answer = Client::connect(proxy.admin()).send(request).response();
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

/// Waits until so many requests are inside the proxy.
#[track_caller]
fn await_in_flight(proxy: &Proxy, count: usize) {
    eventually("all are in the proxy", || {
        proxy.metric("tidegate_requests_in_flight", &["listener=\"public\""]) >= count as f64
    });
}
