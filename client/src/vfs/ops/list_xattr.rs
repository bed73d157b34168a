//! List xattr: listxattr(2), all names in one reply. Called by fuse/callbacks.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::R_OK;
use crate::vfs::{Caller, Vfs};
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// Each name followed by a NUL.
    ///
    /// # Errors
    /// ESTALE: the inode is gone for good.
    pub async fn list_xattr(&self, caller: Caller, ino: u64) -> Result<Vec<u8>, ClientError> {
        self.admit(&caller, ino, R_OK).await?;
        let names = self.meta.query(&caller.creds(), pb::ListXattrQuery { ino }).await?.reply.names;
        let mut list = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names {
            list.extend_from_slice(&name);
            list.push(0);
        }
        Ok(list)
    }
}
