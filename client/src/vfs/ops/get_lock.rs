//! Get lock: F_GETLK: what would keep a range from being locked. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::vfs::Vfs;
use crate::vfs::ops::set_lock::LockRequest;
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// None where nothing would. A process is named only if it is of this mount: another client's number would be somebody else here.
    ///
    /// # Errors
    /// EBADF, EINVAL; EIO where nobody answers.
    pub async fn get_lock(&self, request: LockRequest) -> Result<Option<pb::LockHeld>, ClientError> {
        let handle = self.handles.file(request.fh)?;
        self.locks.settled(handle.ino).await;
        let range = pb::LockRange { first: request.first, last: request.last };
        let ask =
            pb::GetLockQuery { ino: handle.ino, owner: request.owner, mode: request.mode.into(), range: Some(range) };
        let held = self.meta.query(&own_creds(), ask).await?.reply.held;
        let session = self.meta.session();
        Ok(held.map(|held| pb::LockHeld { pid: if held.session == session { held.pid } else { 0 }, ..held }))
    }
}
