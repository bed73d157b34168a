//! Where checkpoints of the leader arrive. A transfer that broke off is taken up again after its last whole block, even after a restart of
//! this node: the same state at the same index is the same file on every node. Called by raft_service.

use crate::raft::snapshot::{SnapshotFile, decode_meta};
use crate::raft::types::SnapshotMeta;
use crate::store::checkpoint;
use holdfast_proto::crash_points::{Point, crash_point};
use holdfast_proto::pb::RaftFrame;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};
use tonic::{Status, Streaming};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

pub struct SnapshotInbox {
    dir: PathBuf,
    /// One transfer at a time.
    turn: Mutex<()>,
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Status> {
    crate::blocking::spawn(work).await.map_err(fatal)?.map_err(fatal)
}

impl SnapshotInbox {
    pub fn new(dir: &Path) -> SnapshotInbox {
        SnapshotInbox { dir: dir.to_owned(), turn: Mutex::default() }
    }

    fn turn(&self) -> Result<MutexGuard<'_, ()>, Status> {
        self.turn.try_lock().map_err(|_| Status::unavailable("another transfer of a checkpoint is under way"))
    }

    fn path(&self, meta: &SnapshotMeta, body_bytes: u64) -> PathBuf {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        self.dir.join(format!("receive-{index:020}-{body_bytes}.part"))
    }

    /// How many bytes of it are here and good. What is here of others goes.
    ///
    /// # Errors
    /// Unavailable while another one arrives; Internal where the disk fails.
    pub async fn offered(&self, meta: &SnapshotMeta, body_bytes: u64) -> Result<u64, Status> {
        let _turn = self.turn()?;
        let (dir, path) = (self.dir.clone(), self.path(meta, body_bytes));
        blocking(move || {
            remove_others(&dir, &path)?;
            let file = match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            };
            let good = checkpoint::good_bytes(&file)?.min(body_bytes);
            file.set_len(good)?;
            Ok(good)
        })
        .await
    }

    /// Takes the rest of it, and returns it whole, verified and synced.
    ///
    /// # Errors
    /// DataLoss where it is not what was announced: the next transfer begins anew. Else the stream broke off, or the disk failed; what came stays.
    pub async fn receive(
        &self,
        meta: &SnapshotMeta,
        body_bytes: u64,
        frames: &mut Streaming<RaftFrame>,
    ) -> Result<SnapshotFile, Status> {
        let _turn = self.turn()?;
        let path = self.path(meta, body_bytes);
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(fatal)?;
        let mut bytes = file.seek(SeekFrom::End(0)).map_err(fatal)?;
        let mut told = Instant::now();
        tracing::info!(bytes, of = body_bytes, "receives a checkpoint");
        while let Some(frame) = frames.message().await? {
            let from = bytes;
            bytes += frame.data.len() as u64;
            if bytes > body_bytes {
                discard(&path);
                return Err(Status::data_loss("the checkpoint is longer than announced"));
            }
            let mut file = file.try_clone().map_err(fatal)?;
            // Not all of it at the end: what else needs this disk would wait.
            blocking(move || {
                file.write_all(&frame.data)?;
                checkpoint::write_back(&file, from, bytes)
            })
            .await?;
            crash_point(Point::InboxWritten);
            if told.elapsed() > PROGRESS_INTERVAL {
                told = Instant::now();
                tracing::info!(bytes, of = body_bytes, "receives a checkpoint");
            }
        }
        if bytes != body_bytes {
            return Err(Status::unavailable("the checkpoint broke off"));
        }
        self.check(meta, path, file).await
    }

    async fn check(&self, meta: &SnapshotMeta, path: PathBuf, file: File) -> Result<SnapshotFile, Status> {
        let synced = file.try_clone().map_err(fatal)?;
        let found = blocking(move || {
            synced.sync_all()?;
            crash_point(Point::InboxSynced);
            Ok(checkpoint::verify(&synced).and_then(decode_meta).inspect(|_| crash_point(Point::InboxVerified)))
        });
        match found.await? {
            Ok(found) if found == *meta => SnapshotFile::open(&path)
                .map(|snapshot| SnapshotFile { received: Some(path), ..snapshot })
                .map_err(fatal),
            wrong => {
                discard(&path);
                let why = wrong.map_or_else(|error| error.to_string(), |_| "it is of another state".to_owned());
                tracing::warn!(why, "a received checkpoint is of no use; it is asked for again");
                Err(Status::data_loss(format!("the checkpoint that came is of no use: {why}")))
            }
        }
    }
}

/// What is left is removed by the next offer.
fn discard(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "remove a checkpoint that is of no use");
    }
}

fn remove_others(dir: &Path, keep: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("receive-") && path != keep {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
