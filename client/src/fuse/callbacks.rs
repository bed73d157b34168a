//! Callbacks: fuser::Filesystem over Vfs. One callback: decode, run, reply; no logic. What the kernel asks and this filesystem does
//! not have (poll, bmap) is ENOSYS, which the kernel remembers: it does these itself or refuses them without asking again. Called by
//! fuser's threads.

use crate::error::ClientError;
use crate::fuse::adapter::{Adapter, bytes};
use crate::fuse::capabilities;
use crate::fuse::control;
use crate::fuse::drive::Needs;
use crate::fuse::lock::RawLock;
use crate::fuse::reply;
use crate::fuse::space;
use crate::fuse::view::{View, open_flags};
use crate::fuse::xattr;
use crate::meta::MetaApi;
use crate::vfs::ops::statfs::STATFS_BLOCK_BYTES;
use crate::vfs::{Access, AskedMode, DirItem, Fh, FsUsage, Opened, Place, SetattrRequest, Spot, Vfs};
use bytes::Bytes;
use fuser::{Errno, FileHandle, Filesystem, FopenFlags, INodeNo, KernelConfig, LockOwner, OpenFlags, Request};
use fuser::{
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
};
use fuser::{ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr};
use holdfast_proto::FsErrno;
use holdfast_proto::limits::NAME_BYTES_MAX;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

impl<M: MetaApi> Filesystem for Adapter<M> {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        capabilities::ask(config, self.view.ttl);
        Ok(())
    }

    fn destroy(&mut self) {
        // Nobody listens where the mount did not come about.
        let _ = self.ended.take().map(|ended| ended.send(()));
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (caller, parent, name) = (self.caller(req), self.ino(parent), bytes(name));
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
        let (caller, ino) = (self.caller(req), self.ino(ino));
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
        let (caller, ino) = (self.caller(req), self.ino(ino));
        let (atime, mtime) = (atime.map(reply::set_time), mtime.map(reply::set_time));
        let (uid, gid) = self.view.owner_to_volume(uid, gid);
        let set = SetattrRequest { mode, uid, gid, size, atime, mtime, by_handle: fh.is_some(), kill_priv: false };
        self.run(
            Needs::Data,
            "setattr",
            reply,
            move |vfs| async move { vfs.setattr(caller, ino, set).await },
            View::attr,
        );
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let (caller, ino) = (self.caller(req), self.ino(ino));
        let done = |_: View, reply: ReplyData, target: Bytes| reply.data(&target);
        self.run(Needs::Names, "readlink", reply, move |vfs| async move { vfs.readlink(caller, ino).await }, done);
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        let (caller, parent, name, asked) =
            (self.caller(req), self.ino(parent), bytes(name), AskedMode { mode, umask });
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.mknod(caller, parent, name, asked, rdev).await };
        self.run(Needs::Names, "mknod", reply, work, View::entry);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let (caller, parent, name, asked) =
            (self.caller(req), self.ino(parent), bytes(name), AskedMode { mode, umask });
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.mkdir(caller, parent, name, asked).await };
        self.run(Needs::Names, "mkdir", reply, work, View::entry);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, parent, name) = (self.caller(req), self.ino(parent), bytes(name));
        self.run(
            Needs::Names,
            "unlink",
            reply,
            move |vfs| async move { vfs.unlink(caller, parent, name).await },
            View::empty,
        );
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, parent, name) = (self.caller(req), self.ino(parent), bytes(name));
        self.run(
            Needs::Names,
            "rmdir",
            reply,
            move |vfs| async move { vfs.rmdir(caller, parent, name).await },
            View::empty,
        );
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let (caller, parent, name, target) =
            (self.caller(req), self.ino(parent), bytes(name), bytes(target.as_os_str()));
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
        let (caller, flags) = (self.caller(req), flags.bits());
        self.run(
            Needs::Names,
            "rename",
            reply,
            move |vfs| async move { vfs.rename(caller, from, to, flags).await },
            View::empty,
        );
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let (caller, ino, parent, name) = (self.caller(req), self.ino(ino), self.ino(newparent), bytes(newname));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.link(caller, ino, parent, name).await };
        self.run(Needs::Names, "link", reply, work, View::entry);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (caller, ino, flags) = (self.caller(req), self.ino(ino), flags.0);
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.open(caller, ino, Access::of_flags(flags)).await };
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
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (caller, parent, name, asked) =
            (self.caller(req), self.ino(parent), bytes(name), AskedMode { mode, umask });
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.create(caller, parent, name, asked, flags).await };
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
        req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: fuser::WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<fuser::LockOwner>,
        reply: ReplyWrite,
    ) {
        let (fh, data) = (Fh(fh.0), Bytes::copy_from_slice(data));
        let lacks_fsetid = write_flags.contains(fuser::WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let kill_priv = lacks_fsetid || self.caller(req).squashed;
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.write(fh, offset, data, kill_priv).await };
        let done = |_: View, reply: ReplyWrite, written: u32| reply.written(written);
        self.run(Needs::Data, "write", reply, work, done);
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
            Ok(lock) => self.set_lock(self.caller(req), lock, sleep, reply),
            Err(errno) => reply.error(errno),
        }
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (caller, ino) = (self.caller(req), self.ino(ino));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.opendir(caller, ino).await };
        let done = |_: View, reply: ReplyOpen, fh: Fh| reply.opened(FileHandle(fh.0), FopenFlags::empty());
        self.run(Needs::Names, "opendir", reply, work, done);
    }

    fn readdir(&self, req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let (caller, fh, map) = (self.caller(req), Fh(fh.0), self.view.map);
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
        let (caller, fh, view) = (self.caller(req), Fh(fh.0), self.view);
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
        let caller = self.caller(req);
        let done = |_: View, reply: ReplyStatfs, usage: FsUsage| {
            let FsUsage { blocks, blocks_free, inodes, inodes_free } = usage;
            let block_bytes = STATFS_BLOCK_BYTES as u32;
            let name_max = NAME_BYTES_MAX as u32;
            reply.statfs(blocks, blocks_free, blocks_free, inodes, inodes_free, block_bytes, name_max, block_bytes);
        };
        self.run(Needs::Names, "statfs", reply, move |vfs| async move { vfs.statfs(caller).await }, done);
    }

    fn access(&self, req: &Request, ino: INodeNo, mask: fuser::AccessFlags, reply: ReplyEmpty) {
        let (caller, ino, wanted) = (self.caller(req), self.ino(ino), mask.bits() as u32);
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
        let (caller, fh, offset) = (self.caller(req), Fh(fh.0), control::offset_of(in_data));
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

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let value = xattr::to_volume(self.view.ids, name, value);
        let (caller, ino, name) = (self.caller(req), self.ino(ino), bytes(name));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.set_xattr(caller, ino, name, value, flags as u32).await };
        self.run(Needs::Names, "setxattr", reply, work, View::empty);
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let (caller, ino, name) = (self.caller(req), self.ino(ino), bytes(name));
        let asked = name.clone();
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.get_xattr(caller, ino, name).await };
        let done = move |view: View, reply: ReplyXattr, value: Bytes| {
            xattr::reply(reply, size, &xattr::to_local(view.ids, &asked, value));
        };
        self.run(Needs::Names, "getxattr", reply, work, done);
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let (caller, ino) = (self.caller(req), self.ino(ino));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.list_xattr(caller, ino).await };
        let done = move |_: View, reply: ReplyXattr, names: Vec<u8>| xattr::reply(reply, size, &names);
        self.run(Needs::Names, "listxattr", reply, work, done);
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (caller, ino, name) = (self.caller(req), self.ino(ino), bytes(name));
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.remove_xattr(caller, ino, name).await };
        self.run(Needs::Names, "removexattr", reply, work, View::empty);
    }

    fn fallocate(&self, req: &Request, _: INodeNo, fh: FileHandle, at: u64, len: u64, mode: i32, reply: ReplyEmpty) {
        let (caller, fh, mode) = (self.caller(req), Fh(fh.0), mode as u32);
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.fallocate(caller, fh, at, len, mode).await };
        self.run(Needs::Data, "fallocate", reply, work, View::empty);
    }

    fn lseek(&self, req: &Request, _: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        let (caller, fh, asked) = (self.caller(req), Fh(fh.0), space::seek(offset, whence));
        let work = move |vfs: Arc<Vfs<M>>| async move {
            let (offset, seek) = asked?;
            vfs.lseek(caller, fh, offset, seek).await
        };
        self.run(Needs::Data, "lseek", reply, work, space::offset);
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
        req: &Request,
        _ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        _ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        flags: fuser::CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let caller = self.caller(req);
        let (from, to) = (Spot { fh: Fh(fh_in.0), offset: offset_in }, Spot { fh: Fh(fh_out.0), offset: offset_out });
        let work = move |vfs: Arc<Vfs<M>>| async move {
            let len = space::copy_len(len, flags)?;
            vfs.copy_file_range(caller, from, to, len).await
        };
        self.run(Needs::Data, "copy_file_range", reply, work, space::copied);
    }
}
