//! Fs over bare metadata operations: walks paths as the kernel does, and sends the same messages a mount sends. Over
//! `LocalMeta` it is the state machine with nothing around it; file data goes through the client's data path.

use super::{Fs, Kind, Lock, LockMode, Result, SetTime, Stat, Time, User, split};
use crate::admin::runtime;
use bytes::Bytes;
use holdfast::data::Data;
use holdfast::error::ClientError;
use holdfast::meta::MetaApi;
use holdfast_proto::{Ask, Op, ROOT_INO, pb};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One volume's tree, or a directory of it.
pub struct OpsFs<M: MetaApi> {
    meta: Arc<M>,
    data: Arc<Data<M>>,
    root: u64,
    user: User,
    /// Which inode each owner of locks has locked.
    locked: RefCell<BTreeMap<u64, u64>>,
}

fn errno(error: ClientError) -> i32 {
    match error {
        ClientError::Refused(refusal) => refusal.number() as i32,
        failure => panic!("not a refusal: {failure}"),
    }
}

fn kind_of(attr: &pb::Attr) -> Kind {
    kind_from_wire(attr.kind())
}

fn kind_from_wire(kind: pb::FileKind) -> Kind {
    match kind {
        pb::FileKind::Regular => Kind::File,
        pb::FileKind::Directory => Kind::Dir,
        pb::FileKind::Symlink => Kind::Symlink,
        pb::FileKind::Fifo => Kind::Fifo,
        pb::FileKind::Socket => Kind::Socket,
        pb::FileKind::Char => Kind::Char,
        pb::FileKind::Block => Kind::Block,
        pb::FileKind::Unspecified => panic!("an inode without a kind"),
    }
}

fn kind_to_wire(kind: Kind) -> pb::FileKind {
    match kind {
        Kind::File => pb::FileKind::Regular,
        Kind::Dir => pb::FileKind::Directory,
        Kind::Symlink => pb::FileKind::Symlink,
        Kind::Fifo => pb::FileKind::Fifo,
        Kind::Socket => pb::FileKind::Socket,
        Kind::Char => pb::FileKind::Char,
        Kind::Block => pb::FileKind::Block,
    }
}

fn time_of(time: Option<pb::TimeSpec>) -> Time {
    let time = time.expect("attributes carry their times");
    (time.sec, time.nsec)
}

fn time_arg(time: SetTime) -> Option<pb::SetTime> {
    match time {
        SetTime::Omit => None,
        SetTime::Now => Some(pb::SetTime { now: true, time: None }),
        SetTime::To((sec, nsec)) => Some(pb::SetTime { now: false, time: Some(pb::TimeSpec { sec, nsec }) }),
    }
}

impl<M: MetaApi> OpsFs<M> {
    pub fn new(meta: Arc<M>, data: Arc<Data<M>>) -> OpsFs<M> {
        OpsFs { meta, data, root: ROOT_INO, user: User::root(), locked: RefCell::default() }
    }

    /// The tree below a directory.
    pub fn below(&self, path: &str) -> OpsFs<M> {
        let attr = self.walk(path).expect("the directory exists");
        OpsFs {
            meta: self.meta.clone(),
            data: self.data.clone(),
            root: attr.ino,
            user: self.user.clone(),
            locked: RefCell::default(),
        }
    }

    /// Sends one mutation as this view's user.
    pub fn mutate<O: Op>(&self, op: O) -> Result<O::Reply> {
        let answer = runtime().block_on(self.meta.mutate(&self.creds(), op));
        answer.map(|answer| answer.reply).map_err(errno)
    }

    pub fn query<Q: Ask>(&self, ask: Q) -> Result<Q::Reply> {
        let answer = runtime().block_on(self.meta.query(&self.creds(), ask));
        answer.map(|answer| answer.reply).map_err(errno)
    }

    fn creds(&self) -> pb::Creds {
        pb::Creds { uid: self.user.uid, gid: self.user.gid, groups: self.user.groups.clone() }
    }

    fn lookup(&self, parent: u64, name: &str) -> Result<pb::Attr> {
        let reply = self.query(pb::LookupQuery { parent, name: Bytes::copy_from_slice(name.as_bytes()) })?;
        Ok(reply.attr.expect("lookup answers attributes"))
    }

    /// Attributes of what a path names. In the middle of a path, a dangling link is ENOENT, and a file is ENOTDIR.
    fn walk(&self, path: &str) -> Result<pb::Attr> {
        let mut attr = self.query(pb::GetattrQuery { ino: self.root })?.attr.expect("attributes");
        for name in path.split('/').filter(|name| !name.is_empty()) {
            attr = self.lookup(directory(&attr)?, name)?;
        }
        Ok(attr)
    }

    /// Parent directory and name of a path.
    fn place<'a>(&self, path: &'a str) -> Result<(u64, Bytes, &'a str)> {
        let (parent, name) = split(path);
        let parent = directory(&self.walk(parent)?)?;
        Ok((parent, Bytes::copy_from_slice(name.as_bytes()), name))
    }

    /// Attributes of what a path names, where the kernel would follow a link.
    fn followed(&self, path: &str) -> Result<pb::Attr> {
        let attr = self.walk(path)?;
        if kind_of(&attr) == Kind::Symlink { Err(libc::ENOENT) } else { Ok(attr) }
    }

    /// A regular file, for the data path.
    fn opened(&self, path: &str, writes: bool) -> Result<pb::Attr> {
        let attr = self.walk(path)?;
        match kind_of(&attr) {
            Kind::File => {}
            Kind::Dir if writes => return Err(libc::EISDIR),
            Kind::Symlink => return Err(libc::ELOOP),
            _ => return Ok(attr),
        }
        Ok(self.query(pb::OpenQuery { ino: attr.ino })?.attr.expect("open answers attributes"))
    }

    fn setattr(&self, op: pb::SetattrOp) -> Result<()> {
        self.mutate(op).map(|_| ())
    }
}

/// The inode of a directory that a path goes through.
fn directory(attr: &pb::Attr) -> Result<u64> {
    match kind_of(attr) {
        Kind::Dir => Ok(attr.ino),
        Kind::Symlink => Err(libc::ENOENT),
        _ => Err(libc::ENOTDIR),
    }
}

impl<M: MetaApi> Fs for OpsFs<M> {
    fn by(&self, user: &User) -> Box<dyn Fs + '_> {
        Box::new(OpsFs {
            meta: self.meta.clone(),
            data: self.data.clone(),
            root: self.root,
            user: user.clone(),
            locked: RefCell::default(),
        })
    }

    fn create(&self, path: &str, mode: u32, exclusive: bool) -> Result<()> {
        let (parent, name, text) = self.place(path)?;
        match self.lookup(parent, text) {
            Ok(_) if exclusive => Err(libc::EEXIST),
            Ok(attr) if kind_of(&attr) == Kind::Dir => Err(libc::EISDIR),
            Ok(attr) if kind_of(&attr) == Kind::Symlink => Err(libc::ELOOP),
            Ok(attr) => self.query(pb::OpenQuery { ino: attr.ino }).map(|_| ()),
            Err(libc::ENOENT) => self.mutate(pb::CreateOp { parent, name, mode, exclusive, umask: 0 }).map(|_| ()),
            Err(other) => Err(other),
        }
    }

    fn open(&self, path: &str) -> Result<()> {
        self.opened(path, false).map(|_| ())
    }

    fn mkdir(&self, path: &str, mode: u32) -> Result<()> {
        let (parent, name, _) = self.place(path)?;
        self.mutate(pb::MkdirOp { parent, name, mode, umask: 0 }).map(|_| ())
    }

    fn mknod(&self, path: &str, kind: Kind, mode: u32, rdev: u32) -> Result<()> {
        let (parent, name, _) = self.place(path)?;
        self.mutate(pb::MknodOp { parent, name, mode, kind: kind_to_wire(kind).into(), rdev, umask: 0 }).map(|_| ())
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let (parent, name, _) = self.place(path)?;
        let target = Bytes::copy_from_slice(target.as_bytes());
        self.mutate(pb::SymlinkOp { parent, name, target }).map(|_| ())
    }

    fn readlink(&self, path: &str) -> Result<String> {
        let reply = self.query(pb::ReadlinkQuery { ino: self.walk(path)?.ino })?;
        Ok(String::from_utf8_lossy(&reply.target).into_owned())
    }

    fn link(&self, old: &str, new: &str) -> Result<()> {
        let ino = self.walk(old)?.ino;
        let (new_parent, new_name, _) = self.place(new)?;
        self.mutate(pb::LinkOp { ino, new_parent, new_name }).map(|_| ())
    }

    fn unlink(&self, path: &str) -> Result<()> {
        let (parent, name, _) = self.place(path)?;
        self.mutate(pb::UnlinkOp { parent, name }).map(|_| ())
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        let (parent, name, _) = self.place(path)?;
        self.mutate(pb::RmdirOp { parent, name }).map(|_| ())
    }

    fn rename(&self, old: &str, new: &str, flags: u32) -> Result<()> {
        let (parent, name, _) = self.place(old)?;
        let (new_parent, new_name, _) = self.place(new)?;
        self.mutate(pb::RenameOp { parent, name, new_parent, new_name, flags }).map(|_| ())
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        let attr = self.walk(path)?;
        Ok(Stat {
            ino: attr.ino,
            kind: kind_of(&attr),
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            size: attr.size,
            atime: time_of(attr.atime),
            mtime: time_of(attr.mtime),
            ctime: time_of(attr.ctime),
        })
    }

    fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        let ino = self.followed(path)?.ino;
        self.setattr(pb::SetattrOp { ino, mode: Some(mode), ..Default::default() })
    }

    fn chown(&self, path: &str, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let ino = self.walk(path)?.ino;
        self.setattr(pb::SetattrOp { ino, uid, gid, ..Default::default() })
    }

    fn utimens(&self, path: &str, atime: SetTime, mtime: SetTime) -> Result<()> {
        let ino = self.walk(path)?.ino;
        let (atime, mtime) = (time_arg(atime), time_arg(mtime));
        if atime.is_none() && mtime.is_none() {
            return Ok(());
        }
        self.setattr(pb::SetattrOp { ino, atime, mtime, ..Default::default() })
    }

    fn truncate(&self, path: &str, size: u64) -> Result<()> {
        let attr = self.followed(path)?;
        match kind_of(&attr) {
            Kind::File => self.setattr(pb::SetattrOp { ino: attr.ino, size: Some(size), ..Default::default() }),
            Kind::Dir => Err(libc::EISDIR),
            _ => Err(libc::EINVAL),
        }
    }

    fn write(&self, path: &str, offset: u64, data: &[u8]) -> Result<()> {
        let attr = self.opened(path, true)?;
        let file = self.data.open(&attr);
        runtime().block_on(async {
            let result = self.data.write_by(&file, offset, Bytes::copy_from_slice(data), self.user.uid != 0).await;
            let flushed = self.data.flush(&file).await;
            self.data.release(file).await;
            result.and(flushed.map(|_| ())).map_err(errno)
        })
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let attr = self.opened(path, false)?;
        if kind_of(&attr) == Kind::Dir {
            return Err(libc::EISDIR);
        }
        let file = self.data.open(&attr);
        runtime().block_on(async {
            let result = self.data.read(&file, offset, len as u32).await;
            self.data.release(file).await;
            result.map(|pieces| pieces.concat()).map_err(errno)
        })
    }

    fn set_xattr(&self, path: &str, name: &str, value: &[u8], flags: u32) -> Result<()> {
        let ino = self.walk(path)?.ino;
        let (name, value) = (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value));
        self.mutate(pb::SetXattrOp { ino, name, value, flags }).map(|_| ())
    }

    fn get_xattr(&self, path: &str, name: &str) -> Result<Vec<u8>> {
        let ino = self.walk(path)?.ino;
        let name = Bytes::copy_from_slice(name.as_bytes());
        Ok(self.query(pb::GetXattrQuery { ino, name })?.value.to_vec())
    }

    fn list_xattr(&self, path: &str) -> Result<Vec<String>> {
        let names = self.query(pb::ListXattrQuery { ino: self.walk(path)?.ino })?.names;
        Ok(names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    fn remove_xattr(&self, path: &str, name: &str) -> Result<()> {
        let ino = self.walk(path)?.ino;
        self.mutate(pb::RemoveXattrOp { ino, name: Bytes::copy_from_slice(name.as_bytes()) }).map(|_| ())
    }

    fn fallocate(&self, path: &str, mode: i32, offset: u64, len: u64) -> Result<()> {
        let ino = self.opened(path, true)?.ino;
        let mut at = offset;
        loop {
            let len = offset + len - at;
            at += self.mutate(pb::FallocateOp { ino, offset: at, len, mode: mode as u32 })?.done;
            if at == offset + len {
                return Ok(());
            }
        }
    }

    fn copy_file_range(&self, from: (&str, u64), to: (&str, u64), len: u64) -> Result<u64> {
        let (source, ino_out) = (self.opened(from.0, false)?, self.opened(to.0, true)?.ino);
        let (ino_in, len) = (source.ino, len.min(source.size.saturating_sub(from.1)));
        let mut done = 0;
        loop {
            let (offset_in, offset_out, len) = (from.1 + done, to.1 + done, len - done);
            let op = pb::CopyFileRangeOp { ino_in, offset_in, ino_out, offset_out, len };
            match self.mutate(op)?.done {
                0 => return Ok(done),
                more => done += more,
            }
            if done == len {
                return Ok(done);
            }
        }
    }

    fn seek(&self, path: &str, offset: u64, whence: i32) -> Result<u64> {
        let (ino, hole) = (self.opened(path, false)?.ino, whence == libc::SEEK_HOLE);
        let mut reply = pb::LseekReply { offset, found: false };
        while !reply.found {
            reply = self.query(pb::LseekQuery { ino, offset: reply.offset, hole })?;
        }
        Ok(reply.offset)
    }

    fn lock(&self, owner: u64, path: &str, lock: Lock) -> Result<()> {
        let ino = self.opened(path, true)?.ino;
        let before = self.locked.borrow_mut().insert(owner, ino).filter(|before| *before != ino);
        if let Some(ino) = before {
            self.mutate(pb::DropLocksOp { ino, owners: vec![owner] })?;
        }
        let mode = match lock.mode {
            LockMode::Shared => pb::LockMode::Shared,
            LockMode::Exclusive => pb::LockMode::Exclusive,
            LockMode::Unlock => pb::LockMode::Unlock,
        };
        let range = Some(pb::LockRange { first: lock.first, last: lock.last });
        let kind = pb::LockKind::Range.into();
        let op = pb::SetLockOp { ino, owner, kind, mode: mode.into(), range, pid: 1, wait: 0, no_deadlock: true };
        self.mutate(op).map(|_| ())
    }

    fn readdir(&self, path: &str) -> Result<Vec<(String, Kind)>> {
        let ino = directory(&self.walk(path)?)?;
        let mut entries = Vec::new();
        let mut after = 0;
        loop {
            // Small replies, so that even a small directory takes several.
            let reply = self.query(pb::ReaddirQuery { ino, after, bytes_max: 256, with_attrs: false })?;
            for entry in &reply.entries {
                assert!(entry.cookie > after, "cookies grow");
                entries.push((String::from_utf8_lossy(&entry.name).into_owned(), kind_from_wire(entry.kind())));
            }
            after = reply.entries.last().map_or(after, |entry| entry.cookie);
            if reply.end {
                break;
            }
            assert!(!reply.entries.is_empty(), "a reply that neither ends nor goes on");
        }
        entries.sort();
        Ok(entries)
    }

    fn used_inodes(&self) -> Result<u64> {
        self.query(pb::StatfsQuery {}).map(|reply| reply.used_inodes)
    }
}
