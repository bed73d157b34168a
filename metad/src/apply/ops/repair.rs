//! Repair: writes what apply/repair has planned, as far as what it was planned from is still there. Proposed by the leader only. Called by
//! apply::dispatch only.

use crate::apply::context::{Context, Ruling, Stop};
use crate::store::keys::{self, Key, kind};
use crate::store::records::{Repaired, Usage};
use crate::store::{KvRead, StoreError, read, txn::Txn};
use holdfast_proto::{Name, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::RepairOp) -> Ruling<pb::RepairOpReply> {
    cx.volume = op.volume;
    let all_keys = op.fixes.iter().flat_map(|fix| &fix.keys).map(|change| &change.key[..]);
    let is_volume = txn.get(&keys::usage(op.volume))?.is_some();
    if !is_volume || !all_keys.into_iter().all(|key| is_in_reach(key, op.volume)) {
        return Err(Stop::Failed(pb::FailureCode::Malformed));
    }
    let mut reply = pb::RepairOpReply { done: vec![false; op.fixes.len()], usage_done: false };
    if read::repaired(txn, op.volume)? > op.found_index {
        return Ok(reply);
    }
    let usage = read::usage(txn, op.volume)?;
    for (fix, done) in op.fixes.iter().zip(&mut reply.done) {
        *done = fits(txn, fix)?;
        if *done {
            write(txn, cx, fix);
        }
    }
    if let Some(fix) = &op.usage {
        txn.put(&keys::usage(op.volume), &recounted(usage, fix));
        reply.usage_done = true;
    }
    txn.put(&keys::repaired(op.volume), &Repaired(cx.log_index));
    Ok(reply)
}

/// Keys of the volume and of the cluster; not what is Raft's, nor what changes with every entry.
fn is_in_reach(key: &[u8], volume: u32) -> bool {
    let Some((head, kind)) = key.split_first_chunk::<4>().and_then(|(head, rest)| Some((head, *rest.first()?))) else {
        return false;
    };
    let of = u32::from_be_bytes(*head);
    (of == volume || of == keys::CLUSTER)
        && !matches!(kind, kind::RAFT_APPLIED | kind::RAFT_MEMBERSHIP | kind::CLOCK | kind::USAGE | kind::REPAIRED)
}

/// Whether all is still as it was found.
fn fits(txn: &Txn<'_>, fix: &pb::Fix) -> Result<bool, StoreError> {
    for change in &fix.keys {
        if txn.get(&change.key)? != change.found {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write(txn: &mut Txn<'_>, cx: &mut Context<'_>, fix: &pb::Fix) {
    for change in fix.keys.iter().filter(|change| change.found != change.wanted) {
        let key = Key::from_stored(&change.key);
        match &change.wanted {
            Some(value) => txn.put_bytes(&key, value.clone()),
            None => txn.delete(&key),
        }
        tell(cx, &change.key, change.wanted.is_none());
    }
}

/// Clients that remember it hear of it.
fn tell(cx: &mut Context<'_>, key: &[u8], gone: bool) {
    let Ok(first) = keys::tail_u64(key, keys::HEAD_BYTES) else { return };
    match key.get(keys::HEAD_BYTES - 1) {
        Some(&kind::INODE) => cx.changed_inode(first),
        Some(&kind::SESSION) if gone => cx.effects.ended.push(first),
        Some(&kind::DENTRY) => {
            let name = key.get(keys::HEAD_BYTES + 16..).unwrap_or_default().to_vec();
            if let Ok(name) = Name::new(name.into()) {
                cx.changed_name(first, &name);
            }
        }
        _ => {}
    }
}

fn recounted(usage: Usage, fix: &pb::UsageFix) -> Usage {
    Usage {
        used_bytes: usage.used_bytes.wrapping_add_signed(fix.used_bytes),
        used_inodes: usage.used_inodes.wrapping_add_signed(fix.used_inodes),
        orphans: usage.orphans.wrapping_add_signed(fix.orphans),
        deleted_slices: usage.deleted_slices.wrapping_add_signed(fix.deleted_slices),
        next_ino: usage.next_ino.max(fix.next_ino_min),
        ..usage
    }
}
