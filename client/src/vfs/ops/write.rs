//! Write: buffers bytes of an open file; they are durable after flush or fsync. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::atimes::clock;
use crate::vfs::{Caller, Fh, SetattrRequest, Vfs};
use bytes::Bytes;
use holdfast_proto::FsErrno;
use holdfast_proto::limits::FILE_BYTES_MAX;
use std::sync::atomic::Ordering::Relaxed;

impl<M: MetaApi> Vfs<M> {
    /// All of `data`, as much as there is room for in the volume, or an error. Waits while the buffers are full. `kill_priv`: the writer has no CAP_FSETID, so that set-user-ID and
    /// set-group-ID go: those known here before the write, and what another client set meanwhile with its commit.
    ///
    /// # Errors
    /// EBADF (also: not open for writing), EFBIG, ENOSPC; EIO where earlier data of the file was lost, or a lock.
    pub async fn write(&self, fh: Fh, offset: u64, data: Bytes, kill_priv: bool) -> Result<u32, ClientError> {
        let handle = self.handles.file(fh)?;
        if !handle.writable {
            return Err(FsErrno::BadF.into());
        }
        handle.check_locks(self.meta.session())?;
        let len = data.len();
        if offset.checked_add(len as u64).is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(FsErrno::FBig.into());
        }
        if kill_priv && self.handles.has_set_id(handle.ino) {
            let kill = SetattrRequest { kill_priv, ..SetattrRequest::default() };
            self.setattr(Caller::ROOT, handle.ino, kill).await?;
        }
        let fits = self.room_for(&handle, offset, len as u64).await?;
        self.data.write_by(&handle.file, offset, data.slice(..fits as usize), kill_priv).await?;
        // This client's clock: shown until the commit brings the server's.
        self.handles.wrote(handle.ino, clock());
        self.open_cache.forget(handle.ino);
        handle.atime_due.store(true, Relaxed);
        Ok(fits as u32)
    }
}
