//! A disk that tears: a block device's file, served by FUSE from this process, which knows what was flushed. When power goes, each sector
//! that was written since the last flush is there or not, as the dice fall: writes are lost, torn, and in another order. What device-mapper's
//! log-writes does where the kernel has it. Needs root. Called by disk.

use crate::process::{self, Leftover};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, Session, WriteFlags,
};
use nix::mount::{MntFlags, umount2};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, UNIX_EPOCH};

const NAME: &str = "disk";
const DISK: INodeNo = INodeNo(2);
/// What a disk writes as a whole, bytes.
const SECTOR: usize = 512;
const BUSY_WITHIN: Duration = Duration::from_millis(500);
const NOTHING_IS_CACHED: Duration = Duration::ZERO;

struct Content {
    /// All that was written.
    now: File,
    /// As of the last flush.
    flushed: File,
    /// Since then, in order: offset, bytes.
    unflushed: Vec<(u64, Vec<u8>)>,
    /// Power is gone: nothing is written or flushed any more.
    is_cut: bool,
    torn_count: u64,
}

/// Mounted on a directory, with one file in it; unmounted when dropped.
pub struct TornDisk {
    dir: PathBuf,
    content: Arc<Mutex<Content>>,
}

impl std::fmt::Debug for TornDisk {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "TornDisk({})", self.dir.display())
    }
}

fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Content {
    fn has_power(&self) -> io::Result<()> {
        if self.is_cut { Err(io::Error::other("there is no power")) } else { Ok(()) }
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.has_power()?;
        self.now.write_all_at(data, offset)?;
        self.unflushed.push((offset, data.to_vec()));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.has_power()?;
        self.unflushed.drain(..).try_for_each(|(offset, data)| self.flushed.write_all_at(&data, offset))
    }

    /// Power comes back. Of what was not flushed, each sector is on the disk or not.
    fn tear(&mut self, dice: &mut StdRng) -> io::Result<()> {
        self.is_cut = false;
        let unflushed = std::mem::take(&mut self.unflushed);
        for (offset, data) in &unflushed {
            for (number, sector) in data.chunks(SECTOR).enumerate() {
                if dice.random() {
                    self.flushed.write_all_at(sector, offset + (number * SECTOR) as u64)?;
                } else {
                    self.torn_count += 1;
                }
            }
        }
        for (offset, data) in &unflushed {
            let mut is = vec![0; data.len()];
            self.flushed.read_exact_at(&mut is, *offset)?;
            self.now.write_all_at(&is, *offset)?;
        }
        Ok(())
    }
}

impl TornDisk {
    /// An empty one of `bytes`, at `dir`/disk.
    pub fn new(dir: &Path, bytes: u64) -> TornDisk {
        std::fs::create_dir_all(dir).expect("mount point");
        let file = |ending: &str| {
            let path = dir.with_extension(ending);
            let file = File::options().create(true).truncate(true).read(true).write(true).open(path).expect("a file");
            file.set_len(bytes).expect("a file's length");
            file
        };
        let content =
            Content { now: file("now"), flushed: file("flushed"), unflushed: Vec::new(), is_cut: false, torn_count: 0 };
        let content = Arc::new(Mutex::new(content));
        process::register(Leftover::Mount(dir.to_owned()));
        let server = Server { content: content.clone(), bytes };
        let session = Session::new(server, dir, &Config::default()).expect("mount a disk that tears");
        // Ends with the mount.
        std::mem::forget(session.spawn().expect("serve a disk that tears"));
        TornDisk { dir: dir.to_owned(), content }
    }

    pub fn image(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Power goes, at a moment when something is on its way, if that comes soon.
    pub fn cut(&self) {
        let start = Instant::now();
        loop {
            let mut content = lock(&self.content);
            content.is_cut = !content.unflushed.is_empty() || start.elapsed() > BUSY_WITHIN;
            if content.is_cut {
                return;
            }
            drop(content);
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Power comes back. Nobody may have it open.
    pub fn tear(&self, seed: u64) {
        lock(&self.content).tear(&mut StdRng::seed_from_u64(seed)).expect("tear");
    }

    /// Sectors that were lost so far.
    pub fn torn_count(&self) -> u64 {
        lock(&self.content).torn_count
    }
}

impl Drop for TornDisk {
    fn drop(&mut self) {
        // What is still open keeps it until it is closed.
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        process::unregister(&Leftover::Mount(self.dir.clone()));
    }
}

struct Server {
    content: Arc<Mutex<Content>>,
    bytes: u64,
}

impl Server {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let is_disk = ino == DISK;
        FileAttr {
            ino,
            size: if is_disk { self.bytes } else { 0 },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if is_disk { FileType::RegularFile } else { FileType::Directory },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&NOTHING_IS_CACHED, &self.attr(DISK), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NOTHING_IS_CACHED, &self.attr(ino));
    }

    /// A new opening knows nothing of old pages.
    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = u64::from(size).min(self.bytes.saturating_sub(offset)) as usize;
        let mut data = vec![0; len];
        match lock(&self.content).now.read_exact_at(&mut data, offset) {
            Ok(()) => reply.data(&data),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match lock(&self.content).write(offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match lock(&self.content).flush() {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_is_there_and_of_the_rest_some_sectors() {
        let file = || tempfile::tempfile().expect("a file");
        let mut content = Content { now: file(), flushed: file(), unflushed: Vec::new(), is_cut: false, torn_count: 0 };
        let len = 64 * SECTOR;
        for file in [&content.now, &content.flushed] {
            file.set_len(len as u64).expect("a length");
        }
        content.write(0, &vec![1; len]).expect("writes");
        content.flush().expect("flushes");
        content.write(0, &vec![2; len / 2]).expect("writes");
        content.is_cut = true;
        assert!(content.write(0, &[3]).is_err() && content.flush().is_err());
        content.tear(&mut StdRng::seed_from_u64(1)).expect("tears");
        let mut is = vec![0; len];
        content.now.read_exact_at(&mut is, 0).expect("reads");
        assert!(is.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "a sector is whole");
        assert!(is[len / 2..].iter().all(|byte| *byte == 1), "nothing else has changed");
        let lost = is[..len / 2].chunks(SECTOR).filter(|sector| sector[0] == 1).count() as u64;
        assert!(lost > 0 && lost < 32 && lost == content.torn_count);
    }
}
