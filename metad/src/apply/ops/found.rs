//! Found: records the first members of a cluster, and the end of its founding. Once there are members, none are recorded this way.
//! Called by apply::dispatch only.

use crate::apply::context::Ruling;
use crate::store::node_record::NodeRecord;
use crate::store::{keys, read, records, txn::Txn};
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, op: &pb::FoundOp) -> Ruling<pb::Empty> {
    if op.nodes.iter().any(|node| node.id == 0 || node.addr.is_empty()) {
        return Err(FsErrno::Inval.into());
    }
    let unknown = read::nodes(txn)?.is_empty();
    if unknown {
        for node in &op.nodes {
            txn.put(&keys::node(node.id), &NodeRecord::new(&node.addr));
        }
        if !op.done && !op.nodes.is_empty() {
            txn.put_bytes(&keys::founding(), records::marker());
        }
    } else if op.done && read::is_founding(txn)? {
        txn.delete(&keys::founding());
    }
    Ok(pb::Empty {})
}
