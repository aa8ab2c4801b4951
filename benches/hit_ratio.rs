//! How much of what clients ask for the store still has: beside LRU and the optimum, on made-up traces.
//!
//! `cargo bench --bench hit_ratio`. The traces come from a seed; Tidegate's own figures still differ in the
//! last digit from run to run, since its hashes are seeded anew and it tidies up by the clock.
//!
//! An object weighs the same everywhere: what `Entry::bytes` and `Key::bytes` count.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::StatusCode;
use tidegate::cache::Cache;
use tidegate::cache::Join;
use tidegate::cache::Key;
use tidegate::cache::Lookup;
use tidegate::cache::Times;
use tidegate::config;
use tidegate::fields::Fields;
use tidegate::fields::RequestHead;
use tidegate::fields::ResponseHead;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 1;
const NOW: u64 = 1_700_000_000;
const TIMES: Times = Times { asked: NOW, received: NOW };

const SIZE_MIN: usize = 1 << 10;
const SIZE_MAX: usize = 1 << 20;

/// All bodies are a part of this; what is stored is a copy.
static BODY: [u8; SIZE_MAX] = [b'x'; SIZE_MAX];

/// How much is simulated.
struct Scale {
    /// Objects of the catalogue.
    objects: usize,
    /// Requests of one trace.
    requests: usize,
}

const FULL: Scale = Scale { objects: 20_000, requests: 400_000 };
const TINY: Scale = Scale { objects: 200, requests: 1000 };

/// Who asks for what: objects by number, in order.
struct Trace {
    name: &'static str,
    requests: Vec<u32>,
    /// Capacities, as parts of the bytes of all objects in the trace.
    capacities: [f64; 3],
}

/// Object sizes.
#[derive(Clone, Copy)]
enum Sizes {
    /// All 16 KiB.
    Equal,
    /// Log-normal around 8 KiB, from 1 KiB to 1 MiB.
    LogNormal,
}

/// What came of a trace.
#[derive(Default, Clone, Copy)]
struct Hits {
    objects: u64,
    bytes: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |wanted: &str| args.iter().any(|arg| arg == wanted);
    // As criterion does: `cargo bench` says --bench, `cargo test --benches` does not.
    let scale = if has("--bench") && !has("--test") { FULL } else { TINY };

    let traces = traces(&scale);
    for sizes in [Sizes::Equal, Sizes::LogNormal] {
        println!("{}", sizes.title());
        println!();
        println!(
            "| trace | capacity | MiB | objects: LRU | Tidegate | by next use | at most \
             | bytes: LRU | Tidegate | by next use | at most |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
        for trace in &traces {
            trace.print_lines(sizes);
        }
        println!();
    }
}

fn traces(scale: &Scale) -> [Trace; 5] {
    let mut rng = Rng::with_seed(SEED);
    let usual = [0.01, 0.05, 0.2];
    let loop_of = |objects: usize| (0..scale.requests).map(|n| (n % objects) as u32).collect();
    [
        Trace { name: "Zipf 0.8", requests: zipf(scale, 0.8, &mut rng), capacities: usual },
        Trace { name: "Zipf 1.0", requests: zipf(scale, 1.0, &mut rng), capacities: usual },
        Trace { name: "Zipf 1.0 and a scan", requests: scanned(scale, &mut rng), capacities: usual },
        Trace { name: "Zipf 1.0, shifting", requests: shifting(scale, &mut rng), capacities: usual },
        // Here the question is how much too small the cache is.
        Trace { name: "loop", requests: loop_of(scale.objects / 4), capacities: [0.5, 0.8, 0.95] },
    ]
}

/// Object `n` is asked for in proportion to `1 / (n + 1)^s`.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(objects: usize, s: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=objects).map(|rank| (rank as f64).powf(-s));
        let add = |weight| {
            sum += weight;
            sum
        };
        Self { sums: weights.map(add).collect() }
    }

    fn draw(&self, rng: &mut Rng) -> u32 {
        let total = self.sums.last().copied().unwrap_or_default();
        let at = rng.f64() * total;
        self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1) as u32
    }
}

fn zipf(scale: &Scale, s: f64, rng: &mut Rng) -> Vec<u32> {
    let zipf = Zipf::new(scale.objects, s);
    (0..scale.requests).map(|_| zipf.draw(rng)).collect()
}

/// In the middle half of the trace every second request is a crawler's, who asks for each object of a part of
/// the site that nobody else visits, once.
fn scanned(scale: &Scale, rng: &mut Rng) -> Vec<u32> {
    let zipf = Zipf::new(scale.objects, 1.0);
    let mut crawled = scale.objects as u32;
    let quarter = scale.requests / 4;
    let next = |n| {
        if (quarter..3 * quarter).contains(&n) && n % 2 == 0 {
            crawled += 1;
            return crawled;
        }
        zipf.draw(rng)
    };
    (0..scale.requests).map(next).collect()
}

/// Eight times in the trace, what was popular is so no longer: the ranks move on by a twentieth of all objects.
fn shifting(scale: &Scale, rng: &mut Rng) -> Vec<u32> {
    let zipf = Zipf::new(scale.objects, 1.0);
    let (every, step) = (scale.requests / 8, scale.objects / 20);
    let mut next = |n: usize| (zipf.draw(rng) as usize + n / every * step) % scale.objects;
    (0..scale.requests).map(|n| next(n) as u32).collect()
}

impl Sizes {
    fn title(self) -> &'static str {
        match self {
            Self::Equal => {
                "Equal sizes (16 KiB). `by next use` is the optimum (Belady's MIN, free not to store)."
            }
            Self::LogNormal => {
                "Log-normal sizes (median 8 KiB, 1 KiB to 1 MiB). No one knows the optimum; it lies between \
                 `by next use` and `at most`."
            }
        }
    }

    /// The size of an object; always the same for the same one.
    fn of(self, object: u32) -> usize {
        match self {
            Self::Equal => 16 << 10,
            Self::LogNormal => {
                let mut rng = Rng::with_seed(SEED ^ (u64::from(object) << 20));
                // Box and Muller's way from two even numbers to a normal one.
                let normal =
                    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
                let size = 8192.0 * (1.4 * normal).exp();
                (size as usize).clamp(SIZE_MIN, SIZE_MAX)
            }
        }
    }
}

impl Trace {
    fn print_lines(&self, sizes: Sizes) {
        let overhead = overhead();
        let objects = self.requests.iter().max().map_or(0, |most| *most as usize + 1);
        let weights: Vec<u64> = (0..objects).map(|n| sizes.of(n as u32) as u64 + overhead).collect();
        let next = self.next_uses();
        let all: f64 = self.requests.iter().map(|n| sizes.of(*n) as f64).sum();
        let mut unique = self.requests.clone();
        unique.sort_unstable();
        unique.dedup();
        let unique: u64 = unique.iter().map(|n| weights[*n as usize]).sum();
        for part in self.capacities {
            let capacity = (unique as f64 * part) as u64;
            let hits = [
                self.play(sizes, Lru::new(&weights, capacity)),
                self.play(sizes, Tidegate::new(sizes, capacity)),
                self.play(sizes, ByNextUse::new(&weights, &next, capacity)),
                self.at_most(sizes, &weights, &next, capacity),
            ];
            let mib = capacity as f64 / f64::from(1 << 20);
            print!("| {} | {:.0} % | {mib:.1} |", self.name, part * 100.0);
            hits.iter()
                .for_each(|h| print!(" {:.1} |", 100.0 * h.objects as f64 / self.requests.len() as f64));
            hits.iter().for_each(|h| print!(" {:.1} |", 100.0 * h.bytes / all));
            println!();
        }
    }

    fn play(&self, sizes: Sizes, mut policy: impl Policy) -> Hits {
        let mut hits = Hits::default();
        for (at, object) in self.requests.iter().enumerate() {
            if policy.ask(at, *object) {
                hits.objects += 1;
                hits.bytes += sizes.of(*object) as f64;
            }
        }
        hits
    }

    /// For each request, which later one asks for the same; `NEVER` for the last.
    fn next_uses(&self) -> Vec<usize> {
        let mut next = vec![NEVER; self.requests.len()];
        let mut seen = std::collections::HashMap::new();
        for (at, object) in self.requests.iter().enumerate().rev() {
            next[at] = seen.insert(*object, at).unwrap_or(NEVER);
        }
        next
    }

    /// More than any policy can reach. To hit, an object must lie in the cache since its last use, which
    /// takes its weight times that while; and there is no more of this than capacity times the whole trace.
    /// Which hits are cheapest for it is a matter of sorting. That the sum may at no time exceed the capacity is
    /// left out, hence a bound only.
    fn at_most(&self, sizes: Sizes, weights: &[u64], next: &[usize], capacity: u64) -> Hits {
        let reuses = |price: fn(f64, f64) -> f64| {
            let mut reuses: Vec<(f64, f64, f64)> = Vec::new();
            for (at, object) in self.requests.iter().enumerate().filter(|(at, _)| next[*at] != NEVER) {
                let (weight, size) = (weights[*object as usize] as f64, sizes.of(*object) as f64);
                let room = weight * (next[at] - at) as f64;
                reuses.push((price(room, size), room, size));
            }
            reuses.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            let mut left = capacity as f64 * self.requests.len() as f64;
            reuses.retain(|(_, room, _)| {
                // The one that fits in part counts whole: the bound stays one.
                let fits = left > 0.0;
                left -= room;
                fits
            });
            reuses
        };
        let objects = reuses(|room, _| room).len() as u64;
        let bytes = reuses(|room, size| room / size).iter().map(|(_, _, size)| size).sum();
        Hits { objects, bytes }
    }
}

/// A cache that is asked for one object after the other.
trait Policy {
    /// Whether it had the object, the `at`th of the trace. If not, it is fetched and may be stored.
    fn ask(&mut self, at: usize, object: u32) -> bool;
}

/// The store as the proxy uses it.
struct Tidegate {
    cache: Cache,
    rules: config::RouteCache,
    sizes: Sizes,
}

impl Tidegate {
    fn new(sizes: Sizes, max_size: u64) -> Self {
        let cache = Cache::new(&config::Cache { max_size, collapse_wait: Duration::from_secs(1) });
        Self { cache, rules: config::RouteCache::new(SIZE_MAX as u64), sizes }
    }
}

impl Policy for Tidegate {
    fn ask(&mut self, _: usize, object: u32) -> bool {
        let req = RequestHead::from(http::Request::new(()).into_parts().0);
        let key = key(object);
        if matches!(self.cache.lookup(&key, &req, NOW, &self.rules), Lookup::Hit { .. }) {
            return true;
        }
        let Join::Lead(leader) = self.cache.join(&key, &req, NOW, &self.rules, self.cache.epoch(&key)) else {
            panic!("nobody else asks")
        };
        let size = self.sizes.of(object);
        let Ok(head) = self.cache.judge(&key, &req, &response(size), TIMES, &self.rules) else {
            // Larger than a part of the store.
            return false;
        };
        let mut writer = leader.publish(head, SIZE_MAX as u64);
        // Refused when it is larger than a part of the store, or than what fetches may hold: not stored then.
        if writer.push(Bytes::from_static(&BODY[..size])).is_ok() {
            drop(writer.finish());
        }
        false
    }
}

/// What was used least recently goes first.
struct Lru<'a> {
    weights: &'a [u64],
    free: u64,
    /// When each stored object was used.
    used: Vec<Option<usize>>,
    by_use: BTreeMap<usize, u32>,
}

impl<'a> Lru<'a> {
    fn new(weights: &'a [u64], capacity: u64) -> Self {
        Self { weights, free: capacity, used: vec![None; weights.len()], by_use: BTreeMap::new() }
    }
}

impl Policy for Lru<'_> {
    fn ask(&mut self, at: usize, object: u32) -> bool {
        let index = object as usize;
        let before = self.used[index].replace(at);
        self.by_use.insert(at, object);
        if let Some(before) = before {
            self.by_use.remove(&before);
            return true;
        }
        // The new one is the last to go: only if it is larger than the whole cache.
        while self.free < self.weights[index]
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.used[oldest as usize] = None;
            if oldest == object {
                return false;
            }
            self.free += self.weights[oldest as usize];
        }
        self.free -= self.weights[index];
        false
    }
}

/// A request that does not come.
const NEVER: usize = usize::MAX;

/// Knows the future: what is used again last goes first, or is not even stored.
struct ByNextUse<'a> {
    weights: &'a [u64],
    next: &'a [usize],
    free: u64,
    /// When each stored object is used next.
    stored: Vec<Option<usize>>,
    /// The same, the last first; what `stored` no longer says is out of date.
    queue: BinaryHeap<(usize, u32)>,
}

impl<'a> ByNextUse<'a> {
    fn new(weights: &'a [u64], next: &'a [usize], capacity: u64) -> Self {
        Self { weights, next, free: capacity, stored: vec![None; weights.len()], queue: BinaryHeap::new() }
    }
}

impl Policy for ByNextUse<'_> {
    fn ask(&mut self, at: usize, object: u32) -> bool {
        let (index, next) = (object as usize, self.next[at]);
        self.queue.push((next, object));
        if self.stored[index].replace(next).is_some() {
            return true;
        }
        while self.free < self.weights[index]
            && let Some((next, last)) = self.queue.pop()
        {
            if self.stored[last as usize] != Some(next) {
                continue;
            }
            self.stored[last as usize] = None;
            if last == object {
                return false;
            }
            self.free += self.weights[last as usize];
        }
        self.free -= self.weights[index];
        false
    }
}

/// What an object weighs besides its body: its key, its fields, what the store adds.
fn overhead() -> u64 {
    let mut tidegate = Tidegate::new(Sizes::Equal, 1 << 20);
    tidegate.ask(0, 0);
    let req = RequestHead::from(http::Request::new(()).into_parts().0);
    match tidegate.cache.lookup(&key(0), &req, NOW, &tidegate.rules) {
        Lookup::Hit { entry, .. } => entry.bytes() - entry.body.len() + key(0).bytes() as u64,
        _ => panic!("it was just stored"),
    }
}

fn key(object: u32) -> Key {
    Key::new("shop", "https", "www.shop.example.com", &format!("/pictures/{object:08}.webp"))
}

fn response(length: usize) -> ResponseHead {
    let fields = Fields::from_iter([
        ("server", "nginx"),
        ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("content-type", "image/webp"),
        ("content-length", &length.to_string()),
        ("etag", "\"0123456789abcdef\""),
        ("cache-control", "public, max-age=3600"),
    ]);
    ResponseHead { fields, ..ResponseHead::new(StatusCode::OK) }
}
