//! Flush: close(2) of one descriptor. Returns when everything written to the file is durable and committed, or says that it is not:
//! close-to-open needs both. Called by fuse/adapter, and by fsync.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Fh, FileHandle, Vfs};

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EIO where data was lost since this handle last asked; ENOSPC, EDQUOT.
    pub async fn flush(&self, fh: Fh) -> Result<(), ClientError> {
        let handle = self.handles.file(fh)?;
        self.flush_handle(&handle).await
    }

    /// The close of one descriptor: flush, then the end of all ranges that its process has locked in the file (fcntl(2)), by whichever
    /// descriptor.
    ///
    /// # Errors
    /// As flush.
    pub async fn close(&self, fh: Fh, owner: u64) -> Result<(), ClientError> {
        let handle = self.handles.file(fh)?;
        let dropping = self.locks.close_of(handle.ino, owner);
        let flushed = self.flush_handle(&handle).await;
        if let Some(dropping) = dropping {
            self.drop_locks(dropping).await;
        }
        flushed
    }

    pub(crate) async fn flush_handle(&self, handle: &FileHandle) -> Result<(), ClientError> {
        if !handle.writable {
            return Ok(());
        }
        match self.data.flush(&handle.file).await {
            Ok(_) => {
                // Remembered beyond the last close, for attributes that are on their way now.
                if self.handles.written(handle.ino).is_some()
                    && let Some(version) = self.data.version(handle.ino)
                {
                    self.handles.committed(handle.ino, version);
                }
                Ok(())
            }
            Err(error) => {
                // The kernel's pages have what nobody will ever see again: the next open must read anew.
                self.handles.forget_version(handle.ino);
                Err(error)
            }
        }
    }
}
