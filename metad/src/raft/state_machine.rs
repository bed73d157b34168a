//! The glue between openraft and apply: each committed entry is applied to the store as one step, together with its own log id,
//! and answered at once. A StoreError stops the node. Called by openraft only.

use super::convert;
use super::snapshot::{self, SnapshotFile};
use super::types::{Entry, LogId, Payload, Replies, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::apply::apply_entry;
use crate::error::Fatal;
use crate::store::checkpoint::Head;
use crate::store::{Batch, KvCommit, KvRead, StoreError, keys};
use bytes::BytesMut;
use futures::{Stream, TryStreamExt};
use holdfast_proto::pb;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use prost::Message;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The store this node runs on.
pub type NodeStore = crate::store::durable::DurableStore;

/// Apply runs on Raft's own thread: after this long it lets heartbeats through.
const APPLY_SLICE_MAX: Duration = Duration::from_millis(3);

#[derive(Clone)]
pub struct StateMachine {
    store: Arc<NodeStore>,
    fresh: FreshCheckpoint,
    fatal: Fatal,
}

/// A checkpoint that was made and that openraft is about to be told of: it asks for one to be made, and gets this.
#[derive(Clone, Default)]
pub struct FreshCheckpoint(Arc<Mutex<Option<u64>>>);

impl FreshCheckpoint {
    pub fn set(&self, index: u64) {
        *self.0.lock() = Some(index);
    }
}

impl StateMachine {
    pub fn new(store: Arc<NodeStore>, fresh: FreshCheckpoint, fatal: Fatal) -> StateMachine {
        StateMachine { store, fresh, fatal }
    }

    fn stop<E: std::fmt::Display>(&self, doing: &str, error: E) -> io::Error {
        let why = format!("{doing}: {error}");
        tracing::error!("{why}; this node stops");
        self.fatal.raise(why.clone());
        io::Error::other(why)
    }

    fn state(&self) -> Result<(Option<LogId>, StoredMembership), StoreError> {
        self.store.view(|view| Ok((read_applied(view)?, read_membership(view)?)))
    }

    fn apply_one(&self, entry: Entry) -> Result<Replies, StoreError> {
        let started = Instant::now();
        let log_id = entry.log_id;
        let (mut batch, outcomes) = match entry.payload {
            Payload::Blank => (Batch::default(), Vec::new()),
            Payload::Normal(command) => {
                let decoded = pb::LogEntry::decode(command.0).map_err(|error| StoreError::Damaged {
                    what: "log entry",
                    detail: format!("index {}: {error}", log_id.index),
                })?;
                let applied = self.store.view(|view| apply_entry(view, log_id.index, &decoded))?;
                (applied.batch, applied.outcomes)
            }
            Payload::Membership(membership) => {
                let stored = StoredMembership::new(Some(log_id), membership);
                let value = convert::encode_stored_membership(&stored);
                (Batch([(keys::raft_membership(), Some(value))].into()), Vec::new())
            }
        };
        let mut applied = BytesMut::with_capacity(24);
        convert::put_log_id(&mut applied, &log_id);
        batch.0.insert(keys::raft_applied(), Some(applied.freeze()));
        self.store.commit(log_id.index, batch)?;
        metrics::histogram!(crate::metrics::APPLY_SECONDS).record(started.elapsed().as_secs_f64());
        Ok(Replies { outcomes })
    }
}

fn damaged(what: &'static str) -> impl Fn(convert::DecodeError) -> StoreError {
    move |error| StoreError::Damaged { what, detail: error.to_string() }
}

fn read_applied(view: &dyn KvRead) -> Result<Option<LogId>, StoreError> {
    let Some(mut value) = view.get(&keys::raft_applied())? else { return Ok(None) };
    convert::get_log_id(&mut value).map(Some).map_err(damaged("applied log id"))
}

/// Index of the log entry that this state is of.
///
/// # Errors
/// Storage failed.
pub fn applied_index(view: &dyn KvRead) -> Result<u64, StoreError> {
    Ok(read_applied(view)?.map_or(0, |id| id.index))
}

fn read_membership(view: &dyn KvRead) -> Result<StoredMembership, StoreError> {
    match view.get(&keys::raft_membership())? {
        Some(value) => convert::decode_stored_membership(&value).map_err(damaged("stored membership")),
        None => Ok(StoredMembership::default()),
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.state().map_err(|error| self.stop("read the applied state", error))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut slice = Instant::now();
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = entry.log_id.index;
            let replies =
                self.apply_one(entry).map_err(|error| self.stop(&format!("apply log entry {index}"), error))?;
            if let Some(responder) = responder {
                responder.send(replies);
            }
            if slice.elapsed() > APPLY_SLICE_MAX {
                tokio::task::yield_now().await;
                slice = Instant::now();
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, received: SnapshotFile) -> Result<(), io::Error> {
        let (this, meta) = (self.clone(), meta.clone());
        on_blocking_thread(move || this.install(&meta, received)).await
    }

    /// The newest checkpoint. Its pairs are verified by whoever takes them.
    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let stored = self.store.checkpoints().stored().map_err(|error| self.stop("look for checkpoints", error))?;
        let Some(newest) = stored.last() else { return Ok(None) };
        let snapshot = SnapshotFile::open(&newest.path)?;
        match snapshot.meta() {
            Ok(meta) => Ok(Some(Snapshot { meta, snapshot })),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = self.store.checkpoints().set_aside(newest, &error);
                aside.map_err(|error| self.stop("set a checkpoint aside", error))?;
                Ok(None)
            }
            Err(error) => Err(self.stop("read a checkpoint", error)),
        }
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let this = self.clone();
        on_blocking_thread(move || this.build()).await
    }
}

async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    crate::blocking::spawn(work).await.map_err(io::Error::other)?
}

impl StateMachine {
    fn build(&self) -> io::Result<Snapshot> {
        let fresh = self.fresh.0.lock().take();
        let made = fresh.map_or_else(|| self.store.checkpoint(checkpoint_head), Ok);
        let index = made.map_err(|error| self.stop("make a checkpoint", error))?;
        let snapshot = SnapshotFile::open(&self.store.checkpoints().path_of(index))?;
        Ok(Snapshot { meta: snapshot.meta()?, snapshot })
    }

    fn copy_of(&self, file: &File, index: u64) -> io::Result<PathBuf> {
        let part = self.store.checkpoints().path().join(format!("{index:020}.copy.part"));
        let (mut from, mut to) = (file.try_clone()?, File::create(&part)?);
        from.seek(SeekFrom::Start(0))?;
        io::copy(&mut from, &mut to)?;
        to.sync_all()?;
        Ok(part)
    }

    fn install(&self, meta: &SnapshotMeta, received: SnapshotFile) -> io::Result<()> {
        // All of it was verified when it came.
        if received.meta()? != *meta {
            return Err(self.stop("install a checkpoint", "it is of another index than announced"));
        }
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let installed = match &received.received {
            Some(part) => self.store.install(part, index),
            // It is one of ours, and newer than the state.
            None if self.store.checkpoints().path_of(index).exists() => self.store.load(&received.file),
            None => self.store.install(&self.copy_of(&received.file, index)?, index),
        };
        installed.map_err(|error| self.stop("install a checkpoint", error))
    }
}

/// What a checkpoint of this state is to say of itself.
///
/// # Errors
/// Storage failed.
pub fn checkpoint_head(view: &dyn KvRead) -> Result<Head, StoreError> {
    let meta = SnapshotMeta { last_log_id: read_applied(view)?, last_membership: read_membership(view)? };
    Ok(Head { index: meta.last_log_id.map_or(0, |id| id.index), meta: snapshot::encode_meta(&meta) })
}
