//! Verify: asks for each object that was put whether it is there, whole, before the put counts. For stores that say yes before they have it:
//! a WebDAV server, or a proxy in front of one. Sits right above the store, under retry: what is not there is put again.

use super::{ObjectError, ObjectStore};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug)]
pub struct VerifyStore {
    inner: Arc<dyn ObjectStore>,
}

impl VerifyStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        VerifyStore { inner }
    }
}

#[async_trait]
impl ObjectStore for VerifyStore {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        let len = body.len() as u64;
        self.inner.put(key, body).await?;
        match self.inner.head(key).await {
            Ok(found) if found == len => Ok(()),
            Ok(found) => Err(ObjectError::Unavailable(format!("of {len} bytes that were put, {found} are stored"))),
            Err(ObjectError::NotFound(_)) => {
                Err(ObjectError::Unavailable("the store took it, and does not have it".into()))
            }
            Err(error) => Err(error),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<u64, ObjectError> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        self.inner.list(prefix).await
    }

    async fn prepare(&self) -> Result<(), ObjectError> {
        self.inner.prepare().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::LocalStore;
    use super::super::fault::FaultStore;
    use super::*;

    #[tokio::test]
    async fn a_put_that_was_lost_or_cut_short_is_no_success() {
        let dir = tempfile::tempdir().expect("tempdir");
        let local = LocalStore::new(dir.path().to_path_buf(), false);
        local.prepare().await.expect("prepare");
        let fault = Arc::new(FaultStore::new(Arc::new(local)));
        let store = VerifyStore::new(fault.clone());
        let body = Bytes::from_static(b"abcd");
        fault.set(|faults| faults.put_lost_next = 1);
        let error = store.put("a/b", body.clone()).await.expect_err("nothing is there");
        assert!(matches!(&error, ObjectError::Unavailable(text) if text.contains("does not have it")), "{error}");
        fault.set(|faults| faults.put_short_next = 1);
        let error = store.put("a/b", body.clone()).await.expect_err("half of it is there");
        assert!(matches!(&error, ObjectError::Unavailable(text) if text.contains("2 are stored")), "{error}");
        assert_eq!(store.put("a/b", body.clone()).await, Ok(()));
        assert_eq!(store.get("a/b").await, Ok(body));
    }
}
