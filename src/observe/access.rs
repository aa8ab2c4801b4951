//! The access log: how lines get from the workers to their destination.
//!
//! A worker collects lines in a block and hands it over without waiting; one
//! thread writes. A destination that is slow, full or gone costs lines, which
//! are counted, and never a request's time.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use super::record::Record;
use crate::config::AccessFormat;
use crate::config::AccessTarget;

/// A block is handed over when it has this many bytes: some fifty lines of 600 bytes for one write.
const BLOCK_BYTES: usize = 32 * 1024;

/// Room for the line that fills a block, so that the block seldom grows.
const BLOCK_ROOM: usize = 4 * 1024;

/// Blocks that may wait: 2 MiB and some 3,000 lines, a disk's pause of a second at as many requests
/// a second. A block ends with the line that fills it, so the longest lines make it 10 MiB.
const BLOCKS_MAX: usize = 64;

/// One complaint in this time: a full disk is full for every line.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// What closing waits for a destination that does not move: someone wants the process to end.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// The writing thread, as the control thread sees it.
pub struct AccessLog {
    shared: Arc<Shared>,
    blocks: SyncSender<Block>,
    format: AccessFormat,
    thread: JoinHandle<()>,
    /// Disconnected when the thread has ended: a thread cannot be joined with a time limit.
    ended: Receiver<()>,
}

/// How many lines were lost.
pub struct Losses(Arc<Shared>);

impl Losses {
    /// Since the start.
    pub fn total(&self) -> u64 {
        self.0.lost.load(Relaxed)
    }
}

impl AccessLog {
    /// Opens the destination and starts the thread; `None` when there is nothing to write.
    pub fn start(target: &AccessTarget, format: AccessFormat) -> io::Result<Option<AccessLog>> {
        let sink = match target {
            AccessTarget::Off => return Ok(None),
            AccessTarget::Stdout => Sink::Fixed(Box::new(stdout()?)),
            AccessTarget::File(path) => Sink::File { file: open(path)?, path: path.clone() },
        };
        AccessLog::write_to(sink, format).map(Some)
    }

    /// For one worker.
    pub fn writer(&self) -> AccessWriter {
        AccessWriter {
            shared: self.shared.clone(),
            blocks: self.blocks.clone(),
            format: self.format,
            block: Block::new(),
        }
    }

    /// Opens the file again by its path, soon: someone has moved the old one away.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, SeqCst);
        self.wake();
    }

    /// Lines lost since the start. For `tidegate_access_log_lost_total`.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }

    /// The same, for whoever reads it later.
    pub fn losses(&self) -> Losses {
        Losses(self.shared.clone())
    }

    /// Writes what was handed over, then ends the thread. Workers flush first;
    /// what they record afterwards is lost. Waits no longer than five seconds.
    pub fn close(self) {
        self.shared.closing.store(true, SeqCst);
        self.wake();
        match self.ended.recv_timeout(CLOSE_WAIT) {
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("access log: the destination does not move; its last lines are lost");
            }
            _ => {
                if self.thread.join().is_err() {
                    tracing::error!("access log: the writing thread has panicked");
                }
            }
        }
    }

    fn write_to(sink: Sink, format: AccessFormat) -> io::Result<AccessLog> {
        let shared = Arc::new(Shared::default());
        let (blocks, received) = mpsc::sync_channel(BLOCKS_MAX);
        let (end, ended) = mpsc::sync_channel(0);
        let mut scribe =
            Scribe { shared: shared.clone(), sink, torn: false, complaint: None, lost_before: 0 };
        let run = move || {
            let _dropped_at_the_end = end;
            scribe.run(&received);
        };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(run)?;
        Ok(AccessLog { shared, blocks, format, thread, ended })
    }

    /// After a flag was set: an empty block makes the thread look. When there is
    /// no room for it, the thread has blocks to come back from, and looks then.
    fn wake(&self) {
        let _may_be_full = self.blocks.try_send(Block::default());
    }
}

/// One worker's side of the access log.
pub struct AccessWriter {
    shared: Arc<Shared>,
    blocks: SyncSender<Block>,
    format: AccessFormat,
    block: Block,
}

impl AccessWriter {
    /// Adds a line, and hands the block over when that fills it. Never waits.
    pub fn record(&mut self, record: &Record<'_>) {
        record.write(self.format, &mut self.block.bytes);
        self.block.lines += 1;
        if self.block.bytes.len() >= BLOCK_BYTES {
            self.flush();
        }
    }

    /// Hands over what there is. The worker's sweep calls this once a second,
    /// so that a quiet log is not late. Never waits.
    pub fn flush(&mut self) {
        if self.block.lines == 0 {
            return;
        }
        let full = std::mem::take(&mut self.block);
        self.block = match self.blocks.try_send(full) {
            Ok(()) => Block::new(),
            Err(mpsc::TrySendError::Full(mut block) | mpsc::TrySendError::Disconnected(mut block)) => {
                self.shared.lost.fetch_add(block.lines, Relaxed);
                block.bytes.clear();
                Block { lines: 0, ..block }
            }
        };
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

/// What all sides touch.
#[derive(Default)]
struct Shared {
    lost: AtomicU64,
    reopen: AtomicBool,
    closing: AtomicBool,
}

/// Whole lines, in their order.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    lines: u64,
}

impl Block {
    fn new() -> Block {
        Block { bytes: Vec::with_capacity(BLOCK_BYTES + BLOCK_ROOM), lines: 0 }
    }
}

/// Where the bytes go.
enum Sink {
    /// Has a path to be opened again by.
    File { file: File, path: PathBuf },
    /// Stays what it is.
    Fixed(Box<dyn Write + Send>),
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::File { file, .. } => file.write(bytes),
            Sink::Fixed(out) => out.write(bytes),
        }
    }
}

/// The thread's own state.
struct Scribe {
    shared: Arc<Shared>,
    sink: Sink,
    /// The last write ended within a line.
    torn: bool,
    /// When we last complained.
    complaint: Option<Instant>,
    /// Lines lost when we last complained.
    lost_before: u64,
}

impl Scribe {
    fn run(&mut self, blocks: &Receiver<Block>) {
        while let Ok(block) = blocks.recv() {
            if self.shared.reopen.swap(false, SeqCst) {
                self.reopen();
            }
            self.write(&block);
            if self.shared.closing.load(SeqCst) {
                while let Ok(block) = blocks.try_recv() {
                    self.write(&block);
                }
                return;
            }
        }
    }

    fn write(&mut self, block: &Block) {
        let failed = self.write_all(&block.bytes).err();
        let lost = self.shared.lost.load(Relaxed);
        if lost > self.lost_before && self.may_complain(Instant::now()) {
            let lines = lost - self.lost_before;
            self.lost_before = lost;
            match failed {
                Some(error) => tracing::error!(lines, %error, "access log: lines lost"),
                None => tracing::warn!(lines, "access log: lines lost, the destination is too slow"),
            }
        }
    }

    /// Writes the block or counts its rest as lost, a line that was begun included.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        // The rest of a torn line is gone. End it first, so that it spoils no other.
        let ended = if self.torn && !bytes.is_empty() { self.put(&mut b"\n".as_slice()) } else { Ok(()) };
        let written = ended.and_then(|()| self.put(&mut rest));
        let lines = memchr::memchr_iter(b'\n', rest).count() as u64;
        self.shared.lost.fetch_add(lines, Relaxed);
        written
    }

    /// Writes from the front of `rest` and leaves there what it could not write.
    fn put(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        while !rest.is_empty() {
            match self.sink.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = rest[written - 1] != b'\n';
                    *rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn reopen(&mut self) {
        let Sink::File { file, path } = &mut self.sink else { return };
        match open(path) {
            Ok(new) => {
                *file = new;
                self.torn = false;
                tracing::info!(path = %path.display(), "access log: reopened");
            }
            // The old file is better than none.
            Err(error) => tracing::error!(path = %path.display(), %error, "access log: cannot be reopened"),
        }
    }

    fn may_complain(&mut self, now: Instant) -> bool {
        let may = self.complaint.is_none_or(|last| now.duration_since(last) >= COMPLAIN_EVERY);
        if may {
            self.complaint = Some(now);
        }
        may
    }
}

/// For the owner and the group: addresses of clients are nobody else's business.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// The file itself: the standard library's handle has a buffer and a lock that are of no use here.
fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::super::record::tests::record;
    use super::*;

    /// Takes nothing until its gate opens, and says when it is asked to.
    struct Gate {
        asked: mpsc::Sender<()>,
        open: Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _test_may_be_over = self.asked.send(());
            let _until_open = self.open.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Gives each answer in turn, then takes everything.
    struct Scripted {
        answers: Vec<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = if self.answers.is_empty() { bytes.len() } else { self.answers.remove(0)? };
            self.written.lock().unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn to_file(path: &Path) -> AccessLog {
        AccessLog::start(&AccessTarget::File(path.to_owned()), AccessFormat::Json).unwrap().unwrap()
    }

    fn lines(path: &Path) -> usize {
        let text = fs::read_to_string(path).unwrap();
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        text.lines().count()
    }

    #[test]
    fn nothing_is_started_when_it_is_off() {
        assert!(AccessLog::start(&AccessTarget::Off, AccessFormat::Json).unwrap().is_none());
    }

    #[test]
    fn a_destination_that_cannot_be_opened_is_an_error_at_the_start() {
        let target = AccessTarget::File("/nonexistent/access.log".into());

        assert!(AccessLog::start(&target, AccessFormat::Json).is_err());
    }

    #[test]
    fn every_line_of_every_worker_is_written_whole_before_it_closes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = to_file(&path);

        thread::scope(|scope| {
            for _ in 0..3 {
                let mut writer = log.writer();
                scope.spawn(move || (0..1000).for_each(|_| writer.record(&record())));
            }
        });
        let lost = log.lost();
        log.close();

        assert_eq!((lines(&path), lost), (3000, 0));
    }

    #[test]
    fn a_moved_file_is_replaced_when_it_is_reopened() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
        let log = to_file(&path);
        let mut writer = log.writer();

        fs::rename(&path, &moved).unwrap();
        log.reopen();
        writer.record(&record());
        writer.flush();
        log.close();

        assert_eq!((lines(&moved), lines(&path)), (0, 1));
    }

    #[test]
    fn a_blocked_destination_loses_lines_and_counts_them_and_blocks_nobody() {
        let (asked, is_asked) = mpsc::channel();
        let (opener, open) = mpsc::channel();
        let log =
            AccessLog::write_to(Sink::Fixed(Box::new(Gate { asked, open })), AccessFormat::Json).unwrap();
        let mut writer = log.writer();
        let mut one_block = || {
            writer.record(&record());
            writer.flush();
        };

        one_block();
        is_asked.recv().unwrap();
        for _ in 0..BLOCKS_MAX + 7 {
            one_block();
        }

        assert_eq!(log.lost(), 7);
        drop(opener);
        log.close();
        one_block();
        assert_eq!(writer.shared.lost.load(Relaxed), 8);
    }

    #[test]
    fn a_full_disk_costs_the_lines_that_did_not_fit_and_spoils_no_other() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let full = || Err(io::ErrorKind::StorageFull.into());
        let answers = vec![Ok(6), full(), full(), Err(io::ErrorKind::Interrupted.into()), Ok(1)];
        let sink = Sink::Fixed(Box::new(Scripted { answers, written: written.clone() }));
        let shared = Arc::new(Shared::default());
        let mut scribe =
            Scribe { shared: shared.clone(), sink, torn: false, complaint: None, lost_before: 0 };

        assert!(scribe.write_all(b"one\ntwo\nthree\n").is_err());
        assert_eq!(shared.lost.load(Relaxed), 2);
        assert!(scribe.write_all(b"four\n").is_err());
        assert_eq!(shared.lost.load(Relaxed), 3);
        scribe.write_all(b"five\n").unwrap();
        scribe.write_all(b"").unwrap();

        assert_eq!(written.lock().unwrap().as_slice(), b"one\ntw\nfive\n");
    }

    #[test]
    fn complaints_come_once_a_minute() {
        let sink = Sink::Fixed(Box::new(io::sink()));
        let mut scribe =
            Scribe { shared: Arc::default(), sink, torn: false, complaint: None, lost_before: 0 };
        let start = Instant::now();

        let may = [0, 1, 59, 60, 61].map(|second| scribe.may_complain(start + Duration::from_secs(second)));

        assert_eq!(may, [true, false, false, true, false]);
    }
}
