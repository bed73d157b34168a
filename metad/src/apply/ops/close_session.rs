//! Close session: a client leaves. Its reply is not kept: a repetition finds the session lost, which is what was asked for.
//! Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling, Stop};
use crate::apply::session;
use crate::store::{read, txn::Txn};
use holdfast_proto::pb;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, _op: &pb::CloseSessionOp) -> Ruling<pb::Empty> {
    let Some(record) = read::session(txn, cx.session)? else {
        return Err(Stop::Failed(pb::FailureCode::SessionLost));
    };
    session::end(txn, cx, cx.session, &record)?;
    Ok(pb::Empty {})
}
