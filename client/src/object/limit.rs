//! Limit: at most so many requests at once to the store below. Sits under retry, so that a pause between two attempts holds no place.

use super::{ObjectError, ObjectStore};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

#[derive(Debug)]
pub struct LimitStore {
    inner: Arc<dyn ObjectStore>,
    places: Semaphore,
}

impl LimitStore {
    pub fn new(inner: Arc<dyn ObjectStore>, requests_max: usize) -> Self {
        LimitStore { inner, places: Semaphore::new(requests_max.max(1)) }
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, ObjectError> {
        self.places.acquire().await.map_err(|_| ObjectError::Unavailable("the object store is shut".into()))
    }
}

#[async_trait]
impl ObjectStore for LimitStore {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        let _place = self.place().await?;
        self.inner.put(key, body).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        let _place = self.place().await?;
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let _place = self.place().await?;
        self.inner.get_range(key, range).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let _place = self.place().await?;
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        let _place = self.place().await?;
        self.inner.list(prefix).await
    }

    async fn prepare(&self) -> Result<(), ObjectError> {
        self.inner.prepare().await
    }
}
