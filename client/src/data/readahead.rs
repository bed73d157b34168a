//! (P) How far to read ahead of one handle: nothing for random reads, a window that doubles for sequential ones. Called by chunk_reader.

use std::ops::Range;

/// Largest window, bytes: eight blocks of the default size, which keeps a distant store and the checksums busy.
pub const WINDOW_BYTES_MAX: u64 = 32 << 20;
/// The kernel sends the requests of one sequential reader in parallel: so far out of order they still count as one run, bytes.
const DISORDER_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub struct Readahead {
    block_bytes: u64,
    window_max: u64,
    /// Where a sequential reader goes on.
    next: u64,
    /// 0 until a second read follows the first.
    window: u64,
    /// Up to here it has been asked for.
    ahead: u64,
}

impl Readahead {
    pub fn new(block_bytes: u32, window_max: u64) -> Self {
        let block_bytes = u64::from(block_bytes);
        Readahead { block_bytes, window_max, next: u64::MAX, window: 0, ahead: 0 }
    }

    /// A read of [offset, offset + len) of a file of `size` bytes: what to fetch beside it, if anything.
    pub fn on_read(&mut self, offset: u64, len: u64, size: u64) -> Option<Range<u64>> {
        let end = offset + len;
        let sequential =
            self.next != u64::MAX && offset + DISORDER_BYTES >= self.next && offset <= self.next + DISORDER_BYTES;
        if !sequential {
            (self.next, self.window, self.ahead) = (end, 0, 0);
            return None;
        }
        // A read that repeats old bytes is part of the run, and no reason to look further.
        if end <= self.next {
            return None;
        }
        self.next = end;
        self.window = (self.window * 2).max(self.block_bytes).min(self.window_max);
        let to = (end + self.window).next_multiple_of(self.block_bytes).min(size);
        let from = self.ahead.max(end);
        // In steps of a block at least: one task a block, not one a request.
        if to <= from || (to - from < self.block_bytes && to < size) {
            return None;
        }
        self.ahead = to;
        Some(from..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_sequential_reader_is_kept_ahead_of() {
        let mut ahead = Readahead::new(4 << 20, WINDOW_BYTES_MAX);
        let size = 100 * MIB;
        let mut fetched = 0;
        assert_eq!(ahead.on_read(0, MIB, size), None);
        for at in 1..100 {
            if let Some(range) = ahead.on_read(at * MIB, MIB, size) {
                assert!(range.start >= fetched, "nothing is asked for twice");
                fetched = range.end;
            }
            assert!(fetched >= ((at + 1) * MIB + 4 * MIB).min(size), "at {at}: {fetched}");
            assert!(fetched <= (at + 1) * MIB + WINDOW_BYTES_MAX + 4 * MIB);
        }
        assert_eq!(fetched, size);
    }

    #[test]
    fn requests_out_of_order_are_still_one_run() {
        let mut ahead = Readahead::new(1 << 20, WINDOW_BYTES_MAX);
        ahead.on_read(0, MIB, 100 * MIB);
        assert!(ahead.on_read(2 * MIB, MIB, 100 * MIB).is_some());
        assert_eq!(ahead.on_read(MIB, MIB, 100 * MIB), None);
        assert!(ahead.on_read(3 * MIB, MIB, 100 * MIB).is_some());
    }

    #[test]
    fn random_reads_fetch_nothing_more() {
        let mut ahead = Readahead::new(4 << 20, WINDOW_BYTES_MAX);
        for at in [50, 3, 99, 20, 71, 11] {
            assert_eq!(ahead.on_read(at * 64 * MIB, 4096, 100 * 64 * MIB), None);
        }
    }
}
