//! What an upstream does when servers fail or are full: `eject`, `queue`, `retry-*`.

use super::keys;
use super::model::{Eject, Queue, Retry};
use super::reader::{Table, Value};
use super::units::seconds;

/// Of a body, kept to be sent again: more is a file, and belongs on a disk.
const REPLAY_MAX: u64 = 16 << 20;

/// On unless the operator says `false`.
pub(super) fn eject(value: Option<Value<'_>>) -> Option<Eject> {
    let mut eject = Eject {
        failures: 5,
        error_rate: None,
        latency_factor: None,
        window: seconds(10),
        min_requests: 20,
        time: seconds(10),
        max_time: seconds(300),
        max_percent: 50,
    };
    let Some(value) = value else { return Some(eject) };
    if let Some(is_on) = value.as_bool() {
        return is_on.then_some(eject);
    }
    if !value.is_table() {
        return value.expected("true, false or a table", "such as { failures = 5 }");
    }

    let table = value.table(keys::EJECT, "")?;
    eject.failures = table.number("failures", eject.failures, 1..=1000);
    eject.error_rate = table.optional("error-rate", 1..=100);
    eject.latency_factor = table.optional("latency-factor", 2..=100);
    // The window is looked at each second.
    let window = table.get("window");
    eject.window =
        window.and_then(|value| value.duration(seconds(1)..=seconds(3600))).unwrap_or(eject.window);
    eject.min_requests = table.number("min-requests", eject.min_requests, 1..=1_000_000);
    eject.time = table.duration("time", eject.time);
    // A first ejection beyond the default longest lengthens it; one beyond a written longest is a mistake.
    eject.max_time = table.duration("max-time", eject.max_time.max(eject.time));
    eject.max_percent = table.number("max-percent", eject.max_percent, 1..=100);
    if let Some(max_time) = table.get("max-time").filter(|_| eject.max_time < eject.time) {
        max_time.wrong("is shorter than time", "the longest ejection cannot be shorter than the first");
    }
    Some(eject)
}

/// `queue`; it matters only where there is a limit that makes requests wait.
pub(super) fn queue(upstream: &Table<'_>) -> Queue {
    let table = upstream.section("queue", keys::QUEUE);
    Queue { size: table.number("size", 1024, 0..=1_000_000), timeout: table.duration("timeout", seconds(5)) }
}

/// `retry-on`, `retry-budget` and `retry-body`.
pub(super) fn retry(upstream: &Table<'_>) -> Retry {
    let budget = upstream.section("retry-budget", keys::RETRY_BUDGET);
    let mut retry = Retry {
        on_connect: true,
        on_reset: true,
        on_timeout: false,
        on_statuses: Vec::new(),
        budget_percent: budget.number("percent", 20, 0..=1000),
        budget_per_second: budget.number("per-second", 10, 0..=1_000_000),
        concurrent: budget.number("concurrent", 1000, 1..=1_000_000),
        body: upstream.get("retry-body").and_then(|value| value.size(0..=REPLAY_MAX)).unwrap_or(64 * 1024),
    };
    if let Some(value) = upstream.get("retry-on") {
        causes(&value, &mut retry);
    }
    retry
}

fn causes(value: &Value<'_>, retry: &mut Retry) {
    const HELP: &str = "write it as [\"connect\", \"reset\", \"timeout\", 503]";
    (retry.on_connect, retry.on_reset) = (false, false);
    for item in value.array(HELP).unwrap_or_default() {
        if !item.is_string() {
            // Others are no failure of the server's: asking again would give the same.
            let status = item.whole(400..=599).and_then(|status| u16::try_from(status).ok());
            retry.on_statuses.extend(status);
            continue;
        }
        match item.word(&[("connect", 0), ("reset", 1), ("timeout", 2)]) {
            Some(0) => retry.on_connect = true,
            Some(1) => retry.on_reset = true,
            Some(_) => retry.on_timeout = true,
            None => {}
        }
    }
    retry.on_statuses.sort_unstable();
    retry.on_statuses.dedup();
}
