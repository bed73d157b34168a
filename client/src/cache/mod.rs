//! cache: verified blocks, by slice and index. What is in here has passed its checksum. Called by data only.

use bytes::Bytes;

pub mod mem;

/// One stored block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId {
    pub slice_id: u64,
    pub index: u32,
}

/// Blocks never change, so a cache is never stale; it may forget whatever it likes.
pub trait BlockCache: Send + Sync + 'static {
    fn get(&self, id: BlockId) -> Option<Bytes>;
    fn insert(&self, id: BlockId, block: Bytes);
    fn remove(&self, id: BlockId);
    /// Bytes held now.
    fn bytes(&self) -> u64;
}
