//! Commit: makes uploaded slices part of the file, in the order they were written; flush, which brings everything there; and what
//! happens to data that can never get there. Called by mod.

use super::Data;
use super::chunk_writer::{Batch, Settled};
use super::inode::Inode;
use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::object::keys;
use holdfast_proto::crash_points::{Point, crash_point};
use holdfast_proto::limits::{COMMIT_SLICES_MAX, REQUEST_BYTES_MAX};
use holdfast_proto::{FsErrno, pb};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// A background commit waits for so many slices, unless a chunk was filled.
const BACKGROUND_SLICES_MIN: usize = 64;

/// Counts a flush while it runs, however it ends.
struct FlushGuard<'a>(&'a Inode);

impl<'a> FlushGuard<'a> {
    fn new(inode: &'a Inode) -> Self {
        inode.state.lock().flushes += 1;
        FlushGuard(inode)
    }
}

impl Drop for FlushGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().flushes -= 1;
    }
}

impl<M: MetaApi> Data<M> {
    /// Brings all that was written before the call into the object store and into metadata.
    ///
    /// # Errors
    /// It did not work: the data is kept, and the next flush tries again; or it was lost meanwhile.
    pub(super) async fn flush_inode(&self, inode: &Arc<Inode>) -> Result<Option<pb::Attr>, ClientError> {
        let (through, losses) = {
            let state = inode.state.lock();
            if state.dirty.is_empty() {
                return Ok(None);
            }
            (state.dirty.last_seq(), state.loss.seq)
        };
        let _guard = FlushGuard::new(inode);
        let jobs = inode.state.lock().dirty.seal(through);
        self.start_uploads(inode, jobs);
        self.wait_uploaded(inode, through).await?;
        let attr = self.commit_through(inode, through).await?;
        crash_point(Point::FlushDone);
        match inode.state.lock().loss.since(losses) {
            Some(error) => Err(error),
            None => Ok(attr),
        }
    }

    async fn wait_uploaded(&self, inode: &Inode, through: u64) -> Result<(), ClientError> {
        loop {
            let mut notified = std::pin::pin!(inode.settled.notified());
            // Registered before the look, so that an upload that ends in between is not missed.
            notified.as_mut().enable();
            match inode.state.lock().dirty.settled(through) {
                Settled::AllStored => return Ok(()),
                Settled::Failed(error) => return Err(error),
                Settled::Waiting => {}
            }
            notified.await;
        }
    }

    /// Commits the slices at the front, up to `through`, that are stored.
    async fn commit_through(&self, inode: &Arc<Inode>, through: u64) -> Result<Option<pb::Attr>, ClientError> {
        let _turn = inode.commits.lock().await;
        let mut last = None;
        loop {
            let session = self.meta.session();
            let (batch, kill_priv) = {
                let mut state = inode.state.lock();
                if state.dirty.has_foreign(through, session) {
                    let bytes = state.dirty.drop_foreign(session);
                    state.loss.record(ClientError::SessionLost);
                    drop(state);
                    inode.settled.notify_waiters();
                    tracing::error!(ino = inode.ino, bytes, "the session was lost: data written under it is lost");
                    return Err(ClientError::SessionLost);
                }
                (state.dirty.ready(through, COMMIT_SLICES_MAX, REQUEST_BYTES_MAX / 2), state.kill_priv)
            };
            if batch.seqs.is_empty() {
                return Ok(last);
            }
            let Some(batch) = self.resolve_doubt(inode, batch).await? else { continue };
            let op = pb::CommitWriteOp { ino: inode.ino, slices: batch.slices, kill_priv };
            crash_point(Point::CommitBegin);
            let committed = self.meta.mutate(&own_creds(), op).await.inspect(|_| crash_point(Point::CommitDone));
            match committed {
                Ok(answer) => last = self.committed(inode, &batch.seqs, answer.reply.attr).or(last),
                Err(error) => return Err(self.commit_failed(inode, &batch.seqs, error).await),
            }
        }
    }

    fn committed(&self, inode: &Inode, seqs: &[u64], attr: Option<pb::Attr>) -> Option<pb::Attr> {
        let mut state = inode.state.lock();
        // In one step with the newer version: a read sees the slices as dirty or as committed, never as neither.
        if let Some(attr) = &attr {
            state.observe(attr);
        }
        state.dirty.remove(seqs);
        state.kill_priv &= !state.dirty.is_empty();
        state.dirty_since = if state.dirty.is_empty() { None } else { Some(Instant::now()) };
        attr
    }

    /// A commit that ended without an answer may have happened. Asks metadata before its slices are sent again, for a slice id may be
    /// named only once. A commit is one step: one of its slices in the file means that all were there. If none is, it did not happen,
    /// provided that nobody else changed the file, who could have hidden them all.
    ///
    /// # Errors
    /// It cannot be known: the data is given up, and its writers are told.
    async fn resolve_doubt(&self, inode: &Arc<Inode>, batch: Batch) -> Result<Option<Batch>, ClientError> {
        let Some(version_before) = batch.doubt else { return Ok(Some(batch)) };
        let chunks: BTreeSet<u32> = batch.slices.iter().map(|slice| slice.chunk).collect();
        let sent: BTreeSet<u64> = batch.slices.iter().map(|slice| slice.slice_id).collect();
        let (mut arrived, mut newest) = (false, None);
        for chunk in chunks {
            let ask = pb::ReadSlicesQuery { ino: inode.ino, first_chunk: chunk, chunk_count: 1 };
            let reply = match self.meta.query(&own_creds(), ask).await {
                Ok(answer) => answer.reply,
                Err(error @ ClientError::Refused(_)) => {
                    return Err(self.commit_failed(inode, &batch.seqs, error).await);
                }
                Err(error) => return Err(error),
            };
            arrived |= reply.slices.iter().any(|slice| sent.contains(&slice.slice_id));
            newest = reply.attr;
        }
        if arrived {
            self.committed(inode, &batch.seqs, newest);
            return Ok(None);
        }
        if newest.is_some_and(|attr| attr.data_version == version_before) {
            return Ok(Some(batch));
        }
        let error = ClientError::Unavailable("a commit had no answer, and the file was changed by others since".into());
        let (bytes, _) = inode.state.lock().lose_all(error.clone());
        inode.settled.notify_waiters();
        tracing::error!(ino = inode.ino, bytes, "{error}: written data may be lost");
        Err(error)
    }

    /// Sorts a failed commit: the file is gone, the session is gone, or it can be tried again.
    async fn commit_failed(&self, inode: &Arc<Inode>, seqs: &[u64], error: ClientError) -> ClientError {
        match &error {
            ClientError::Refused(FsErrno::Stale | FsErrno::NoEnt) | ClientError::SessionLost => {
                let (bytes, unnamed) = inode.state.lock().lose_all(error.clone());
                inode.settled.notify_waiters();
                tracing::error!(ino = inode.ino, bytes, %error, "written data can no longer be committed: it is lost");
                if error != ClientError::SessionLost {
                    self.delete_unnamed(&unnamed).await;
                }
            }
            ClientError::Refused(_) => {
                tracing::warn!(ino = inode.ino, %error, "commit refused; the data is kept and tried again");
            }
            _ => {
                let mut state = inode.state.lock();
                let version = state.version;
                state.dirty.mark_doubtful(seqs, version);
                drop(state);
                tracing::error!(ino = inode.ino, %error, "commit failed; the data is kept and tried again");
            }
        }
        error
    }

    /// Objects of slices whose commit was refused for good. What stays costs space only.
    async fn delete_unnamed(&self, slices: &[(u64, u32)]) {
        for (slice_id, len) in slices {
            for key in keys::slice_keys(*slice_id, *len, self.config.block_bytes) {
                if let Err(error) = self.blocks.store.delete(&key).await {
                    tracing::warn!(key, %error, "cannot delete a block that no file needs");
                    return;
                }
            }
        }
    }

    /// Long writing commits as it goes, so that closing a large file is not one giant commit.
    pub(super) fn commit_in_background(&self, inode: &Arc<Inode>) {
        let through = {
            let mut state = inode.state.lock();
            let (count, chunk_filled) = state.dirty.ready_count();
            if state.flushes > 0 || state.committing || !(chunk_filled || count >= BACKGROUND_SLICES_MIN) {
                return;
            }
            state.committing = true;
            state.dirty.last_seq()
        };
        let Some(data) = self.me.upgrade() else { return };
        let inode = inode.clone();
        tokio::spawn(async move {
            // What fails is told in the log by commit_through, and to the application by the next flush.
            let _ = data.commit_through(&inode, through).await;
            inode.state.lock().committing = false;
        });
    }

    pub(super) fn flush_in_background(&self, inode: &Arc<Inode>) {
        let Some(data) = self.me.upgrade() else { return };
        let inode = inode.clone();
        tokio::spawn(async move {
            if let Err(error) = data.flush_inode(&inode).await {
                // Not at once again: the store or the cluster is in trouble already.
                if let Some(since) = &mut inode.state.lock().dirty_since {
                    *since = Instant::now();
                }
                tracing::warn!(ino = inode.ino, %error, "background flush failed; the next one tries again");
            }
        });
    }
}
