//! Remove node: a member less. Idempotent. Whether the others are a quorum only the leader can know. Called by apply::dispatch only.

use crate::apply::context::Ruling;
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, op: &pb::RemoveNodeOp) -> Ruling<pb::Empty> {
    let nodes = read::nodes(txn)?;
    if !nodes.contains_key(&op.id) {
        return Ok(pb::Empty {});
    }
    if nodes.len() == 1 {
        return Err(FsErrno::Inval.into());
    }
    txn.delete(&keys::node(op.id));
    Ok(pb::Empty {})
}
