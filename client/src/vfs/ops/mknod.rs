//! Mknod: fifos, sockets, devices, and plain files by mknod(2). Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::{W_OK, X_OK};
use crate::vfs::{AskedMode, Caller, Vfs, attr_of, wire_name};
use bytes::Bytes;
use holdfast_proto::FsErrno;
use holdfast_proto::pb::{self, FileKind};

impl<M: MetaApi> Vfs<M> {
    /// `asked.mode` with the type bits of stat(2).
    ///
    /// # Errors
    /// EINVAL for a type that mknod(2) does not make; else as mkdir.
    pub async fn mknod(
        &self,
        caller: Caller,
        parent: u64,
        name: Bytes,
        asked: AskedMode,
        rdev: u32,
    ) -> Result<pb::Attr, ClientError> {
        self.writable()?;
        let kind = match asked.mode & libc::S_IFMT {
            libc::S_IFREG | 0 => FileKind::Regular,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::Char,
            libc::S_IFBLK => FileKind::Block,
            _ => return Err(FsErrno::Inval.into()),
        };
        self.admit(&caller, parent, W_OK | X_OK).await?;
        let AskedMode { mode, umask } = asked.clean();
        let op = pb::MknodOp { parent, name: wire_name(name)?, mode, kind: kind as i32, rdev, umask };
        attr_of(self.meta.mutate(&caller.creds_for_mode(mode), op).await?.reply)
    }
}
