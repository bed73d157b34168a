//! Read: bytes of an open file, with every write of this mount that returned before. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::atimes::{AtimePolicy, clock};
use crate::vfs::{Fh, Vfs};
use bytes::Bytes;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl<M: MetaApi> Vfs<M> {
    /// Shorter than `len` only at the end of the file; in pieces, as they lie in the cache.
    ///
    /// # Errors
    /// EBADF; EIO where a block is missing or damaged, or the store does not answer.
    pub async fn read(&self, fh: Fh, offset: u64, len: u32) -> Result<Vec<Bytes>, ClientError> {
        let handle = self.handles.file(fh)?;
        let counts = match self.config.atime {
            AtimePolicy::Noatime => false,
            AtimePolicy::Strictatime => true,
            AtimePolicy::Relatime | AtimePolicy::Nodiratime => handle.atime_due.swap(false, Relaxed),
        };
        if counts && !self.config.read_only {
            self.atimes.note(handle.ino, Instant::now(), clock());
        }
        self.data.read(&handle.file, offset, len).await
    }
}
