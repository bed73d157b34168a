//! Get xattr: getxattr(2), and what the kernel asks by itself: the ACL before each check of a permission, file capabilities before a
//! write. Called by fuse/callbacks.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::R_OK;
use crate::vfs::{Caller, Vfs};
use bytes::Bytes;
use holdfast_proto::{FsErrno, pb};
use std::time::Instant;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// ENODATA, EOPNOTSUPP, ERANGE.
    pub async fn get_xattr(&self, caller: Caller, ino: u64, name: Bytes) -> Result<Bytes, ClientError> {
        self.admit(&caller, ino, R_OK).await?;
        if self.recent.is_absent(ino, &name, Instant::now()) {
            return Err(FsErrno::NoData.into());
        }
        Ok(self.meta.query(&caller.creds(), pb::GetXattrQuery { ino, name }).await?.reply.value)
    }
}
