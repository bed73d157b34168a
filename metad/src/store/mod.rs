//! The state machine's storage, as `apply` and `query` see it: two small traits. Which bytes mean what is in `keys` and `records`;
//! what makes them durable is in `durable` (memtable over sled). Called by apply, query and raft/state_machine.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

pub mod blocks;
pub mod checkpoint;
pub mod checkpoint_dir;
pub mod codec;
pub mod drain;
pub mod durable;
pub mod image_dir;
pub mod inode_record;
pub mod journal;
pub mod keys;
pub mod lock_record;
pub mod mem_store;
pub mod memtable;
pub mod merge;
pub mod node_record;
pub mod read;
pub mod records;
pub mod sled_image;
pub mod txn;

/// Storage failed. It is never a refusal: the node stops.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{context}")]
    Io {
        context: String,
        #[source]
        source: std::io::Error,
    },
    #[error("record kind {kind:#04x} has version {found}, newest known is {newest}")]
    RecordVersion { kind: u8, found: u8, newest: u8 },
    #[error("damaged {what}: {detail}")]
    Damaged { what: &'static str, detail: String },
    #[error("the store was poisoned by an earlier failure: {0}")]
    Poisoned(String),
}

/// New values of keys; None deletes. Applied as one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(pub BTreeMap<Bytes, Option<Bytes>>);

/// What a scan calls for each pair, ascending, until it breaks.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// A state at one applied index.
pub trait KvRead {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// Visits the pairs of [start, end) in key order.
    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError>;
}

/// A store that moves from one applied index to the next.
pub trait KvCommit: Send + Sync + 'static {
    /// Runs `read` on the newest state, which does not move meanwhile.
    fn view<R>(&self, read: impl FnOnce(&dyn KvRead) -> R) -> R;
    /// Makes the batch of log entry `index` visible, as one step. Indexes ascend.
    fn commit(&self, index: u64, batch: Batch) -> Result<(), StoreError>;
}
