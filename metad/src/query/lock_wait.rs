//! Lock wait: whether a wait goes on. For a client that may have missed what it was told: a new stream, a new leader.
//! Called by query::answer.

use super::View;
use crate::apply::context::Ruling;
use crate::store::read;
use holdfast_proto::{FsErrno, pb};

/// ESTALE where a session asks for one that ended: its waits ended with it, and were not granted.
pub fn answer(view: &View<'_>, session: u64, query: &pb::LockWaitQuery) -> Ruling<pb::LockWaitReply> {
    if query.session != session {
        return Err(FsErrno::Stale.into());
    }
    let locks = read::locks(view.kv, view.volume, query.ino)?;
    let is_it = |number: u64, owner: u64| (owner, number) == (session, query.wait);
    Ok(pb::LockWaitReply { waiting: locks.waits.iter().any(|wait| is_it(wait.number, wait.wanted.owner.session)) })
}
