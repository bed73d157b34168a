//! Admit node: the newcomer has its place. The leader proposes it once Raft has forgotten the life before, so that nothing that one
//! promised is counted for this one. Called by apply::dispatch only.

use crate::apply::context::Ruling;
use crate::store::node_record::StoreId;
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, op: &pb::AdmitNodeOp) -> Ruling<pb::Empty> {
    let mut node = read::node(txn, op.id)?.ok_or(FsErrno::NoEnt)?;
    // Another newcomer may have come meanwhile.
    if node.newcomer.is_none() || node.newcomer != StoreId::from_wire(&op.store) {
        return Err(FsErrno::Stale.into());
    }
    node.admit();
    txn.put(&keys::node(op.id), &node);
    Ok(pb::Empty {})
}

#[cfg(test)]
#[path = "membership_test.rs"]
mod tests;
