//! The measuring of `holdfast bench`. Workers are threads, each in a directory of its own; every operation's time goes into a
//! histogram of its worker, and they are added up at the end. Called by bench.rs.

use crate::cli::bench::Args;
use crate::error::ClientError;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const REQUEST_BYTES: usize = 1 << 20;
const SMALL_BYTES: usize = 4 << 10;
const MEDIUM_BYTES: usize = 128 << 10;
/// Bytes written by the tests of medium files are bounded by making fewer of them.
const MEDIUM_SHARE: usize = 4;
/// Longest operation that is told apart from longer ones.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Operations,
    Bytes,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Result {
    pub name: &'static str,
    pub workers: usize,
    pub unit: Unit,
    /// Operations, or bytes.
    pub count: u64,
    pub elapsed: Duration,
    latency_ns: Histogram<u64>,
}

impl Result {
    /// A second: operations, or MiB.
    pub fn rate(&self) -> f64 {
        let per_second = self.count as f64 / self.elapsed.as_secs_f64().max(1e-9);
        match self.unit {
            Unit::Operations => per_second,
            Unit::Bytes => per_second / f64::from(1 << 20),
        }
    }

    pub fn percentile_us(&self, percentile: f64) -> f64 {
        self.latency_ns.value_at_percentile(percentile) as f64 / 1000.0
    }
}

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOPPED.store(true, Ordering::Relaxed);
}

/// Lets SIGINT and SIGTERM end the run like an error, so that its files go.
fn stop_on_signals() {
    let action = SigAction::new(SigHandler::Handler(stop), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores into an atomic. It fails for no valid signal; and then files would stay, no more.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

fn check_stopped() -> io::Result<()> {
    if STOPPED.load(Ordering::Relaxed) { Err(io::Error::other("stopped by a signal")) } else { Ok(()) }
}

/// A run, in a directory that goes with it.
pub struct Bench<'a> {
    args: &'a Args,
    progress: &'a ProgressBar,
    dir: PathBuf,
}

/// One worker's share of a test. Names are relative to its open directory, so that an operation is measured and not a walk.
struct Worker {
    dir: File,
    path: PathBuf,
    file_count: usize,
}

fn name(prefix: &str, index: usize) -> String {
    format!("{prefix}{index:06}")
}

/// An operation on file `index` of a worker; `data` is for those that write.
type Operation = fn(worker: &Worker, index: usize, data: &[u8]) -> io::Result<()>;

struct Test {
    name: &'static str,
    operation: Operation,
    bytes: usize,
    /// Reads what may be in the kernel's caches.
    reads: bool,
}

const fn test(name: &'static str, operation: Operation, bytes: usize, reads: bool) -> Test {
    Test { name, operation, bytes, reads }
}

/// In this order: each finds what the one before has left.
const TESTS: [Test; 8] = [
    test("create + close", create, 0, false),
    test("stat", stat, 0, true),
    test("open + close", open, 0, true),
    test("rename", rename, 0, false),
    test("readdir + stat", stat, 0, true), // by run_listing
    test("unlink", unlink, 0, false),
    test("create + write 4 KiB + close", write_file, SMALL_BYTES, false),
    test("create + write 128 KiB + close", write_file, MEDIUM_BYTES, false),
];
const READ_TESTS: [Test; 1] = [test("open + read 128 KiB + close", read_file, MEDIUM_BYTES, true)];
const LISTING: &str = "readdir + stat";

fn create(worker: &Worker, index: usize, _: &[u8]) -> io::Result<()> {
    open_at(worker, "f", index, CREATE).and_then(close)
}

fn stat(worker: &Worker, index: usize, _: &[u8]) -> io::Result<()> {
    fstatat(&worker.dir, name("f", index).as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn open(worker: &Worker, index: usize, _: &[u8]) -> io::Result<()> {
    open_at(worker, "f", index, OFlag::O_RDONLY).and_then(close)
}

fn rename(worker: &Worker, index: usize, _: &[u8]) -> io::Result<()> {
    Ok(renameat(&worker.dir, name("f", index).as_str(), &worker.dir, name("g", index).as_str())?)
}

fn unlink(worker: &Worker, index: usize, _: &[u8]) -> io::Result<()> {
    Ok(unlinkat(&worker.dir, name("g", index).as_str(), UnlinkatFlags::NoRemoveDir)?)
}

fn write_file(worker: &Worker, index: usize, data: &[u8]) -> io::Result<()> {
    let prefix = if data.len() == SMALL_BYTES { "s" } else { "m" };
    let mut file = open_at(worker, prefix, index, CREATE)?;
    file.write_all(data)?;
    close(file)
}

fn read_file(worker: &Worker, index: usize, data: &[u8]) -> io::Result<()> {
    let mut buffer = vec![0; data.len()];
    open_at(worker, "m", index, OFlag::O_RDONLY)?.read_exact(&mut buffer)
}

const CREATE: OFlag = OFlag::O_CREAT.union(OFlag::O_EXCL).union(OFlag::O_WRONLY);

fn open_at(worker: &Worker, prefix: &str, index: usize, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_CLOEXEC;
    Ok(openat(&worker.dir, name(prefix, index).as_str(), flags, Mode::from_bits_truncate(0o644))?.into())
}

/// close(2) may be where a filesystem says that data was lost; dropping a File would not tell.
fn close(file: File) -> io::Result<()> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor is ours, and nobody uses it after this.
    if unsafe { libc::close(file.into_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl<'a> Bench<'a> {
    /// Rows that a run will have.
    pub fn steps(args: &Args) -> usize {
        let big = if args.size > 0 { 2 } else { 0 };
        big + args.procs.len() * (TESTS.len() + READ_TESTS.len())
    }

    /// # Errors
    /// The directory cannot be written.
    pub fn new(args: &'a Args, progress: &'a ProgressBar) -> std::result::Result<Self, ClientError> {
        let dir = args.dir.join(format!(".holdfast-bench-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| ClientError::Failed(format!("{}: {error}", dir.display())))?;
        stop_on_signals();
        Ok(Bench { args, progress, dir })
    }

    /// # Errors
    /// The first operation that fails, by name.
    pub fn run(&self) -> std::result::Result<Vec<Result>, ClientError> {
        let mut rows = Vec::new();
        let step = |name: &'static str, done: io::Result<Result>| {
            self.progress.inc(1);
            done.map_err(|error| ClientError::Failed(format!("{name} in {}: {error}", self.args.dir.display())))
        };
        if self.args.size > 0 {
            let path = self.dir.join("big");
            rows.push(step("write", self.write_big(&path))?);
            rows.push(step("read", self.read_big(&path))?);
            step_remove(&path)?;
        }
        for &count in &self.args.procs {
            let round = self.dir.join(format!("round{count}"));
            let workers = make_workers(&round, count, self.args.small_files)
                .map_err(|error| ClientError::Failed(format!("{}: {error}", round.display())))?;
            for test in TESTS.iter().chain(&READ_TESTS) {
                self.progress.set_message(format!("{} by {count}", test.name));
                rows.push(step(test.name, self.run_test(test, &workers))?);
            }
            std::fs::remove_dir_all(&round)
                .map_err(|error| ClientError::Failed(format!("{}: {error}", round.display())))?;
        }
        Ok(rows)
    }

    fn run_test(&self, test: &Test, workers: &[Worker]) -> io::Result<Result> {
        if test.reads {
            self.drop_caches()?;
        }
        let data = noise(test.bytes, 1);
        let begun = Instant::now();
        let shares: Vec<io::Result<Histogram<u64>>> = std::thread::scope(|scope| {
            let data = &data;
            let run = |worker| {
                scope.spawn(move || if test.name == LISTING { list(worker) } else { repeat(test, worker, data) })
            };
            let threads: Vec<_> = workers.iter().map(run).collect();
            let joined = |thread: std::thread::ScopedJoinHandle<'_, io::Result<Histogram<u64>>>| {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("a worker's thread died")))
            };
            threads.into_iter().map(joined).collect()
        });
        let elapsed = begun.elapsed();
        let mut latency_ns = histogram()?;
        for share in shares {
            latency_ns.add(share?).map_err(io::Error::other)?;
        }
        let (count, workers) = (latency_ns.len(), workers.len());
        Ok(Result { name: test.name, workers, unit: Unit::Operations, count, elapsed, latency_ns })
    }

    fn write_big(&self, path: &Path) -> io::Result<Result> {
        self.progress.set_message("write");
        let mut latency_ns = histogram()?;
        let mut data = noise(REQUEST_BYTES, 7);
        let begun = Instant::now();
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut left = self.args.size;
        while left > 0 {
            let len = left.min(REQUEST_BYTES as u64) as usize;
            // No two requests alike, or a filesystem that finds duplicates would be flattered.
            data[..8].copy_from_slice(&left.to_le_bytes());
            check_stopped()?;
            let one = Instant::now();
            file.write_all(&data[..len])?;
            record(&mut latency_ns, one);
            left -= len as u64;
        }
        file.sync_all()?;
        close(file)?;
        let (count, elapsed) = (self.args.size, begun.elapsed());
        Ok(Result { name: "large file: write + fsync", workers: 1, unit: Unit::Bytes, count, elapsed, latency_ns })
    }

    fn read_big(&self, path: &Path) -> io::Result<Result> {
        self.progress.set_message("read");
        let mut file = File::open(path)?;
        // SAFETY: an open descriptor and plain numbers. Only advice: what it says does not matter.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        self.drop_caches()?;
        let mut latency_ns = histogram()?;
        let mut buffer = vec![0; REQUEST_BYTES];
        let mut count = 0;
        let begun = Instant::now();
        loop {
            check_stopped()?;
            let one = Instant::now();
            let len = file.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            record(&mut latency_ns, one);
            count += len as u64;
        }
        let elapsed = begun.elapsed();
        if count != self.args.size {
            return Err(io::Error::other(format!("{count} of {} bytes came back", self.args.size)));
        }
        Ok(Result { name: "large file: read", workers: 1, unit: Unit::Bytes, count, elapsed, latency_ns })
    }

    fn drop_caches(&self) -> io::Result<()> {
        if self.args.drop_caches { std::fs::write("/proc/sys/vm/drop_caches", "3") } else { Ok(()) }
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("holdfast: cannot remove {}: {error}", self.dir.display());
        }
    }
}

fn step_remove(path: &Path) -> std::result::Result<(), ClientError> {
    std::fs::remove_file(path).map_err(|error| ClientError::Failed(format!("{}: {error}", path.display())))
}

fn make_workers(round: &Path, count: usize, file_count: usize) -> io::Result<Vec<Worker>> {
    let worker = |index: usize| {
        let path = round.join(format!("worker{index}"));
        std::fs::create_dir_all(&path)?;
        Ok(Worker { dir: File::open(&path)?, path, file_count: file_count / count })
    };
    (0..count).map(worker).collect()
}

fn repeat(test: &Test, worker: &Worker, data: &[u8]) -> io::Result<Histogram<u64>> {
    let mut latency_ns = histogram()?;
    let share = if test.bytes == MEDIUM_BYTES { worker.file_count.div_ceil(MEDIUM_SHARE) } else { worker.file_count };
    for index in 0..share {
        check_stopped()?;
        let begun = Instant::now();
        (test.operation)(worker, index, data)?;
        record(&mut latency_ns, begun);
    }
    Ok(latency_ns)
}

/// What `ls -l` does: each entry, and its attributes.
fn list(worker: &Worker) -> io::Result<Histogram<u64>> {
    let mut latency_ns = histogram()?;
    let mut begun = Instant::now();
    for entry in std::fs::read_dir(&worker.path)? {
        // Relative to the directory, too: DirEntry::metadata is an fstatat.
        entry?.metadata()?;
        record(&mut latency_ns, begun);
        begun = Instant::now();
    }
    if latency_ns.len() as usize != worker.file_count {
        return Err(io::Error::other(format!("{} of {} entries listed", latency_ns.len(), worker.file_count)));
    }
    Ok(latency_ns)
}

fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).map_err(io::Error::other)
}

fn record(latency_ns: &mut Histogram<u64>, begun: Instant) {
    latency_ns.saturating_record(begun.elapsed().as_nanos() as u64);
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
