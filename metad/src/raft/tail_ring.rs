//! The newest log entries, in memory: apply and replication read each entry back right after it was appended, and the WAL's own
//! cache pauses when it evicts. Called by raft/log_store only.

use super::types::{Entry, Payload};
use std::collections::VecDeque;
use std::ops::Range;

/// Consecutive entries ending at the log's last one, bounded by count and bytes.
#[derive(Default)]
pub struct TailRing {
    entries: VecDeque<Entry>,
    bytes: usize,
}

const ENTRIES_MAX: usize = 65_536;
const BYTES_MAX: usize = 32 << 20;

fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Normal(command) => command.0.len() + 128,
        _ => 512,
    }
}

impl TailRing {
    fn first_index(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index)
    }

    fn next_index(&self) -> Option<u64> {
        self.entries.back().map(|entry| entry.log_id.index + 1)
    }

    pub fn push(&mut self, entry: Entry) {
        // A gap would make index arithmetic lie: what was held is of no use then.
        if self.next_index().is_some_and(|next| next != entry.log_id.index) {
            self.clear();
        }
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
        while self.entries.len() > ENTRIES_MAX || (self.bytes > BYTES_MAX && self.entries.len() > 1) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry_bytes(&entry);
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Forgets entries at and after `index`.
    pub fn truncate(&mut self, index: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= index) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= entry_bytes(&entry);
            }
        }
    }

    /// Forgets entries up to and including `index`.
    pub fn purge(&mut self, index: u64) {
        while self.first_index().is_some_and(|first| first <= index) {
            self.pop_front();
        }
    }

    /// The entries of `range` if all of those that the log has are held; `log_next` is the index after the log's last.
    pub fn read(&self, range: Range<u64>, log_next: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let end = range.end.min(log_next);
        if range.start >= end {
            return Some(Vec::new());
        }
        let first = self.first_index()?;
        if range.start < first || self.next_index()? < end {
            return None;
        }
        let mut entries = Vec::with_capacity(((end - range.start) as usize).min(1024));
        let mut bytes = 0;
        for entry in self.entries.range((range.start - first) as usize..(end - first) as usize) {
            bytes += entry_bytes(entry);
            entries.push(entry.clone());
            if bytes > bytes_max {
                break;
            }
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{Command, LeaderId, LogId};

    fn entry(index: u64, len: usize) -> Entry {
        let log_id = LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index };
        Entry { log_id, payload: Payload::Normal(Command(vec![0; len].into())) }
    }

    fn indexes(ring: &TailRing, range: Range<u64>, next: u64) -> Option<Vec<u64>> {
        Some(ring.read(range, next, usize::MAX)?.iter().map(|entry| entry.log_id.index).collect())
    }

    #[test]
    fn reads_what_it_holds_and_only_whole_ranges() {
        let mut ring = TailRing::default();
        (5..10).for_each(|index| ring.push(entry(index, 10)));
        assert_eq!(indexes(&ring, 5..8, 10), Some(vec![5, 6, 7]));
        assert_eq!(indexes(&ring, 8..100, 10), Some(vec![8, 9]));
        assert_eq!(indexes(&ring, 4..8, 10), None);
        assert_eq!(indexes(&ring, 10..11, 10), Some(vec![]));
    }

    #[test]
    fn truncate_and_purge_forget_the_ends() {
        let mut ring = TailRing::default();
        (1..10).for_each(|index| ring.push(entry(index, 10)));
        ring.truncate(8);
        ring.purge(2);
        assert_eq!(indexes(&ring, 3..8, 8), Some(vec![3, 4, 5, 6, 7]));
        assert_eq!(indexes(&ring, 2..8, 8), None);
        ring.clear();
        assert_eq!(ring.bytes, 0);
    }

    #[test]
    fn is_bounded_by_bytes_but_keeps_the_newest() {
        let mut ring = TailRing::default();
        (1..4).for_each(|index| ring.push(entry(index, BYTES_MAX)));
        assert_eq!(indexes(&ring, 3..4, 4), Some(vec![3]));
        assert_eq!(indexes(&ring, 2..4, 4), None);
    }

    #[test]
    fn a_gap_empties_it() {
        let mut ring = TailRing::default();
        ring.push(entry(1, 1));
        ring.push(entry(7, 1));
        assert_eq!(indexes(&ring, 1..2, 8), None);
        assert_eq!(indexes(&ring, 7..8, 8), Some(vec![7]));
    }
}
