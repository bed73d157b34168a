//! The memory bound of written data: open buffers, blocks in upload, and blocks whose upload failed. Called by mod (write).

use crate::error::ClientError;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many bytes of the bound, given back when dropped. It goes with the bytes: from the open buffer into the upload.
pub type Memory = OwnedSemaphorePermit;

#[derive(Debug)]
pub struct BufferPool {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

impl BufferPool {
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        BufferPool { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// Takes `len` bytes if they are free now.
    pub fn try_take(&self, len: u32) -> Option<Memory> {
        self.bytes.clone().try_acquire_many_owned(len).ok()
    }

    /// Waits for `len` bytes, first come, first served. `len` must not be over the bound.
    ///
    /// # Errors
    /// The pool was closed, which nobody does while a mount lives.
    pub async fn take(&self, len: u32) -> Result<Memory, ClientError> {
        self.bytes
            .clone()
            .acquire_many_owned(len)
            .await
            .map_err(|_| ClientError::Unavailable("the mount is shutting down".into()))
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes taken now.
    pub fn used(&self) -> usize {
        self.bytes_max - self.bytes.available_permits()
    }
}
