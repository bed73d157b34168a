//! Join node: a node has said which life of its disk it has. One that knows something is taken at its word where nobody else has the
//! place; a blank one has to wait for its place, since what was there before may have voted and acknowledged.
//! Called by apply::dispatch only.

use crate::apply::context::Ruling;
use crate::store::node_record::StoreId;
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, op: &pb::JoinNodeOp) -> Ruling<pb::Empty> {
    let store = StoreId::from_wire(&op.store).ok_or(FsErrno::Inval)?;
    let mut node = read::node(txn, op.id)?.ok_or(FsErrno::NoEnt)?;
    if node.store == Some(store) {
        return Ok(pb::Empty {});
    }
    if node.former.contains(&store) || (!op.blank && node.store.is_some()) {
        return Err(FsErrno::Stale.into());
    }
    match op.blank {
        true => node.newcomer = Some(store),
        false => node.store = Some(store),
    }
    txn.put(&keys::node(op.id), &node);
    Ok(pb::Empty {})
}
