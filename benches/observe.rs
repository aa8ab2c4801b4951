//! What one request costs in this room: its numbers and its line.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;
use std::time::SystemTime;

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use tidegate::observe::Family;
use tidegate::observe::Metrics;
use tidegate::observe::Record;

fn numbers(criterion: &mut Criterion) {
    let metrics = Metrics::new(2);
    let cells = metrics.cells(0);
    let classes = metrics.classes(Family::Requests, &["public", "site", "app"]);
    let duration = metrics.histogram(Family::RequestDuration, &["public", "site"]);
    criterion.bench_function("one counter and one histogram", |bencher| {
        bencher.iter(|| {
            cells.inc(classes.of(black_box(200)));
            cells.observe(duration, black_box(Duration::from_micros(1234)));
        });
    });
}

fn lines(criterion: &mut Criterion) {
    let record = record();
    let mut block = Vec::with_capacity(1024);
    criterion.bench_function("one json line", |bencher| {
        bencher.iter(|| {
            block.clear();
            black_box(&record).json(&mut block);
        });
    });
    criterion.bench_function("one common line", |bencher| {
        bencher.iter(|| {
            block.clear();
            black_box(&record).common(&mut block);
        });
    });
}

fn record() -> Record<'static> {
    Record {
        time: SystemTime::now(),
        client: Ipv4Addr::new(192, 0, 2, 10).into(),
        listener: "public",
        method: "GET",
        scheme: "https",
        host: b"www.example.com",
        target: b"/products/42?colour=blue&size=m",
        version: "HTTP/1.1",
        status: 200,
        route: "site",
        upstream: "app",
        server: "10.0.0.7:3000",
        bytes_received: 0,
        bytes_sent: 48_213,
        total_us: 1234,
        queue_us: None,
        connect_us: None,
        first_byte_us: Some(1000),
        cache: "miss",
        cache_reason: "not-stored",
        attempts: 1,
        request_id: b"01hx3v9k5m7q2r4t6w8y",
        reason: "",
        user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        referer: b"https://www.example.com/products",
    }
}

criterion_group!(benches, numbers, lines);
criterion_main!(benches);
