//! Rename: moves a name, in one step, also onto an existing one; or exchanges two. Called by apply::dispatch only.
//! POSIX: rename(2), renameat2(2); the order of the checks is Linux's.

use crate::apply::context::{Context, Ruling};
use crate::apply::{dir, inode, orphan};
use crate::store::inode_record::Inode;
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::{FsErrno, Name, pb};

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

/// One end of a rename: a name in a directory.
struct Place {
    dir: Inode,
    name: Name,
}

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::RenameOp) -> Ruling<pb::RemovedReply> {
    if op.flags & !(NOREPLACE | EXCHANGE) != 0 || op.flags == NOREPLACE | EXCHANGE {
        return Err(FsErrno::Inval.into());
    }
    let (name, new_name) = (dir::name(&op.name)?, dir::name(&op.new_name)?);
    let from = Place { dir: dir::load(txn, cx, op.parent)?, name };
    let to = Place { dir: dir::load(txn, cx, op.new_parent)?, name: new_name };
    let moved = dir::find_inode(txn, cx, &from.dir, &from.name)?;
    let target = match dir::find(txn, cx, &to.dir, &to.name)? {
        Some(_) if op.flags == NOREPLACE => return Err(FsErrno::Exist.into()),
        None if op.flags == EXCHANGE => return Err(FsErrno::NoEnt.into()),
        Some(dentry) => Some(read::named_inode(txn, cx.volume, dentry.ino)?),
        None => None,
    };
    check_loops(txn, cx, op.flags, (&from, &moved), (&to, target.as_ref()))?;
    match target {
        // Two names of one inode: rename(2) does nothing, and says so with success.
        Some(target) if target.ino == moved.ino => Ok(pb::RemovedReply::default()),
        Some(target) if op.flags == EXCHANGE => {
            check_exchange(cx, (&from, &moved), (&to, &target))?;
            exchange(txn, cx, (from, moved), (to, target))?;
            Ok(pb::RemovedReply::default())
        }
        target => {
            check_move(cx, (&from, &moved), (&to, target.as_ref()))?;
            move_entry(txn, cx, (from, moved), (to, target))
        }
    }
}

/// A directory cannot move into itself or below itself.
fn check_loops(
    txn: &Txn<'_>,
    cx: &Context<'_>,
    flags: u32,
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
        let exchanges = flags == EXCHANGE;
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
    let Some(target) = target else { return Ok(pb::RemovedReply::default()) };
    let orphaned = orphan::lose_name(txn, cx, target)?;
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
