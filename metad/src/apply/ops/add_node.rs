//! Add node: a member more. Idempotent by (id, address). Called by apply::dispatch only.

use crate::apply::context::Ruling;
use crate::store::node_record::NodeRecord;
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::limits::NODES_MAX;
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, op: &pb::AddNodeOp) -> Ruling<pb::Empty> {
    let wanted = op.node.as_ref().filter(|node| node.id != 0 && !node.addr.is_empty()).ok_or(FsErrno::Inval)?;
    let nodes = read::nodes(txn)?;
    if nodes.get(&wanted.id).is_some_and(|node| node.addr == wanted.addr) {
        return Ok(pb::Empty {});
    }
    if nodes.contains_key(&wanted.id) || nodes.values().any(|node| node.addr == wanted.addr) {
        return Err(FsErrno::Exist.into());
    }
    if nodes.len() >= NODES_MAX {
        return Err(FsErrno::NoSpc.into());
    }
    txn.put(&keys::node(wanted.id), &NodeRecord::new(&wanted.addr));
    Ok(pb::Empty {})
}
