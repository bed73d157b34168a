//! Fallocate: room for a range of a file, or its data taken away. Called by fuse/adapter. What the flags mean is the server's rule;
//! order against local writes is ours.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Fh, Vfs};
use holdfast_proto::limits::FILE_BYTES_MAX;
use holdfast_proto::{FsErrno, pb};

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EBADF (also: not open for writing), EFBIG, ENOSPC, EOPNOTSUPP; EIO where data written before could not be made durable.
    pub async fn fallocate(&self, caller: Caller, fh: Fh, offset: u64, len: u64, mode: u32) -> Result<(), ClientError> {
        let handle = self.handles.file(fh)?;
        if !handle.writable {
            return Err(FsErrno::BadF.into());
        }
        let end = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX).ok_or(FsErrno::FBig)?;
        // Earlier writes come first, as with truncate: a commit that arrived later would fill the hole again.
        self.data.flush_ino(handle.ino).await?;
        let mut at = offset;
        while at < end {
            let op = pb::FallocateOp { ino: handle.ino, offset: at, len: end - at, mode };
            match self.change_range(&caller, op, end - at).await? {
                0 => return Err(ClientError::Protocol("an operation on a range does not go on".into())),
                done => at += done,
            }
        }
        Ok(())
    }
}
