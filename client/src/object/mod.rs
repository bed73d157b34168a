//! object: immutable objects in any store, one wrapper a concern. Nothing here knows of files.

use async_trait::async_trait;
use bytes::Bytes;
use std::fmt::Debug;
use std::ops::Range;

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
}

/// Keys are relative to the volume's prefix. A put that returned is durable.
#[async_trait]
pub trait ObjectStore: Debug + Send + Sync + 'static {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError>;
    async fn get(&self, key: &str) -> Result<Bytes, ObjectError>;
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError>;
    /// Idempotent: an object that is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;
    /// Keys and sizes (bytes) below a prefix.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError>;
}
