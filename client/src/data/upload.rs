//! Upload: takes written bytes into memory, within the bound, and brings full blocks to the object store, several at once.
//! Called by mod (write, flush). Commits are in commit.rs, and come only after this.

use super::buffer_pool::Memory;
use super::chunk_writer::UploadJob;
use super::inode::Inode;
use super::{Data, layout};
use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::object::keys;
use bytes::Bytes;
use holdfast_proto::FsErrno;
use holdfast_proto::crash_points::{Point, crash_point};
use holdfast_proto::faults::{self, Bug};
use holdfast_proto::limits::FILE_BYTES_MAX;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How often a writer that waits for memory looks whether anything is on its way to free some.
const RELIEF_PAUSE: Duration = Duration::from_millis(100);
/// Slice ids of one mount, less some for the writes that are under way when it is reached.
const SLICE_COUNTER_MAX: u64 = u32::MAX as u64 - (1 << 20);

/// How late `Bug::LateUpload` is: as an object store may be.
const LATE: Duration = Duration::from_millis(300);

impl<M: MetaApi> Data<M> {
    /// Takes `data` into memory. The caller has checked nothing.
    pub(super) async fn take(
        &self,
        inode: &Arc<Inode>,
        offset: u64,
        data: &Bytes,
        kill_priv: bool,
    ) -> Result<(), ClientError> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        end.ok_or(ClientError::Refused(FsErrno::FBig))?;
        if self.slice_next.load(Relaxed) > SLICE_COUNTER_MAX {
            return Err(ClientError::Unavailable("this mount has used up its slice ids: mount again".into()));
        }
        for part in layout::split(offset, data.len(), self.part_max) {
            let memory = self.memory(part.len).await?;
            let session = self.meta.session();
            let bytes = &data[part.at..part.at + part.len as usize];
            let jobs = {
                let mut state = inode.state.lock();
                state.dirty_since.get_or_insert_with(Instant::now);
                state.kill_priv |= kill_priv;
                state.dirty.write(&part, bytes, memory, session, || self.slice_id(session))
            };
            self.start_uploads(inode, jobs);
        }
        self.bound_slices(inode).await
    }

    /// Ids grow within a session, and are never used again: the session makes them unique in the cluster.
    fn slice_id(&self, session: u64) -> u64 {
        (session << 32) | self.slice_next.fetch_add(1, Relaxed)
    }

    /// Many small slices, from random writes, are committed before they are too many.
    async fn bound_slices(&self, inode: &Arc<Inode>) -> Result<(), ClientError> {
        let (count, flushes) = {
            let state = inode.state.lock();
            (state.dirty.count(), state.flushes)
        };
        if count >= self.tuning.slices_max {
            return self.flush_inode(inode).await.map(drop);
        }
        if count >= self.tuning.slices_max / 4 && flushes == 0 {
            self.flush_in_background(inode);
        }
        Ok(())
    }

    /// Memory for `len` bytes. While it is short, uploads free it; where none is under way, partial blocks are sent off.
    ///
    /// # Errors
    /// `Object`: nothing could be freed for `memory_wait_max`: the store takes nothing.
    async fn memory(&self, len: u32) -> Result<Memory, ClientError> {
        if let Some(memory) = self.pool.try_take(len) {
            return Ok(memory);
        }
        let deadline = Instant::now() + self.tuning.memory_wait_max;
        let mut take = std::pin::pin!(self.pool.take(len));
        loop {
            // Sealing costs small objects, so it is done only when nothing else would free memory.
            if self.uploading.load(Relaxed) == 0 {
                self.relieve();
            }
            if let Ok(memory) = tokio::time::timeout(RELIEF_PAUSE, &mut take).await {
                return memory;
            }
            if Instant::now() >= deadline {
                tracing::error!("write buffers are full, and the object store takes nothing: writing fails");
                return Err(ClientError::Object("write buffers are full and cannot be uploaded".into()));
            }
        }
    }

    /// Sends off everything that is in memory, of all inodes.
    fn relieve(&self) {
        for inode in self.all_inodes() {
            let jobs = {
                let mut state = inode.state.lock();
                let through = state.dirty.last_seq();
                state.dirty.seal(through)
            };
            self.start_uploads(&inode, jobs);
        }
    }

    pub(super) fn start_uploads(&self, inode: &Arc<Inode>, jobs: Vec<UploadJob>) {
        for job in jobs {
            let Some(data) = self.me.upgrade() else { return };
            self.uploading.fetch_add(1, Relaxed);
            let inode = inode.clone();
            tokio::spawn(async move {
                data.upload(&inode, job).await;
                data.uploading.fetch_sub(1, Relaxed);
                inode.settled.notify_waiters();
                data.commit_in_background(&inode);
            });
        }
    }

    /// One block. Its memory is free when it is durable, and kept with it when it is not.
    async fn upload(&self, inode: &Arc<Inode>, job: UploadJob) {
        let Ok(_place) = self.upload_places.acquire().await else { return };
        let len = job.bytes.len() as u32;
        let key = keys::block_key(job.id.slice_id, job.id.index, len);
        let crc32c = super::blocks::crc32c(&job.bytes);
        if faults::planted(Bug::LateUpload) {
            inode.state.lock().dirty.stored(job.seq, job.id.index, len, crc32c);
            self.blocks.cache.insert(job.id, job.bytes.clone());
            inode.settled.notify_waiters();
            tokio::time::sleep(LATE).await;
        }
        crash_point(Point::UploadBegin);
        match self.blocks.store.put(&key, job.bytes.clone()).await {
            Ok(()) => {
                crash_point(Point::UploadDone);
                self.blocks.cache.insert(job.id, job.bytes.clone());
                let wanted = inode.state.lock().dirty.stored(job.seq, job.id.index, len, crc32c);
                if !wanted {
                    // Its slice was dropped before this block was through, so no commit can have named it.
                    self.blocks.cache.remove(job.id);
                    if let Err(error) = self.blocks.store.delete(&key).await {
                        tracing::warn!(key, %error, "cannot delete a block that no file needs");
                    }
                }
            }
            Err(error) => {
                tracing::error!(ino = inode.ino, key, %error, "upload failed; the data is kept and tried again");
                inode.state.lock().dirty.failed(job, ClientError::Object(error.to_string()));
            }
        }
    }
}
