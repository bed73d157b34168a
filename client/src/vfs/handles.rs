//! Handles: what is open on this mount. Pure: no await, no clock, no I/O; the table of files and directories by handle number, the
//! count of opens by inode (orphan questions ask it), and the data version each inode had when it was opened last. Called by vfs and its operations.

use crate::data::OpenFile;
use crate::vfs::dir_stream::DirStream;
use holdfast_proto::{FsErrno, pb};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Inodes whose data version is remembered after their last close, at least (twice that at most).
const VERSIONS_MAX: usize = 32 * 1024;

/// Number of an open file or directory, as the kernel keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fh(pub u64);

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub reads: bool,
    pub writes: bool,
    /// O_APPEND: the kernel puts its writes where it believes the end to be.
    pub appends: bool,
}

impl Access {
    /// Of the flags of open(2).
    pub fn of_flags(flags: i32) -> Access {
        let mode = flags & libc::O_ACCMODE;
        let appends = flags & libc::O_APPEND != 0;
        Access { reads: mode != libc::O_WRONLY, writes: mode != libc::O_RDONLY, appends }
    }
}

/// One open of a file.
#[derive(Debug)]
pub struct FileHandle {
    pub ino: u64,
    pub file: Arc<OpenFile>,
    pub writable: bool,
    /// The next read moves atime.
    pub atime_due: AtomicBool,
    pub appends: bool,
    /// Session that a lock was taken by it under; 0: none. Under another one it must not write before it has seen that.
    pub lock_session: AtomicU64,
    /// Data version of the pages that the kernel has when it has dropped those from before this open; 0: it has them already. It drops
    /// them after it was told of the open, so only its next request about this handle says that it has.
    drops: AtomicU64,
    /// `Handles::forgets` at the open.
    forgets: u64,
    /// Text served in pieces by `info`, made at its first piece.
    pub info: Mutex<Option<Arc<str>>>,
}

impl FileHandle {
    fn new(ino: u64, file: Arc<OpenFile>, access: Access, atime_due: bool, drops: (u64, u64)) -> FileHandle {
        FileHandle {
            ino,
            file,
            drops: AtomicU64::new(drops.0),
            forgets: drops.1,
            writable: access.writes,
            appends: access.appends,
            atime_due: AtomicBool::new(atime_due),
            lock_session: AtomicU64::new(0),
            info: Mutex::new(None),
        }
    }

    /// # Errors
    /// EIO where a lock was lost and not unlocked or taken again since.
    pub fn check_locks(&self, session: u64) -> Result<(), FsErrno> {
        let under = self.lock_session.load(Ordering::Relaxed);
        if under == 0 || under == session { Ok(()) } else { Err(FsErrno::Io) }
    }
}

/// One open of a directory.
#[derive(Debug)]
pub struct DirHandle {
    pub ino: u64,
    pub stream: tokio::sync::Mutex<DirStream>,
}

/// What the end of an open means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Others are open, or nobody has asked about the inode.
    Plain,
    /// It was the last one, and the server was told that this session holds the inode.
    LastOfHeld,
}

#[derive(Debug, Default)]
struct Opens {
    count: u32,
    held: bool,
    /// Client's clock at the last write: what stat shows until a commit has brought the server's.
    written: Option<pb::TimeSpec>,
    /// A write by somebody without CAP_FSETID has something to take away, as far as is known here.
    set_id: bool,
}

/// Newest data version known of an inode, forgotten in two generations so that its size is bounded.
#[derive(Debug, Default)]
struct Versions {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

impl Versions {
    fn get(&self, ino: u64) -> Option<u64> {
        self.young.get(&ino).or_else(|| self.old.get(&ino)).copied()
    }

    fn put(&mut self, ino: u64, version: u64) {
        if self.young.len() >= VERSIONS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(ino, version);
    }

    fn remove(&mut self, ino: u64) {
        self.young.remove(&ino);
        self.old.remove(&ino);
    }
}

/// The table of one mount.
#[derive(Debug, Default)]
pub struct Handles {
    next_fh: AtomicU64,
    files: RwLock<HashMap<Fh, Arc<FileHandle>>>,
    dirs: RwLock<HashMap<Fh, Arc<DirHandle>>>,
    opens: Mutex<HashMap<u64, Opens>>,
    /// What the kernel's pages are, of inodes opened here.
    versions: Mutex<Versions>,
    /// How often some were forgotten: what an open before that would note counts no more.
    forgets: AtomicU64,
    /// What this mount itself has committed: attributes that are older were overtaken on their way.
    committed: Mutex<Versions>,
}

impl Handles {
    fn fresh_fh(&self) -> Fh {
        // From 1: a handle number of 0 in a trace always means "none".
        Fh(self.next_fh.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// `drops`: the kernel is told to drop its pages, and has those of this data version afterwards.
    pub fn insert_file(
        &self,
        ino: u64,
        file: Arc<OpenFile>,
        access: Access,
        atime_due: bool,
        drops: Option<u64>,
    ) -> Fh {
        let fh = self.fresh_fh();
        let drops = (drops.unwrap_or(0), self.forgets.load(Ordering::Acquire));
        self.files.write().insert(fh, Arc::new(FileHandle::new(ino, file, access, atime_due, drops)));
        fh
    }

    /// # Errors
    /// EBADF for a number that is not open.
    pub fn file(&self, fh: Fh) -> Result<Arc<FileHandle>, FsErrno> {
        let handle = self.files.read().get(&fh).cloned().ok_or(FsErrno::BadF)?;
        if handle.drops.load(Ordering::Relaxed) != 0 {
            self.note_dropped(&handle);
        }
        Ok(handle)
    }

    fn note_dropped(&self, handle: &FileHandle) {
        let mut versions = self.versions.lock();
        let version = handle.drops.swap(0, Ordering::Relaxed);
        if version != 0 && handle.forgets == self.forgets.load(Ordering::Acquire) {
            versions.put(handle.ino, version);
        }
    }

    pub fn remove_file(&self, fh: Fh) -> Option<Arc<FileHandle>> {
        self.files.write().remove(&fh)
    }

    /// Empties the table, oldest open first.
    pub fn take_files(&self) -> Vec<(Fh, Arc<FileHandle>)> {
        let mut files: Vec<_> = self.files.write().drain().collect();
        files.sort_unstable_by_key(|(fh, _)| *fh);
        files
    }

    pub fn insert_dir(&self, ino: u64) -> Fh {
        let fh = self.fresh_fh();
        self.dirs.write().insert(fh, Arc::new(DirHandle { ino, stream: Default::default() }));
        fh
    }

    /// # Errors
    /// EBADF for a number that is not open.
    pub fn dir(&self, fh: Fh) -> Result<Arc<DirHandle>, FsErrno> {
        self.dirs.read().get(&fh).cloned().ok_or(FsErrno::BadF)
    }

    pub fn remove_dir(&self, fh: Fh) {
        self.dirs.write().remove(&fh);
    }

    /// Call before the open query is sent.
    pub fn begin_open(&self, ino: u64) {
        self.opens.lock().entry(ino).or_default().count += 1;
    }

    pub fn end_open(&self, ino: u64) -> Opening {
        let mut opens = self.opens.lock();
        let Some(open) = opens.get_mut(&ino) else { return Opening::Plain };
        open.count = open.count.saturating_sub(1);
        if open.count > 0 {
            return Opening::Plain;
        }
        let held = open.held;
        opens.remove(&ino);
        if held { Opening::LastOfHeld } else { Opening::Plain }
    }

    /// Those of `inos` that are open here, marked as held: their last close will say `LastOfHeld`.
    pub fn hold(&self, inos: &[u64]) -> Vec<u64> {
        let mut opens = self.opens.lock();
        let mut held = Vec::new();
        for ino in inos {
            if let Some(open) = opens.get_mut(ino) {
                open.held = true;
                held.push(*ino);
            }
        }
        held
    }

    /// The session has ended, and with it all holds. Returns the inodes that are open.
    pub fn forget_session(&self) -> Vec<u64> {
        {
            let mut versions = self.versions.lock();
            self.forgets.fetch_add(1, Ordering::AcqRel);
            *versions = Versions::default();
        }
        let mut opens = self.opens.lock();
        opens.values_mut().for_each(|open| open.held = false);
        opens.keys().copied().collect()
    }

    /// The data of `ino` is at `version` by a commit of this mount.
    pub fn committed(&self, ino: u64, version: u64) {
        self.committed.lock().put(ino, version);
    }

    /// Whether attributes with this data version were read before a commit of our own.
    pub fn overtaken(&self, ino: u64, version: u64) -> bool {
        self.committed.lock().get(ino).is_some_and(|committed| committed > version)
    }

    pub fn is_open(&self, ino: u64) -> bool {
        self.opens.lock().contains_key(&ino)
    }

    /// Notes whether an open inode has set-user-ID or set-group-ID.
    pub fn note_set_id(&self, attr: &pb::Attr) {
        if attr.kind() == pb::FileKind::Regular
            && let Some(open) = self.opens.lock().get_mut(&attr.ino)
        {
            open.set_id = attr.mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        }
    }

    pub fn has_set_id(&self, ino: u64) -> bool {
        self.opens.lock().get(&ino).is_some_and(|open| open.set_id)
    }

    pub fn wrote(&self, ino: u64, now: pb::TimeSpec) {
        if let Some(open) = self.opens.lock().get_mut(&ino) {
            open.written = Some(now);
        }
    }

    pub fn written(&self, ino: u64) -> Option<pb::TimeSpec> {
        self.opens.lock().get(&ino).and_then(|open| open.written)
    }

    /// The kernel's pages of `ino` are those of `version` now: it has dropped all older ones.
    pub fn note_version(&self, ino: u64, version: u64) {
        self.versions.lock().put(ino, version);
    }

    /// Whether the kernel's pages of `ino` are those of `version`, as far as is known.
    pub fn is_version(&self, ino: u64, version: u64) -> bool {
        self.versions.lock().get(ino) == Some(version)
    }

    /// The kernel's pages may hold what was lost: the next open must drop them.
    pub fn forget_version(&self, ino: u64) {
        let mut versions = self.versions.lock();
        self.forgets.fetch_add(1, Ordering::AcqRel);
        versions.remove(ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_on_its_way_is_held_and_its_end_releases_it() {
        let handles = Handles::default();
        handles.begin_open(7);
        assert_eq!(handles.hold(&[6, 7, 8]), [7]);
        handles.begin_open(7);
        assert_eq!(handles.end_open(7), Opening::Plain);
        assert_eq!(handles.end_open(7), Opening::LastOfHeld);
        assert!(!handles.is_open(7));
    }

    #[test]
    fn a_close_that_nobody_asked_about_is_plain() {
        let handles = Handles::default();
        handles.begin_open(7);
        assert_eq!(handles.end_open(7), Opening::Plain);
        assert_eq!(handles.end_open(7), Opening::Plain);
    }

    #[test]
    fn the_end_of_the_session_drops_holds_and_versions_but_not_opens() {
        let handles = Handles::default();
        handles.begin_open(7);
        handles.hold(&[7]);
        handles.note_version(7, 3);
        assert_eq!(handles.forget_session(), [7]);
        assert!(!handles.is_version(7, 3));
        assert_eq!(handles.end_open(7), Opening::Plain);
    }

    #[test]
    fn pages_are_kept_only_for_the_version_of_the_last_open() {
        let handles = Handles::default();
        handles.note_version(7, 3);
        assert!(handles.is_version(7, 3) && !handles.is_version(7, 4));
        handles.forget_version(7);
        assert!(!handles.is_version(7, 3));
    }

    #[test]
    fn remembered_versions_are_bounded() {
        let mut versions = Versions::default();
        for ino in 0..4 * VERSIONS_MAX as u64 {
            versions.put(ino, 1);
        }
        assert!(versions.young.len() + versions.old.len() <= 2 * VERSIONS_MAX);
        assert_eq!(versions.get(4 * VERSIONS_MAX as u64 - 1), Some(1));
    }

    #[test]
    fn numbers_that_are_not_open_are_ebadf() {
        let handles = Handles::default();
        assert_eq!(handles.file(Fh(1)).err(), Some(FsErrno::BadF));
        let fh = handles.insert_dir(5);
        assert_eq!(handles.dir(fh).map(|dir| dir.ino), Ok(5));
        handles.remove_dir(fh);
        assert_eq!(handles.dir(fh).err(), Some(FsErrno::BadF));
    }
}
