//! When a checkpoint is made, and what of the log goes then. Called by background/checkpointer and admin_service.
//!
//! One is due when as much log has come since the last as that one took, but at least `log_bytes_min` and at most a few times that. So
//! checkpoints of a usual state cost no more writing than the log itself, and what is left of the log is about as cheap for a follower as
//! the checkpoint would be; and however large the state is, a start reads no more log than it does for a small one. The log goes up to the
//! last but one: the last may turn out to be damaged.

use super::log_store::LogStore;
use super::node::RaftNode;
use super::state_machine::{FreshCheckpoint, NodeStore, checkpoint_head};
use crate::error::MetadError;
use crate::store::StoreError;
use crate::store::checkpoint_dir::Stored;
use openraft::async_runtime::watch::WatchReceiver;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// openraft takes a checkpoint that is there already.
const ADOPT_DEADLINE: Duration = Duration::from_secs(60);
/// Log that waits for a checkpoint at most, in times of `log_bytes_min`.
const LOG_FACTOR: u64 = 4;

pub struct Checkpointing {
    log: LogStore,
    fresh: FreshCheckpoint,
    /// One at a time.
    turn: Mutex<()>,
    /// `log.grown_bytes()` when the last one began.
    grown_at_last: AtomicU64,
}

/// What was made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub index: u64,
    pub bytes: u64,
    pub took: Duration,
}

impl Checkpointing {
    pub fn new(log: LogStore, fresh: FreshCheckpoint) -> Checkpointing {
        Checkpointing { log, fresh, turn: Mutex::new(()), grown_at_last: AtomicU64::new(0) }
    }
}

impl RaftNode {
    pub fn log(&self) -> &LogStore {
        &self.checkpoints.log
    }

    pub fn log_disk_bytes(&self) -> u64 {
        self.checkpoints.log.disk_bytes()
    }

    /// The newest checkpoint, where the disk can say.
    pub fn newest_checkpoint(&self) -> Option<Stored> {
        self.store.checkpoints().stored().ok()?.pop()
    }

    /// Whether enough has come since the last checkpoint.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn is_checkpoint_due(&self, log_bytes_min: u64) -> Result<bool, StoreError> {
        let last_bytes = self.store.checkpoints().stored()?.last().map_or(0, |stored| stored.bytes);
        let grown = self.checkpoints.log.grown_bytes();
        let since = grown.saturating_sub(self.checkpoints.grown_at_last.load(Ordering::Relaxed));
        Ok(since >= last_bytes.clamp(log_bytes_min, log_bytes_min * LOG_FACTOR))
    }

    /// Makes a checkpoint now, and lets the log go that nobody needs any more.
    ///
    /// # Errors
    /// The disk is full: what is there stays, and a later call may succeed. Any other failure of the disk stops the node.
    pub async fn checkpoint(&self) -> Result<Made, MetadError> {
        let _turn = self.checkpoints.turn.lock().await;
        let began = Instant::now();
        let grown = self.checkpoints.log.grown_bytes();
        let index = self.write_checkpoint().await?;
        self.checkpoints.grown_at_last.store(grown, Ordering::Relaxed);
        self.checkpoints.fresh.set(index);
        let stopped = |error: openraft::errors::Fatal<_>| MetadError::Raft(error.to_string());
        self.raft.trigger().snapshot().await.map_err(stopped)?;
        self.wait_adopted(index).await?;
        let stored = self.store.checkpoints().stored().map_err(unreadable(&self.store))?;
        if let [.., older, _] = &stored[..] {
            self.raft.trigger().purge_log(older.index).await.map_err(stopped)?;
        }
        let bytes = stored.last().map_or(0, |newest| newest.bytes);
        Ok(Made { index, bytes, took: began.elapsed() })
    }

    /// On a thread of its own, of low priority.
    async fn write_checkpoint(&self) -> Result<u64, MetadError> {
        let store = self.store.clone();
        let made = crate::blocking::spawn_unhurried("checkpoint", move || store.checkpoint(checkpoint_head));
        let made = made.map_err(|source| MetadError::Start { what: "checkpoint thread", source })?;
        let made = made.await.map_err(|_| MetadError::Raft("the checkpoint's thread ended".to_owned()))?;
        made.map_err(|source| {
            if !is_full(&source) {
                self.fatal.raise(format!("make a checkpoint: {source}"));
            }
            unreadable(&self.store)(source)
        })
    }

    /// Until openraft knows of it, no log is purged for it.
    async fn wait_adopted(&self, index: u64) -> Result<(), MetadError> {
        let mut metrics = self.metrics.clone();
        let adopted = async {
            while metrics.borrow_watched().snapshot.is_none_or(|id| id.index < index) {
                metrics.changed().await.map_err(|_| MetadError::Raft("raft has stopped".to_owned()))?;
            }
            Ok(())
        };
        let late = |_| MetadError::Raft(format!("the checkpoint at {index} was not taken up"));
        tokio::time::timeout(ADOPT_DEADLINE, adopted).await.map_err(late)?
    }
}

/// Makes a failure of the checkpoints' disk one of the node.
pub(super) fn unreadable(store: &NodeStore) -> impl Fn(StoreError) -> MetadError + use<> {
    let path = store.checkpoints().path().to_owned();
    move |source| MetadError::OpenState { path: path.clone(), source }
}

/// Whether there is no room left; that passes.
fn is_full(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
}
