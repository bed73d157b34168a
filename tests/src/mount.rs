//! A real FUSE mount, made and undone by the `holdfast` binary. Called by tests.

use crate::process::{self, Ended, Leftover};
use holdfast_proto::crash_points::CRASH;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A mounted volume; unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    pub dir: PathBuf,
    pub log: PathBuf,
}

impl Mount {
    /// `holdfast mount -d META` on a fresh directory.
    pub fn start(meta: &str) -> Mount {
        Mount::start_with(meta, &[])
    }

    pub fn start_with(meta: &str, args: &[&str]) -> Mount {
        Mount::start_as(meta, args, |command| command)
    }

    /// With the command run in some other way, such as in a network namespace.
    pub fn start_as(meta: &str, args: &[&str], run: impl FnOnce(Command) -> Command) -> Mount {
        let dir = process::scratch_dir("mnt");
        let log = dir.with_extension("log");
        let mount = Mount { dir: dir.clone(), log };
        // Registered before, so that a mount that half succeeded is undone too; and after the directory, so that it goes first.
        process::register(Leftover::Mount(dir));
        mount.again_as(meta, args, run);
        mount
    }

    /// Mounts on the same directory, with the command run in some other way.
    pub fn again_as(&self, meta: &str, args: &[&str], run: impl FnOnce(Command) -> Command) {
        self.try_again_as(meta, args, run).ok("holdfast mount");
        assert!(is_mounted(&self.dir), "`holdfast mount -d` returned before {} was mounted", self.dir.display());
    }

    /// Mounts on the same directory (again, after an unmount).
    pub fn try_again(&self, meta: &str, args: &[&str]) -> Ended {
        self.try_again_as(meta, args, |command| command)
    }

    pub fn try_again_as(&self, meta: &str, args: &[&str], run: impl FnOnce(Command) -> Command) -> Ended {
        process::run(run(self.command(meta, args)))
    }

    fn command(&self, meta: &str, args: &[&str]) -> Command {
        let mut command = process::command("holdfast");
        command.env(CRASH, self.trap());
        command.arg("mount").arg(meta).arg(&self.dir).arg("-d").arg("--log").arg(&self.log).args(args);
        command
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    /// Where a mount with faults on purpose finds the crash point that it dies at (`trap`).
    pub fn trap(&self) -> PathBuf {
        self.dir.with_extension("crash")
    }

    /// `holdfast umount`.
    pub fn umount(&self) -> Ended {
        let mut command = process::command("holdfast");
        command.arg("umount").arg(&self.dir);
        process::run(command)
    }

    /// The same, and again while it is busy: a process that another test starts has the open files of all threads until it has become
    /// its program.
    pub fn umount_when_idle(&self) {
        process::wait_for("the mount to be idle", || {
            let ended = self.umount();
            (!ended.stderr.contains("it is busy")).then_some(ended)
        })
        .ok("umount");
    }

    /// The pid of the process that serves this mount.
    pub fn pid(&self) -> Option<u32> {
        daemon_of(&self.dir)
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of the mount's log\n{}", crate::cluster::tail(&self.log, 40));
        }
        let pid = self.pid();
        if is_mounted(&self.dir) {
            let mut command = process::command("holdfast");
            command.arg("umount").arg(&self.dir);
            process::run_within(command, Duration::from_secs(20));
        }
        detach(&self.dir);
        if let Some(pid) = pid
            && !gone_within(pid, Duration::from_secs(10))
        {
            process::signal(pid, libc::SIGKILL);
        }
        process::unregister(&Leftover::Mount(self.dir.clone()));
    }
}

fn gone_within(pid: u32, deadline: Duration) -> bool {
    let start = std::time::Instant::now();
    while process::signal(pid, 0) {
        if start.elapsed() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Whether something is mounted on exactly this directory.
pub fn is_mounted(dir: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table.lines().filter_map(|line| line.split(' ').nth(1)).any(|mounted| Path::new(mounted) == dir)
}

/// Takes the mount away at once, even if it is busy or its daemon is dead; kills the daemon.
pub fn detach(dir: &Path) {
    let pid = daemon_of(dir);
    let Ok(path) = CString::new(dir.as_os_str().as_bytes()) else { return };
    // The mount may be stacked; umount2 says EINVAL when none is left.
    for _ in 0..4 {
        // SAFETY: a valid C string, and a call that touches no memory of ours.
        if unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) } != 0 {
            break;
        }
        if let Some(pid) = pid {
            process::signal(pid, libc::SIGKILL);
        }
    }
}

/// The `holdfast mount` process whose arguments name this directory.
fn daemon_of(dir: &Path) -> Option<u32> {
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let mut args = line.split(|&byte| byte == 0);
        let program = args.next()?;
        let is_holdfast = program.ends_with(b"holdfast") || program.ends_with(b"holdfast-faulty");
        let is_ours = is_holdfast && args.any(|arg| arg == dir.as_os_str().as_bytes());
        is_ours.then_some(pid)
    })
}
