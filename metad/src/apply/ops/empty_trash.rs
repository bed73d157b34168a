//! Empty trash: removes what is due, oldest first, for good. Proposed by the leader, which says only of which volume: what is due is decided
//! here, by the state's own clock and setting. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::{dir, trash};
use crate::store::{KvRead, keys, read, txn::Txn};
use holdfast_proto::limits::BACKGROUND_BATCH_MAX;
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::EmptyTrashOp) -> Ruling<pb::Empty> {
    cx.volume = op.volume;
    if txn.get(&keys::usage(op.volume))?.is_none() {
        return Ok(pb::Empty {});
    }
    for (parent, name) in trash::due(txn, op.volume, cx.now, BACKGROUND_BATCH_MAX)? {
        let (Some(mut dir), Some(dentry)) =
            (read::inode(txn, op.volume, parent)?, read::dentry(txn, op.volume, parent, name.as_bytes())?)
        else {
            continue;
        };
        let Some(victim) = read::inode(txn, op.volume, dentry.ino)? else { continue };
        dir::remove_entry(txn, cx, &mut dir, &name, &victim);
        trash::lose_name(txn, cx, (parent, &name), victim)?;
    }
    Ok(pb::Empty {})
}
