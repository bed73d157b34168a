//! Inodes: making one, loading one, what takes the set-id bits away. Called by the operations.

use super::context::{Context, Ruling};
use super::xattr;
use crate::store::inode_record::Inode;
use crate::store::records::Usage;
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use holdfast_proto::FsErrno;
use holdfast_proto::pb::FileKind;

pub const S_ISUID: u32 = 0o4000;
pub const S_ISGID: u32 = 0o2000;
pub const S_ISVTX: u32 = 0o1000;
pub const S_IXGRP: u32 = 0o0010;
/// Permission bits that are stored.
pub const MODE_BITS: u32 = 0o7777;

/// The inode a client names by number: it may be gone since.
pub fn load(view: &dyn KvRead, cx: &Context<'_>, ino: u64) -> Ruling<Inode> {
    Ok(read::inode(view, cx.volume, ino)?.ok_or(FsErrno::Stale)?)
}

/// The same, for operations on data.
pub fn load_file(view: &dyn KvRead, cx: &Context<'_>, ino: u64) -> Ruling<Inode> {
    let inode = load(view, cx, ino)?;
    if inode.is_dir() {
        return Err(FsErrno::IsDir.into());
    }
    if inode.is_regular() { Ok(inode) } else { Err(FsErrno::Inval.into()) }
}

/// What every change of the data does to the rest: times move on, file capabilities go, and with `kill_priv` (somebody without
/// CAP_FSETID made it) the set-id bits. The caller saves the inode.
pub fn note_write(txn: &mut Txn<'_>, cx: &Context<'_>, inode: &mut Inode, kill_priv: bool) -> Result<(), StoreError> {
    inode.mtime = cx.now;
    inode.ctime = cx.now;
    if kill_priv {
        inode.mode = without_set_id_bits(inode.mode);
    }
    xattr::drop_capability(txn, cx.volume, inode)
}

pub fn save(txn: &mut Txn<'_>, cx: &mut Context<'_>, inode: &Inode) {
    cx.changed_inode(inode.ino);
    txn.put(&keys::inode(cx.volume, inode.ino), inode);
}

/// A new inode of this parent, numbered and counted in `usage`, with one name to come (a directory: and its own "."). Group
/// and S_ISGID come from a set-group-id parent (mkdir(2), inode(7)). Nothing is written.
pub fn new_child(cx: &Context<'_>, usage: &mut Usage, parent: &Inode, kind: FileKind, mode: u32) -> Inode {
    let inherits = parent.mode & S_ISGID != 0;
    let gid = if inherits { parent.gid } else { cx.creds.gid };
    let mut mode = mode & MODE_BITS;
    if kind == FileKind::Directory {
        // mkdir(2) takes permission and sticky bits only; set-group-id comes from the parent alone.
        mode &= 0o777 | S_ISVTX;
        mode |= parent.mode & S_ISGID;
    } else if inherits && mode & (S_ISGID | S_IXGRP) == (S_ISGID | S_IXGRP) && !cx.is_root() && !cx.in_group(gid) {
        // Or anyone could make a program that runs as the directory's group.
        mode &= !S_ISGID;
    }
    let ino = usage.next_ino;
    usage.next_ino += 1;
    usage.used_inodes += 1;
    let parent = if kind == FileKind::Directory { parent.ino } else { 0 };
    blank(cx, ino, (kind, mode), (cx.creds.uid, gid), parent)
}

/// An inode as it begins: empty, made now, with one name to come (a directory: and its own "."). `parent` is a directory's.
pub fn blank(cx: &Context<'_>, ino: u64, (kind, mode): (FileKind, u32), (uid, gid): (u32, u32), parent: u64) -> Inode {
    Inode {
        ino,
        kind,
        mode,
        nlink: if kind == FileKind::Directory { 2 } else { 1 },
        uid,
        gid,
        rdev: 0,
        size: 0,
        atime: cx.now,
        mtime: cx.now,
        ctime: cx.now,
        btime: cx.now,
        generation: cx.log_index,
        data_version: cx.log_index,
        parent,
        entries: 0,
        orphaned_at: 0,
        xattrs: 0,
    }
}

/// A change of data or owner takes set-user-id away, and set-group-id where it means execution and not mandatory locking.
pub fn without_set_id_bits(mode: u32) -> u32 {
    let mode = mode & !S_ISUID;
    if mode & S_IXGRP != 0 { mode & !S_ISGID } else { mode }
}

/// Who may change what belongs to an owner: the owner, and root.
pub fn is_owner(cx: &Context<'_>, inode: &Inode) -> bool {
    cx.is_root() || cx.creds.uid == inode.uid
}

/// The class check of access(2) for writing. The client's kernel asks it for every other operation.
pub fn may_write(cx: &Context<'_>, inode: &Inode) -> bool {
    let class = if cx.creds.uid == inode.uid {
        inode.mode >> 6
    } else if cx.in_group(inode.gid) {
        inode.mode >> 3
    } else {
        inode.mode
    };
    cx.is_root() || class & 0o2 != 0
}
