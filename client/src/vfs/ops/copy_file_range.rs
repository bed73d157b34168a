//! Copy file range: another file, or another place of the same one, shows the same bytes; no data moves. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Fh, Vfs};
use holdfast_proto::{FsErrno, Op, pb};

/// Where a copy begins or goes to.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    pub fh: Fh,
    pub offset: u64,
}

impl<M: MetaApi> Vfs<M> {
    /// Bytes copied: fewer than `len` at the end of the source, or where something failed after a part was done.
    ///
    /// # Errors
    /// EBADF (also: the target is not open for writing), EINVAL (ranges of one file that overlap), EFBIG, ENOSPC; EIO where data
    /// written before, to either file, could not be made durable.
    pub async fn copy_file_range(&self, caller: Caller, from: Spot, to: Spot, len: u64) -> Result<u64, ClientError> {
        let (source, target) = (self.handles.file(from.fh)?, self.handles.file(to.fh)?);
        if !target.writable {
            return Err(FsErrno::BadF.into());
        }
        // The server knows committed slices only. And what was written to the target before must not come over the copy.
        self.data.flush_ino(source.ino).await?;
        self.data.flush_ino(target.ino).await?;
        let mut done = 0;
        while done < len {
            let op = pb::CopyFileRangeOp {
                ino_in: source.ino,
                offset_in: from.offset + done,
                ino_out: target.ino,
                offset_out: to.offset + done,
                len: len - done,
            };
            match self.change_range(&caller, op, len - done).await {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(error) if done == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, done, "a copy ended early");
                    break;
                }
            }
        }
        Ok(done)
    }

    /// One step of an operation on a range of `len` bytes; how many it has done.
    pub(crate) async fn change_range<O: Op<Reply = pb::RangeReply>>(
        &self,
        caller: &Caller,
        op: O,
        len: u64,
    ) -> Result<u64, ClientError> {
        let reply = self.meta.mutate(&caller.creds(), op).await?.reply;
        let (Some(attr), true) = (reply.attr, reply.done <= len) else {
            return Err(ClientError::Protocol("a reply about a range contradicts itself".into()));
        };
        self.handles.committed(attr.ino, attr.data_version);
        self.data.observe(&attr);
        self.saw(&attr);
        self.open_cache.forget(attr.ino);
        Ok(reply.done)
    }
}
