//! Orphans: inodes that lost their last name. Regular files and directories may be open somewhere, so they stay until every
//! session has been asked (design: architecture.md, section 3); anything else goes at once. Called by the operations.

use super::context::Context;
use super::{inode, xattr};
use crate::store::inode_record::Inode;
use crate::store::{KvRead, StoreError, keys, read, records, txn::Txn};
use holdfast_proto::faults::{self, Bug};
use holdfast_proto::pb::FileKind;

/// Takes one name of `victim` away (a directory: its only one) and saves it. True where it became an orphan.
pub fn lose_name(txn: &mut Txn<'_>, cx: &mut Context<'_>, mut victim: Inode) -> Result<bool, StoreError> {
    victim.nlink = if victim.is_dir() { 0 } else { victim.nlink.saturating_sub(1) };
    victim.ctime = cx.now;
    if victim.nlink > 0 {
        inode::save(txn, cx, &victim);
        return Ok(false);
    }
    let mut usage = read::usage(txn, cx.volume)?;
    usage.used_inodes = usage.used_inodes.saturating_sub(1);
    usage.used_bytes = usage.used_bytes.saturating_sub(victim.charge_bytes());
    let waits = matches!(victim.kind, FileKind::Regular | FileKind::Directory);
    if waits {
        usage.orphans += 1;
        victim.orphaned_at = cx.log_index;
        txn.put_bytes(&keys::orphan(cx.volume, cx.log_index, victim.ino), records::marker());
        inode::save(txn, cx, &victim);
        cx.effects.orphaned.push(victim.ino);
    } else {
        txn.delete(&keys::inode(cx.volume, victim.ino));
        xattr::delete_all(txn, cx.volume, victim.ino)?;
        if victim.kind == FileKind::Symlink {
            txn.delete(&keys::symlink(cx.volume, victim.ino));
        }
        cx.changed_inode(victim.ino);
    }
    txn.put(&keys::usage(cx.volume), &usage);
    Ok(waits)
}

/// Up to which log index every session of the volume has said what it holds; u64::MAX where there is no session.
pub fn watermark(view: &dyn KvRead, volume: u32) -> Result<u64, StoreError> {
    let sessions = read::sessions(view)?;
    Ok(sessions.iter().filter(|(_, s)| s.volume == volume).map(|(_, s)| s.watermark).min().unwrap_or(u64::MAX))
}

/// Whether nobody can have this orphan open any more.
pub fn is_reclaimable(
    view: &dyn KvRead,
    volume: u32,
    orphaned_at: u64,
    ino: u64,
    watermark: u64,
) -> Result<bool, StoreError> {
    let is_free = orphaned_at <= watermark && !read::any(view, &keys::holds(volume, ino))?;
    Ok(is_free || faults::planted(Bug::OrphanFreed))
}
