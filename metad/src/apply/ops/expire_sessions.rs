//! Expire sessions: the leader ends those whose lease ran out. Unknown ones have ended already. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::{lock, session};
use crate::store::{read, txn::Txn};
use holdfast_proto::faults::{self, Bug};
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::ExpireSessionsOp) -> Ruling<pb::Empty> {
    for &id in &op.sessions {
        if let Some(record) = read::session(txn, id)? {
            match faults::planted(Bug::NoFencing) {
                true => lock::end_session(txn, &mut cx.effects, record.volume, id)?,
                false => session::end(txn, cx, id, &record)?,
            }
        }
    }
    Ok(pb::Empty {})
}
