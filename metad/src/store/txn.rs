//! Txn: the mutations of one log entry over one state. Reads see what was written before in the same entry; what is written is
//! collected into one Batch, so that the entry becomes visible as one step. Called by apply.

use super::codec::Record;
use super::keys::Key;
use super::memtable::{Changes, Layered};
use super::{Batch, KvRead, StoreError, Visit};
use bytes::Bytes;

pub struct Txn<'a> {
    view: &'a dyn KvRead,
    changes: Changes,
    writes_count: usize,
}

impl<'a> Txn<'a> {
    pub fn new(view: &'a dyn KvRead) -> Txn<'a> {
        Txn { view, changes: Changes::new(), writes_count: 0 }
    }

    pub fn put(&mut self, key: &Key, record: &impl Record) {
        self.put_bytes(key, record.encode());
    }

    pub fn put_bytes(&mut self, key: &Key, value: Bytes) {
        self.write(key, Some(value));
    }

    pub fn delete(&mut self, key: &Key) {
        self.write(key, None);
    }

    fn write(&mut self, key: &Key, value: Option<Bytes>) {
        self.writes_count += 1;
        // A hot key (a directory, a volume's usage) is written by many mutations of an entry: its key is copied once.
        match self.changes.get_mut(&key[..]) {
            Some(slot) => *slot = value,
            None => {
                self.changes.insert(key.to_bytes(), value);
            }
        }
    }

    /// Grows with each write: a refused operation must leave it as it was.
    pub fn writes_count(&self) -> usize {
        self.writes_count
    }

    pub fn into_batch(self) -> Batch {
        Batch(self.changes)
    }
}

impl KvRead for Txn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Layered { upper: &self.changes, lower: self.view }.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        Layered { upper: &self.changes, lower: self.view }.scan(start, end, visit)
    }
}
