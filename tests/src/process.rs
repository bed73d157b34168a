//! Processes of the workspace: where the binaries are, starting them so that they die with the test, running a command to its
//! end, and cleaning up whatever is left when the test binary exits (mounts first, then processes, networks, directories).

use holdfast_proto::faults::{Bug, PLANTED};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, Once, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is removed when the test binary exits, if it was not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    Mount(PathBuf),
    Process(u32),
    /// Of namespaces, by its number.
    Network(u32),
    Directory(PathBuf),
}

/// The exit code of a process that panicked, as the standard library has it.
const PANICKED: i32 = 101;

type Check = fn() -> Result<(), String>;

static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());
/// Checks that run at exit, while all processes are there: the name of each.
static CHECKS: Mutex<Vec<(&'static str, Check)>> = Mutex::new(Vec::new());
static FAILED: AtomicBool = AtomicBool::new(false);
static FAULTY: AtomicBool = AtomicBool::new(false);
static BUG: OnceLock<Bug> = OnceLock::new();
static INSTALL: Once = Once::new();

/// The target directory's profile folder that holds this test's executable, where the binaries are too.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("HOLDFAST_BIN_DIR") {
        return PathBuf::from(dir);
    }
    let exe = std::env::current_exe().expect("path of the test executable");
    let deps = exe.parent().expect("folder of the test executable");
    if deps.ends_with("deps") { deps.parent().expect("target/debug").to_path_buf() } else { deps.to_path_buf() }
}

/// From now on this process starts the binaries with faults on purpose (`holdfast_proto::faults`).
pub fn use_faulty_binaries() {
    FAULTY.store(true, Ordering::Relaxed);
}

/// The same, and each of them has this bug.
pub fn plant(bug: Bug) {
    use_faulty_binaries();
    assert_eq!(*BUG.get_or_init(|| bug), bug, "a process has one bug");
}

/// Path of a binary of the workspace.
pub fn bin(name: &str) -> PathBuf {
    let faulty = if FAULTY.load(Ordering::Relaxed) { "-faulty" } else { "" };
    let path = bin_dir().join(format!("{name}{faulty}"));
    assert!(
        path.exists(),
        "{} is not there: build it with `cargo build --workspace --bins`, or those with faults with \
         `cargo build --workspace --features faults --bin metad-faulty --bin holdfast-faulty` (`make test` does)",
        path.display()
    );
    path
}

/// A command of a binary of the workspace, with an environment that holds no settings of the developer's own.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(bin(name));
    for (key, _) in std::env::vars_os() {
        let text = key.to_string_lossy();
        if text.starts_with("HOLDFAST_") || text.starts_with("AWS_") {
            command.env_remove(&key);
        }
    }
    if let Some(bug) = BUG.get() {
        command.env(PLANTED, bug.name());
    }
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command
}

/// What `from` sets and removes, set and removed in `to`, which runs it in some other way.
pub fn copy_env(from: &Command, to: &mut Command) {
    for (key, value) in from.get_envs() {
        match value {
            Some(value) => to.env(key, value),
            None => to.env_remove(key),
        };
    }
    to.stdin(Stdio::null());
}

/// A fresh directory under target/tests-run, removed at exit unless a test failed.
pub fn scratch_dir(label: &str) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let root = bin_dir().parent().map_or_else(std::env::temp_dir, Path::to_path_buf).join("tests-run");
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let dir = root.join(format!("{}-{number}-{label}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("scratch directory");
    register(Leftover::Directory(dir.clone()));
    dir
}

/// Cleans `leftover` at exit, whatever happens to the test before.
pub fn register(leftover: Leftover) {
    INSTALL.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            FAILED.store(true, Ordering::Relaxed);
            previous(info);
        }));
        // SAFETY: the handler is a plain function that lives as long as the process.
        unsafe { libc::atexit(at_exit) };
    });
    lock(&LEFTOVERS).push(leftover);
}

/// From now on SIGINT, SIGTERM and a panic of any thread end this process with all that it would clean at exit: a release build would
/// abort at a panic, and clean nothing. To be called before there are threads.
pub fn end_in_order() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        previous(info);
        std::process::exit(PANICKED);
    }));
    let mut signals = nix::sys::signal::SigSet::empty();
    signals.add(nix::sys::signal::Signal::SIGINT);
    signals.add(nix::sys::signal::Signal::SIGTERM);
    // Blocked here, and so in all threads that this one starts; but not in the processes.
    signals.thread_block().expect("signals of our own");
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            std::process::exit(128 + signal as i32);
        }
    });
}

/// `leftover` has been cleaned by its owner.
pub fn unregister(leftover: &Leftover) {
    lock(&LEFTOVERS).retain(|other| other != leftover);
}

/// Runs `check` when the test binary exits, before anything is cleaned; what it finds counts as a failed test.
pub fn check_at_exit(name: &'static str, check: Check) {
    lock(&CHECKS).push((name, check));
}

/// This thread's own state has been torn down by now, so the checks run on another.
fn all_checks_pass() -> bool {
    let mut all_pass = true;
    for (name, check) in std::mem::take(&mut *lock(&CHECKS)) {
        let ended = std::thread::spawn(check).join();
        if let Err(wrong) = ended.unwrap_or_else(|_| Err("it panicked".to_owned())) {
            FAILED.store(true, Ordering::Relaxed);
            all_pass = false;
            let _ = writeln!(std::io::stderr(), "{wrong}\ntest {name} ... FAILED");
        }
    }
    all_pass
}

extern "C" fn at_exit() {
    let all_pass = all_checks_pass();
    clean();
    if !all_pass {
        // SAFETY: ends the process, and this is the last handler that matters.
        unsafe { libc::_exit(PANICKED) };
    }
}

fn clean() {
    let leftovers = std::mem::take(&mut *lock(&LEFTOVERS));
    for leftover in &leftovers {
        if let Leftover::Mount(dir) = leftover {
            crate::mount::detach(dir);
        }
    }
    for leftover in &leftovers {
        if let Leftover::Process(pid) = leftover {
            signal(*pid, libc::SIGKILL);
        }
    }
    for leftover in &leftovers {
        if let Leftover::Network(number) = leftover {
            crate::net::remove(*number);
        }
    }
    for leftover in &leftovers {
        if let Leftover::Directory(dir) = leftover {
            if FAILED.load(Ordering::Relaxed) || std::env::var_os("HOLDFAST_TEST_KEEP").is_some() {
                let _ = writeln!(std::io::stderr(), "kept for a look: {}", dir.display());
            } else {
                let _ = std::fs::remove_dir_all(dir);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Starts a process that is killed when this test binary ends, however it ends. PR_SET_PDEATHSIG watches the *thread* that
/// forked, so one thread that lives as long as the process starts them all.
pub fn spawn(mut command: Command) -> std::io::Result<Child> {
    type Job = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(jobs)
    });
    // SAFETY: prctl is async-signal-safe, and nothing else runs between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let (answer, reply) = mpsc::channel();
    lock(spawner).send((command, answer)).expect("the spawner lives as long as the process");
    reply.recv().expect("the spawner answers")
}

/// Sends a signal; false if there is no such process.
pub fn signal(pid: u32, signal: i32) -> bool {
    // SAFETY: kill(2) touches no memory of ours. Pids of children are positive and fit.
    unsafe { libc::kill(pid as i32, signal) == 0 }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// None: killed by a signal, or by us at the deadline.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Panics, with everything the command said, unless it ended with 0.
    pub fn ok(self, what: &str) -> Ended {
        assert_eq!(self.code, Some(0), "{what} failed\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts what every refusal of ours looks like: this exit code, and one line on stderr that says `hint`.
    pub fn refused(self, code: i32, hint: &str) -> Ended {
        assert_eq!(self.code, Some(code), "exit code\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        let lines: Vec<_> = self.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
        assert_eq!(lines.len(), 1, "one line on stderr, got:\n{}", self.stderr);
        let said = lines[0].to_lowercase();
        assert!(
            hint.split('|').any(|word| said.contains(&word.to_lowercase())),
            "stderr should name {hint:?}: {}",
            lines[0]
        );
        self
    }
}

/// Runs a command to its end; kills it after `deadline`. The outputs go through files, so that a daemon that the command
/// leaves behind cannot keep us waiting by holding a pipe open.
pub fn run_within(mut command: Command, deadline: Duration) -> Ended {
    let mut out = tempfile::tempfile().expect("file for stdout");
    let mut err = tempfile::tempfile().expect("file for stderr");
    command.stdout(out.try_clone().expect("dup")).stderr(err.try_clone().expect("dup"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let start = Instant::now();
    let code = loop {
        match child.try_wait().expect("wait for a child") {
            Some(status) => break status.code(),
            None if start.elapsed() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    Ended { code, stdout: whole(&mut out), stderr: whole(&mut err) }
}

/// Runs a command to its end, for at most a minute and a half.
pub fn run(command: Command) -> Ended {
    run_within(command, Duration::from_secs(90))
}

fn whole(file: &mut std::fs::File) -> String {
    use std::io::Seek;
    let mut bytes = Vec::new();
    let _ = file.rewind();
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until `ready` gives a value; panics with `what` after a minute and a half.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(90), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A line of a report that `cargo test` shows although the test passes.
pub fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "    {line}");
}

/// A thread with a table of file descriptors of its own. What works on a mount needs it wherever another thread starts processes: a
/// forked child closes what it inherited, and closing a file of a mount waits for that mount's cluster, which may be just what the
/// new process was to bring back.
pub fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(move || {
        // SAFETY: takes no pointers; it only copies this thread's descriptor table.
        let done = unsafe { libc::unshare(libc::CLONE_FILES) };
        assert_eq!(done, 0, "unshare: {}", std::io::Error::last_os_error());
        work()
    })
}
