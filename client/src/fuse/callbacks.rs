//! Callbacks: fuser::Filesystem over Vfs. One callback: decode, run, reply; no logic. What the kernel asks and this filesystem does
//! not have (poll, bmap) is ENOSYS, which the kernel remembers: it does these itself or refuses them without asking again. Called by
//! fuser's threads.

use crate::error::ClientError;
use crate::fuse::adapter::{Adapter, bytes, caller};
use crate::fuse::control;
use crate::fuse::drive::Needs;
use crate::fuse::lock::RawLock;
use crate::fuse::reply;
use crate::fuse::view::{View, open_flags};
use crate::meta::MetaApi;
use crate::vfs::ops::statfs::STATFS_BLOCK_BYTES;
use crate::vfs::{DirItem, Fh, FsUsage, Opened, Place, SetattrRequest, Vfs};
use bytes::Bytes;
use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, Request,
};
use fuser::{
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
};
use fuser::{ReplyLock, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr};
use holdfast_proto::FsErrno;
use holdfast_proto::limits::NAME_BYTES_MAX;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Largest request, bytes; also what the kernel may read ahead.
pub const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Requests that nobody waits for (read-ahead, release) which the kernel may have in flight.
const BACKGROUND_MAX: u16 = 256;

impl<M: MetaApi> Filesystem for Adapter<M> {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Symbolic links never change, so their targets may stay in the page cache. FUSE_ATOMIC_O_TRUNC is not asked for: then
        // the kernel truncates by setattr, which orders it after local writes.
        let mut wanted = InitFlags::FUSE_PARALLEL_DIROPS | InitFlags::FUSE_ASYNC_DIO | InitFlags::FUSE_CACHE_SYMLINKS;
        wanted |= InitFlags::FUSE_POSIX_LOCKS | InitFlags::FUSE_FLOCK_LOCKS;
        if self.view.ttl.any() {
            wanted |= InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO;
        }
        // Each is a matter of speed; an older kernel goes without.
        let _ = config.add_capabilities(wanted & config.capabilities());
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_max_write(REQUEST_BYTES_MAX);
        let _ = config.set_max_readahead(REQUEST_BYTES_MAX).or_else(|most| config.set_max_readahead(most));
        Ok(())
    }

    fn destroy(&mut self) {
        // Nobody listens where the mount did not come about.
        let _ = self.ended.take().map(|ended| ended.send(()));
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (caller, parent, name) = (caller(req), self.ino(parent), bytes(name));
        let work = move |vfs: Arc<Vfs<M>>| async move {
            match vfs.lookup(caller, parent, name).await {
                Err(ClientError::Refused(FsErrno::NoEnt)) => Ok(None),
                found => found.map(Some),
            }
        };
        self.run(Needs::Names, "lookup", reply, work, View::entry_or_none);
    }

    // Inode numbers are stable, so nothing is kept that could be forgotten.
    fn forget(&self, _req: &Request, _ino: INodeNo, _nlookup: u64) {}

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let (caller, ino) = (caller(req), self.ino(ino));
        self.run(Needs::Names, "getattr", reply, move |vfs| async move { vfs.getattr(caller, ino).await }, View::attr);
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<fuser::TimeOrNow>,
        mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (caller, ino) = (caller(req), self.ino(ino));
        let (atime, mtime) = (atime.map(reply::set_time), mtime.map(reply::set_time));
        let set = SetattrRequest { mode, uid, gid, size, atime, mtime, by_handle: fh.is_some() };
        self.run(
            Needs::Data,
            "setattr",
            reply,
            move |vfs| async move { vfs.setattr(caller, ino, set).await },
            View::attr,
        );
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let (caller, ino) = (caller(req), self.ino(ino));
        let done = |_: View, reply: ReplyData, target: Bytes| reply.data(&target);
        self.run(Needs::Names, "readlink", reply, move |vfs| async move { vfs.readlink(caller, ino).await }, done);
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (caller, parent, name) = (caller(req), self.ino(parent), bytes(name));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.mknod(caller, parent, name, mode, rdev).await };
        self.run(Needs::Names, "mknod", reply, work, View::entry);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let (caller, parent, name) = (caller(req), self.ino(parent), bytes(name));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.mkdir(caller, parent, name, mode).await };
        self.run(Needs::Names, "mkdir", reply, work, View::entry);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, parent, name) = (caller(req), self.ino(parent), bytes(name));
        self.run(
            Needs::Names,
            "unlink",
            reply,
            move |vfs| async move { vfs.unlink(caller, parent, name).await },
            View::empty,
        );
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, parent, name) = (caller(req), self.ino(parent), bytes(name));
        self.run(
            Needs::Names,
            "rmdir",
            reply,
            move |vfs| async move { vfs.rmdir(caller, parent, name).await },
            View::empty,
        );
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (caller, parent, name, target) = (caller(req), self.ino(parent), bytes(name), bytes(target.as_os_str()));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.symlink(caller, parent, name, target).await };
        self.run(Needs::Names, "symlink", reply, work, View::entry);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        let from = Place { parent: self.ino(parent), name: bytes(name) };
        let to = Place { parent: self.ino(newparent), name: bytes(newname) };
        let (caller, flags) = (caller(req), flags.bits());
        self.run(
            Needs::Names,
            "rename",
            reply,
            move |vfs| async move { vfs.rename(caller, from, to, flags).await },
            View::empty,
        );
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (caller, ino, parent, name) = (caller(req), self.ino(ino), self.ino(newparent), bytes(newname));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.link(caller, ino, parent, name).await };
        self.run(Needs::Names, "link", reply, work, View::entry);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (caller, ino, flags) = (caller(req), self.ino(ino), flags.0);
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.open_with(caller, ino, flags).await };
        let done = move |_: View, reply: ReplyOpen, opened: Opened| {
            reply.opened(FileHandle(opened.fh.0), open_flags(opened));
        };
        self.run(Needs::Names, "open", reply, work, done);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (caller, parent, name) = (caller(req), self.ino(parent), bytes(name));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.create(caller, parent, name, mode, flags).await };
        self.run(Needs::Names, "create", reply, work, View::created);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        reply: ReplyData,
    ) {
        let fh = Fh(fh.0);
        self.run(Needs::Data, "read", reply, move |vfs| async move { vfs.read(fh, offset, size).await }, View::data);
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: fuser::WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        reply: ReplyWrite,
    ) {
        let (fh, data) = (Fh(fh.0), Bytes::copy_from_slice(data));
        let done = |_: View, reply: ReplyWrite, written: u32| reply.written(written);
        self.run(Needs::Data, "write", reply, move |vfs| async move { vfs.write(fh, offset, data).await }, done);
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        let (fh, owner) = (Fh(fh.0), owner.0);
        self.run(Needs::Data, "flush", reply, move |vfs| async move { vfs.close(fh, owner).await }, View::empty);
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let fh = Fh(fh.0);
        self.run(Needs::Data, "fsync", reply, move |vfs| async move { vfs.fsync(fh).await }, View::empty);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let fh = Fh(fh.0);
        self.run(Needs::Data, "release", reply, move |vfs| async move { vfs.release(fh).await }, View::empty);
    }

    fn getlk(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        match (RawLock { fh, owner, start, end, typ, pid }).request(req) {
            Ok(lock) => self.run(
                Needs::Names,
                "get_lock",
                reply,
                move |vfs| async move { vfs.get_lock(lock).await },
                View::lock,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn setlk(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        match (RawLock { fh, owner, start, end, typ, pid }).request(req) {
            Ok(lock) => self.set_lock(caller(req), lock, sleep, reply),
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(self.vfs.opendir(self.ino(ino)).0), FopenFlags::empty());
    }

    fn readdir(&self, req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let (caller, fh, map) = (caller(req), Fh(fh.0), self.view.map);
        let work = move |vfs: Arc<Vfs<M>>| async move {
            let mut fill = |item: &DirItem| {
                let kind = reply::file_type(item.kind);
                reply.add(map.to_kernel(item.ino), item.next, kind, OsStr::from_bytes(&item.name))
            };
            (vfs.readdir(caller, fh, offset, &mut fill).await, reply)
        };
        self.run_listing("readdir", work, ReplyDirectory::ok);
    }

    fn readdirplus(&self, req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let (caller, fh, view) = (caller(req), Fh(fh.0), self.view);
        let work = move |vfs: Arc<Vfs<M>>| async move {
            let mut fill = |item: &DirItem| view.add_plus(&mut reply, item);
            (vfs.readdir(caller, fh, offset, &mut fill).await, reply)
        };
        self.run_listing("readdirplus", work, ReplyDirectoryPlus::ok);
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.vfs.releasedir(Fh(fh.0));
        reply.ok();
    }

    // What was acknowledged about a directory is on stable storage of a quorum already.
    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let caller = caller(req);
        let done = |_: View, reply: ReplyStatfs, usage: FsUsage| {
            let FsUsage { blocks, blocks_free, inodes, inodes_free } = usage;
            let block_bytes = STATFS_BLOCK_BYTES as u32;
            let name_max = NAME_BYTES_MAX as u32;
            reply.statfs(blocks, blocks_free, blocks_free, inodes, inodes_free, block_bytes, name_max, block_bytes);
        };
        self.run(Needs::Names, "statfs", reply, move |vfs| async move { vfs.statfs(caller).await }, done);
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: fuser::AccessFlags, reply: ReplyEmpty) {
        let (caller, ino, wanted) = (caller(req), self.ino(ino), mask.bits() as u32);
        self.run(
            Needs::Names,
            "access",
            reply,
            move |vfs| async move { vfs.access(caller, ino, wanted).await },
            View::empty,
        );
    }

    fn ioctl(
        &self,
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: fuser::IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let (caller, fh, offset) = (caller(req), Fh(fh.0), control::offset_of(in_data));
        let work = move |vfs: Arc<Vfs<M>>| async move {
            match cmd {
                control::IOCTL_INFO => vfs.info(caller, fh, offset).await,
                control::IOCTL_DAEMON => Ok(std::process::id().to_string().into()),
                _ => Err(FsErrno::NoTty.into()),
            }
        };
        let done = move |_: View, reply: ReplyIoctl, text: Arc<str>| reply.ioctl(0, &control::answer(&text, offset));
        self.run(Needs::Data, "ioctl", reply, work, done);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: fuser::ReplyLseek) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: fuser::PollNotifier,
        _: fuser::PollEvents,
        _: fuser::PollFlags,
        reply: fuser::ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: fuser::ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: fuser::CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::ENOSYS);
    }
}
