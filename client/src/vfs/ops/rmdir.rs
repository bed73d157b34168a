//! Rmdir: removes an empty directory, also one that somebody has open. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::{W_OK, X_OK};
use crate::vfs::{Caller, Vfs, wire_name};
use bytes::Bytes;
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// ENOTEMPTY, ENOENT, ENOTDIR, EPERM or EACCES (sticky directory), EROFS.
    pub async fn rmdir(&self, caller: Caller, parent: u64, name: Bytes) -> Result<(), ClientError> {
        self.writable()?;
        self.admit(&caller, parent, W_OK | X_OK).await?;
        let op = pb::RmdirOp { parent, name: wire_name(name)? };
        self.meta.mutate(&caller.creds(), op).await.map(|_| ())
    }
}
