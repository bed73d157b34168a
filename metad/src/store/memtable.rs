//! Memtable: the newest value of each key that changed since the image below was written; None is a tombstone. Also the merge
//! of such a layer with what is below it. Called by txn and durable.

use super::{KvRead, StoreError, Visit};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

/// New values above some state.
pub type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// What one pair takes in memory beside its bytes: two `Bytes` and its share of a tree node.
const PAIR_OVERHEAD_BYTES: usize = 96;

/// Changes with their size.
#[derive(Default)]
pub struct Memtable {
    changes: Changes,
    bytes: usize,
    writes_count: usize,
}

impl Memtable {
    pub fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.writes_count += 1;
        let key_len = key.len();
        let value_len = value.as_ref().map_or(0, Bytes::len);
        match self.changes.insert(key, value) {
            Some(old) => self.bytes = (self.bytes + value_len).saturating_sub(old.map_or(0, |v| v.len())),
            None => self.bytes += key_len + value_len + PAIR_OVERHEAD_BYTES,
        }
    }

    /// Forgets a key, as if it had never changed: for a deletion where there is nothing below.
    pub fn forget(&mut self, key: &[u8]) {
        self.writes_count += 1;
        if let Some((key, old)) = self.changes.remove_entry(key) {
            let pair_bytes = key.len() + old.map_or(0, |value| value.len()) + PAIR_OVERHEAD_BYTES;
            self.bytes = self.bytes.saturating_sub(pair_bytes);
        }
    }

    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// About how much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How often anything was written, however few the keys are: the measure of what a restart does again.
    pub fn writes_count(&self) -> usize {
        self.writes_count
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Changes seen together with what lies below them.
pub struct Layered<'a> {
    pub upper: &'a Changes,
    pub lower: &'a dyn KvRead,
}

impl KvRead for Layered<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.upper.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.lower.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        if start >= end {
            return Ok(());
        }
        let mut upper = self.upper.range::<[u8], _>((Bound::Included(start), Bound::Excluded(end))).peekable();
        if upper.peek().is_none() {
            return self.lower.scan(start, end, visit);
        }
        let mut stopped = false;
        self.lower.scan(start, end, &mut |key, value| {
            while let Some((new_key, new_value)) = upper.next_if(|(new_key, _)| &new_key[..] < key) {
                if let Some(new_value) = new_value
                    && visit(new_key, new_value).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match upper.next_if(|(new_key, _)| &new_key[..] == key) {
                Some((_, Some(new_value))) => visit(key, new_value),
                Some((_, None)) => ControlFlow::Continue(()),
                None => visit(key, value),
            };
            stopped = flow.is_break();
            flow
        })?;
        if stopped {
            return Ok(());
        }
        for (key, value) in upper {
            if let Some(value) = value
                && visit(key, value).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    fn lower(keys: &str) -> BTreeMap<Bytes, Bytes> {
        keys.chars().map(|c| (bytes(&c.to_string()), bytes("old"))).collect()
    }

    fn listing(view: &dyn KvRead, start: &str, end: &str, limit: usize) -> String {
        let mut out = String::new();
        view.scan(start.as_bytes(), end.as_bytes(), &mut |key, value| {
            out.push_str(&format!("{}={} ", String::from_utf8_lossy(key), String::from_utf8_lossy(value)));
            if out.split_whitespace().count() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("scans");
        out.trim_end().to_string()
    }

    #[test]
    fn what_is_forgotten_takes_no_memory() {
        let mut table = Memtable::default();
        table.put(bytes("kept"), Some(bytes("v")));
        let before = table.bytes();
        table.put(bytes("born"), Some(bytes("value")));
        table.put(bytes("born"), Some(bytes("another value")));
        table.forget(b"born");
        table.forget(b"never there");
        assert_eq!((table.changes().len(), table.bytes()), (1, before));
    }

    #[test]
    fn newer_values_and_tombstones_hide_what_is_below() {
        let lower = lower("bdf");
        let upper: Changes =
            [("a", Some("new")), ("b", None), ("c", Some("new")), ("d", Some("new")), ("g", Some("new")), ("h", None)]
                .into_iter()
                .map(|(k, v)| (bytes(k), v.map(bytes)))
                .collect();
        let view = Layered { upper: &upper, lower: &lower };
        assert_eq!(listing(&view, "a", "z", 99), "a=new c=new d=new f=old g=new");
        assert_eq!(listing(&view, "b", "d", 99), "c=new");
        assert_eq!(listing(&view, "a", "z", 1), "a=new");
        assert_eq!(listing(&view, "a", "z", 3), "a=new c=new d=new");
        assert_eq!(listing(&view, "a", "z", 5), "a=new c=new d=new f=old g=new");
        assert_eq!(listing(&view, "z", "a", 99), "");
        assert_eq!(view.get(b"b").expect("gets"), None);
        assert_eq!(view.get(b"f").expect("gets"), Some(bytes("old")));
    }

    #[test]
    fn size_follows_replacements() {
        let mut table = Memtable::default();
        table.put(bytes("k"), Some(bytes("12345")));
        let first = table.bytes();
        table.put(bytes("k"), Some(bytes("1")));
        assert_eq!(table.bytes(), first - 4);
        table.put(bytes("k"), None);
        assert_eq!((table.bytes(), table.changes().len()), (first - 5, 1));
    }
}
