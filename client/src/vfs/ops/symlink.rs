//! Symlink. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::{W_OK, X_OK};
use crate::vfs::{Caller, Vfs, attr_of, wire_name};
use bytes::Bytes;
use holdfast_proto::limits::SYMLINK_BYTES_MAX;
use holdfast_proto::{FsErrno, pb};

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// ENAMETOOLONG for a target over 4095 bytes, ENOENT for an empty one; else as mkdir.
    pub async fn symlink(
        &self,
        caller: Caller,
        parent: u64,
        name: Bytes,
        target: Bytes,
    ) -> Result<pb::Attr, ClientError> {
        self.writable()?;
        if target.len() > SYMLINK_BYTES_MAX {
            return Err(FsErrno::NameTooLong.into());
        }
        if target.is_empty() {
            return Err(FsErrno::NoEnt.into());
        }
        self.admit(&caller, parent, W_OK | X_OK).await?;
        let op = pb::SymlinkOp { parent, name: wire_name(name)?, target };
        attr_of(self.meta.mutate(&caller.creds(), op).await?.reply)
    }
}
