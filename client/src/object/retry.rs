//! Retry: asks the store below again while it is unavailable, with jittered pauses, until one overall deadline. A refusal and a
//! missing object are answers and come back at once.

use super::{ObjectError, ObjectStore};
use async_trait::async_trait;
use bytes::Bytes;
use rand::Rng;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// All attempts and pauses of one operation together.
    pub deadline: Duration,
    /// Longest one attempt may take; a connection that hangs must leave time for another.
    pub attempt_max: Duration,
    pub pause_first: Duration,
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            deadline: Duration::from_secs(30),
            attempt_max: Duration::from_secs(15),
            pause_first: Duration::from_millis(50),
            pause_max: Duration::from_secs(3),
        }
    }
}

impl RetryPolicy {
    /// (P) Upper bound of the pause after attempt number `attempt` (from 0).
    fn pause_bound(&self, attempt: u32) -> Duration {
        self.pause_first.saturating_mul(1 << attempt.min(16)).min(self.pause_max)
    }
}

#[derive(Debug)]
pub struct RetryStore {
    inner: Arc<dyn ObjectStore>,
    policy: RetryPolicy,
}

impl RetryStore {
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy) -> Self {
        RetryStore { inner, policy }
    }

    async fn run<T, F, Fut>(&self, what: &str, key: &str, mut attempt_once: F) -> Result<T, ObjectError>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, ObjectError>> + Send,
    {
        let deadline = Instant::now() + self.policy.deadline;
        let mut attempt = 0_u32;
        loop {
            let attempt_end = deadline.min(Instant::now() + self.policy.attempt_max);
            let reason = match tokio::time::timeout_at(attempt_end, attempt_once()).await {
                Ok(Err(ObjectError::Unavailable(reason))) => reason,
                Ok(answer) => return answer,
                Err(_) => "no answer in time".to_string(),
            };
            // Full jitter: clients that failed together must not come back together.
            let pause = self.policy.pause_bound(attempt).mul_f64(rand::rng().random_range(0.5..=1.0));
            attempt += 1;
            if Instant::now() + pause >= deadline {
                return Err(ObjectError::Unavailable(format!("{what} {key}: {reason} (tried {attempt} times)")));
            }
            tracing::debug!(what, key, attempt, reason, "object store failed, will ask again");
            tokio::time::sleep(pause).await;
        }
    }
}

#[async_trait]
impl ObjectStore for RetryStore {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.run("put", key, || self.inner.put(key, body.clone())).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.run("get", key, || self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.run("get a range of", key, || self.inner.get_range(key, range.clone())).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.run("delete", key, || self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        self.run("list", prefix, || self.inner.list(prefix)).await
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

    fn policy(deadline_ms: u64) -> RetryPolicy {
        RetryPolicy {
            deadline: Duration::from_millis(deadline_ms),
            attempt_max: Duration::from_secs(5),
            pause_first: Duration::from_millis(1),
            pause_max: Duration::from_millis(2),
        }
    }

    async fn store(dir: &std::path::Path, deadline_ms: u64) -> (Arc<FaultStore>, RetryStore) {
        let local = LocalStore::new(dir.to_path_buf(), false);
        local.prepare().await.expect("prepare");
        let fault = Arc::new(FaultStore::new(Arc::new(local)));
        (fault.clone(), RetryStore::new(fault, policy(deadline_ms)))
    }

    #[tokio::test]
    async fn an_outage_shorter_than_the_deadline_is_not_seen() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (fault, retry) = store(dir.path(), 20_000).await;
        fault.fail_next_puts(3);
        assert_eq!(retry.put("a/b", Bytes::from_static(b"x")).await, Ok(()));
        assert_eq!(retry.get("a/b").await, Ok(Bytes::from_static(b"x")));
    }

    #[tokio::test]
    async fn a_longer_one_is_an_error_that_names_the_object() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (fault, retry) = store(dir.path(), 20).await;
        fault.set_puts_fail(true);
        let error = retry.put("a/b", Bytes::from_static(b"x")).await.expect_err("store is down");
        assert!(matches!(&error, ObjectError::Unavailable(text) if text.contains("put a/b")), "{error}");
    }

    #[tokio::test]
    async fn a_missing_object_is_an_answer() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (_, retry) = store(dir.path(), 20_000).await;
        assert!(matches!(retry.get("none").await, Err(ObjectError::NotFound(_))));
    }
}
