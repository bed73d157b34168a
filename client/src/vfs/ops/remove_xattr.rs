//! Remove xattr: removexattr(2). Called by fuse/callbacks.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs, attr_of};
use bytes::Bytes;
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// ENODATA, EOPNOTSUPP, EPERM, EROFS.
    pub async fn remove_xattr(&self, caller: Caller, ino: u64, name: Bytes) -> Result<(), ClientError> {
        self.writable()?;
        self.admit_xattr_change(&caller, ino, &name).await?;
        let answer = self.meta.mutate(&caller.creds(), pb::RemoveXattrOp { ino, name }).await?;
        self.saw(&attr_of(answer.reply)?);
        Ok(())
    }
}
