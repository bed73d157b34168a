//! query: pure questions on one state. The caller (rpc/read_gate) has made sure that the state is new enough.

use crate::apply::Verdict;
use crate::store::{KvRead, StoreError};
use holdfast_proto::{FsErrno, pb};

/// Answers one query.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn answer(_view: &dyn KvRead, _query: &pb::Query) -> Result<Verdict, StoreError> {
    Ok(Verdict::Refused(FsErrno::NoSys))
}
