//! Exactly once: a session's slot keeps the last seq and its result, so a repetition is answered and not done again
//! (RFC 8881, section 2.10.6). Called by apply/mod.rs around every mutation that has a session.

use super::Verdict;
use crate::store::records::Slot;
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::faults::{self, Bug};
use holdfast_proto::pb;

/// What a (session, slot, seq) is to the slot.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    New,
    /// The slot's last one: this is how it ended.
    Again(Verdict),
    OutOfOrder,
}

pub fn look(txn: &Txn<'_>, mutation: &pb::Mutation) -> Result<Seen, StoreError> {
    let stored = read::slot(txn, mutation.session, mutation.slot)?;
    let last_seq = stored.as_ref().map_or(0, |slot| slot.seq);
    Ok(match stored {
        Some(slot) if slot.seq == mutation.seq && faults::planted(Bug::NoDedup) => Seen::New,
        Some(slot) if slot.seq == mutation.seq => Seen::Again(match slot.result {
            Ok(reply) => Verdict::Reply(reply),
            Err(errno) => Verdict::Refused(errno),
        }),
        _ if last_seq.checked_add(1) == Some(mutation.seq) => Seen::New,
        _ => Seen::OutOfOrder,
    })
}

/// Keeps how a new one ended. A failure is not kept: the same seq may come again, put right.
pub fn remember(txn: &mut Txn<'_>, mutation: &pb::Mutation, verdict: &Verdict) {
    let result = match verdict {
        Verdict::Reply(reply) => Ok(reply.clone()),
        Verdict::Refused(errno) => Err(*errno),
        Verdict::Failed(_) => return,
    };
    txn.put(&keys::slot(mutation.session, mutation.slot), &Slot { seq: mutation.seq, result });
}
