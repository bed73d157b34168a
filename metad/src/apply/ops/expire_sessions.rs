//! Expire sessions: the leader ends those whose lease ran out. Unknown ones have ended already. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::session;
use crate::store::{read, txn::Txn};
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::ExpireSessionsOp) -> Ruling<pb::Empty> {
    for &id in &op.sessions {
        if let Some(record) = read::session(txn, id)? {
            session::end(txn, cx, id, &record)?;
        }
    }
    Ok(pb::Empty {})
}
