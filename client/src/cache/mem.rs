//! Blocks in memory, least recently used out first, never more than the bound. Of our own rather than a general cache: an admission
//! policy that turns away new entries would throw away what was read ahead before it is used.

use super::{BlockCache, BlockId};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

/// What an entry costs beside its bytes.
const ENTRY_BYTES: u64 = 200;

pub struct MemCache {
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    blocks: HashMap<BlockId, (Bytes, u64)>,
    /// Use number -> block: the first is the least recently used.
    uses: BTreeMap<u64, BlockId>,
    use_next: u64,
    bytes: u64,
}

fn cost(block: &Bytes) -> u64 {
    block.len() as u64 + ENTRY_BYTES
}

impl State {
    fn touch(&mut self, id: BlockId) -> Option<Bytes> {
        let (block, used) = self.blocks.get_mut(&id)?;
        self.uses.remove(used);
        *used = self.use_next;
        self.uses.insert(self.use_next, id);
        self.use_next += 1;
        Some(block.clone())
    }

    fn remove(&mut self, id: BlockId) -> Option<Bytes> {
        let (block, used) = self.blocks.remove(&id)?;
        self.uses.remove(&used);
        self.bytes -= cost(&block);
        Some(block)
    }
}

impl MemCache {
    pub fn new(bytes_max: u64) -> Self {
        MemCache { bytes_max, state: Mutex::default() }
    }
}

impl BlockCache for MemCache {
    fn get(&self, id: BlockId) -> Option<Bytes> {
        self.state.lock().touch(id)
    }

    fn insert(&self, id: BlockId, block: Bytes) {
        if cost(&block) > self.bytes_max {
            return;
        }
        // Freed outside the lock: giving back megabytes to the allocator takes its time.
        let mut out = Vec::new();
        let mut state = self.state.lock();
        out.extend(state.remove(id));
        state.bytes += cost(&block);
        let used = state.use_next;
        state.use_next += 1;
        state.uses.insert(used, id);
        state.blocks.insert(id, (block, used));
        while state.bytes > self.bytes_max {
            let Some((_, oldest)) = state.uses.pop_first() else { break };
            out.extend(state.remove(oldest));
        }
        drop(state);
    }

    fn remove(&self, id: BlockId) {
        let removed = self.state.lock().remove(id);
        drop(removed);
    }

    fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> BlockId {
        BlockId { slice_id: 1, index }
    }

    fn block(len: usize) -> Bytes {
        vec![7; len].into()
    }

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let cache = MemCache::new(3 * (1000 + ENTRY_BYTES));
        for index in 0..3 {
            cache.insert(id(index), block(1000));
        }
        assert!(cache.get(id(0)).is_some());
        cache.insert(id(3), block(1000));
        let left: Vec<bool> = (0..4).map(|index| cache.get(id(index)).is_some()).collect();
        assert_eq!(left, [true, false, true, true]);
    }

    #[test]
    fn the_bound_holds_whatever_comes() {
        let cache = MemCache::new(10_000);
        for round in 0..1000_u32 {
            cache.insert(id(round % 37), block(round as usize * 7 % 12_000));
            assert!(cache.bytes() <= 10_000);
        }
        for index in 0..37 {
            cache.remove(id(index));
        }
        assert_eq!(cache.bytes(), 0);
    }
}
