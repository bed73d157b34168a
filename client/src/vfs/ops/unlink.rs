//! Unlink: removes one name. Never frees data: that is for the last close, on whichever client, and for reclaim. Called by
//! fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::{W_OK, X_OK};
use crate::vfs::{Caller, Vfs, wire_name};
use bytes::Bytes;
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// ENOENT, EISDIR, EPERM or EACCES (sticky directory), EROFS.
    pub async fn unlink(&self, caller: Caller, parent: u64, name: Bytes) -> Result<(), ClientError> {
        self.writable()?;
        self.admit(&caller, parent, W_OK | X_OK).await?;
        let op = pb::UnlinkOp { parent, name: wire_name(name)? };
        self.meta.mutate(&caller.creds(), op).await.map(|_| ())
    }
}
