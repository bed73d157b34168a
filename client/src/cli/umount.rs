//! `holdfast umount`: takes a mount away and returns when its daemon has written everything and ended. Called by the command line's
//! frame.

use crate::cli::mount_table;
use crate::error::ClientError;
use crate::fuse::control;
use crate::fuse::mount;
use nix::mount::{MntFlags, umount2};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A daemon that does not say who it is within this time hangs.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// How long a forced unmount waits for the daemon to write what it has.
const FORCED_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// After this long the wait is explained.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The directory that is mounted
    pub dir: PathBuf,
    /// Also if processes use it, or its daemon hangs or is gone: what they do from then on fails
    #[arg(short = 'f', long)]
    pub force: bool,
}

/// # Errors
/// Failed: not a mount, busy; the daemon does not end.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    let dir = mount_table::resolve(&args.dir)?;
    let shown = args.dir.display();
    match mount_table::find(&mount_table::read()?, &dir) {
        Some(entry) if entry.is_holdfast() => {}
        Some(entry) => {
            return Err(ClientError::Failed(format!("{shown} is no holdfast mount: {} is mounted there", entry.kind)));
        }
        None => return Err(ClientError::Failed(format!("{shown} is not mounted"))),
    }
    let daemon = daemon_of(&dir);
    if args.force { force(&dir) } else { unmount(&dir) }
        .map_err(|error| ClientError::Failed(format!("cannot unmount {shown}: {error}")))?;
    if let Some(pid) = daemon {
        wait_for(pid, &args)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Process id of the mount's daemon; None where it does not answer, or lives in another pid namespace.
fn daemon_of(dir: &Path) -> Option<u32> {
    let (say, said) = std::sync::mpsc::channel();
    let dir = dir.to_owned();
    // A daemon that hangs would hold this thread for ever, so nobody waits for it.
    std::thread::spawn(move || {
        let pid = File::open(dir).and_then(|file| control::ask(&file, control::IOCTL_DAEMON));
        let _ = say.send(pid);
    });
    let pid = said.recv_timeout(ASK_DEADLINE).ok()?.ok()?.parse().ok()?;
    is_alive(pid).then_some(pid)
}

fn is_alive(pid: u32) -> bool {
    let running =
        |stat: String| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']));
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(running)
}

fn unmount(dir: &Path) -> Result<(), String> {
    mount::unmount(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::ResourceBusy => {
            let shown = dir.display();
            format!("it is busy (`fuser -vm {shown}` shows by whom); --force detaches it all the same")
        }
        _ => error.to_string(),
    })
}

/// Detached first, so that nobody new comes in; then the connection is aborted, which wakes those who wait for a dead daemon.
fn force(dir: &Path) -> Result<(), String> {
    // Fails for others than root, whom detaching alone must do.
    let _ = umount2(dir, MntFlags::MNT_FORCE);
    match mount_table::read() {
        Ok(table) if mount_table::find(&table, dir).is_none() => Ok(()),
        _ => mount::detach(dir).map_err(|error| error.to_string()),
    }
}

fn wait_for(pid: u32, args: &Args) -> Result<(), ClientError> {
    let begun = Instant::now();
    let mut explained = false;
    while is_alive(pid) {
        if args.force && begun.elapsed() > FORCED_DEADLINE {
            return Err(ClientError::Failed(format!(
                "{} is unmounted, but its process {pid} does not end: it may still be writing; look at its log",
                args.dir.display()
            )));
        }
        if !explained && begun.elapsed() > PATIENCE {
            eprintln!("waiting for process {pid} to write what it has to the object store");
            explained = true;
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
