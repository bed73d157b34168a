//! Directories: finding, adding and removing names, and what that does to the directory's link count, times and entry count.
//! Called by the operations.

use super::context::{Context, Ruling};
use super::inode::{self, S_ISVTX};
use super::{acl, quota, trash};
use crate::store::inode_record::Inode;
use crate::store::records::Dentry;
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use bytes::Bytes;
use holdfast_proto::pb::{self, FileKind};
use holdfast_proto::{FsErrno, Name, ROOT_INO, limits};

/// Longest way up to the root that is followed: a longer one can only be damage (a path is at most 4096 bytes).
const DEPTH_MAX: usize = 1 << 20;

pub fn name(bytes: &Bytes) -> Ruling<Name> {
    Ok(Name::new(bytes.clone())?)
}

/// A directory by its number. ESTALE where it is gone, ENOTDIR for anything else, ENOENT where it was removed and is only open, or in the
/// trash.
pub fn load(view: &dyn KvRead, cx: &Context<'_>, ino: u64) -> Ruling<Inode> {
    let dir = inode::load(view, cx, ino)?;
    if !dir.is_dir() {
        return Err(FsErrno::NotDir.into());
    }
    if dir.is_orphan() || trash::holds(&dir) {
        return Err(FsErrno::NoEnt.into());
    }
    Ok(dir)
}

pub fn find(view: &dyn KvRead, cx: &Context<'_>, dir: &Inode, name: &Name) -> Result<Option<Dentry>, StoreError> {
    trash::dentry(view, cx.volume, dir.ino, name.as_bytes())
}

/// What a name names, with its inode. ENOENT where there is no such name.
pub fn find_inode(view: &dyn KvRead, cx: &Context<'_>, dir: &Inode, name: &Name) -> Ruling<Inode> {
    let dentry = find(view, cx, dir, name)?.ok_or(FsErrno::NoEnt)?;
    Ok(read::named_inode(view, cx.volume, dentry.ino)?)
}

/// EEXIST where the name is there; EPERM in the trash; EMLINK where the directory can take no further subdirectory.
pub fn check_free(view: &dyn KvRead, cx: &Context<'_>, dir: &Inode, name: &Name, kind: FileKind) -> Ruling<()> {
    if find(view, cx, dir, name)?.is_some() {
        return Err(FsErrno::Exist.into());
    }
    trash::check_adds_to(dir)?;
    check_subdir_room(dir, kind)
}

pub fn check_subdir_room(dir: &Inode, kind: FileKind) -> Ruling<()> {
    if kind == FileKind::Directory && dir.nlink >= limits::NLINK_MAX {
        return Err(FsErrno::MLink.into());
    }
    Ok(())
}

/// In a sticky directory only the owner of the file, of the directory, or root may take a name away (unlink(2), EPERM).
pub fn check_sticky(cx: &Context<'_>, dir: &Inode, victim: &Inode) -> Ruling<()> {
    let free = dir.mode & S_ISVTX == 0 || cx.is_root() || cx.creds.uid == victim.uid || cx.creds.uid == dir.uid;
    if free { Ok(()) } else { Err(FsErrno::Perm.into()) }
}

/// Whether `ino` is `dir` itself or above it.
pub fn is_above(view: &dyn KvRead, cx: &Context<'_>, ino: u64, dir: &Inode) -> Result<bool, StoreError> {
    let (mut at, mut parent) = (dir.ino, dir.parent);
    for _ in 0..DEPTH_MAX {
        if at == ino {
            return Ok(true);
        }
        if at == ROOT_INO {
            return Ok(false);
        }
        at = parent;
        parent = read::named_inode(view, cx.volume, at)?.parent;
    }
    Err(StoreError::Damaged { what: "directory tree", detail: format!("no root above inode {}", dir.ino) })
}

/// What is asked for.
pub struct NewInode {
    pub kind: FileKind,
    pub mode: u32,
    /// Counts where the directory has no default ACL.
    pub umask: u32,
}

/// Makes a new inode under a name that is known to be free, and answers with it. `shape` gives it what belongs to its kind alone.
/// ENOSPC where the volume may have no more inodes; then nothing is written.
pub fn add_new(
    txn: &mut Txn<'_>,
    cx: &mut Context<'_>,
    (dir, name): (&mut Inode, &Name),
    new: NewInode,
    shape: impl FnOnce(&mut Txn<'_>, &mut Inode),
) -> Ruling<pb::EntryReply> {
    let mut usage = read::usage(txn, cx.volume)?;
    quota::check_inode(&usage)?;
    let inherited = acl::inherited(txn, cx, dir, new.kind, (new.mode, new.umask))?;
    let mut child = inode::new_child(cx, &mut usage, dir, new.kind, inherited.mode);
    inherited.put(txn, cx, &mut child);
    shape(txn, &mut child);
    txn.put(&keys::usage(cx.volume), &usage);
    inode::save(txn, cx, &child);
    add_entry(txn, cx, dir, name, &child);
    Ok(pb::EntryReply { attr: Some(child.to_attr()), created: true })
}

/// Writes the name and what it does to the directory; `dir` is changed and saved.
pub fn add_entry(txn: &mut Txn<'_>, cx: &mut Context<'_>, dir: &mut Inode, name: &Name, child: &Inode) {
    let dentry = Dentry { ino: child.ino, kind: child.kind };
    txn.put(&keys::dentry(cx.volume, dir.ino, name.as_bytes()), &dentry);
    dir.entries += 1;
    dir.nlink += u32::from(child.is_dir());
    touch(txn, cx, dir, name);
}

/// Takes the name away; `dir` is changed and saved.
pub fn remove_entry(txn: &mut Txn<'_>, cx: &mut Context<'_>, dir: &mut Inode, name: &Name, child: &Inode) {
    txn.delete(&keys::dentry(cx.volume, dir.ino, name.as_bytes()));
    dir.entries = dir.entries.saturating_sub(1);
    dir.nlink = dir.nlink.saturating_sub(u32::from(child.is_dir()));
    touch(txn, cx, dir, name);
}

/// Takes a name away: what it named goes to the trash with its last name, or becomes an orphan. `check` says whether such an inode may go this
/// way.
pub fn remove(
    txn: &mut Txn<'_>,
    cx: &mut Context<'_>,
    (parent, bytes): (u64, &Bytes),
    check: impl FnOnce(&Inode) -> Result<(), FsErrno>,
) -> Ruling<pb::RemovedReply> {
    let name = name(bytes)?;
    let mut dir = load(txn, cx, parent)?;
    let victim = find_inode(txn, cx, &dir, &name)?;
    check_sticky(cx, &dir, &victim)?;
    trash::check_removes(victim.ino)?;
    check(&victim)?;
    remove_entry(txn, cx, &mut dir, &name, &victim);
    let orphaned = trash::lose_name(txn, cx, (parent, &name), victim)?;
    Ok(pb::RemovedReply { ino: victim.ino, orphaned })
}

/// Makes a name that is there name something else; `dir` is changed and saved.
pub fn replace_entry(
    txn: &mut Txn<'_>,
    cx: &mut Context<'_>,
    dir: &mut Inode,
    name: &Name,
    (old, new): (&Inode, &Inode),
) {
    txn.put(&keys::dentry(cx.volume, dir.ino, name.as_bytes()), &Dentry { ino: new.ino, kind: new.kind });
    dir.nlink = (dir.nlink + u32::from(new.is_dir())).saturating_sub(u32::from(old.is_dir()));
    touch(txn, cx, dir, name);
}

fn touch(txn: &mut Txn<'_>, cx: &mut Context<'_>, dir: &mut Inode, name: &Name) {
    dir.mtime = cx.now;
    dir.ctime = cx.now;
    dir.data_version = cx.log_index;
    inode::save(txn, cx, dir);
    cx.changed_name(dir.ino, name);
}
