//! A store in memory: what apply's tests and the harness's local filesystem run on. Nothing survives the process.

use super::{Batch, KvCommit, KvRead, StoreError, Visit};
use bytes::Bytes;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;

#[derive(Default)]
pub struct MemStore {
    pairs: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl KvRead for BTreeMap<Bytes, Bytes> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if start >= end {
            return Ok(());
        }
        for (key, value) in self.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end))) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl KvCommit for MemStore {
    fn view<R>(&self, read: impl FnOnce(&dyn KvRead) -> R) -> R {
        read(&*self.pairs.read())
    }

    fn commit(&self, _index: u64, batch: Batch) -> Result<(), StoreError> {
        let mut pairs = self.pairs.write();
        for (key, value) in batch.0 {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }
}
