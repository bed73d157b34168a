//! Purge slices: their objects are gone from the store, so they need not be remembered. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::store::{KvRead, keys, read, txn::Txn};
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::PurgeSlicesOp) -> Ruling<pb::Empty> {
    let mut usage = read::usage(txn, cx.volume)?;
    let before = usage.deleted_slices;
    for &slice_id in &op.slice_ids {
        let key = keys::deleted(cx.volume, slice_id);
        if txn.get(&key)?.is_some() {
            txn.delete(&key);
            usage.deleted_slices = usage.deleted_slices.saturating_sub(1);
        }
    }
    if usage.deleted_slices != before {
        txn.put(&keys::usage(cx.volume), &usage);
    }
    Ok(pb::Empty {})
}
