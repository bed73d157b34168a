//! Setattr: chmod, chown, utimensat and truncate in one. Whole or not at all. Called by apply::dispatch only.
//!
//! The client's kernel has checked classes of permission; what is asked here is who may change what (Linux's setattr_prepare).

use crate::apply::context::{Context, Ruling};
use crate::apply::inode::{self, MODE_BITS, S_ISGID, S_ISUID};
use crate::apply::{acl, quota, trash, truncate, xattr};
use crate::store::inode_record::Inode;
use crate::store::records::{Stamp, Usage};
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::xattr::ACL_ACCESS;
use holdfast_proto::{FsErrno, limits, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::SetattrOp) -> Ruling<pb::EntryReply> {
    let old = inode::load(txn, cx, op.ino)?;
    trash::check_changes(old.ino)?;
    check_mode(cx, &old, op)?;
    check_owner(cx, &old, op)?;
    check_times(txn, cx, &old, op)?;
    let usage = check_size(txn, cx, &old, op)?;
    let mut new = old;
    change_owner(cx, &mut new, op);
    change_times(cx, &mut new, op);
    if let Some(size) = op.size {
        change_size(txn, cx, &mut new, size, usage)?;
    }
    if let Some(mode) = op.mode {
        new.mode = chmod_mode(cx, &new, mode);
        if let Some(acl) = acl::after_chmod(txn, cx, &new, new.mode)? {
            xattr::put(txn, cx.volume, &mut new, ACL_ACCESS, acl);
        }
    }
    if op.kill_priv {
        new.mode = inode::without_set_id_bits(new.mode);
    }
    if drops_capability(&new, op) {
        xattr::drop_capability(txn, cx.volume, &mut new)?;
    }
    if changes_anything(op) {
        new.ctime = cx.now;
        inode::save(txn, cx, &new);
    }
    Ok(pb::EntryReply { attr: Some(new.to_attr()), created: false })
}

fn changes_anything(op: &pb::SetattrOp) -> bool {
    let pb::SetattrOp { ino: _, mode, uid, gid, size, atime, mtime, by_handle: _, kill_priv } = op;
    let sets = mode.is_some() || uid.is_some() || gid.is_some() || size.is_some() || atime.is_some() || mtime.is_some();
    sets || *kill_priv
}

/// Whoever changes data or owner, root too.
fn drops_capability(inode: &Inode, op: &pb::SetattrOp) -> bool {
    !inode.is_dir() && (op.kill_priv || op.size.is_some() || op.uid.is_some() || op.gid.is_some())
}

/// chmod(2): the owner. But anybody who may write or truncate makes the kernel take the set-id bits away, in his own name.
fn check_mode(cx: &Context<'_>, inode: &Inode, op: &pb::SetattrOp) -> Ruling<()> {
    let Some(mode) = op.mode else { return Ok(()) };
    let only_drops_set_id = inode.is_regular() && mode & MODE_BITS | (inode.mode & (S_ISUID | S_ISGID)) == inode.mode;
    if inode::is_owner(cx, inode) || only_drops_set_id { Ok(()) } else { Err(FsErrno::Perm.into()) }
}

/// chown(2): only root gives a file away; its owner may give it to a group of his own. u32::MAX is no id: chown's "leave it".
fn check_owner(cx: &Context<'_>, inode: &Inode, op: &pb::SetattrOp) -> Ruling<()> {
    if op.uid == Some(u32::MAX) || op.gid == Some(u32::MAX) {
        return Err(FsErrno::Inval.into());
    }
    if cx.is_root() {
        return Ok(());
    }
    let owns = cx.creds.uid == inode.uid;
    let uid_stays = op.uid.is_none_or(|uid| owns && uid == inode.uid);
    let gid_allowed = op.gid.is_none_or(|gid| owns && (gid == inode.gid || cx.in_group(gid)));
    if uid_stays && gid_allowed { Ok(()) } else { Err(FsErrno::Perm.into()) }
}

/// utimensat(2): the owner; for "now" write permission is enough.
fn check_times(txn: &Txn<'_>, cx: &Context<'_>, inode: &Inode, op: &pb::SetattrOp) -> Ruling<()> {
    let times = || [&op.atime, &op.mtime].into_iter().flatten();
    if times().count() == 0 || inode::is_owner(cx, inode) {
        return times().try_for_each(|set| wanted_time(cx, set).map(drop));
    }
    if times().any(|set| !set.now) {
        return Err(FsErrno::Perm.into());
    }
    if acl::may_write(txn, cx, inode)? { Ok(()) } else { Err(FsErrno::Access.into()) }
}

fn wanted_time(cx: &Context<'_>, set: &pb::SetTime) -> Ruling<Stamp> {
    if set.now {
        return Ok(cx.now);
    }
    let time = set.time.ok_or(FsErrno::Inval)?;
    if time.nsec < 1_000_000_000 { Ok(time.into()) } else { Err(FsErrno::Inval.into()) }
}

/// truncate(2). Returns the volume's usage with the new size counted, where it changes.
fn check_size(txn: &Txn<'_>, cx: &Context<'_>, inode: &Inode, op: &pb::SetattrOp) -> Ruling<Option<Usage>> {
    let Some(size) = op.size else { return Ok(None) };
    if inode.is_dir() {
        return Err(FsErrno::IsDir.into());
    }
    if !inode.is_regular() {
        return Err(FsErrno::Inval.into());
    }
    if size > limits::FILE_BYTES_MAX {
        return Err(FsErrno::FBig.into());
    }
    if !op.by_handle && !acl::may_write(txn, cx, inode)? {
        return Err(FsErrno::Access.into());
    }
    if size == inode.size {
        return Ok(None);
    }
    let mut usage = read::usage(txn, cx.volume)?;
    if !inode.is_orphan() {
        quota::check_bytes(&usage, size.saturating_sub(inode.size))?;
        quota::count_resize(&mut usage, inode.size, size);
    }
    Ok(Some(usage))
}

fn change_owner(cx: &Context<'_>, inode: &mut Inode, op: &pb::SetattrOp) {
    if op.uid.is_none() && op.gid.is_none() {
        return;
    }
    inode.uid = op.uid.unwrap_or(inode.uid);
    inode.gid = op.gid.unwrap_or(inode.gid);
    // Linux does so for root too, but not where the caller gives the mode himself.
    if op.mode.is_none() && !inode.is_dir() {
        inode.mode = inode::without_set_id_bits(inode.mode);
    }
    debug_assert!(cx.is_root() || inode.uid == cx.creds.uid);
}

fn change_times(cx: &Context<'_>, inode: &mut Inode, op: &pb::SetattrOp) {
    // Checked before: a time that is given is sound.
    let time =
        |set: &Option<pb::SetTime>, old: Stamp| set.as_ref().and_then(|set| wanted_time(cx, set).ok()).unwrap_or(old);
    inode.atime = time(&op.atime, inode.atime);
    inode.mtime = time(&op.mtime, inode.mtime);
    if op.size.is_some() && op.mtime.is_none() {
        inode.mtime = cx.now;
    }
}

fn change_size(txn: &mut Txn<'_>, cx: &Context<'_>, inode: &mut Inode, size: u64, usage: Option<Usage>) -> Ruling<()> {
    if !cx.is_root() {
        inode.mode = inode::without_set_id_bits(inode.mode);
    }
    let Some(mut usage) = usage else { return Ok(()) };
    if size < inode.size {
        usage.deleted_slices += truncate::cut_slices(txn, cx, inode, size)?;
    }
    txn.put(&keys::usage(cx.volume), &usage);
    inode.size = size;
    inode.data_version = cx.log_index;
    Ok(())
}

/// Someone who is not in the file's group cannot make it run as that group (chmod(2)).
fn chmod_mode(cx: &Context<'_>, inode: &Inode, mode: u32) -> u32 {
    let mode = mode & MODE_BITS;
    if cx.is_root() || cx.in_group(inode.gid) { mode } else { mode & !S_ISGID }
}

#[cfg(test)]
#[path = "setattr_test.rs"]
mod tests;
