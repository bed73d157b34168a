//! Getattr: stat(2) of an inode, with what was written here and is not committed yet. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs};
use holdfast_proto::pb;
use std::time::Instant;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// ENOENT or ESTALE for an inode that is gone.
    pub async fn getattr(&self, caller: Caller, ino: u64) -> Result<pb::Attr, ClientError> {
        match self.just_created.take(caller, ino, Instant::now()) {
            Some(attr) => self.settle_attr(&caller, attr).await,
            None => self.fresh_attr(&caller, ino).await,
        }
    }
}
