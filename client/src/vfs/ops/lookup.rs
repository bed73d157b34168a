//! Lookup: a name in a directory becomes an inode with its attributes, in one round trip. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::X_OK;
use crate::vfs::{Caller, Vfs, attr_of, wire_name};
use bytes::Bytes;
use holdfast_proto::pb;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// ENOENT, ENOTDIR, ENAMETOOLONG.
    pub async fn lookup(&self, caller: Caller, parent: u64, name: Bytes) -> Result<pb::Attr, ClientError> {
        // So the kernel asks for an inode that it knows by a file handle alone (open_by_handle_at(2), NFS), also for a file.
        if name == b"."[..] {
            return self.fresh_attr(&caller, parent).await;
        }
        self.admit(&caller, parent, X_OK).await?;
        let name = if name == b".."[..] { name } else { wire_name(name)? };
        let ask = pb::LookupQuery { parent, name };
        let answer = self.meta.query(&caller.creds(), ask).await?;
        self.settle_attr(&caller, attr_of(answer.reply)?).await
    }
}
