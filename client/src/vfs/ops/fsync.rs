//! Fsync: the same promise as flush, asked for by name. Directories have nothing to sync: an acknowledged operation on them is on
//! stable storage of a quorum already. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Fh, Vfs};

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// As flush; EIO where a lock was lost.
    pub async fn fsync(&self, fh: Fh) -> Result<(), ClientError> {
        self.flush(fh).await?;
        Ok(self.handles.file(fh)?.check_locks(self.meta.session())?)
    }
}
