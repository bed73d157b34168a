//! vfs: the filesystem without a mount: MetaApi + Data + the table of what is open here. One operation, one file under ops/.
//! Knows inodes, names and handles; knows neither fuser nor the kernel. Called by fuse/adapter and by tests.

pub mod atimes;
pub mod caller;
mod creates;
pub mod dir_stream;
pub mod handles;
pub mod ids;
mod interrupt;
mod just_created;
#[cfg(test)]
mod lock_test;
pub mod locks;
mod open_cache;
pub mod ops;
pub mod pushes;
mod recent;
mod room;
mod size_guard;
#[cfg(test)]
mod test_meta;
#[cfg(test)]
mod vfs_test;

pub use caller::{AskedMode, Caller};
pub use dir_stream::DirItem;
pub use handles::{Access, DirHandle, Fh, FileHandle};
pub use ops::copy_file_range::Spot;
pub use ops::lseek::Seek;
pub use ops::open::Opened;
pub use ops::rename::Place;
pub use ops::setattr::SetattrRequest;
pub use ops::statfs::FsUsage;

use crate::data::Data;
use crate::error::ClientError;
use crate::meta::MetaApi;
use atimes::{AtimePolicy, Atimes};
use bytes::Bytes;
use creates::Creates;
use handles::{Handles, Opening};
use holdfast_proto::{FsErrno, Name, pb};
use just_created::JustCreated;
use locks::Locks;
use open_cache::OpenCache;
use parking_lot::Mutex;
use pushes::KernelCache;
use recent::Recent;
use room::Room;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an unmount may take to tell of reads.
const ATIMES_AT_END: Duration = Duration::from_secs(5);

/// What a mount may decide.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// Inode of the directory that is the mount's root: the volume's, or that of --subdir.
    pub root: u64,
    /// Every change is EROFS, before it reaches the server.
    pub read_only: bool,
    /// The kernel may believe names or attributes for a while: listings bring attributes along (readdirplus), and after a create it
    /// does not ask for them.
    pub kernel_caches: bool,
    /// When a read moves atime.
    pub atime: AtimePolicy,
    /// How long an open may believe what the last one was told; zero asks each time, as close-to-open needs.
    pub open_cache: Duration,
}

impl Default for VfsConfig {
    fn default() -> Self {
        VfsConfig {
            root: holdfast_proto::ROOT_INO,
            read_only: false,
            kernel_caches: false,
            atime: AtimePolicy::default(),
            open_cache: Duration::ZERO,
        }
    }
}

/// One mounted filesystem. All methods may be called from many tasks at once.
pub struct Vfs<M: MetaApi> {
    pub(crate) meta: Arc<M>,
    pub(crate) data: Arc<Data<M>>,
    pub(crate) handles: Handles,
    pub(crate) locks: Arc<Locks>,
    pub(crate) creates: Creates,
    pub(crate) just_created: JustCreated,
    pub(crate) recent: Recent,
    pub(crate) atimes: Atimes,
    pub(crate) open_cache: OpenCache,
    pub(crate) room: Room,
    pub(crate) config: VfsConfig,
    kernel: OnceLock<Box<dyn KernelCache>>,
    /// Held orphans that were closed for the last time, on their way to `pushes::run`.
    released: mpsc::UnboundedSender<u64>,
    released_rx: Mutex<Option<mpsc::UnboundedReceiver<u64>>>,
}

impl<M: MetaApi> Vfs<M> {
    pub fn new(meta: Arc<M>, data: Arc<Data<M>>, config: VfsConfig) -> Arc<Self> {
        let (released, released_rx) = mpsc::unbounded_channel();
        Arc::new(Vfs {
            meta,
            data,
            handles: Handles::default(),
            locks: Arc::default(),
            creates: Creates::default(),
            just_created: JustCreated::default(),
            recent: Recent::default(),
            atimes: Atimes::default(),
            open_cache: OpenCache::new(config.open_cache),
            room: Room::default(),
            config,
            kernel: OnceLock::new(),
            released,
            released_rx: Mutex::new(Some(released_rx)),
        })
    }

    /// Inode of the mount's root directory.
    pub fn root(&self) -> u64 {
        self.config.root
    }

    /// Gives the kernel's caches a way to be invalidated. Without it (tests) nothing is told to anyone.
    pub fn set_kernel_cache(&self, kernel: Box<dyn KernelCache>) {
        // A second call would mean two mounts of one Vfs, which is never done; the first stays.
        let _ = self.kernel.set(kernel);
    }

    pub(crate) fn kernel(&self) -> Option<&dyn KernelCache> {
        self.kernel.get().map(|kernel| &**kernel)
    }

    /// Makes all that was written durable, at unmount. What fails is logged, and true comes back only if nothing did.
    pub async fn shutdown(&self) -> bool {
        let mut clean = true;
        for (fh, handle) in self.handles.take_files() {
            if let Err(error) = self.data.flush(&handle.file).await {
                tracing::error!(ino = handle.ino, fh = fh.0, %error, "data of an open file was lost at unmount");
                clean = false;
            }
            self.data.release(handle.file.clone()).await;
            self.closed(handle.ino);
        }
        // Not worth to wait for a cluster that is away.
        if tokio::time::timeout(ATIMES_AT_END, atimes::tell(self)).await.is_err() {
            tracing::debug!("access times were not told");
        }
        clean
    }

    /// Counts one open of `ino` from before its query is sent, so that an orphan question that overtakes the reply finds it.
    pub(crate) fn opening(&self, ino: u64) -> OpeningGuard<'_, M> {
        self.handles.begin_open(ino);
        self.counted_opening(ino)
    }

    /// A guard for an open that was counted already.
    pub(crate) fn counted_opening(&self, ino: u64) -> OpeningGuard<'_, M> {
        OpeningGuard { vfs: self, ino, armed: true }
    }

    /// One open of `ino` has ended.
    pub(crate) fn closed(&self, ino: u64) {
        if self.handles.end_open(ino) == Opening::LastOfHeld {
            // Fails only when pushes::run has ended, that is, at unmount: the session's end drops its holds.
            let _ = self.released.send(ino);
        }
    }

    pub(crate) fn writable(&self) -> Result<(), ClientError> {
        if self.config.read_only { Err(FsErrno::ROFs.into()) } else { Ok(()) }
    }
}

/// Takes an open back if it does not come to anything.
pub(crate) struct OpeningGuard<'a, M: MetaApi> {
    vfs: &'a Vfs<M>,
    ino: u64,
    armed: bool,
}

impl<M: MetaApi> OpeningGuard<'_, M> {
    /// The open has succeeded and is counted until `release`.
    pub fn keep(mut self) {
        self.armed = false;
    }
}

impl<M: MetaApi> Drop for OpeningGuard<'_, M> {
    fn drop(&mut self) {
        if self.armed {
            self.vfs.closed(self.ino);
        }
    }
}

/// The attributes in a reply; a reply without them breaks the protocol.
pub(crate) fn attr_of(reply: pb::EntryReply) -> Result<pb::Attr, ClientError> {
    reply.attr.ok_or_else(|| ClientError::Protocol("a reply came without attributes".into()))
}

/// A checked name, as it goes over the wire.
pub(crate) fn wire_name(name: Bytes) -> Result<Bytes, ClientError> {
    Ok(Name::new(name)?.into_bytes())
}
