//! Set xattr: setxattr(2). Called by fuse/callbacks; names, bounds and permission are the server's rule.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::W_OK;
use crate::vfs::{Caller, Vfs, attr_of};
use bytes::Bytes;
use holdfast_proto::limits::XATTR_VALUE_BYTES_MAX;
use holdfast_proto::xattr::CAPABILITY;
use holdfast_proto::{FsErrno, pb};

impl<M: MetaApi> Vfs<M> {
    /// `flags`: XATTR_CREATE, XATTR_REPLACE.
    ///
    /// # Errors
    /// EEXIST, ENODATA (by `flags`), E2BIG, ENOSPC, ERANGE, EOPNOTSUPP, EPERM, EINVAL, EROFS.
    pub async fn set_xattr(
        &self,
        caller: Caller,
        ino: u64,
        name: Bytes,
        value: Bytes,
        flags: u32,
    ) -> Result<(), ClientError> {
        self.writable()?;
        self.admit_xattr_change(&caller, ino, &name).await?;
        if value.len() > XATTR_VALUE_BYTES_MAX {
            return Err(FsErrno::TooBig.into());
        }
        if name == CAPABILITY {
            // The commit of what was written before would take them away again.
            self.data.flush_ino(ino).await?;
        }
        // Groups, because who is not in the file's group loses set-group-ID with an ACL.
        let creds = caller.creds_with_groups();
        let answer = self.meta.mutate(&creds, pb::SetXattrOp { ino, name, value, flags }).await?;
        self.saw(&attr_of(answer.reply)?);
        Ok(())
    }

    /// What the kernel checks of others: a squashed root may change `user` attributes of what he may write, and ACLs of what is his.
    pub(crate) async fn admit_xattr_change(&self, caller: &Caller, ino: u64, name: &[u8]) -> Result<(), ClientError> {
        if !caller.squashed || name.starts_with(b"system.") {
            return Ok(());
        }
        if !name.starts_with(b"user.") {
            return Err(FsErrno::Perm.into());
        }
        self.admit(caller, ino, W_OK).await
    }
}
