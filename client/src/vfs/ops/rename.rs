//! Rename: rename(2) and renameat2(2) with NOREPLACE or EXCHANGE, one commit. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs, wire_name};
use bytes::Bytes;
use holdfast_proto::{FsErrno, pb};

const FLAGS_KNOWN: u32 = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE;

/// A name in a directory.
#[derive(Clone, Debug)]
pub struct Place {
    pub parent: u64,
    pub name: Bytes,
}

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// ENOENT, EEXIST (NOREPLACE), ENOTEMPTY, EISDIR, ENOTDIR, EINVAL (into itself, or flags unknown or at odds), EPERM or EACCES
    /// (sticky directory), EROFS, ENAMETOOLONG.
    pub async fn rename(&self, caller: Caller, from: Place, to: Place, flags: u32) -> Result<(), ClientError> {
        self.writable()?;
        if flags & !FLAGS_KNOWN != 0 || flags == FLAGS_KNOWN {
            return Err(FsErrno::Inval.into());
        }
        let op = pb::RenameOp {
            parent: from.parent,
            name: wire_name(from.name)?,
            new_parent: to.parent,
            new_name: wire_name(to.name)?,
            flags,
        };
        self.meta.mutate(&caller.creds(), op).await.map(|_| ())
    }
}
