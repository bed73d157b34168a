//! The glue between openraft and apply: each committed entry is applied to the store as one step, together with its own log id,
//! and answered at once. A StoreError stops the node. Called by openraft only.

use super::convert;
use super::snapshot::{self, SnapshotFile};
use super::types::{Entry, LogId, Payload, Replies, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::apply::apply_entry;
use crate::error::Fatal;
use crate::store::{Batch, KvCommit, KvRead, StoreError, keys};
use bytes::BytesMut;
use futures::{Stream, TryStreamExt};
use holdfast_proto::pb;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};
use prost::Message;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The store this node runs on.
pub type NodeStore = crate::store::durable::DurableStore;

/// Apply runs on Raft's own thread: after this long it lets heartbeats through.
const APPLY_SLICE_MAX: Duration = Duration::from_millis(3);

#[derive(Clone)]
pub struct StateMachine {
    store: Arc<NodeStore>,
    snapshots: Arc<SnapshotDir>,
    fatal: Fatal,
}

struct SnapshotDir(PathBuf);

impl SnapshotDir {
    fn current(&self) -> PathBuf {
        self.0.join("current.snap")
    }
}

impl StateMachine {
    /// # Errors
    /// The snapshot directory cannot be made or emptied of leftovers.
    pub fn new(store: Arc<NodeStore>, snapshot_dir: &Path, fatal: Fatal) -> io::Result<StateMachine> {
        std::fs::create_dir_all(snapshot_dir)?;
        for leftover in std::fs::read_dir(snapshot_dir)? {
            let path = leftover?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                std::fs::remove_file(path)?;
            }
        }
        Ok(StateMachine { store, snapshots: Arc::new(SnapshotDir(snapshot_dir.to_owned())), fatal })
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

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshot = match SnapshotFile::open(&self.snapshots.current()) {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match snapshot::Reader::open(&snapshot.file) {
            Ok(reader) => Ok(Some(Snapshot { meta: reader.meta, snapshot })),
            // The state is whole without it: a damaged snapshot is one we do not have.
            Err(error) => {
                tracing::warn!(%error, "the stored snapshot is ignored");
                Ok(None)
            }
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
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

impl StateMachine {
    fn build(&self) -> io::Result<Snapshot> {
        let part = self.snapshots.0.join(format!("build-{:016x}.part", rand::random::<u64>()));
        let meta = self.store.view(|view| {
            let last_log_id = read_applied(view).map_err(io::Error::other)?;
            let last_membership = read_membership(view).map_err(io::Error::other)?;
            let meta = SnapshotMeta { last_log_id, last_membership };
            snapshot::write(&part, &meta, view).map(|()| meta)
        })?;
        let current = self.snapshots.current();
        std::fs::rename(&part, &current)?;
        Ok(Snapshot { meta, snapshot: SnapshotFile::open(&current)? })
    }

    fn install(&self, meta: &SnapshotMeta, mut received: SnapshotFile) -> io::Result<()> {
        // A damaged transfer is found before anything of ours is replaced.
        if snapshot::verify(&received.file)? != *meta {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "snapshot is of another index than announced"));
        }
        let mut reader = snapshot::Reader::open(&received.file)?;
        let mut failed = None;
        let pairs = std::iter::from_fn(|| match reader.next_pair() {
            Ok(pair) => pair,
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        let mut pairs = pairs.fuse();
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let replaced = self.store.replace(index, &mut pairs);
        replaced.map_err(|error| self.stop("install a snapshot", error))?;
        if let Some(error) = failed {
            return Err(self.stop("read a snapshot that was verified", error));
        }
        match received.scratch.take() {
            Some(path) => std::fs::rename(path, self.snapshots.current()),
            None => self.keep_copy(&received),
        }
    }

    fn keep_copy(&self, snapshot: &SnapshotFile) -> io::Result<()> {
        let part = self.snapshots.0.join(format!("copy-{:016x}.part", rand::random::<u64>()));
        let mut from = &snapshot.file;
        from.seek(SeekFrom::Start(0))?;
        let mut to = File::create(&part)?;
        io::copy(&mut from, &mut to)?;
        to.sync_all()?;
        std::fs::rename(&part, self.snapshots.current())
    }
}
