//! Release: the last descriptor and the last mapping of one open are gone. Its locks end (flock, and those of the open file description). Nobody waits for its result; what close(2) must report was
//! reported by flush. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Fh, Vfs};

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EBADF.
    pub async fn release(&self, fh: Fh) -> Result<(), ClientError> {
        let handle = self.handles.file(fh)?;
        let dropping = self.locks.release_of(handle.ino, fh);
        // A mapping may have written after the close. The handle stays in the table meanwhile, so that an unmount finds it.
        if let Err(error) = self.flush_handle(&handle).await {
            tracing::error!(ino = handle.ino, %error, "data written through a mapping was lost");
        }
        if let Some(dropping) = dropping {
            self.drop_locks(dropping).await;
        }
        if self.handles.remove_file(fh).is_none() {
            return Ok(()); // unmount has taken it
        }
        self.data.release(handle.file.clone()).await;
        self.closed(handle.ino);
        Ok(())
    }
}
