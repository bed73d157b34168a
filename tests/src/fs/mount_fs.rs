//! Fs over a real directory, by system calls. Other users are played by a thread that changes its own ids: the raw system
//! calls are per thread, unlike the ones of the C library.

use super::{Fs, Kind, Lock, LockMode, Result, SetTime, Stat, User};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::CString;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A directory that plays the root.
#[derive(Clone, Debug)]
pub struct MountFs {
    root: PathBuf,
    user: Option<User>,
    /// Open file descriptions that hold locks, by owner.
    locked: Arc<Mutex<BTreeMap<u64, File>>>,
}

impl MountFs {
    pub fn new(root: &Path) -> MountFs {
        // Modes are to arrive as they were given, as they do on the state machine. For the whole process, and harmless.
        // SAFETY: umask(2) touches no memory.
        unsafe { libc::umask(0) };
        MountFs { root: root.to_path_buf(), user: None, locked: Arc::default() }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn c_path(&self, path: &str) -> CString {
        CString::new(self.path(path).as_os_str().as_bytes()).expect("no NUL in a test's path")
    }

    /// Runs `call` as this view's user.
    fn act<T: Send>(&self, call: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T> {
        let result = match &self.user {
            None => call(),
            Some(user) => std::thread::scope(|scope| {
                scope.spawn(|| become_user(user).and_then(|()| call())).join().expect("the user's thread")
            }),
        };
        result.map_err(errno)
    }
}

fn errno(error: Error) -> i32 {
    match error.raw_os_error() {
        Some(number) => number,
        None if error.kind() == ErrorKind::UnexpectedEof => libc::EIO,
        None => panic!("an error without a number: {error}"),
    }
}

fn c_name(name: &str) -> CString {
    CString::new(name).expect("no NUL in a test's name")
}

/// Asks for the size, then for so many bytes: how getxattr(2) and listxattr(2) are meant to be called.
fn sized(call: impl Fn(*mut u8, usize) -> isize) -> std::io::Result<Vec<u8>> {
    let room = call(std::ptr::null_mut(), 0);
    check(room as i64)?;
    let mut bytes = vec![0; room as usize];
    if room > 0 {
        let len = call(bytes.as_mut_ptr(), bytes.len());
        check(len as i64)?;
        bytes.truncate(len as usize);
    }
    Ok(bytes)
}

fn check(result: i64) -> std::io::Result<()> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// Gives this thread, and no other, the ids of `user`.
fn become_user(user: &User) -> std::io::Result<()> {
    // SAFETY: setgroups reads `groups.len()` ids from a live vector; the others take integers.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, user.gid, user.gid, user.gid))?;
        check(libc::syscall(libc::SYS_setresuid, user.uid, user.uid, user.uid))
    }
}

fn set_lock(file: &File, lock: Lock) -> std::io::Result<()> {
    let kind = match lock.mode {
        LockMode::Shared => libc::F_RDLCK,
        LockMode::Exclusive => libc::F_WRLCK,
        LockMode::Unlock => libc::F_UNLCK,
    };
    // SAFETY: a struct of plain integers.
    let mut asked: libc::flock = unsafe { std::mem::zeroed() };
    asked.l_type = kind as i16;
    asked.l_whence = libc::SEEK_SET as i16;
    asked.l_start = lock.first as i64;
    asked.l_len = if lock.last == i64::MAX as u64 { 0 } else { (lock.last - lock.first + 1) as i64 };
    // SAFETY: an open descriptor, and a struct that outlives the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &asked) }.into())
}

fn kind_of(file_type: std::fs::FileType) -> Kind {
    match file_type {
        kind if kind.is_dir() => Kind::Dir,
        kind if kind.is_symlink() => Kind::Symlink,
        kind if kind.is_fifo() => Kind::Fifo,
        kind if kind.is_socket() => Kind::Socket,
        kind if kind.is_char_device() => Kind::Char,
        kind if kind.is_block_device() => Kind::Block,
        _ => Kind::File,
    }
}

fn time_arg(time: SetTime) -> libc::timespec {
    match time {
        SetTime::Omit => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        SetTime::Now => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
        SetTime::To((sec, nsec)) => libc::timespec { tv_sec: sec, tv_nsec: nsec.into() },
    }
}

fn options() -> std::fs::OpenOptions {
    let mut options = std::fs::OpenOptions::new();
    // Fs promises not to follow links, and a FIFO must not block the test.
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

impl Fs for MountFs {
    fn by(&self, user: &User) -> Box<dyn Fs + '_> {
        Box::new(MountFs { root: self.root.clone(), user: Some(user.clone()), locked: Arc::default() })
    }

    fn create(&self, path: &str, mode: u32, exclusive: bool) -> Result<()> {
        let path = self.c_path(path);
        let excl = if exclusive { libc::O_EXCL } else { 0 };
        let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC | excl;
        self.act(|| {
            // SAFETY: a valid C string; the descriptor is closed at once.
            unsafe {
                let fd = libc::open(path.as_ptr(), flags, mode);
                check(fd.into())?;
                check(libc::close(fd).into())
            }
        })
    }

    fn open(&self, path: &str) -> Result<()> {
        let path = self.path(path);
        self.act(|| options().read(true).open(path).map(drop))
    }

    fn mkdir(&self, path: &str, mode: u32) -> Result<()> {
        let path = self.c_path(path);
        // SAFETY: a valid C string.
        self.act(|| check(unsafe { libc::mkdir(path.as_ptr(), mode) }.into()))
    }

    fn mknod(&self, path: &str, kind: Kind, mode: u32, rdev: u32) -> Result<()> {
        let path = self.c_path(path);
        let format = match kind {
            Kind::File => libc::S_IFREG,
            Kind::Fifo => libc::S_IFIFO,
            Kind::Socket => libc::S_IFSOCK,
            Kind::Char => libc::S_IFCHR,
            Kind::Block => libc::S_IFBLK,
            Kind::Dir => libc::S_IFDIR,
            Kind::Symlink => libc::S_IFLNK,
        };
        // SAFETY: a valid C string.
        self.act(|| check(unsafe { libc::mknod(path.as_ptr(), format | mode, rdev.into()) }.into()))
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let path = self.path(path);
        self.act(|| std::os::unix::fs::symlink(target, path))
    }

    fn readlink(&self, path: &str) -> Result<String> {
        let path = self.path(path);
        self.act(|| std::fs::read_link(path)).map(|target| target.to_string_lossy().into_owned())
    }

    fn link(&self, old: &str, new: &str) -> Result<()> {
        let (old, new) = (self.path(old), self.path(new));
        self.act(|| std::fs::hard_link(old, new))
    }

    fn unlink(&self, path: &str) -> Result<()> {
        let path = self.c_path(path);
        // SAFETY: a valid C string.
        self.act(|| check(unsafe { libc::unlink(path.as_ptr()) }.into()))
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        let path = self.c_path(path);
        // SAFETY: a valid C string.
        self.act(|| check(unsafe { libc::rmdir(path.as_ptr()) }.into()))
    }

    fn rename(&self, old: &str, new: &str, flags: u32) -> Result<()> {
        let (old, new) = (self.c_path(old), self.c_path(new));
        let at = libc::AT_FDCWD;
        // SAFETY: valid C strings.
        self.act(|| check(unsafe { libc::renameat2(at, old.as_ptr(), at, new.as_ptr(), flags) }.into()))
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        let path = self.path(path);
        let found = self.act(|| std::fs::symlink_metadata(path))?;
        Ok(Stat {
            ino: found.ino(),
            kind: kind_of(found.file_type()),
            mode: found.mode() & 0o7777,
            nlink: u32::try_from(found.nlink()).expect("nlink"),
            uid: found.uid(),
            gid: found.gid(),
            rdev: u32::try_from(found.rdev()).expect("rdev"),
            size: found.size(),
            atime: (found.atime(), found.atime_nsec() as u32),
            mtime: (found.mtime(), found.mtime_nsec() as u32),
            ctime: (found.ctime(), found.ctime_nsec() as u32),
        })
    }

    fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        let path = self.c_path(path);
        // SAFETY: a valid C string.
        self.act(|| check(unsafe { libc::chmod(path.as_ptr(), mode) }.into()))
    }

    fn chown(&self, path: &str, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let path = self.path(path);
        self.act(|| std::os::unix::fs::lchown(path, uid, gid))
    }

    fn utimens(&self, path: &str, atime: SetTime, mtime: SetTime) -> Result<()> {
        let path = self.c_path(path);
        let times = [time_arg(atime), time_arg(mtime)];
        // SAFETY: a valid C string and two timespecs.
        let call =
            || unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
        self.act(|| check(call().into()))
    }

    fn truncate(&self, path: &str, size: u64) -> Result<()> {
        let path = self.c_path(path);
        // SAFETY: a valid C string.
        self.act(|| check(unsafe { libc::truncate(path.as_ptr(), size as i64) }.into()))
    }

    fn write(&self, path: &str, offset: u64, data: &[u8]) -> Result<()> {
        let path = self.path(path);
        self.act(|| {
            let file = options().write(true).open(path)?;
            file.write_all_at(data, offset)?;
            // close(2) reports what drop would hide.
            // SAFETY: the descriptor is ours, and given up here.
            check(unsafe { libc::close(std::os::fd::IntoRawFd::into_raw_fd(file)) }.into())
        })
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let path = self.path(path);
        self.act(|| {
            let file = options().read(true).open(path)?;
            let mut data = vec![0; len];
            let mut done = 0;
            while done < len {
                match file.read_at(&mut data[done..], offset + done as u64)? {
                    0 => break,
                    count => done += count,
                }
            }
            data.truncate(done);
            Ok(data)
        })
    }

    fn set_xattr(&self, path: &str, name: &str, value: &[u8], flags: u32) -> Result<()> {
        let (path, name) = (self.c_path(path), c_name(name));
        let (bytes, len) = (value.as_ptr() as usize, value.len());
        // SAFETY: valid C strings, and `len` bytes that outlive the call.
        self.act(|| {
            check(unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), bytes as _, len, flags as i32) }.into())
        })
    }

    fn get_xattr(&self, path: &str, name: &str) -> Result<Vec<u8>> {
        let (path, name) = (self.c_path(path), c_name(name));
        // SAFETY: valid C strings, and a buffer of the size that is given; none at size 0.
        self.act(|| sized(|buffer, room| unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.cast(), room) }))
    }

    fn list_xattr(&self, path: &str) -> Result<Vec<String>> {
        let path = self.c_path(path);
        // SAFETY: a valid C string, and a buffer of the size that is given; none at size 0.
        let list =
            self.act(|| sized(|buffer, room| unsafe { libc::llistxattr(path.as_ptr(), buffer.cast(), room) }))?;
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        let mut names: Vec<_> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn remove_xattr(&self, path: &str, name: &str) -> Result<()> {
        let (path, name) = (self.c_path(path), c_name(name));
        // SAFETY: valid C strings.
        self.act(|| check(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }.into()))
    }

    fn fallocate(&self, path: &str, mode: i32, offset: u64, len: u64) -> Result<()> {
        let path = self.path(path);
        self.act(|| {
            let file = options().write(true).open(path)?;
            // SAFETY: an open descriptor and integers.
            check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, len as i64) }.into())
        })
    }

    fn copy_file_range(&self, from: (&str, u64), to: (&str, u64), len: u64) -> Result<u64> {
        let paths = (self.path(from.0), self.path(to.0));
        let (mut at, mut to_at) = (from.1 as i64, to.1 as i64);
        self.act(|| {
            let (source, target) = (options().read(true).open(paths.0)?, options().write(true).open(paths.1)?);
            let len = len.min(source.metadata()?.len().saturating_sub(from.1));
            let mut done = 0;
            loop {
                let (source, target, left) = (source.as_raw_fd(), target.as_raw_fd(), (len - done) as usize);
                // SAFETY: open descriptors, and two offsets that live longer than the call.
                match unsafe { libc::copy_file_range(source, &mut at, target, &mut to_at, left, 0) } {
                    0 => return Ok(done),
                    -1 => return Err(Error::last_os_error()),
                    more => done += more as u64,
                }
                if done == len {
                    return Ok(done);
                }
            }
        })
    }

    fn seek(&self, path: &str, offset: u64, whence: i32) -> Result<u64> {
        let path = self.path(path);
        self.act(|| {
            let file = options().read(true).open(path)?;
            // SAFETY: an open descriptor and integers.
            let found = unsafe { libc::lseek(file.as_raw_fd(), offset as i64, whence) };
            check(found).map(|()| found as u64)
        })
    }

    fn lock(&self, owner: u64, path: &str, lock: Lock) -> Result<()> {
        let path = self.path(path);
        self.act(|| {
            let mut locked = self.locked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let found = path.symlink_metadata()?.ino();
            if let Some(file) = locked.get(&owner)
                && file.metadata()?.ino() != found
            {
                // A close is told to other mounts a moment later; an unlock is over when it returns.
                set_lock(file, Lock { mode: LockMode::Unlock, first: 0, last: i64::MAX as u64 })?;
                locked.remove(&owner);
            }
            if let Entry::Vacant(place) = locked.entry(owner) {
                place.insert(options().read(true).write(true).open(&path)?);
            }
            set_lock(&locked[&owner], lock)
        })
    }

    fn readdir(&self, path: &str) -> Result<Vec<(String, Kind)>> {
        let path = self.path(path);
        self.act(|| {
            let mut entries = Vec::new();
            for entry in std::fs::read_dir(path)? {
                let entry = entry?;
                entries.push((entry.file_name().to_string_lossy().into_owned(), kind_of(entry.file_type()?)));
            }
            entries.sort();
            Ok(entries)
        })
    }

    fn used_inodes(&self) -> Result<u64> {
        let path = self.c_path("");
        self.act(|| {
            // SAFETY: a valid C string and a zeroed struct of plain integers that the call fills.
            unsafe {
                let mut found: libc::statvfs = std::mem::zeroed();
                check(libc::statvfs(path.as_ptr(), &mut found).into())?;
                Ok(found.f_files - found.f_ffree)
            }
        })
    }
}
