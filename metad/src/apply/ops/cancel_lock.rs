//! Cancel lock: a process stops waiting (a signal). What was granted meanwhile stays with its owner, and the reply says so.
//! Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::lock;
use crate::store::{read, txn::Txn};
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::CancelLockOp) -> Ruling<pb::CancelLockReply> {
    let before = read::locks(txn, cx.volume, op.ino)?;
    let mut after = before.clone();
    after.waits.retain(|wait| (wait.wanted.owner.session, wait.number) != (cx.session, op.wait));
    let cancelled = after.waits.len() < before.waits.len();
    lock::save(txn, &mut cx.effects, (cx.volume, op.ino), &before, after)?;
    Ok(pb::CancelLockReply { cancelled })
}
