//! Retry: asks the store below again while it is unavailable, with jittered pauses, until one overall deadline, and asks at most so much at
//! once. A refusal and a missing object are answers and come back at once. What the store asks for (Retry-After) is granted.

use super::{ObjectError, ObjectStore, keys};
use async_trait::async_trait;
use bytes::Bytes;
use rand::Rng;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// An attempt has, above its fixed time, as long as its bytes take on a usual line.
const BYTES_PER_S_USUAL: u64 = 1 << 20;
/// One that was too slow for that is made once more, with time for a slow line: many blocks share it.
const BYTES_PER_S_MIN: u64 = 64 << 10;

/// The listing of a large volume is long: it is waited for like so many bytes.
const LISTING_BYTES: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// All attempts and pauses of one operation together, beside the patience for a slow line.
    pub deadline: Duration,
    /// Longest one attempt may take, beside the time for its bytes; a connection that hangs must leave time for another.
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
    fn attempt_max(&self, object_len: u64, bytes_per_s: u64) -> Duration {
        self.attempt_max + Duration::from_millis(object_len * 1000 / bytes_per_s)
    }

    /// (P) Upper bound of the pause after attempt number `attempt` (from 0).
    fn pause_bound(&self, attempt: u32) -> Duration {
        self.pause_first.saturating_mul(1 << attempt.min(16)).min(self.pause_max)
    }

    /// The pause after an attempt; `asked` is what the store wants. Of that, half of the deadline at most: a store that asks for an hour is
    /// asked once more before the operation fails.
    fn pause(&self, attempt: u32, asked: Duration) -> Duration {
        // Jitter: clients that failed together must not come back together.
        let spread = rand::rng().random_range(0.5..=1.0);
        let own = self.pause_bound(attempt).mul_f64(spread);
        own.max(asked.min(self.deadline / 2).mul_f64(1.0 + (spread - 0.5) / 5.0))
    }
}

#[derive(Debug)]
pub struct RetryStore {
    inner: Arc<dyn ObjectStore>,
    policy: RetryPolicy,
    places: Semaphore,
}

impl RetryStore {
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy, requests_max: usize) -> Self {
        RetryStore { inner, policy, places: Semaphore::new(requests_max.clamp(1, Semaphore::MAX_PERMITS)) }
    }

    /// `object_len`: bytes to move, as far as they are known.
    async fn run<T, F, Fut>(
        &self,
        what: &str,
        key: &str,
        object_len: u64,
        mut attempt_once: F,
    ) -> Result<T, ObjectError>
    where
        F: FnMut() -> Fut + Send,
        Fut: Future<Output = Result<T, ObjectError>> + Send,
    {
        let mut left = self.policy.deadline;
        let mut attempt_max = self.policy.attempt_max(object_len, BYTES_PER_S_USUAL);
        let mut attempt = 0_u32;
        loop {
            // Waiting for a place is no failure of the store's, and is not counted; a pause between two attempts holds none.
            let place = self.places.acquire().await;
            let start = Instant::now();
            let answer = tokio::time::timeout(attempt_max.min(left), attempt_once()).await;
            drop(place);
            left = left.saturating_sub(start.elapsed());
            let (reason, asked) = match answer {
                Ok(Err(ObjectError::Unavailable(reason))) => (reason, Duration::ZERO),
                Ok(Err(ObjectError::Busy { reason, retry_after })) => (reason, retry_after),
                Ok(answer) => return answer,
                Err(_) => {
                    let patient = self.policy.attempt_max(object_len, BYTES_PER_S_MIN);
                    if patient > attempt_max {
                        attempt_max = patient;
                        left += patient;
                    }
                    ("no answer in time".to_string(), Duration::ZERO)
                }
            };
            let pause = self.policy.pause(attempt, asked);
            attempt += 1;
            if pause >= left {
                return Err(ObjectError::Unavailable(format!("{what} {key}: {reason} (tried {attempt} times)")));
            }
            tracing::debug!(what, key, attempt, reason, "object store failed, will ask again");
            tokio::time::sleep(pause).await;
            left -= pause;
        }
    }
}

#[async_trait]
impl ObjectStore for RetryStore {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.run("put", key, body.len() as u64, || self.inner.put(key, body.clone())).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.run("get", key, keys::block_len(key), || self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.run("get a range of", key, range.end.saturating_sub(range.start), || {
            self.inner.get_range(key, range.clone())
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<u64, ObjectError> {
        self.run("head", key, 0, || self.inner.head(key)).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.run("delete", key, 0, || self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        self.run("list", prefix, LISTING_BYTES, || self.inner.list(prefix)).await
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
        (fault.clone(), RetryStore::new(fault, policy(deadline_ms), 4))
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

    #[test]
    fn what_a_store_asks_for_is_the_least_pause_up_to_half_of_the_deadline() {
        let policy = RetryPolicy::default();
        for attempt in [0, 3, 20] {
            for (asked_s, least_s, most_s) in [(7, 7.0, 7.71), (3600, 15.0, 16.51)] {
                let pause = policy.pause(attempt, Duration::from_secs(asked_s)).as_secs_f64();
                assert!((least_s..most_s).contains(&pause), "asked {asked_s}, paused {pause}");
            }
            assert!(policy.pause(attempt, Duration::ZERO) <= policy.pause_max);
        }
    }

    #[tokio::test]
    async fn a_store_that_asks_to_wait_is_left_alone_for_so_long_and_asked_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (fault, retry) = store(dir.path(), 20_000).await;
        fault.set(|faults| faults.puts_busy = (2, Duration::from_millis(60)));
        let start = Instant::now();
        assert_eq!(retry.put("a/b", Bytes::from_static(b"x")).await, Ok(()));
        assert!(start.elapsed() >= Duration::from_millis(120));
        assert_eq!(fault.counts().puts, 3);

        let (fault, retry) = store(dir.path(), 300).await;
        fault.set(|faults| faults.puts_busy = (u32::MAX, Duration::from_secs(3600)));
        let error = retry.put("a/b", Bytes::from_static(b"x")).await.expect_err("busy for longer than we wait");
        assert!(matches!(&error, ObjectError::Unavailable(text) if text.contains("busy")), "{error}");
    }

    #[tokio::test]
    async fn a_put_that_a_slow_line_cut_off_gets_the_time_it_needs() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (fault, _) = store(dir.path(), 0).await;
        let hasty = RetryPolicy { attempt_max: Duration::from_millis(20), ..policy(200) };
        let retry = RetryStore::new(fault.clone(), hasty, 4);
        fault.set(|faults| faults.put_delay = Duration::from_millis(300));
        // A second at 64 KiB/s, 62 ms at the usual speed.
        assert_eq!(retry.put("a/b", Bytes::from(vec![1; 64 << 10])).await, Ok(()));
        assert_eq!(fault.counts().puts, 2);
        let error = retry.put("a/c", Bytes::from_static(b"x")).await.expect_err("too slow for one byte");
        assert!(matches!(&error, ObjectError::Unavailable(text) if text.contains("no answer in time")), "{error}");
    }

    #[tokio::test]
    async fn a_long_listing_is_not_cut_off() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (fault, _) = store(dir.path(), 0).await;
        let hasty = RetryPolicy { attempt_max: Duration::from_millis(20), ..policy(200) };
        let retry = RetryStore::new(fault.clone(), hasty, 4);
        retry.put("a/b", Bytes::from_static(b"x")).await.expect("puts");
        fault.set(|faults| faults.list_delay = Duration::from_millis(300));
        assert_eq!(retry.list("a").await, Ok(vec![("a/b".to_string(), 1)]));
    }

    #[tokio::test]
    async fn waiting_for_others_is_no_failure() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (fault, _) = store(dir.path(), 0).await;
        let strict = RetryPolicy { attempt_max: Duration::from_millis(500), ..policy(500) };
        let retry = RetryStore::new(fault.clone(), strict, 1);
        fault.set(|faults| faults.put_delay = Duration::from_millis(60));
        let puts: Vec<String> = (0..20).map(|n| format!("a/{n}")).collect();
        let puts = puts.iter().map(|key| retry.put(key, Bytes::from_static(b"x")));
        assert!(futures::future::join_all(puts).await.into_iter().all(|put| put == Ok(())));
        assert_eq!(fault.counts().put_bytes_peak, 1, "one at a time");
    }

    #[tokio::test]
    async fn a_missing_object_is_an_answer() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (_, retry) = store(dir.path(), 20_000).await;
        assert!(matches!(retry.get("none").await, Err(ObjectError::NotFound(_))));
    }
}
