//! Fault: a store that fails on demand. Used by tests only, here and in the tests crate: injected errors, delays, wrong bytes, short
//! bodies, missing objects, and counts of what was asked.

use super::{ObjectError, ObjectStore};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// How many operations of each kind reached the store, failed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub puts: u64,
    pub gets: u64,
    pub deletes: u64,
    /// Most bytes that were in puts at one time.
    pub put_bytes_peak: u64,
}

/// What goes wrong. Probabilities are in percent, drawn from a seeded generator of the store's own.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub puts_fail: bool,
    pub puts_fail_next: u32,
    /// So many puts are answered: ask again after this.
    pub puts_busy: (u32, Duration),
    pub put_fail_percent: u32,
    /// Answered with success, and nothing is stored.
    pub put_lost_next: u32,
    /// Answered with success, and half of the body is stored.
    pub put_short_next: u32,
    /// An object that is there is not put over.
    pub overwrites_refused: bool,
    pub gets_fail: bool,
    pub get_fail_percent: u32,
    pub get_wrong_next: u32,
    pub get_short_next: u32,
    pub gets_wrong: bool,
    pub gets_missing: bool,
    pub deletes_fail: bool,
    pub put_delay: Duration,
    pub get_delay: Duration,
    pub list_delay: Duration,
}

#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    faults: Mutex<Faults>,
    counts: Mutex<Counts>,
    put_bytes: AtomicU64,
    random: AtomicU64,
}

impl FaultStore {
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        FaultStore {
            inner,
            faults: Mutex::default(),
            counts: Mutex::default(),
            put_bytes: AtomicU64::new(0),
            random: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// Changes what goes wrong from now on.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock());
    }

    pub fn set_puts_fail(&self, fail: bool) {
        self.set(|faults| faults.puts_fail = fail);
    }

    pub fn fail_next_puts(&self, count: u32) {
        self.set(|faults| faults.puts_fail_next = count);
    }

    pub fn counts(&self) -> Counts {
        *self.counts.lock()
    }

    /// xorshift: the same faults in every run of one thread.
    fn hits(&self, percent: u32) -> bool {
        let next = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^ (x << 17)
        };
        percent > 0
            && self.random.fetch_update(SeqCst, SeqCst, |x| Some(next(x))).unwrap_or(0) % 100 < u64::from(percent)
    }

    fn put_failure(&self) -> Option<ObjectError> {
        let failed = || Some(ObjectError::Unavailable("injected: put".into()));
        let percent = {
            let mut faults = self.faults.lock();
            if let (count @ 1.., retry_after) = faults.puts_busy {
                faults.puts_busy.0 = count - 1;
                return Some(ObjectError::Busy { reason: "injected: busy".into(), retry_after });
            }
            if faults.puts_fail_next > 0 {
                faults.puts_fail_next -= 1;
                return failed();
            }
            if faults.puts_fail {
                return failed();
            }
            faults.put_fail_percent
        };
        if self.hits(percent) { failed() } else { None }
    }

    /// What of a body is stored, behind a success.
    fn mangle_put(&self, body: Bytes) -> Option<Bytes> {
        let mut faults = self.faults.lock();
        if faults.put_lost_next > 0 {
            faults.put_lost_next -= 1;
            return None;
        }
        if faults.put_short_next > 0 {
            faults.put_short_next -= 1;
            return Some(body.slice(..body.len() / 2));
        }
        Some(body)
    }

    fn spoil(&self, key: &str, body: Bytes) -> Result<Bytes, ObjectError> {
        let mut faults = self.faults.lock();
        if faults.gets_missing {
            return Err(ObjectError::NotFound(key.to_string()));
        }
        if faults.gets_wrong || faults.get_wrong_next > 0 {
            faults.get_wrong_next = faults.get_wrong_next.saturating_sub(1);
            let mut wrong = body.to_vec();
            if let Some(byte) = wrong.last_mut() {
                *byte ^= 0x40;
            }
            return Ok(wrong.into());
        }
        if faults.get_short_next > 0 {
            faults.get_short_next -= 1;
            return Ok(body.slice(..body.len() / 2));
        }
        Ok(body)
    }

    async fn before_get(&self) -> Result<(), ObjectError> {
        self.counts.lock().gets += 1;
        let (fails, percent, delay) = {
            let faults = self.faults.lock();
            (faults.gets_fail, faults.get_fail_percent, faults.get_delay)
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if fails || self.hits(percent) {
            return Err(ObjectError::Unavailable("injected: get".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        let len = body.len() as u64;
        let now = self.put_bytes.fetch_add(len, SeqCst) + len;
        {
            let mut counts = self.counts.lock();
            counts.puts += 1;
            counts.put_bytes_peak = counts.put_bytes_peak.max(now);
        }
        let delay = self.faults.lock().put_delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let refuses = self.faults.lock().overwrites_refused && self.inner.head(key).await.is_ok();
        let result = match self.put_failure() {
            _ if refuses => Err(ObjectError::Refused("injected: overwrite".into())),
            Some(error) => Err(error),
            None => match self.mangle_put(body) {
                Some(body) => self.inner.put(key, body).await,
                None => Ok(()),
            },
        };
        self.put_bytes.fetch_sub(len, SeqCst);
        result
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.before_get().await?;
        self.spoil(key, self.inner.get(key).await?)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.before_get().await?;
        self.spoil(key, self.inner.get_range(key, range).await?)
    }

    async fn head(&self, key: &str) -> Result<u64, ObjectError> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.counts.lock().deletes += 1;
        if self.faults.lock().deletes_fail {
            return Err(ObjectError::Unavailable("injected: delete".into()));
        }
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        let delay = self.faults.lock().list_delay;
        tokio::time::sleep(delay).await;
        self.inner.list(prefix).await
    }

    async fn prepare(&self) -> Result<(), ObjectError> {
        self.inner.prepare().await
    }
}
