//! What the store costs: resident memory beside `max-size`, and a hit among few and among many.
//!
//! `cargo bench --bench store_memory`. Each line of a table is measured in a process of its own, so that
//! none finds the heap that another left behind. Memory is read from `/proc`: Linux only.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::fmt::Write;
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use bytes::BytesMut;
use fastrand::Rng;
use http::StatusCode;
use tidegate::cache::Cache;
use tidegate::cache::Join;
use tidegate::cache::Key;
use tidegate::cache::Lookup;
use tidegate::cache::Times;
use tidegate::cache::purge::How;
use tidegate::cache::purge::Selector;
use tidegate::config;
use tidegate::fields::RequestHead;
use tidegate::fields::ResponseHead;
use tidegate::http1::block;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 1;
const NOW: u64 = 1_700_000_000;
const TIMES: Times = Times { asked: NOW, received: NOW };
const OBJECT_MAX: u64 = 8 << 20;

/// What hyper reads at least at once: head and body of a small response arrive in one such buffer.
const READ_BUFFER_BYTES: usize = 8192;

/// How much of a large body is there to be read at once.
const PIECE_BYTES: usize = 16 << 10;

/// Threads that pour, as workers would: memory is often freed by another thread than the one that asked for it.
const THREADS: u64 = 2;

/// Objects between two looks at the resident memory: it is a system call.
const OBJECTS_PER_LOOK: u64 = 500;

/// Look-ups that are timed, and how many before them are not.
const LOOKUPS: u64 = 1_000_000;

/// Objects of the table's last column: so few that the processor's caches hold what they need.
const FEW: u64 = 1000;

/// How large the bodies are.
#[derive(Clone, Copy)]
enum Bodies {
    /// 200 to 7200 bytes, small ones more often.
    Mixed,
    /// 48 bytes.
    Tiny,
    /// 4 MiB.
    Large,
}

impl Bodies {
    fn title(self) -> &'static str {
        match self {
            Self::Mixed => "200 B to 7 KiB",
            Self::Tiny => "48 B",
            Self::Large => "4 MiB",
        }
    }

    fn length(self, rng: &mut Rng) -> usize {
        match self {
            // The square makes small ones more frequent.
            Self::Mixed => 200 + (rng.f64().powi(2) * 7000.0) as usize,
            Self::Tiny => 48,
            Self::Large => 4 << 20,
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let case: Vec<&str> = args.iter().map(String::as_str).collect();
    match case[..] {
        ["pour", max_size, objects] => pour(number(max_size), number(objects), Bodies::Mixed),
        ["pour-large", max_size, objects] => pour(number(max_size), number(objects), Bodies::Large),
        ["look-up", objects, lookups] => look_up(number(objects), number(lookups)),
        // As criterion does: `cargo bench` says --bench, `cargo test --benches` does not.
        _ if case.contains(&"--bench") && !case.contains(&"--test") => {
            tables(&[64, 256, 1024], [1_000_000, 2000], &[1000, 10_000, 100_000, 1_000_000], LOOKUPS);
        }
        _ => tables(&[1], [2000, 2], &[100], 1000),
    }
}

fn tables(max_sizes: &[u64], [small, large]: [u64; 2], stored: &[u64], lookups: u64) {
    println!("Distinct objects poured by {THREADS} threads; sizes in MiB, a factor is growth / max-size");
    println!();
    println!(
        "| max-size | bodies | objects | before | highest | at the end | counted | kept | factor, highest | at the end |"
    );
    println!("|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (case, poured) in [("pour", small), ("pour-large", large)] {
        for max_size in max_sizes {
            in_own_process(&[case, &(max_size << 20).to_string(), &poured.to_string()]);
        }
    }
    println!();
    println!(
        "Nanoseconds to make a key and look it up, one thread; `key alone` is the part without the store"
    );
    println!();
    println!(
        "| objects | key alone | any of them | the same {FEW} of them | resident bytes each | counted | a purge by tag, ms |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for stored in stored {
        in_own_process(&["look-up", &stored.to_string(), &lookups.to_string()]);
    }
}

fn in_own_process(case: &[&str]) {
    let program = std::env::current_exe().expect("the path of this program");
    let status = Command::new(program).args(case).status().expect("it starts again");
    assert!(status.success(), "{case:?}: {status}");
}

/// Fills a cache far beyond its size, and prints a line on what that did to the process.
fn pour(max_size: u64, objects: u64, bodies: Bodies) {
    let before = resident_bytes();
    let cache = cache(max_size);
    let highest = AtomicU64::new(before);

    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (cache, highest) = (&cache, &highest);
            scope.spawn(move || {
                let mut rng = Rng::with_seed(SEED + thread);
                for n in (thread..objects).step_by(THREADS as usize) {
                    store(cache, n, bodies, &mut rng);
                    if matches!(bodies, Bodies::Large) || (n / THREADS).is_multiple_of(OBJECTS_PER_LOOK) {
                        highest.fetch_max(resident_bytes(), Ordering::Relaxed);
                    }
                }
            });
        }
    });

    let end = resident_bytes();
    let highest = highest.into_inner().max(end);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let factor = |bytes: u64| bytes.saturating_sub(before) as f64 / max_size as f64;
    println!(
        "| {:.0} | {} | {objects} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {:.2} | {:.2} |",
        mib(max_size),
        bodies.title(),
        mib(before),
        mib(highest),
        mib(end),
        mib(cache.bytes()),
        cache.len(),
        factor(highest),
        factor(end),
    );
}

/// Times look-ups among so many objects, all of which fit.
fn look_up(objects: u64, lookups: u64) {
    let before = resident_bytes();
    let cache = cache(8 << 30);
    let mut rng = Rng::with_seed(SEED);
    for n in 0..objects {
        store(&cache, n, Bodies::Tiny, &mut rng);
    }
    let each = (resident_bytes() - before) / objects;
    let req = RequestHead::from(http::Request::new(()).into_parts().0);
    let rules = config::RouteCache::new(OBJECT_MAX);
    let key_alone = timed(lookups, objects, |key| {
        black_box(key);
    });
    let hit = |key: &Key| match cache.lookup(key, &req, NOW + 1, &rules) {
        Lookup::Hit { entry, .. } => drop(black_box(entry)),
        other => panic!("{key:?} is no hit: {other:?}"),
    };
    let any = timed(lookups, objects, hit);
    let few = timed(lookups, objects.min(FEW), hit);
    let counted = cache.bytes() / cache.len().max(1);
    let began = Instant::now();
    let nobody = Selector { tags: vec!["nobody".to_owned()], ..Selector::default() };
    assert_eq!(cache.purge(&nobody, How::Hard), 0);
    let purge = began.elapsed().as_secs_f64() * 1000.0;
    println!("| {objects} | {key_alone:.0} | {any:.0} | {few:.0} | {each} | {counted} | {purge:.1} |");
}

/// Nanoseconds for one of `lookups` calls with a random key of the first `objects`, after as many unmeasured.
fn timed(lookups: u64, objects: u64, mut one: impl FnMut(&Key)) -> f64 {
    let mut rng = Rng::with_seed(SEED);
    let mut target = String::new();
    let mut round = || {
        let began = Instant::now();
        for _ in 0..lookups {
            one(&key(rng.u64(0..objects), &mut target));
        }
        began.elapsed()
    };
    round();
    round().as_nanos() as f64 / lookups as f64
}

fn cache(max_size: u64) -> Cache {
    Cache::new(&config::Cache { max_size, collapse_wait: Duration::from_secs(1) })
}

/// A response comes and is stored, step by step as in `proxy::cached`.
fn store(cache: &Cache, n: u64, bodies: Bodies, rng: &mut Rng) {
    let req = RequestHead::from(http::Request::new(()).into_parts().0);
    let rules = config::RouteCache::new(OBJECT_MAX);
    let key = key(n, &mut String::new());
    assert!(matches!(cache.lookup(&key, &req, NOW, &rules), Lookup::Miss(_)), "objects are distinct");
    let Join::Lead(leader) = cache.join(&key, &req, NOW, &rules, cache.epoch(&key)) else {
        panic!("nobody else asks for it")
    };
    let (res, pieces) = response(n, bodies, rng);
    let Ok(head) = cache.judge(&key, &req, &res, TIMES, &rules) else { return };
    let mut writer = leader.publish(head, OBJECT_MAX);
    for piece in pieces {
        writer.push(piece).expect("there is room for it");
    }
    writer.finish().expect("it is whole");
}

fn key(n: u64, target: &mut String) -> Key {
    target.clear();
    // Scattered, so that neighbours in the order of arrival are not neighbours by name.
    let id = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let written =
        write!(target, "/catalogue/garden/products/{id:016x}/pictures/{n}.webp?width=640&quality=80");
    written.expect("a string takes everything");
    Key::new("shop", "https", "www.shop.example.com", target)
}

/// Head and body as a connection to a server hands them over: the fields are a text of their own, the body is slices of the
/// buffers that were read into.
fn response(n: u64, bodies: Bodies, rng: &mut Rng) -> (ResponseHead, Vec<Bytes>) {
    let length = bodies.length(rng);
    let mut head = String::with_capacity(1024);
    let written = write!(
        head,
        "server: nginx/1.27.4\r\n\
         date: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
         content-type: image/webp\r\n\
         content-length: {length}\r\n\
         last-modified: Mon, 13 Nov 2023 10:{:02}:{:02} GMT\r\n\
         etag: \"{n:x}-{:016x}\"\r\n\
         cache-control: public, max-age=3600, stale-while-revalidate=60\r\n\
         vary: Accept-Encoding\r\n\
         x-content-type-options: nosniff\r\n\
         x-served-by: picture-{}.shop.internal\r\n\r\n",
        n / 60 % 60,
        n % 60,
        rng.u64(..),
        n % 40,
    );
    written.expect("a string takes everything");
    let mut buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
    buffer.extend_from_slice(head.as_bytes());
    let with_head = length.min(READ_BUFFER_BYTES - head.len());
    buffer.resize(head.len() + with_head, b'x');
    let fields =
        block::fields(&buffer.split_to(head.len()), std::iter::empty(), 100).expect("they are fields");
    let mut pieces = vec![buffer.freeze()];
    let mut rest = length - with_head;
    while rest > 0 {
        // hyper makes room for twice of what it read last, and reads what is there.
        let mut buffer = BytesMut::with_capacity(2 * PIECE_BYTES);
        buffer.resize(rest.min(PIECE_BYTES), b'x');
        rest -= buffer.len();
        pieces.push(buffer.freeze());
    }
    (ResponseHead { fields, ..ResponseHead::new(StatusCode::OK) }, pieces)
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    number(line.trim().trim_end_matches(" kB")) * 1024
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
