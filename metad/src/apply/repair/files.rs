//! Rules for what inodes hold: modes, targets, attributes, slices; and for orphans and who holds them. Called by repair/mod.rs.

use super::names::{edit, remains, remake};
use super::{GONE, NO_RULE, Remedy, Scope};
use crate::apply::problem::{SliceAt, What};
use crate::apply::{inode::MODE_BITS, session, xattr};
use crate::store::inode_record::Inode;
use crate::store::records::{self, SliceRefs, Xattr};
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use holdfast_proto::acl::Acl;
use holdfast_proto::limits::FILE_BYTES_MAX;
use holdfast_proto::pb::FileKind;
use holdfast_proto::xattr::{ACL_ACCESS, marks_of};

pub fn rule(txn: &mut Txn<'_>, scope: &Scope, what: &What) -> Result<Remedy, StoreError> {
    let volume = scope.volume;
    match what {
        What::Mode { ino, .. } => edit(txn, scope, *ino, |inode| inode.mode &= MODE_BITS, "other bits are taken away"),
        What::Target { ino } => target(txn, scope, *ino),
        What::NoTarget { .. } => Ok(Remedy::Refused("where it led to is lost: remove it, and make it anew")),
        What::XattrInode { ino } => {
            // Where something is left, the inode is made anew, and they are its own.
            if read::inode(txn, volume, *ino)?.is_none() && remains(txn, scope, *ino)?.is_none() {
                xattr::delete_all(txn, volume, *ino)?;
            }
            Ok(Remedy::Fix("is dropped, unless its inode is made anew"))
        }
        What::Acl { ino, .. } => acl(txn, scope, *ino),
        What::Marks { ino, .. } => {
            let names = xattr::names(txn, volume, *ino)?;
            let marks = names.iter().fold(0, |marks, name| marks | marks_of(name));
            edit(txn, scope, *ino, |inode| inode.xattrs = marks, "the marks are set right")
        }
        What::SliceFile { at, end, .. } => slice_file(txn, scope, *at, *end),
        What::SliceBounds { at, piece } if piece.len == 0 => {
            drop_piece(txn, scope, *at);
            Ok(Remedy::Fix("shows nothing, and is dropped"))
        }
        What::SliceBounds { .. } => {
            Ok(Remedy::Refused("which bytes it shows is lost: write that part of the file anew, or remove the file"))
        }
        What::SliceDeleted { slice_id, .. } => {
            txn.delete(&keys::deleted(volume, *slice_id));
            Ok(Remedy::Fix("is no longer listed as deleted"))
        }
        What::SliceRefs { slice_id, wanted, .. } => {
            let key = keys::slice_refs(volume, *slice_id);
            // Conditions: what drops a piece meanwhile changes the one or makes the other.
            let looked_at = [&key, &keys::deleted(volume, *slice_id)];
            looked_at.iter().try_for_each(|key| txn.get(key).map(drop))?;
            match *wanted > 1 {
                true => txn.put(&key, &SliceRefs(*wanted)),
                false => txn.delete(&key),
            }
            Ok(Remedy::Fix("the count is set right"))
        }
        What::OrphanListed { ino, orphaned_at } => {
            let key = keys::orphan(volume, *orphaned_at, *ino);
            let inode = read::inode(txn, volume, *ino)?;
            if inode.is_none_or(|inode| inode.orphaned_at != *orphaned_at) {
                txn.delete(&key);
            }
            Ok(Remedy::Fix("is taken off the list"))
        }
        What::OrphanUnlisted { ino, orphaned_at } => {
            if read::inode(txn, volume, *ino)?.is_some_and(|inode| inode.is_orphan()) {
                txn.put_bytes(&keys::orphan(volume, *orphaned_at, *ino), records::marker());
            }
            Ok(Remedy::Fix("is listed"))
        }
        What::HoldSides { ino, session } | What::Hold { ino, session } => hold(txn, scope, *ino, *session),
        _ => Ok(Remedy::Refused(NO_RULE)),
    }
}

fn target(txn: &mut Txn<'_>, scope: &Scope, ino: u64) -> Result<Remedy, StoreError> {
    match read::inode(txn, scope.volume, ino)? {
        None if remains(txn, scope, ino)? == Some(FileKind::Symlink) => remake(txn, scope, ino, FileKind::Symlink),
        Some(inode) if inode.kind == FileKind::Symlink => Ok(Remedy::Fix("the symlink is made anew")),
        _ => {
            txn.delete(&keys::symlink(scope.volume, ino));
            Ok(Remedy::Fix("the target is dropped"))
        }
    }
}

/// Nobody gets more than both have said.
fn acl(txn: &mut Txn<'_>, scope: &Scope, ino: u64) -> Result<Remedy, StoreError> {
    let Some(mut inode) = read::inode(txn, scope.volume, ino)? else { return Ok(Remedy::Later(GONE)) };
    let Some(stored) = read::xattr(txn, scope.volume, ino, ACL_ACCESS)? else { return Ok(Remedy::Later(GONE)) };
    match Acl::parse(&stored.0).ok().flatten().filter(|acl| !acl.is_mode()) {
        Some(mut acl) => {
            inode.mode = (inode.mode & !0o777) | (inode.mode & acl.mode_bits());
            acl.chmod(inode.mode);
            txn.put(&keys::xattr(scope.volume, ino, ACL_ACCESS), &Xattr(acl.encode().into()));
        }
        None => xattr::remove(txn, scope.volume, &mut inode, ACL_ACCESS)?,
    }
    txn.put(&keys::inode(scope.volume, ino), &inode);
    Ok(Remedy::Fix("allows what both allow"))
}

/// A file that has more than its size says was cut by nobody: cutting takes slices away.
fn slice_file(txn: &mut Txn<'_>, scope: &Scope, at: SliceAt, end: u64) -> Result<Remedy, StoreError> {
    match read::inode(txn, scope.volume, at.ino)? {
        None => remake(txn, scope, at.ino, FileKind::Regular),
        Some(inode) if inode.is_regular() && end > FILE_BYTES_MAX => {
            Ok(Remedy::Refused("no file is so large: copy what can be read of it, and remove it"))
        }
        Some(inode) if inode.is_regular() => {
            let grow = |inode: &mut Inode| inode.size = inode.size.max(end);
            edit(txn, scope, at.ino, grow, "the size is set to the end of its data")
        }
        Some(_) => {
            drop_piece(txn, scope, at);
            Ok(Remedy::Fix("is dropped: what it belongs to is no file"))
        }
    }
}

/// The piece alone: the count of its slice follows in the next round, and where it was the last one gc finds the objects. A count that is
/// wrong as well must not have them deleted.
fn drop_piece(txn: &mut Txn<'_>, scope: &Scope, at: SliceAt) {
    txn.delete(&keys::slice(scope.volume, at.ino, at.chunk, at.order));
}

/// A hold is of an orphan, by a live session, and has both sides.
fn hold(txn: &mut Txn<'_>, scope: &Scope, ino: u64, session: u64) -> Result<Remedy, StoreError> {
    let is_orphan = read::inode(txn, scope.volume, ino)?.is_some_and(|inode| inode.is_orphan());
    if is_orphan && read::session(txn, session)?.is_some() {
        session::add_hold(txn, scope.volume, session, ino);
        return Ok(Remedy::Fix("the other side is added"));
    }
    session::drop_hold(txn, scope.volume, session, ino);
    Ok(Remedy::Fix("is dropped"))
}
