//! What a hit costs, and what judging a response costs.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use tidegate::cache::Cache;
use tidegate::cache::Key;
use tidegate::cache::Lookup;
use tidegate::cache::Times;
use tidegate::cache::respond;
use tidegate::config::RouteCache;
use tidegate::fields::Fields;
use tidegate::fields::RequestHead;
use tidegate::fields::ResponseHead;

const TIMES: Times = Times { asked: 1_700_000_000, received: 1_700_000_000 };

fn response() -> ResponseHead {
    let fields = Fields::from_iter([
        ("cache-control", "public, max-age=3600, stale-while-revalidate=60"),
        ("content-type", "text/plain"),
        ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("etag", "\"0123456789abcdef\""),
        ("vary", "accept-encoding"),
        ("cache-groups", "\"articles\", \"front\""),
    ]);
    ResponseHead { fields, ..ResponseHead::new(http::StatusCode::OK) }
}

fn hit(c: &mut Criterion) {
    let cache = filled();
    let req = RequestHead::from(http::Request::new(()).into_parts().0);
    let over_http2 = req.clone().with(|parts| parts.version = http::Version::HTTP_2);
    let rules = RouteCache::new(1 << 20);
    let targets: Vec<_> = (0..1000).map(|n| format!("/object/{n}")).collect();
    // It is the same text for both: HTTP/2 makes its fields of it when it is sent.
    for (name, req) in [("hit_among_1000_objects", &req), ("hit_among_1000_objects/http2", &over_http2)] {
        let mut next = 0;
        c.bench_function(name, |b| {
            b.iter(|| {
                next = (next + 1) % targets.len();
                let key = Key::new("app", "http", "example.com", &targets[next]);
                match cache.lookup(&key, req, TIMES.received + 1, &rules) {
                    Lookup::Hit { entry, age, .. } => black_box(respond(&entry, req, age)),
                    _ => panic!("not a hit"),
                }
            });
        });
    }
}

/// The same while the store has not been swept of what was invalidated after they came, none of which concerns them;
/// and what it takes to invalidate.
fn unswept(c: &mut Criterion) {
    let cache = filled();
    let req = RequestHead::from(http::Request::new(()).into_parts().0);
    let rules = RouteCache::new(1 << 20);
    let keys: Vec<_> = (0..1000).map(key).collect();
    let mut next = 0;
    let mut look_up = || {
        next = (next + 1) % keys.len();
        let found = cache.lookup(&keys[next], &req, TIMES.received + 1, &rules);
        assert!(matches!(found, Lookup::Hit { .. }));
    };
    c.bench_function("look_up", |b| b.iter(&mut look_up));
    cache.invalidate_groups(&keys[0], vec!["others".to_owned()]);
    c.bench_function("look_up/unswept", |b| b.iter(&mut look_up));
    c.bench_function("invalidate_a_group", |b| {
        b.iter(|| cache.invalidate_groups(&keys[0], vec!["others".to_owned()]));
    });
}

fn key(n: usize) -> Key {
    Key::new("app", "http", "example.com", &format!("/object/{n}"))
}

fn filled() -> Cache {
    let cache =
        Cache::new(&tidegate::config::Cache { max_size: 256 << 20, collapse_wait: Duration::from_secs(1) });
    let req = RequestHead::from(http::Request::new(()).into_parts().0);
    let rules = RouteCache::new(1 << 20);
    for key in (0..1000).map(key) {
        let head = cache.judge(&key, &req, &response(), TIMES, &rules).expect("storable");
        let mut writer = cache.alone(&key, cache.epoch(&key)).publish(head, 1 << 20);
        writer.push(Bytes::from_static(b"forty-eight bytes of body, as in the wrk runs...")).expect("open");
        writer.finish().expect("stored");
    }
    cache
}

fn judge(c: &mut Criterion) {
    let req = RequestHead::from(http::Request::new(()).into_parts().0);
    let rules = RouteCache::new(1 << 20);
    let res = response();
    c.bench_function("judge_a_response", |b| {
        b.iter(|| tidegate::cache::policy::judge_response(black_box(&req), black_box(&res), TIMES, &rules));
    });
}

criterion_group!(benches, hit, unswept, judge);
criterion_main!(benches);
