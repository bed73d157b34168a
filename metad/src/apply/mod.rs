//! apply: the pure state machine. One log entry in, new values and replies out. No clock, no randomness, no IO but `KvRead`.
//! Called by raft/state_machine and by tests.

use crate::store::{Batch, KvRead, StoreError};
use bytes::Bytes;
use holdfast_proto::{FsErrno, pb};

/// How one mutation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done; the encoded reply message.
    Reply(Bytes),
    /// Refused; nothing was written.
    Refused(FsErrno),
    /// Breaks the protocol (unknown session, sequence out of order, malformed); nothing was written.
    Failed(pb::FailureCode),
}

/// What others must be told about one mutation. Lost on a crash without harm: clients ask again on a new stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub volume: u32,
    /// Inodes whose attributes changed.
    pub inos: Vec<u64>,
    /// Names that changed.
    pub dentries: Vec<pb::DentryRef>,
    /// Inodes that lost their last name.
    pub orphaned: Vec<u64>,
    /// Sessions that ended.
    pub ended: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub effects: Effects,
}

/// Result of one log entry: write `batch` as one step, answer `outcomes` in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub batch: Batch,
    pub outcomes: Vec<Outcome>,
}

/// Applies all mutations of an entry in order; a later one sees what an earlier one did.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn apply_entry(_view: &dyn KvRead, _log_index: u64, entry: &pb::LogEntry) -> Result<Applied, StoreError> {
    let outcomes = entry
        .mutations
        .iter()
        .map(|_| Outcome { verdict: Verdict::Refused(FsErrno::NoSys), effects: Effects::default() })
        .collect();
    Ok(Applied { batch: Batch::default(), outcomes })
}
