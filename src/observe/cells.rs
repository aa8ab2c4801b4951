//! The numbers themselves: one shard of cells per thread that counts.
//!
//! A cell has one writer, so an increment is a plain load and a plain store,
//! without the `lock` prefix and without another core's cache line. A reader
//! sums over the shards. Shards grow by whole chunks, so a reload may add
//! series while every worker keeps counting.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A number that only rises; got from [`Metrics::counter`](super::Metrics::counter).
/// The default one counts into a cell that nobody reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter(pub(super) u32);

/// A level that rises and falls; got from [`Metrics::gauge`](super::Metrics::gauge).
/// The default one counts into a cell that nobody reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauge(pub(super) u32);

/// A distribution of durations; got from [`Metrics::histogram`](super::Metrics::histogram).
/// The default one counts into cells that nobody reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram(pub(super) u32);

/// One thread's side of the metrics.
///
/// A clone shares the cells, and all clones belong on one thread: two threads
/// that write the same shard lose each other's increments, though nothing worse.
#[derive(Clone)]
pub struct Cells {
    shard: Arc<Shard>,
    /// Keeps this type from being `Sync`: it may move to its thread, not be shared between two.
    _one_thread: PhantomData<Cell<()>>,
}

impl Cells {
    pub(super) fn new(shard: Arc<Shard>) -> Cells {
        Cells { shard, _one_thread: PhantomData }
    }

    /// Counts one.
    #[inline]
    pub fn inc(&self, counter: Counter) {
        self.shard.add(counter.0, 1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        self.shard.add(counter.0, n);
    }

    /// Moves a level by `change`. It may rise on one thread and fall on another: the sum is right.
    #[inline]
    pub fn gauge_add(&self, gauge: Gauge, change: i64) {
        self.shard.add(gauge.0, change.cast_unsigned());
    }

    /// Puts one duration into its bucket.
    #[inline]
    pub fn observe(&self, histogram: Histogram, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_NANOS.partition_point(|&bound| bound < nanos);
        self.shard.add(histogram.0 + bucket as u32, 1);
        // Microseconds: a sum in nanoseconds wraps after three weeks of ten
        // thousand open connections, one in microseconds after 58 years.
        self.shard.add(histogram.0 + SUM_OFFSET, nanos.saturating_add(500) / 1000);
    }
}

/// Upper bounds of the buckets that every histogram has; one more is unbounded.
///
/// From the cost of a cache hit (tens of µs) to the longest default time limit
/// (60 s), denser where people set objectives.
pub(super) const BUCKETS: [Duration; 16] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
];

/// [`BUCKETS`] as the numbers that are compared with.
const BUCKETS_NANOS: [u64; BUCKETS.len()] = {
    let mut nanos = [0; BUCKETS.len()];
    let mut i = 0;
    while i < nanos.len() {
        nanos[i] = BUCKETS[i].as_nanos() as u64;
        i += 1;
    }
    nanos
};

/// Where a histogram's sum lies, counted from its first bucket.
pub(super) const SUM_OFFSET: u32 = BUCKETS.len() as u32 + 1;

/// Cells of a histogram: its buckets, the unbounded one, the sum.
pub(super) const HISTOGRAM_CELLS: u32 = SUM_OFFSET + 1;

/// Cells of one chunk: 8 KiB, two pages.
pub(super) const CHUNK_CELLS: u32 = 1024;

/// Chunks of one shard. A million cells is about 20,000 servers with a route
/// each; the empty table costs each thread 16 KiB.
const CHUNKS_MAX: u32 = 1024;

/// Cells of one shard; [`Metrics`](super::Metrics) gives out no index beyond.
pub(super) const CELLS_MAX: u32 = CHUNK_CELLS * CHUNKS_MAX;

/// The first cells belong to the default handles and are never read.
pub(super) const CELLS_RESERVED: u32 = HISTOGRAM_CELLS;

/// Aligned to two cache lines, because processors fetch them in pairs: no two shards share one.
#[repr(align(128))]
struct Chunk([AtomicU64; CHUNK_CELLS as usize]);

/// All cells of one thread.
pub(super) struct Shard {
    chunks: Box<[OnceLock<Box<Chunk>>]>,
}

impl Shard {
    pub(super) fn new() -> Shard {
        Shard { chunks: (0..CHUNKS_MAX).map(|_| OnceLock::new()).collect() }
    }

    /// Only the shard's own thread may call this: see [`Cells`].
    #[inline]
    fn add(&self, index: u32, n: u64) {
        let cell = self.cell(index);
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// For the shard that has many writers and no increments.
    pub(super) fn set(&self, index: u32, value: u64) {
        self.cell(index).store(value, Relaxed);
    }

    /// Whatever it held, it is zero. Its thread must not be counting there.
    pub(super) fn clear(&self, index: u32) {
        if let Some(chunk) = self.chunks[(index / CHUNK_CELLS) as usize].get() {
            chunk.0[(index % CHUNK_CELLS) as usize].store(0, Relaxed);
        }
    }

    /// A cell that was never written reads as zero, without making its chunk.
    pub(super) fn read(&self, index: u32) -> u64 {
        let chunk = self.chunks[(index / CHUNK_CELLS) as usize].get();
        chunk.map_or(0, |chunk| chunk.0[(index % CHUNK_CELLS) as usize].load(Relaxed))
    }

    #[inline]
    fn cell(&self, index: u32) -> &AtomicU64 {
        let chunk = self.chunks[(index / CHUNK_CELLS) as usize].get_or_init(Chunk::zeroed);
        &chunk.0[(index % CHUNK_CELLS) as usize]
    }
}

impl Chunk {
    #[cold]
    fn zeroed() -> Box<Chunk> {
        Box::new(Chunk(std::array::from_fn(|_| AtomicU64::new(0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_shards_share_a_cache_line() {
        let (one, two) = (Shard::new(), Shard::new());

        for shard in [&one, &two] {
            let first = std::ptr::from_ref(shard.cell(0)).addr();
            assert_eq!(first % 128, 0);
        }
        assert_eq!(size_of::<Chunk>() % 128, 0);
    }

    #[test]
    fn a_duration_on_a_bound_belongs_to_the_bucket_below_it() {
        let shard = Arc::new(Shard::new());
        let cells = Cells::new(shard.clone());
        let table = [
            (Duration::ZERO, 0),
            (Duration::from_micros(100), 0),
            (Duration::from_nanos(100_001), 1),
            (Duration::from_secs(60), 15),
            (Duration::from_secs(61), 16),
            (Duration::MAX, 16),
        ];

        for (took, bucket) in table {
            let before = shard.read(100 + bucket);
            cells.observe(Histogram(100), took);
            assert_eq!(shard.read(100 + bucket), before + 1, "{took:?}");
        }
    }

    #[test]
    fn the_bounds_rise() {
        assert!(BUCKETS.is_sorted());
    }

    #[test]
    fn reading_a_cell_makes_no_chunk() {
        let shard = Shard::new();

        assert_eq!(shard.read(CELLS_MAX - 1), 0);
        assert!(shard.chunks.iter().all(|chunk| chunk.get().is_none()));
    }
}
