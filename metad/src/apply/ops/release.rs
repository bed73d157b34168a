//! Release: the last close of orphans that this session held. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::session;
use crate::store::{KvRead, keys, txn::Txn};
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::ReleaseOp) -> Ruling<pb::Empty> {
    for &ino in &op.inos {
        if txn.get(&keys::hold(cx.volume, ino, cx.session))?.is_some() {
            session::drop_hold(txn, cx.volume, cx.session, ino);
        }
    }
    Ok(pb::Empty {})
}
