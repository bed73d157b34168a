//! Link: another name for a file. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::{W_OK, X_OK};
use crate::vfs::{Caller, Vfs, attr_of, wire_name};
use bytes::Bytes;
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EEXIST, EPERM (a directory), EMLINK, ENOENT (also: its last name is gone), EROFS, ENAMETOOLONG.
    pub async fn link(
        &self,
        caller: Caller,
        ino: u64,
        new_parent: u64,
        new_name: Bytes,
    ) -> Result<pb::Attr, ClientError> {
        self.writable()?;
        self.admit(&caller, new_parent, W_OK | X_OK).await?;
        let op = pb::LinkOp { ino, new_parent, new_name: wire_name(new_name)? };
        let attr = attr_of(self.meta.mutate(&caller.creds(), op).await?.reply)?;
        self.settle_attr(&caller, attr).await
    }
}
