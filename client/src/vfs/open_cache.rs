//! Open cache: what an open was told, believed for `--open-cache` seconds, so that a data set that many processes open again and again
//! costs the server nothing. Off by default: close-to-open needs the question. Called by ops/open.

use holdfast_proto::pb;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Inodes remembered; beyond it all are forgotten, which costs each a question.
const INODES_MAX: usize = 256 * 1024;

#[derive(Debug)]
pub struct OpenCache {
    ttl: Duration,
    told: Mutex<HashMap<u64, (Instant, pb::Attr)>>,
}

impl OpenCache {
    pub fn new(ttl: Duration) -> OpenCache {
        OpenCache { ttl, told: Mutex::default() }
    }

    pub fn put(&self, attr: &pb::Attr, now: Instant) {
        if self.ttl.is_zero() {
            return;
        }
        let mut told = self.told.lock();
        if told.len() >= INODES_MAX {
            told.clear();
        }
        told.insert(attr.ino, (now, *attr));
    }

    pub fn get(&self, ino: u64, now: Instant) -> Option<pb::Attr> {
        if self.ttl.is_zero() {
            return None;
        }
        let (at, attr) = self.told.lock().get(&ino).copied()?;
        (now.saturating_duration_since(at) < self.ttl).then_some(attr)
    }

    /// It has changed, here or, as the server says, elsewhere.
    pub fn forget(&self, ino: u64) {
        if !self.ttl.is_zero() {
            self.told.lock().remove(&ino);
        }
    }

    pub fn clear(&self) {
        self.told.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_open_was_told_is_believed_for_a_while_and_until_it_changes() {
        let (cache, now) = (OpenCache::new(Duration::from_secs(5)), Instant::now());
        let attr = pb::Attr { ino: 7, size: 3, ..pb::Attr::default() };
        cache.put(&attr, now);
        assert_eq!(cache.get(7, now + Duration::from_secs(4)), Some(attr));
        assert_eq!(cache.get(7, now + Duration::from_secs(5)), None);
        cache.forget(7);
        assert_eq!(cache.get(7, now), None);
    }

    #[test]
    fn without_a_time_nothing_is_kept() {
        let (cache, now) = (OpenCache::new(Duration::ZERO), Instant::now());
        cache.put(&pb::Attr { ino: 7, ..pb::Attr::default() }, now);
        assert_eq!(cache.get(7, now), None);
    }
}
