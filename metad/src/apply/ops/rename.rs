//! Rename: moves a name, in one step, also onto an existing one; or exchanges two. Called by apply::dispatch only.
//! POSIX: rename(2), renameat2(2); the order of the checks is Linux's.

use crate::apply::context::{Context, Ruling};
use crate::apply::dir::{self, NewInode};
use crate::apply::{inode, quota, trash};
use crate::store::inode_record::Inode;
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::{FsErrno, Name, pb};

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;
const WHITEOUT: u32 = 4;

/// One end of a rename: a name in a directory.
struct Place {
    dir: Inode,
    name: Name,
}

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::RenameOp) -> Ruling<pb::RemovedReply> {
    let has = |flag: u32| op.flags & flag != 0;
    if op.flags & !(NOREPLACE | EXCHANGE | WHITEOUT) != 0 || (has(EXCHANGE) && op.flags != EXCHANGE) {
        return Err(FsErrno::Inval.into());
    }
    if has(WHITEOUT) {
        check_whiteout(txn, cx)?;
    }
    let (name, new_name) = (dir::name(&op.name)?, dir::name(&op.new_name)?);
    let from = Place { dir: dir::load(txn, cx, op.parent)?, name };
    let to = Place { dir: dir::load(txn, cx, op.new_parent)?, name: new_name };
    let moved = dir::find_inode(txn, cx, &from.dir, &from.name)?;
    let target = match dir::find(txn, cx, &to.dir, &to.name)? {
        Some(_) if has(NOREPLACE) => return Err(FsErrno::Exist.into()),
        None if has(EXCHANGE) => return Err(FsErrno::NoEnt.into()),
        Some(dentry) => Some(read::named_inode(txn, cx.volume, dentry.ino)?),
        None => None,
    };
    check_trash((&from, &moved), (&to, target.as_ref()), has(EXCHANGE) || has(WHITEOUT))?;
    check_loops(txn, cx, has(EXCHANGE), (&from, &moved), (&to, target.as_ref()))?;
    match target {
        // Two names of one inode: rename(2) does nothing, and says so with success.
        Some(target) if target.ino == moved.ino => Ok(pb::RemovedReply::default()),
        Some(target) if has(EXCHANGE) => {
            check_exchange(cx, (&from, &moved), (&to, &target))?;
            exchange(txn, cx, (from, moved), (to, target))?;
            Ok(pb::RemovedReply::default())
        }
        target => {
            check_move(cx, (&from, &moved), (&to, target.as_ref()))?;
            move_entry(txn, cx, (from, moved), (to, target), has(WHITEOUT))
        }
    }
}

/// A whiteout is a device, which is root's to make (mknod(2)), and one inode more.
fn check_whiteout(txn: &Txn<'_>, cx: &Context<'_>) -> Ruling<()> {
    if !cx.is_root() {
        return Err(FsErrno::Perm.into());
    }
    quota::check_inode(&read::usage(txn, cx.volume)?)
}

/// Things come into the trash by being removed alone, and leave it by a plain rename; `leaves_something` in its place.
fn check_trash(
    (from, moved): (&Place, &Inode),
    (to, target): (&Place, Option<&Inode>),
    leaves_something: bool,
) -> Ruling<()> {
    trash::check_changes(moved.ino)?;
    target.map_or(Ok(()), |target| trash::check_changes(target.ino))?;
    trash::check_adds_to(&to.dir)?;
    if leaves_something { trash::check_adds_to(&from.dir) } else { Ok(()) }
}

/// A directory cannot move into itself or below itself.
fn check_loops(
    txn: &Txn<'_>,
    cx: &Context<'_>,
    exchanges: bool,
    (from, moved): (&Place, &Inode),
    (to, target): (&Place, Option<&Inode>),
) -> Ruling<()> {
    if from.dir.ino == to.dir.ino {
        return Ok(());
    }
    if moved.is_dir() && dir::is_above(txn, cx, moved.ino, &to.dir)? {
        return Err(FsErrno::Inval.into());
    }
    if let Some(target) = target
        && target.is_dir()
        && dir::is_above(txn, cx, target.ino, &from.dir)?
    {
        return Err(if exchanges { FsErrno::Inval } else { FsErrno::NotEmpty }.into());
    }
    Ok(())
}

fn check_move(cx: &Context<'_>, (from, moved): (&Place, &Inode), (to, target): (&Place, Option<&Inode>)) -> Ruling<()> {
    dir::check_sticky(cx, &from.dir, moved)?;
    let Some(target) = target else {
        return if from.dir.ino == to.dir.ino { Ok(()) } else { dir::check_subdir_room(&to.dir, moved.kind) };
    };
    dir::check_sticky(cx, &to.dir, target)?;
    match (moved.is_dir(), target.is_dir()) {
        (true, false) => Err(FsErrno::NotDir.into()),
        (false, true) => Err(FsErrno::IsDir.into()),
        (true, true) if target.entries > 0 => Err(FsErrno::NotEmpty.into()),
        _ => Ok(()),
    }
}

fn check_exchange(cx: &Context<'_>, (from, moved): (&Place, &Inode), (to, target): (&Place, &Inode)) -> Ruling<()> {
    dir::check_sticky(cx, &from.dir, moved)?;
    dir::check_sticky(cx, &to.dir, target)?;
    if moved.is_dir() != target.is_dir() && from.dir.ino != to.dir.ino {
        let gains = if moved.is_dir() { &to.dir } else { &from.dir };
        dir::check_subdir_room(gains, pb::FileKind::Directory)?;
    }
    Ok(())
}

fn move_entry(
    txn: &mut Txn<'_>,
    cx: &mut Context<'_>,
    (mut from, moved): (Place, Inode),
    (mut to, target): (Place, Option<Inode>),
    leaves_whiteout: bool,
) -> Ruling<pb::RemovedReply> {
    dir::remove_entry(txn, cx, &mut from.dir, &from.name, &moved);
    if to.dir.ino == from.dir.ino {
        to.dir = from.dir;
    }
    match &target {
        Some(target) => dir::replace_entry(txn, cx, &mut to.dir, &to.name, (target, &moved)),
        None => dir::add_entry(txn, cx, &mut to.dir, &to.name, &moved),
    }
    settle(txn, cx, moved, &to.dir);
    if leaves_whiteout {
        let dir = if to.dir.ino == from.dir.ino { &mut to.dir } else { &mut from.dir };
        // Character device 0:0: "there is nothing of this name", for union filesystems (renameat2(2)).
        let whiteout = NewInode { kind: pb::FileKind::Char, mode: 0, umask: 0 };
        dir::add_new(txn, cx, (dir, &from.name), whiteout, |_, _| {})?;
    }
    let Some(target) = target else { return Ok(pb::RemovedReply::default()) };
    let orphaned = trash::lose_name(txn, cx, (to.dir.ino, &to.name), target)?;
    Ok(pb::RemovedReply { ino: target.ino, orphaned })
}

fn exchange(
    txn: &mut Txn<'_>,
    cx: &mut Context<'_>,
    (mut from, moved): (Place, Inode),
    (mut to, target): (Place, Inode),
) -> Result<(), StoreError> {
    dir::replace_entry(txn, cx, &mut from.dir, &from.name, (&moved, &target));
    if to.dir.ino == from.dir.ino {
        to.dir = from.dir;
    }
    dir::replace_entry(txn, cx, &mut to.dir, &to.name, (&target, &moved));
    settle(txn, cx, moved, &to.dir);
    settle(txn, cx, target, &from.dir);
    Ok(())
}

/// What was moved gets its new ".." and a new ctime.
fn settle(txn: &mut Txn<'_>, cx: &mut Context<'_>, mut moved: Inode, dir: &Inode) {
    if moved.is_dir() {
        moved.parent = dir.ino;
    }
    moved.ctime = cx.now;
    cx.changed_inode(moved.ino);
    txn.put(&keys::inode(cx.volume, moved.ino), &moved);
    debug_assert!(!moved.is_orphan() && moved.kind != pb::FileKind::Unspecified && inode::MODE_BITS >= moved.mode);
}

#[cfg(test)]
#[path = "rename_test.rs"]
mod tests;
