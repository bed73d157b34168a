//! Write: buffers bytes of an open file; they are durable after flush or fsync. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Fh, Vfs};
use bytes::Bytes;
use holdfast_proto::limits::FILE_BYTES_MAX;
use holdfast_proto::{FsErrno, pb};
use std::time::{SystemTime, UNIX_EPOCH};

impl<M: MetaApi> Vfs<M> {
    /// All of `data` or an error. Waits while the buffers are full.
    ///
    /// # Errors
    /// EBADF (also: not open for writing), EFBIG; EIO where earlier data of the file was lost, or a lock.
    pub async fn write(&self, fh: Fh, offset: u64, data: Bytes) -> Result<u32, ClientError> {
        let handle = self.handles.file(fh)?;
        if !handle.writable {
            return Err(FsErrno::BadF.into());
        }
        handle.check_locks(self.meta.session())?;
        let len = data.len();
        if offset.checked_add(len as u64).is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(FsErrno::FBig.into());
        }
        self.data.write(&handle.file, offset, data).await?;
        self.handles.wrote(handle.ino, now());
        Ok(len as u32)
    }
}

/// This client's clock: shown until the commit brings the server's.
fn now() -> pb::TimeSpec {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    pb::TimeSpec { sec: since.as_secs() as i64, nsec: since.subsec_nanos() }
}
