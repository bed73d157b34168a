//! Readlink. The target of an inode never changes, so the kernel may keep it. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs};
use bytes::Bytes;
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EINVAL for what is no symbolic link.
    pub async fn readlink(&self, caller: Caller, ino: u64) -> Result<Bytes, ClientError> {
        Ok(self.meta.query(&caller.creds(), pb::ReadlinkQuery { ino }).await?.reply.target)
    }
}
