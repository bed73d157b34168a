//! Lseek: where data or a hole begins. The other kinds of seeking are the kernel's. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Fh, Vfs};
use holdfast_proto::pb;

/// What to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    Data,
    Hole,
}

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EBADF; ENXIO at or beyond the end, or where no data follows; EIO where data written before could not be made durable.
    pub async fn lseek(&self, caller: Caller, fh: Fh, mut offset: u64, seek: Seek) -> Result<u64, ClientError> {
        let handle = self.handles.file(fh)?;
        // The server knows committed slices only.
        self.data.flush_ino(handle.ino).await?;
        loop {
            let ask = pb::LseekQuery { ino: handle.ino, offset, hole: seek == Seek::Hole };
            let reply = self.meta.query(&caller.creds(), ask).await?.reply;
            if reply.found {
                return Ok(reply.offset);
            }
            if reply.offset <= offset {
                return Err(ClientError::Protocol("a search for data does not go on".into()));
            }
            offset = reply.offset;
        }
    }
}
