//! Mkdir. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::{W_OK, X_OK};
use crate::vfs::{AskedMode, Caller, Vfs, attr_of, wire_name};
use bytes::Bytes;
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EEXIST, ENOENT, ENOTDIR, EMLINK, ENOSPC, EROFS, ENAMETOOLONG.
    pub async fn mkdir(
        &self,
        caller: Caller,
        parent: u64,
        name: Bytes,
        asked: AskedMode,
    ) -> Result<pb::Attr, ClientError> {
        self.writable()?;
        self.admit(&caller, parent, W_OK | X_OK).await?;
        let AskedMode { mode, umask } = asked.clean();
        let op = pb::MkdirOp { parent, name: wire_name(name)?, mode, umask };
        attr_of(self.meta.mutate(&caller.creds_for_mode(mode), op).await?.reply)
    }
}
