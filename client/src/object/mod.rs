//! object: immutable objects in any store, one wrapper a concern. Nothing here knows of files.
//! `open` builds the stack retry(verify(backend)); called by data, and by `format`, which also calls `prove`.

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Debug;
use std::ops::Range;
use std::time::Duration;

pub mod aligned;
mod base64;
pub mod fault;
pub mod keys;
mod local;
mod open;
mod prove;
mod remote;
pub mod retry;
mod verify;
mod wire;

pub use local::LocalStore;
pub use open::open;
pub use prove::prove;

/// Why an object operation failed, after the retries that this layer does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error("object {0} is not there")]
    NotFound(String),
    /// Wrong credentials, a missing bucket, a refused request: asking again will not help.
    #[error("{0}")]
    Refused(String),
    /// The store did not answer, or not in time.
    #[error("{0}")]
    Unavailable(String),
    /// The store does not want to be asked again before this time.
    #[error("{reason}")]
    Busy { reason: String, retry_after: Duration },
}

/// Keys are relative to the volume's prefix. A put that returned is durable. An object never changes: two puts of one key carry
/// the same bytes.
#[async_trait]
pub trait ObjectStore: Debug + Send + Sync + 'static {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError>;
    async fn get(&self, key: &str) -> Result<Bytes, ObjectError>;
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError>;
    /// Size of an object, bytes.
    async fn head(&self, key: &str) -> Result<u64, ObjectError>;
    /// Idempotent: an object that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;
    /// Keys and sizes (bytes) below a prefix, which names a whole path component ("" is everything).
    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError>;
    /// Makes the place where the volume's objects go, where the store has such a thing. Only `format` may call this (by `prove`): a
    /// place that is missing later has vanished, which is an error and nothing to repair in silence.
    async fn prepare(&self) -> Result<(), ObjectError> {
        Ok(())
    }
}
