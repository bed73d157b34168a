//! Hold: a session's answer to "orphaned: these inodes". Up to `through_index` it has said which orphans it has open.
//! Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling, Stop};
use crate::apply::session;
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::HoldOp) -> Ruling<pb::Empty> {
    // A client cannot have answered for what has not happened yet.
    if op.through_index > cx.log_index {
        return Err(Stop::Failed(pb::FailureCode::Malformed));
    }
    let Some(mut record) = read::session(txn, cx.session)? else {
        return Err(Stop::Failed(pb::FailureCode::SessionLost));
    };
    let mut held = Vec::with_capacity(op.inos.len());
    for &ino in &op.inos {
        // What is not an orphan needs no hold, and what is gone was open nowhere when it went.
        if read::inode(txn, cx.volume, ino)?.is_some_and(|inode| inode.is_orphan()) {
            held.push(ino);
        }
    }

    for ino in held {
        session::add_hold(txn, cx.volume, cx.session, ino);
    }
    if op.through_index > record.watermark {
        record.watermark = op.through_index;
        txn.put(&keys::session(cx.session), &record);
    }
    Ok(pb::Empty {})
}
