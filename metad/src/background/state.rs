//! What background work asks of the state, in one place. Called by background and by rpc/meta_service.

use crate::store::{KvRead, StoreError};
use holdfast_proto::pb;

/// All sessions.
pub fn sessions(_view: &dyn KvRead) -> Result<Vec<pb::SessionInfo>, StoreError> {
    Ok(Vec::new())
}

/// The volume of a session; None: there is no such session.
pub fn session_volume(view: &dyn KvRead, session: u64) -> Result<Option<u32>, StoreError> {
    Ok(sessions(view)?.into_iter().find(|info| info.session == session).map(|info| info.volume))
}

/// Ids of all volumes.
pub fn volumes(_view: &dyn KvRead) -> Result<Vec<u32>, StoreError> {
    Ok(Vec::new())
}

/// The orphans that a session has not answered for, oldest first; None: nothing to ask.
pub fn question_for(_view: &dyn KvRead, _session: u64) -> Result<Option<pb::OrphanQuestion>, StoreError> {
    Ok(None)
}

/// Log index through which a session has answered.
pub fn watermark(_view: &dyn KvRead, _session: u64) -> Result<u64, StoreError> {
    Ok(0)
}

/// Orphans that nobody holds and about which nobody has to be asked.
pub fn reclaimable(_view: &dyn KvRead, _volume: u32, _count_max: usize) -> Result<Vec<u64>, StoreError> {
    Ok(Vec::new())
}

/// Whether deleted slices wait for their objects to be deleted.
pub fn deleted_wait(_view: &dyn KvRead, _volume: u32) -> Result<bool, StoreError> {
    Ok(false)
}
