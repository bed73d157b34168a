//! Drop locks: a close: all that some owners hold on a file, whatever it is. Their waits stay: who waits has the file open.
//! Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::lock;
use crate::store::{read, txn::Txn};
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::DropLocksOp) -> Ruling<pb::Empty> {
    let before = read::locks(txn, cx.volume, op.ino)?;
    let mut after = before.clone();
    let session = cx.session;
    let gone = |owner: holdfast_proto::range_lock::Owner| owner.session == session && op.owners.contains(&owner.number);
    after.flocks.drop_owners(gone);
    after.ranges.drop_owners(gone);
    lock::save(txn, &mut cx.effects, (cx.volume, op.ino), &before, after)?;
    Ok(pb::Empty {})
}
