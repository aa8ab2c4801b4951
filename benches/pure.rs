//! The decisions of one request that touch no socket: route, guard, forward, pick.
//!
//! `cargo bench --bench pure`; a name says the case: `router/find/10000-hosts`.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::Version;
use tidegate::config::HostPattern;
use tidegate::config::Limits;
use tidegate::config::PathPattern;
use tidegate::config::Route;
use tidegate::filter::forward;
use tidegate::filter::guard;
use tidegate::router::Router;
use tidegate::upstream::balance::Pool;
use tidegate::upstream::balance::PoolSpec;
use tidegate::upstream::balance::Registry;
use tidegate::upstream::balance::ServerSpec;
use tidegate::upstream::balance::Servers;

fn route(host: HostPattern, path: PathPattern) -> Route {
    Route { name: String::new(), listener: None, host, path, upstream: 0, cache: None, max_body: None }
}

fn router(c: &mut Criterion) {
    let mut group = c.benchmark_group("router/find");
    for hosts in [1, 100, 10_000] {
        let mut routes = Vec::new();
        for host in 0..hosts {
            let exact = HostPattern::Exact(format!("www.site{host}.example.com"));
            routes.push(route(exact.clone(), PathPattern::Prefix("/".into())));
            routes.push(route(exact, PathPattern::Prefix("/api/v1/".into())));
            let wildcard = HostPattern::Wildcard(format!("site{host}.example.com"));
            routes.push(route(wildcard, PathPattern::Prefix("/".into())));
        }
        let router = Router::new(&routes, 1);
        let exact = format!("www.site{}.example.com", hosts / 2);
        let wildcard = format!("a.b.site{}.example.com", hosts / 2);
        group.bench_function(format!("{hosts}-hosts/exact"), |b| {
            b.iter(|| router.find(0, black_box(&exact), black_box("/api/v1/users/7")));
        });
        group.bench_function(format!("{hosts}-hosts/wildcard"), |b| {
            b.iter(|| router.find(0, black_box(&wildcard), black_box("/api/v1/users/7")));
        });
    }
    group.finish();
}

/// What a browser sends for a picture of a page.
fn browser_head() -> http::request::Parts {
    let mut request = Request::get("/assets/pictures/harbour.jpg?width=640").version(Version::HTTP_11);
    for (name, value) in [
        ("host", "www.example.com"),
        ("connection", "keep-alive"),
        ("sec-ch-ua-platform", "\"Linux\""),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
        ),
        ("sec-ch-ua", "\"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\""),
        ("sec-ch-ua-mobile", "?0"),
        ("accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-mode", "no-cors"),
        ("sec-fetch-dest", "image"),
        ("referer", "https://www.example.com/"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9"),
        ("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ] {
        request = request.header(name, value);
    }
    request.body(()).expect("a well-formed head").into_parts().0
}

fn heads(c: &mut Criterion) {
    let (limits, head) = (Limits::default(), browser_head());
    let mut group = c.benchmark_group("head/browser");
    group.bench_function("guard", |b| b.iter(|| guard::check_request(black_box(&head), &limits)));
    let peer = forward::Peer::new("192.0.2.1".parse().expect("an address"), false, "https", 443);
    group.bench_function("guard-and-forward", |b| {
        b.iter(|| {
            let checked = guard::check_request(black_box(&head), &limits).expect("a proper head");
            let host = checked.authority_value(&head);
            let ctx = forward::ForwardContext {
                peer: &peer,
                client_ip: peer.ip(),
                host: &host,
                host_header: &host,
                request_id: &forward::request_id(&head.headers, &peer, 0x1234_5678),
                websocket: checked.wants_websocket,
                body: forward::BodyLength::None,
            };
            forward::to_server(&head, &ctx)
        });
    });
    let mut response = Response::builder();
    for (name, value) in [
        ("server", "nginx"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("content-type", "image/jpeg"),
        ("content-length", "48123"),
        ("connection", "keep-alive"),
        ("etag", "\"5f-0\""),
        ("cache-control", "max-age=600"),
    ] {
        response = response.header(name, value);
    }
    let answer = response.body(()).expect("a well-formed head").into_parts().0;
    let id = HeaderValue::from_static("0123456789abcdef0123456789abcdef");
    group.bench_function("response", |b| {
        b.iter(|| {
            let verdict = guard::check_response(black_box(&answer), false);
            (verdict, forward::to_client(&answer, Version::HTTP_11, &id))
        });
    });
    group.finish();
}

/// Everyone is up, everyone weighs a little differently.
struct Crowd(usize, Vec<u32>);

impl Crowd {
    fn new(len: usize) -> Self {
        Crowd(len, (0..len as u32).collect())
    }
}

impl Servers for Crowd {
    fn len(&self) -> usize {
        self.0
    }
    fn candidates(&self) -> &[u32] {
        &self.1
    }
    fn epoch(&self) -> u64 {
        0
    }
    fn is_candidate(&self, server: usize) -> bool {
        server < self.0
    }
    fn weight(&self, server: usize) -> u32 {
        1 + server as u32 % 3
    }
    fn in_flight(&self, server: usize) -> u32 {
        server as u32 % 7
    }
}

fn picks(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for len in [10, 10_000] {
        let crowd = Crowd::new(len);
        let spec =
            |i| ServerSpec { name: format!("10.0.{}.{}:80", i / 256, i % 256), weight: crowd.weight(i) };
        let specs: Vec<_> = (0..len).map(spec).collect();
        let registry = Registry::builtin();
        for name in registry.names() {
            let strategy = registry.build(name, &PoolSpec::new(&specs)).expect("a name of the registry");
            let (mut worker, mut rng) = (strategy.for_worker(1), fastrand::Rng::with_seed(1));
            let mut key = 0_u64;
            group.bench_function(format!("{name}/{len}-servers"), |b| {
                b.iter(|| {
                    key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
                    worker.pick(&Pool::new(black_box(&crowd), &[], Duration::ZERO), Some(key), &mut rng)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, router, heads, picks);
criterion_main!(benches);
