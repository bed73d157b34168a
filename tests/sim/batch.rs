//! Many runs, each in a process of its own, forked from this one: so that no static of any library carries something over from one run
//! to the next, and a run is the same alone and among others.

use crate::os;
use crate::planted::Planted;
use crate::tally::{self, Tally};
use crate::world::{Outcome, Plan, run};
use metad::error::Fatal;
use metad::raft::log_store::{LogStore, LogStoreOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

/// A run is given up after so much work, or when it has stood still for so long; how fast it goes is the machine's affair.
const RUN_CPU_MAX: Duration = Duration::from_secs(120);
const RUN_MAX: Duration = Duration::from_secs(1200);

/// Seeds in a batch, where nobody asks for more.
const USUAL_COUNT: u64 = 400;
/// In so many, each kind of event happens.
const ALL_HAPPEN_COUNT: u64 = 1_000;
/// What a node's work with files takes at most.
const DISK_WORK_MS_MAX: u64 = 12;

pub struct Settings {
    first: u64,
    count: u64,
    one: Option<u64>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

impl Settings {
    pub fn from_environment() -> Settings {
        let count = number("HOLDFAST_SIM_SEEDS").unwrap_or(USUAL_COUNT);
        Settings { first: number("HOLDFAST_SIM_FROM").unwrap_or(1), count, one: number("HOLDFAST_SIM_SEED") }
    }
}

/// A run under way in a child process.
struct Child {
    pid: libc::pid_t,
    seed: u64,
    root: PathBuf,
    began: Instant,
}

fn scratch(seed: u64) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    base.join(format!("holdfast-sim-{}-{count}-{seed}", std::process::id()))
}

/// Has this process make once what each of its children would make anew, a table of the log's statistics above all.
fn warm_up() {
    static WARM: Once = Once::new();
    let open = || {
        let dir = scratch(0);
        // What a library draws once for all time is the same in all batches.
        os::seed_process(0);
        drop(LogStore::open(&dir.join("wal"), LogStoreOptions::default(), Fatal::default()).expect("a log"));
        std::fs::remove_dir_all(&dir).expect("a scratch directory is removed");
    };
    WARM.call_once(|| std::thread::spawn(open).join().expect("a log opens"));
}

impl Child {
    fn start(plan: &Plan) -> Child {
        warm_up();
        let (seed, planted, root) = (plan.seed, plan.planted, scratch(plan.seed));
        std::fs::create_dir_all(&root).expect("a scratch directory");
        // SAFETY: the child touches nothing that other threads of the parent may hold: it makes a thread of its own, runs, and exits.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            let code = in_child(seed, planted, &root);
            // SAFETY: ends this process at once, without the parent's destructors.
            unsafe { libc::_exit(code) }
        }
        Child { pid, seed, root, began: Instant::now() }
    }

    /// Processor time of all its threads.
    fn cpu(&self) -> Duration {
        // SAFETY: both calls only fill in what they are given; a process that has ended is waited for by `poll` alone.
        unsafe {
            let (mut clock, mut time) = (0, std::mem::zeroed::<libc::timespec>());
            match libc::clock_getcpuclockid(self.pid, &mut clock) == 0 && libc::clock_gettime(clock, &mut time) == 0 {
                true => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
                false => Duration::ZERO,
            }
        }
    }

    /// None: it runs.
    fn poll(&self) -> Option<Outcome> {
        let mut status = 0;
        // SAFETY: waits for a child of our own.
        let done = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG) };
        let stuck = done == 0 && (self.began.elapsed() > RUN_MAX || self.cpu() > RUN_CPU_MAX);
        if done == 0 && !stuck {
            return None;
        }
        if stuck {
            // SAFETY: ends a child of our own, and waits for its end.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, &mut status, 0);
            }
        }
        let read = |name: &str| std::fs::read_to_string(self.root.join(name)).unwrap_or_default();
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<String>>();
        let mut wrong = lines(read("wrong"));
        if stuck {
            wrong.push(format!("the run did not end within {RUN_CPU_MAX:?} of work, or {RUN_MAX:?}"));
        } else if status != 0 {
            wrong.push(format!("the run ended with wait status {status:#x}"));
        }
        let outcome =
            Outcome { wrong, trace: lines(read("trace")), summary: read("summary"), tally: lines(read("tally")) };
        if let Err(error) = std::fs::remove_dir_all(&self.root) {
            eprintln!("remove {}: {error}", self.root.display());
        }
        Some(outcome)
    }
}

fn in_child(seed: u64, planted: Planted, root: &Path) -> i32 {
    os::seed_process(seed);
    metad::store::sled_image::find_no_programs();
    let (work, out) = (root.to_owned(), root.to_owned());
    let panicked = root.join("wrong");
    std::panic::set_hook(Box::new(move |info| {
        let line = format!("panic: {info}").replace('\n', " ");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&panicked);
        drop(file.and_then(|mut file| writeln!(file, "{line}")));
    }));
    // A thread that has used no randomness and no thread-local yet.
    let runner = std::thread::Builder::new().stack_size(16 << 20).spawn(move || {
        metad::blocking::stay_in_place(|| Duration::from_millis(rand::random_range(0..DISK_WORK_MS_MAX)));
        run(&Plan { seed, planted }, &work)
    });
    let Ok(Ok(outcome)) = runner.map(std::thread::JoinHandle::join) else { return 2 };
    let write = |name: &str, text: String| {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(out.join(name));
        file.and_then(|mut file| file.write_all(text.as_bytes()))
    };
    let wrong: String = outcome.wrong.iter().map(|line| format!("{}\n", line.replace('\n', " "))).collect();
    let written = write("wrong", wrong)
        .and_then(|()| write("trace", outcome.trace.join("\n")))
        .and_then(|()| write("tally", outcome.tally.join("\n")))
        .and_then(|()| write("summary", outcome.summary));
    if written.is_ok() { 0 } else { 3 }
}

/// One run in a process of its own.
pub fn run_apart(plan: &Plan) -> Outcome {
    let child = Child::start(plan);
    loop {
        if let Some(outcome) = child.poll() {
            return outcome;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Where the trace of a run is kept.
fn keep_trace(seed: u64, outcome: &Outcome) -> PathBuf {
    let path = std::env::temp_dir().join(format!("holdfast-sim-{seed}.trace"));
    if let Err(error) = std::fs::write(&path, outcome.trace.join("\n")) {
        eprintln!("write {}: {error}", path.display());
    }
    path
}

fn report(seed: u64, outcome: &Outcome) -> String {
    let path = keep_trace(seed, outcome);
    let wrong = outcome.wrong.join("\n  ");
    format!(
        "seed {seed}:\n  {wrong}\n  {}\n  trace: {}\n  again: HOLDFAST_SIM_SEED={seed} cargo test --workspace --test sim no_seed_breaks_a_promise",
        outcome.summary,
        path.display()
    )
}

/// Runs seeds side by side, one for each core, and fails with those that broke a promise.
pub fn run_many(settings: &Settings) {
    let (first, count) = settings.one.map_or((settings.first, settings.count), |seed| (seed, 1));
    let width = std::thread::available_parallelism().map_or(2, usize::from);
    let (mut waiting, mut children, mut failed) = (first..first + count, Vec::<Child>::new(), Vec::new());
    let (began, mut told, mut done) = (Instant::now(), Instant::now(), 0_u64);
    let happened = Tally::default();
    loop {
        while children.len() < width
            && failed.len() < 40
            && let Some(seed) = waiting.next()
        {
            children.push(Child::start(&Plan { seed, planted: Planted::Nothing }));
        }
        if children.is_empty() {
            break;
        }
        children.retain(|child| {
            let Some(outcome) = child.poll() else { return true };
            done += 1;
            happened.add(&outcome.tally);
            if settings.one.is_some() {
                println!("{}; trace: {}", outcome.summary, keep_trace(child.seed, &outcome).display());
            }
            if !outcome.wrong.is_empty() {
                let said = report(child.seed, &outcome);
                eprintln!("{said}");
                failed.push(said);
            }
            false
        });
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            eprintln!("{done} of {count} seeds, {:.1} a second", done as f64 / began.elapsed().as_secs_f64());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{done} seeds from {first} on in {:.1} s: {}", began.elapsed().as_secs_f64(), happened.lines().join(", "));
    assert!(failed.is_empty(), "{} of {done} seeds failed:\n{}", failed.len(), failed.join("\n"));
    let never: Vec<&str> = tally::ALL.into_iter().filter(|what| happened.of(what) == 0).collect();
    assert!(count < ALL_HAPPEN_COUNT || never.is_empty(), "in {done} seeds there were no {never:?}");
}
