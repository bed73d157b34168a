//! Rename: rename(2) and renameat2(2) with NOREPLACE, EXCHANGE or WHITEOUT, one commit. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::{W_OK, X_OK};
use crate::vfs::{Caller, Vfs, attr_of, wire_name};
use bytes::Bytes;
use holdfast_proto::faults::{self, Bug};
use holdfast_proto::{FsErrno, pb};

const FLAGS_KNOWN: u32 = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT;

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
        let exchanges = flags & libc::RENAME_EXCHANGE != 0;
        if flags & !FLAGS_KNOWN != 0 || (exchanges && flags != libc::RENAME_EXCHANGE) {
            return Err(FsErrno::Inval.into());
        }
        self.admit(&caller, from.parent, W_OK | X_OK).await?;
        self.admit(&caller, to.parent, W_OK | X_OK).await?;
        if faults::planted(Bug::TwoStepRename) && !exchanges {
            return self.rename_in_two_steps(caller, from, to).await;
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

    /// `Bug::TwoStepRename`.
    async fn rename_in_two_steps(&self, caller: Caller, from: Place, to: Place) -> Result<(), ClientError> {
        let ask = pb::LookupQuery { parent: from.parent, name: wire_name(from.name.clone())? };
        let ino = attr_of(self.meta.query(&caller.creds(), ask).await?.reply)?.ino;
        self.link(caller, ino, to.parent, to.name).await?;
        self.unlink(caller, from.parent, from.name).await
    }
}
