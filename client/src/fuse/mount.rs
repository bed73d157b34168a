//! Mount: from a Vfs to a mounted directory, and back. Called by cli/mount.

use crate::error::ClientError;
use crate::fuse::adapter::Adapter;
use crate::fuse::capabilities::REQUEST_BYTES_MAX;
use crate::fuse::drive::Runtimes;
use crate::fuse::notify::KernelNotifier;
use crate::fuse::options::MountOptions;
use crate::fuse::reply::InoMap;
use crate::fuse::view::{CacheTtl, View};
use crate::meta::MetaApi;
use crate::vfs::Vfs;
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use nix::mount::{MntFlags, umount2};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Type in the mount table, behind "fuse.".
pub const SUBTYPE: &str = "holdfast";
/// Threads that read requests. More than cores: one that copies a large write holds up no lookup.
const THREAD_COUNT: usize = 4;

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountConfig {
    pub dir: PathBuf,
    /// Source in the mount table: META, so that `mount -a` recognises it.
    pub source: String,
    pub options: MountOptions,
    pub ttl: CacheTtl,
}

/// A mounted filesystem.
#[derive(Debug)]
pub struct Mounted {
    dir: PathBuf,
    /// Never dropped: fuser would unmount whatever is mounted there by then, also a successor (0.18 takes a connection that has
    /// ended for one that is alive).
    _session: ManuallyDrop<BackgroundSession>,
    ended: oneshot::Receiver<()>,
}

/// Mounts `vfs`; requests are served from now on.
///
/// # Errors
/// Failed, with what the kernel or fusermount3 said.
pub fn mount<M: MetaApi>(vfs: &Arc<Vfs<M>>, runtimes: Runtimes, config: &MountConfig) -> Result<Mounted, ClientError> {
    let map = InoMap { root: vfs.root() };
    let (end, ended) = oneshot::channel();
    // One mount a process: it lives as long.
    let ids = Box::leak(Box::new(config.options.ids.clone()));
    let adapter = Adapter::new(vfs.clone(), runtimes, View { map, ttl: config.ttl, ids }, end);
    let failed = |error: io::Error| {
        let said = error.to_string();
        ClientError::Failed(format!("cannot mount on {}: {}", config.dir.display(), said.trim_end().replace('\n', " ")))
    };
    let session = Session::new(adapter, &config.dir, &fuser_config(config)).map_err(failed)?;
    let notifier = KernelNotifier::start(session.notifier(), map).map_err(failed)?;
    vfs.set_kernel_cache(Box::new(notifier));
    let session = ManuallyDrop::new(session.spawn().map_err(failed)?);
    Ok(Mounted { dir: config.dir.clone(), _session: session, ended })
}

fn fuser_config(config: &MountConfig) -> Config {
    let root = nix::unistd::geteuid().is_root();
    // fusermount3, which others than root go through, takes commas in a list of options only with a backslash.
    let source = if root { config.source.clone() } else { config.source.replace(',', "\\,") };
    let mut options = vec![
        MountOption::FSName(source),
        MountOption::CUSTOM(format!("subtype={SUBTYPE}")),
        MountOption::DefaultPermissions,
    ];
    if config.options.read_only {
        options.push(MountOption::RO);
    }
    let given = |wanted: &[MountOption]| config.options.flags.iter().any(|flag| wanted.contains(flag));
    // As mount(8) has it; fuser's own default is nosuid, nodev.
    if root && !given(&[MountOption::Suid, MountOption::NoSuid]) {
        options.push(MountOption::Suid);
    }
    if root && !given(&[MountOption::Dev, MountOption::NoDev]) {
        options.push(MountOption::Dev);
    }
    options.extend(config.options.flags.iter().cloned());
    let mut fuser = Config::default();
    fuser.mount_options = options;
    fuser.acl = if root || config.options.allow_other { SessionACL::All } else { SessionACL::Owner };
    fuser.n_threads = Some(THREAD_COUNT);
    fuser
}

impl Mounted {
    /// Resolves when the mount is gone, by whoever's hand.
    pub async fn ended(&mut self) {
        // An error means that the adapter is gone, and so is the mount.
        let _ = (&mut self.ended).await;
    }

    /// Takes the mount away; one that is busy is detached, so that nobody new comes in.
    pub fn unmount(&mut self) {
        let Err(error) = unmount(&self.dir) else { return };
        tracing::warn!(%error, "the mount does not go: detaching it");
        if let Err(error) = detach(&self.dir) {
            tracing::warn!(%error, "the mount could not be detached");
        }
    }
}

/// Unmounts what nobody uses, by the kernel or, for others than root, by fusermount3.
///
/// # Errors
/// ResourceBusy; what fusermount3 said, or the kernel.
pub fn unmount(dir: &Path) -> io::Result<()> {
    match umount2(dir, MntFlags::UMOUNT_NOFOLLOW) {
        Err(nix::errno::Errno::EPERM) => by_helper("-u", dir),
        done => Ok(done?),
    }
}

/// The same for what somebody may use: it goes out of sight at once, and away with its last user.
///
/// # Errors
/// What fusermount3 said, or the kernel.
pub fn detach(dir: &Path) -> io::Result<()> {
    match umount2(dir, MntFlags::MNT_DETACH) {
        Err(nix::errno::Errno::EPERM) => by_helper("-uz", dir),
        done => Ok(done?),
    }
}

/// fusermount3 is set-user-ID root.
fn by_helper(flags: &str, dir: &Path) -> io::Result<()> {
    let done =
        std::process::Command::new("fusermount3").arg(flags).arg(dir).output().map_err(|error| {
            io::Error::other(format!("fusermount3: {error}; install it with `apt-get install fuse3`"))
        })?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
}

/// Lets the kernel read ahead as much as one request takes. Only root may, and only where /sys is writable: a matter of speed.
pub fn raise_readahead(dir: &Path) {
    let Ok(metadata) = std::fs::metadata(dir) else { return };
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let file = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(error) = std::fs::write(&file, (REQUEST_BYTES_MAX >> 10).to_string()) {
        tracing::debug!(file, %error, "the kernel's read-ahead stays as it is");
    }
}
