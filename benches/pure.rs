//! The decisions of one request that touch no socket: route, guard, forward, pick.
//!
//! `cargo bench --bench pure`; a name says the case: `router/find/10000-hosts`.

#![allow(missing_docs, reason = "criterion's macros make functions without")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use http::StatusCode;
use http::Version;
use tidegate::config;
use tidegate::config::Config;
use tidegate::config::HostPattern;
use tidegate::config::Limits;
use tidegate::config::PathPattern;
use tidegate::config::Route;
use tidegate::fields::Fields;
use tidegate::fields::Known;
use tidegate::fields::RequestHead;
use tidegate::fields::ResponseHead;
use tidegate::filter::forward;
use tidegate::filter::guard;
use tidegate::front::http1::head::Scan;
use tidegate::front::http1::head::parse;
use tidegate::hpack::Decoder;
use tidegate::hpack::Encoder;
use tidegate::net::descriptors::Descriptors;
use tidegate::net::descriptors::Wants;
use tidegate::router::Router;
use tidegate::state::Keep;
use tidegate::state::Snapshot;
use tidegate::upstream::balance::Answer;
use tidegate::upstream::balance::Heard;
use tidegate::upstream::balance::Pool;
use tidegate::upstream::balance::PoolSpec;
use tidegate::upstream::balance::Registry;
use tidegate::upstream::balance::ServerSpec;
use tidegate::upstream::balance::Servers;
use tidegate::upstream::balance::Strategy;
use tidegate::upstream::pool::WorkerPool;
use tidegate::upstream::side::Asks;

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
const BROWSER: &str = "GET /assets/pictures/harbour.jpg?width=640 HTTP/1.1\r
Host: www.example.com\r
Connection: keep-alive\r
sec-ch-ua-platform: \"Linux\"\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0\r
sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r
sec-ch-ua-mobile: ?0\r
Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r
Sec-Fetch-Site: same-origin\r
Sec-Fetch-Mode: no-cors\r
Sec-Fetch-Dest: image\r
Referer: https://www.example.com/\r
Accept-Encoding: gzip, deflate, br, zstd\r
Accept-Language: en-GB,en;q=0.9\r
Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r
\r
";

fn read(text: &[u8], limits: &Limits) -> RequestHead {
    let mut scan = Scan::default();
    let place = scan.find(text, limits).expect("a head").expect("a whole one");
    parse(&text[place.begin..place.end], &scan, limits).expect("a well-formed head")
}

fn heads(c: &mut Criterion) {
    let (limits, text) = (Limits::default(), BROWSER.as_bytes());
    let head = read(text, &limits);
    let mut group = c.benchmark_group("head/browser");
    group.bench_function("read", |b| b.iter(|| read(black_box(text), &limits)));
    group.bench_function("guard", |b| b.iter(|| guard::check_request(black_box(&head), &limits)));
    let peer = forward::Peer::new("192.0.2.1".parse().expect("an address"), "https", 443);
    group.bench_function("guard-and-forward", |b| {
        b.iter(|| {
            let checked = guard::check_request(black_box(&head), &limits).expect("a proper head");
            let ctx = forward::ForwardContext {
                peer: &peer,
                peer_kind: forward::PeerKind::Client,
                client_ip: peer.ip(),
                host: checked.authority,
                host_header: checked.authority.as_bytes(),
                request_id: &forward::RequestId::of(&head.fields, forward::PeerKind::Client, 0x1234_5678),
                websocket: checked.wants_websocket,
                body: forward::BodyLength::None,
                conditions: None,
            };
            let mut text = Vec::with_capacity(768);
            forward::to_server(&head, &ctx, &mut text);
            text
        });
    });
    let fields = Fields::from_iter([
        ("server", "nginx"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("content-type", "image/jpeg"),
        ("content-length", "48123"),
        ("connection", "keep-alive"),
        ("etag", "\"5f-0\""),
        ("cache-control", "max-age=600"),
    ]);
    let answer = ResponseHead { fields, ..ResponseHead::new(StatusCode::OK) };
    let id = forward::RequestId::Fresh(*b"0123456789abcdef0123456789abcdef");
    group.bench_function("response", |b| {
        b.iter(|| {
            let verdict = guard::check_response(black_box(&answer), false);
            (verdict, forward::to_client(&answer, Version::HTTP_11, &id))
        });
    });
    group.finish();
}

/// The same browser's head over HTTP/2, and a usual response: what each of them is after those before it.
fn field_blocks(c: &mut Criterion) {
    let head = read(BROWSER.as_bytes(), &Limits::default());
    let mut encoder = Encoder::new();
    let mut block = |out: &mut Vec<u8>| {
        out.clear();
        encoder.begin(out);
        for field in head.fields.iter().filter(|field| field.known() != Known::Connection) {
            encoder.field(field.called(), field.value(), out);
        }
    };
    let mut blocks = [(); 3].map(|()| Vec::new());
    blocks.iter_mut().for_each(&mut block);
    let [first, second, next] = &blocks;
    let read = |decoder: &mut Decoder, block: &[u8]| {
        decoder.decode(black_box(block), |field| {
            black_box(field.ordinary().expect("an ordinary field"));
        })
    };
    let mut group = c.benchmark_group("hpack");
    group.bench_function("decode/browser-first", |b| {
        b.iter(|| read(&mut Decoder::new(4096), first));
    });
    let mut decoder = Decoder::new(4096);
    // From the third on, what varies is in the table too, and nothing changes that.
    for block in [first, second] {
        read(&mut decoder, block).expect("a well-formed block");
    }
    group.bench_function("decode/browser-next", |b| b.iter(|| read(&mut decoder, next)));

    let usual = [
        ("server", "nginx"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("content-type", "image/jpeg"),
        ("content-length", "48123"),
        ("etag", "\"5f-0\""),
        ("cache-control", "max-age=600"),
    ];
    let (mut encoder, mut out, mut request) = (Encoder::new(), Vec::new(), 0u128);
    group.bench_function("encode/response", |b| {
        b.iter(|| {
            out.clear();
            encoder.begin(&mut out);
            encoder.status(StatusCode::OK, &mut out);
            for (name, value) in &usual {
                encoder.field(name.as_bytes(), value.as_bytes(), &mut out);
            }
            request = request.wrapping_add(0x1234_5678_9abc_def0_1234_5678_9abc_def1);
            encoder.field("x-request-id", format!("{request:032x}").as_bytes(), &mut out);
            black_box(out.len())
        });
    });
    group.finish();
}

/// Everyone weighs a little differently; each has about two requests, of which the oldest ends when one begins.
struct Crowd {
    candidates: Vec<u32>,
    is_candidate: Vec<bool>,
    epoch: u64,
    in_flight: Vec<Cell<u32>>,
    in_flight_of_all: Cell<u64>,
}

impl Crowd {
    fn new(len: usize) -> Self {
        Crowd {
            candidates: (0..len as u32).collect(),
            is_candidate: vec![true; len],
            epoch: 0,
            in_flight: vec![Cell::new(0); len],
            in_flight_of_all: Cell::new(0),
        }
    }

    /// Every tenth server is out, from `first` on.
    fn eject(&mut self, first: usize) {
        let is_up = |server: usize| server % 10 != first % 10;
        self.is_candidate = (0..self.len()).map(is_up).collect();
        self.candidates = (0..self.len() as u32).filter(|&server| is_up(server as usize)).collect();
        self.epoch += 1;
    }

    fn add(&self, server: usize, requests: i32) {
        let in_flight = &self.in_flight[server];
        in_flight.set(in_flight.get().wrapping_add_signed(requests));
        self.in_flight_of_all.set(self.in_flight_of_all.get().wrapping_add_signed(requests.into()));
    }
}

impl Servers for Crowd {
    fn len(&self) -> usize {
        self.in_flight.len()
    }
    fn candidates(&self) -> &[u32] {
        &self.candidates
    }
    fn epoch(&self) -> u64 {
        self.epoch
    }
    fn is_candidate(&self, server: usize) -> bool {
        self.is_candidate.get(server).is_some_and(|&is| is)
    }
    fn weight(&self, server: usize) -> u32 {
        1 + server as u32 % 3
    }
    fn in_flight(&self, server: usize) -> u32 {
        self.in_flight[server].get()
    }
    fn in_flight_of_all(&self) -> u64 {
        self.in_flight_of_all.get()
    }
    fn has_room(&self, server: usize) -> bool {
        self.in_flight[server].get() < 1000
    }
}

/// One worker that picks, hears and ends.
struct Traffic {
    crowd: Crowd,
    worker: Box<dyn Strategy>,
    rng: fastrand::Rng,
    open: VecDeque<usize>,
    now: Duration,
}

impl Traffic {
    fn new(strategy: &dyn Strategy, len: usize) -> Self {
        let (crowd, rng) = (Crowd::new(len), fastrand::Rng::with_seed(1));
        let open = VecDeque::with_capacity(2 * len + 1);
        let mut traffic = Traffic { crowd, worker: strategy.for_worker(1), rng, open, now: Duration::ZERO };
        // As full as it stays.
        (0..2 * len).for_each(|_| traffic.request(&[]));
        traffic
    }

    fn request(&mut self, tried: &[usize]) {
        self.now += Duration::from_micros(50);
        let key = self.rng.u64(..);
        let pool = Pool::new(black_box(&self.crowd), tried, self.now);
        let Some(pick) = self.worker.pick(&pool, Some(key), &mut self.rng) else { return };
        self.crowd.add(pick.server, 1);
        self.open.push_back(pick.server);
        if self.open.len() > 2 * self.crowd.len()
            && let Some(oldest) = self.open.pop_front()
        {
            self.crowd.add(oldest, -1);
            let took = Duration::from_millis(10 + key % 16);
            self.worker.learn(oldest, &Heard { took, answer: Answer::Served }, self.now);
            self.worker.ended(oldest);
        }
    }
}

fn picks(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    // Six cases for each strategy.
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1)).sample_size(30);
    for len in [10, 10_000] {
        let weights = Crowd::new(len);
        let spec =
            |i| ServerSpec { name: format!("10.0.{}.{}:80", i / 256, i % 256), weight: weights.weight(i) };
        let specs: Vec<_> = (0..len).map(spec).collect();
        let registry = Registry::builtin();
        for name in registry.names() {
            let strategy = registry.build(name, &PoolSpec::new(&specs)).expect("a name of the registry");
            let mut traffic = Traffic::new(&*strategy, len);
            group.bench_function(format!("{name}/{len}-servers"), |b| b.iter(|| traffic.request(&[])));
            group.bench_function(format!("{name}/{len}-servers/tried"), |b| {
                b.iter(|| traffic.request(black_box(&[3, 7])));
            });
            let mut picks = 0_usize;
            group.bench_function(format!("{name}/{len}-servers/ejections"), |b| {
                b.iter(|| {
                    // Others are out after every thousand: what that costs is part of the figure.
                    if picks.is_multiple_of(1000) {
                        traffic.crowd.eject(picks / 1000);
                    }
                    picks += 1;
                    traffic.request(&[]);
                });
            });
        }
    }
    group.finish();
}

/// The same in the pool that a proxy has: health, drains, ejections and its state in atomics, as a request goes through it.
fn pools(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1)).sample_size(30);
    let registry = Registry::builtin();
    for len in [10, 10_000] {
        for name in registry.names() {
            let wants = Wants { clients: 1, workers: 1, listeners: 1, probes: 0 };
            let descriptors = Descriptors::share(1 << 16, wants);
            let keep = Keep::new(1, &config(len, name, &registry).cache, descriptors);
            let snapshot =
                Snapshot::build(config(len, name, &registry), &keep, &registry, None).expect("it is well");
            let (upstream, fields) = (&snapshot.upstreams[0], Fields::new());
            let members = upstream.members();
            let out = || members.servers.iter().skip(3).step_by(10);
            let second = Duration::from_secs(1);
            out().for_each(|server| {
                upstream.drain(server, true, second);
            });
            let pool = WorkerPool::new(upstream, keep.metrics.cells(0), 0, 1, 1);
            let (mut rng, mut now) = (fastrand::Rng::with_seed(1), 2 * second);
            let mut open = VecDeque::with_capacity(2 * len + 1);
            let mut pick = |now: Duration| {
                let client = std::net::Ipv4Addr::from_bits(rng.u32(..)).into();
                let asks = Asks { client, path: "/", query: "", authority: "localhost", fields: &fields };
                let picked =
                    pool.side(upstream).pick(&asks, &[], &[], now, &mut rng).expect("nine of ten serve");
                open.push_back(picked.in_flight);
                if open.len() > 2 * len {
                    open.pop_front();
                }
            };
            group.bench_function(format!("{name}/{len}-servers"), |b| {
                b.iter(|| {
                    now += Duration::from_micros(50);
                    pick(black_box(now));
                });
            });
        }
    }
    group.finish();
}

fn config(servers: usize, balance: &str, registry: &Registry) -> Config {
    let server = |i: usize| format!("\"10.0.{}.{}:80\"", i / 256, i % 256);
    let listed = (0..servers).map(server).collect::<Vec<_>>().join(", ");
    let text = format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[[route]]\nupstream = \"app\"\n[upstream.app]\n\
         balance = \"{balance}\"\nservers = [{listed}]\n"
    );
    config::parse(&text, "bench.toml".as_ref(), &registry.names().collect::<Vec<_>>()).expect("it is well")
}

criterion_group!(benches, router, heads, field_blocks, picks, pools);
criterion_main!(benches);
