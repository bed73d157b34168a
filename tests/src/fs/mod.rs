//! Fs: a filesystem as the tests see it, by path, with plain errnos, so that one test body runs on the state machine alone
//! (`ops_fs`), on a real mount (`mount_fs`) and on the reference model (`model`). Paths are relative to the test's own root;
//! symbolic links are never followed.

pub mod local;
pub mod mount_fs;
pub mod ops_fs;

/// An errno, by Linux's number.
pub type Result<T> = std::result::Result<T, i32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    Char,
    Block,
}

/// Seconds and nanoseconds.
pub type Time = (i64, u32);

/// What lstat(2) says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub ino: u64,
    pub kind: Kind,
    /// 0o7777.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub size: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
}

/// What utimensat(2) sets a time to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    Omit,
    Now,
    To(Time),
}

/// A lock of the bytes `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub mode: LockMode,
    pub first: u64,
    pub last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    Shared,
    Exclusive,
    Unlock,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl User {
    pub fn root() -> User {
        User { uid: 0, gid: 0, groups: Vec::new() }
    }

    pub fn new(uid: u32, gid: u32) -> User {
        User { uid, gid, groups: Vec::new() }
    }

    pub fn with_groups(mut self, groups: &[u32]) -> User {
        self.groups = groups.to_vec();
        self
    }
}

/// The operations of POSIX, one method each. Every method may refuse with an errno.
#[allow(clippy::missing_errors_doc)]
pub trait Fs {
    /// The same tree, asked by somebody else.
    fn by(&self, user: &User) -> Box<dyn Fs + '_>;
    /// open(O_CREAT [| O_EXCL]) and close.
    fn create(&self, path: &str, mode: u32, exclusive: bool) -> Result<()>;
    /// Opens for reading and closes.
    fn open(&self, path: &str) -> Result<()>;
    fn mkdir(&self, path: &str, mode: u32) -> Result<()>;
    fn mknod(&self, path: &str, kind: Kind, mode: u32, rdev: u32) -> Result<()>;
    fn symlink(&self, target: &str, path: &str) -> Result<()>;
    fn readlink(&self, path: &str) -> Result<String>;
    fn link(&self, old: &str, new: &str) -> Result<()>;
    fn unlink(&self, path: &str) -> Result<()>;
    fn rmdir(&self, path: &str) -> Result<()>;
    /// renameat2(2): RENAME_NOREPLACE 1, RENAME_EXCHANGE 2.
    fn rename(&self, old: &str, new: &str, flags: u32) -> Result<()>;
    fn stat(&self, path: &str) -> Result<Stat>;
    fn chmod(&self, path: &str, mode: u32) -> Result<()>;
    fn chown(&self, path: &str, uid: Option<u32>, gid: Option<u32>) -> Result<()>;
    fn utimens(&self, path: &str, atime: SetTime, mtime: SetTime) -> Result<()>;
    fn truncate(&self, path: &str, size: u64) -> Result<()>;
    /// Opens, writes at `offset`, closes.
    fn write(&self, path: &str, offset: u64, data: &[u8]) -> Result<()>;
    /// Opens, reads at `offset`, closes.
    fn read(&self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>>;
    /// lsetxattr(2): XATTR_CREATE 1, XATTR_REPLACE 2.
    fn set_xattr(&self, path: &str, name: &str, value: &[u8], flags: u32) -> Result<()>;
    fn get_xattr(&self, path: &str, name: &str) -> Result<Vec<u8>>;
    /// Sorted.
    fn list_xattr(&self, path: &str) -> Result<Vec<String>>;
    fn remove_xattr(&self, path: &str, name: &str) -> Result<()>;
    /// Opens for writing, fallocate(2), closes.
    fn fallocate(&self, path: &str, mode: i32, offset: u64, len: u64) -> Result<()>;
    /// Opens both, copy_file_range(2) until all is copied that the source had at first, closes; bytes copied. (A copy within one file may
    /// make it longer.)
    fn copy_file_range(&self, from: (&str, u64), to: (&str, u64), len: u64) -> Result<u64>;
    /// Opens, lseek(2) with SEEK_DATA or SEEK_HOLE, closes.
    fn seek(&self, path: &str, offset: u64, whence: i32) -> Result<u64>;
    /// F_OFD_SETLK by an open file description of `owner`'s own, which first gives up what it has of another file.
    fn lock(&self, owner: u64, path: &str, lock: Lock) -> Result<()>;
    /// Names and kinds, sorted by name, without "." and "..".
    fn readdir(&self, path: &str) -> Result<Vec<(String, Kind)>>;
    /// Number of inodes in use.
    fn used_inodes(&self) -> Result<u64>;
}

/// Parent and last component of a path; "" is the root itself.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
