//! Locks by system calls, and who takes them: threads that are processes as far as locks go (a table of descriptors of their own),
//! and real child processes that can be killed. Called by tests of locks.

use crate::process::apart;
use crate::shared;
use std::fs::File;
use std::io::{Error, PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// An errno, by Linux's number.
pub type Result<T> = std::result::Result<T, i32>;

/// Bytes from `start`; len 0 stands for all that follow.
pub type Bytes = (i64, i64);

fn check(result: i32) -> Result<()> {
    if result < 0 { Err(Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
}

/// flock(2).
pub fn flock(file: &File, operation: i32) -> Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::flock(file.as_raw_fd(), operation) })
}

fn fcntl(file: &File, command: i32, mode: i32, (start, len): Bytes) -> Result<libc::flock> {
    let mut lock =
        libc::flock { l_type: mode as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: len, l_pid: 0 };
    // SAFETY: the structure lives as long as the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) })?;
    Ok(lock)
}

/// fcntl(2): F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW.
pub fn set(file: &File, command: i32, mode: i32, bytes: Bytes) -> Result<()> {
    fcntl(file, command, mode, bytes).map(drop)
}

/// fcntl(2): F_GETLK, F_OFD_GETLK: mode, bytes and process of what is in the way; None: nothing.
pub fn get(file: &File, command: i32, mode: i32, bytes: Bytes) -> Option<(i32, Bytes, i32)> {
    let lock = fcntl(file, command, mode, bytes).expect("F_GETLK");
    let mode = i32::from(lock.l_type);
    (mode != libc::F_UNLCK).then_some((mode, (lock.l_start, lock.l_len), lock.l_pid))
}

pub fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A new file, as both shared mounts see it.
pub fn file() -> (PathBuf, PathBuf) {
    let (here, there) = shared::fresh_dir_on_both();
    std::fs::write(here.join("f"), b"content").expect("a file to lock");
    (here.join("f"), there.join("f"))
}

/// Two of one mount, and one of another.
pub fn three() -> [Locker; 3] {
    let (here, there) = file();
    [Locker::new(&[&here]), Locker::new(&[&here]), Locker::new(&[&there])]
}

type Job = Box<dyn FnOnce(&mut Vec<File>) + Send>;

/// A thread that the kernel takes for a process of its own where locks are concerned. Its files are its own.
pub struct Locker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Locker {
    /// With these files open for reading and writing.
    pub fn new(paths: &[&Path]) -> Locker {
        let (jobs, inbox) = channel::<Job>();
        let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
        let (ready, tid) = channel();
        let thread = apart(move || {
            let mut files: Vec<File> = paths.iter().map(|path| open(path)).collect();
            // SAFETY: takes no pointers.
            ready.send(unsafe { libc::gettid() }).expect("the test waits");
            inbox.into_iter().for_each(|job| job(&mut files));
        });
        Locker { jobs: Some(jobs), thread: Some(thread), tid: tid.recv().expect("the locker starts") }
    }

    /// Begins something that may block.
    pub fn start<T: Send + 'static>(&self, job: impl FnOnce(&mut Vec<File>) -> T + Send + 'static) -> Receiver<T> {
        let (done, result) = channel();
        // Whoever asked may have stopped waiting.
        let job: Job = Box::new(move |files| drop(done.send(job(files))));
        self.jobs.as_ref().expect("lives").send(job).expect("the locker runs");
        result
    }

    pub fn run<T: Send + 'static>(&self, job: impl FnOnce(&mut Vec<File>) -> T + Send + 'static) -> T {
        self.start(job).recv().expect("the locker answers")
    }

    /// flock(2) of its first file.
    pub fn flock(&self, operation: i32) -> Result<()> {
        self.run(move |files| flock(&files[0], operation))
    }

    /// F_SETLK of its first file.
    pub fn set(&self, mode: i32, bytes: Bytes) -> Result<()> {
        self.run(move |files| set(&files[0], libc::F_SETLK, mode, bytes))
    }

    /// F_SETLKW of its first file, begun.
    pub fn wait(&self, mode: i32, bytes: Bytes) -> Receiver<Result<()>> {
        self.start(move |files| set(&files[0], libc::F_SETLKW, mode, bytes))
    }

    /// Waits until the thread sleeps in a system call, as one does that waits for a lock.
    pub fn wait_until_blocked(&self) {
        wait_until_blocked(&format!("/proc/self/task/{}", self.tid));
    }

    /// A signal that only interrupts, and does not restart the call.
    pub fn interrupt(&self) {
        extern "C" fn nothing(_: i32) {}
        // SAFETY: a zeroed sigaction is one without flags; the handler does nothing; the thread lives.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
            libc::syscall(libc::SYS_tgkill, std::process::id(), self.tid, libc::SIGUSR1);
        }
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a locker panicked");
        }
    }
}

/// Is in a lock's system call and has slept there for two looks: nothing but a lock keeps it so long.
fn wait_until_blocked(task: &str) {
    let calls = [libc::SYS_fcntl, libc::SYS_flock].map(|number| format!("{number} "));
    let mut seen = 0;
    crate::process::wait_for("a process to wait for its lock", || {
        let call = std::fs::read_to_string(format!("{task}/syscall")).unwrap_or_default();
        seen = if calls.iter().any(|number| call.starts_with(number)) { seen + 1 } else { 0 };
        (seen > 10).then_some(())
    });
}

/// What a child process locks.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Flock,
    Posix,
}

/// A process that takes an exclusive lock of a whole file, waiting for it, and keeps it until it is killed.
pub struct Holder {
    pub pid: u32,
    said: PipeReader,
    thread: JoinHandle<std::process::ExitStatus>,
}

impl Holder {
    pub fn start(path: &Path, kind: Kind) -> Holder {
        let path = path.to_path_buf();
        let (mut said, mut says) = std::io::pipe().expect("pipe");
        let thread = apart(move || {
            let mut command = Command::new("sleep");
            command.arg("600");
            let hold = move || {
                // SAFETY: takes no pointers. The thread that forks lives as long as the child.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                // What a shell starts in the background ignores Ctrl-C, and so do its children.
                for number in [libc::SIGINT, libc::SIGTERM] {
                    // SAFETY: takes no pointers.
                    unsafe { libc::signal(number, libc::SIG_DFL) };
                }
                let file = open(&path);
                says.write_all(&std::process::id().to_ne_bytes())?;
                let locked = match kind {
                    Kind::Flock => flock(&file, libc::LOCK_EX),
                    Kind::Posix => set(&file, libc::F_SETLKW, libc::F_WRLCK, (0, 0)),
                };
                locked.map_err(Error::from_raw_os_error)?;
                // SAFETY: takes no pointers. The program that follows keeps the descriptor: a close would end ranges.
                check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) }).map_err(Error::from_raw_os_error)?;
                std::mem::forget(file);
                says.write_all(b"!")
            };
            // SAFETY: what runs between fork and exec only makes system calls, but for one message when it fails.
            unsafe { command.pre_exec(once(hold)) };
            command.spawn().expect("sleep").wait().expect("its end")
        });
        let mut pid = [0; 4];
        said.read_exact(&mut pid).expect("a child says who it is");
        Holder { pid: u32::from_ne_bytes(pid), said, thread }
    }

    pub fn wait_until_locked(&mut self) {
        self.said.read_exact(&mut [0]).expect("a child says that it has its lock");
    }

    pub fn wait_until_blocked(&self) {
        wait_until_blocked(&format!("/proc/{}", self.pid));
    }

    /// Sends a signal, and waits for the end; which signal it ended by.
    pub fn end(self, signal: i32) -> Option<i32> {
        crate::process::signal(self.pid, signal);
        self.thread.join().expect("the child's thread").signal()
    }
}

fn once<T>(work: impl FnOnce() -> std::io::Result<T>) -> impl FnMut() -> std::io::Result<T> {
    let mut work = Some(work);
    move || work.take().map_or_else(|| Err(Error::from_raw_os_error(libc::EALREADY)), |work| work())
}
