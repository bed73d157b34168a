//! data: the bytes of files. Maps offsets to chunks, slices and blocks; uploads, then commits; reads and verifies.
//! Called by vfs only. docs/data_path.md tells the whole story.
//!
//! Invariants: a slice is committed only after all its blocks are durable; slices of one inode are committed in the order they were
//! begun; a block leaves here only if its checksum is the one metadata has; dirty data is dropped only with an error to every handle.

use crate::cache::mem::MemCache;
use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::object::ObjectStore;
use blocks::Blocks;
use buffer_pool::BufferPool;
use bytes::Bytes;
use holdfast_proto::pb;
use inode::Inode;
use parking_lot::Mutex;
use readahead::{Readahead, WINDOW_BYTES_MAX};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

pub mod blocks;
mod buffer_pool;
mod chunk_reader;
mod chunk_writer;
mod commit;
mod inode;
mod layout;
pub mod memory_meta;
mod read_plan;
mod readahead;
mod reclaim;
mod upload;

#[cfg(test)]
mod fault_test;
#[cfg(test)]
mod model_test;

/// Bounds of the data path.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// The volume's block size, bytes.
    pub block_bytes: u32,
    /// Most memory that written and not yet uploaded data may take, bytes.
    pub buffer_bytes_max: usize,
    /// Most memory of the block cache, bytes.
    pub cache_bytes_max: u64,
    /// Most uploads at once.
    pub uploads_max: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            block_bytes: holdfast_proto::limits::BLOCK_BYTES_DEFAULT,
            buffer_bytes_max: 256 << 20,
            cache_bytes_max: 512 << 20,
            uploads_max: 16,
        }
    }
}

/// Bounds that no user needs to set.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Most uncommitted slices of one inode: a write beyond flushes first. Commits start in the background at a quarter.
    pub slices_max: usize,
    /// How long a write waits for memory before it fails, where the store takes nothing.
    pub memory_wait_max: Duration,
    /// Data that was dirty for so long is flushed without being asked.
    pub dirty_max: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning { slices_max: 1024, memory_wait_max: Duration::from_secs(60), dirty_max: Duration::from_secs(5) }
    }
}

/// One open of a file, by whatever name. Made by `Data::open`, given back to `Data::release`.
pub struct OpenFile {
    pub ino: u64,
    inode: Arc<Inode>,
    readahead: Mutex<Readahead>,
    /// Losses that this handle was told.
    losses_seen: AtomicU64,
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile").field("ino", &self.ino).finish_non_exhaustive()
    }
}

/// The data path of one mount. All methods may be called from many tasks at once, inside a tokio runtime.
pub struct Data<M: MetaApi> {
    me: Weak<Self>,
    meta: Arc<M>,
    config: DataConfig,
    tuning: Tuning,
    blocks: Arc<Blocks>,
    pool: BufferPool,
    upload_places: Semaphore,
    /// Blocks on their way to the store.
    uploading: AtomicUsize,
    /// Longest run of bytes taken in one step.
    part_max: u32,
    inodes: Mutex<HashMap<u64, Arc<Inode>>>,
    slice_next: AtomicU64,
    reclaiming: tokio::sync::Mutex<()>,
    flusher_started: AtomicBool,
}

impl<M: MetaApi> Data<M> {
    pub fn new(meta: Arc<M>, store: Arc<dyn ObjectStore>, config: DataConfig) -> Arc<Self> {
        Self::with_tuning(meta, store, config, Tuning::default())
    }

    pub fn with_tuning(meta: Arc<M>, store: Arc<dyn ObjectStore>, config: DataConfig, tuning: Tuning) -> Arc<Self> {
        let cache = Box::new(MemCache::new(config.cache_bytes_max));
        // Two blocks at least, or nothing could be in upload while something is written.
        let pool = BufferPool::new(config.buffer_bytes_max.max(2 * config.block_bytes as usize));
        let part_max = (pool.bytes_max() / 2).min(config.block_bytes as usize) as u32;
        Arc::new_cyclic(|me| Data {
            me: me.clone(),
            meta,
            tuning,
            blocks: Arc::new(Blocks::new(store, cache)),
            pool,
            upload_places: Semaphore::new(config.uploads_max.max(1)),
            uploading: AtomicUsize::new(0),
            part_max,
            inodes: Mutex::default(),
            slice_next: AtomicU64::new(1),
            reclaiming: tokio::sync::Mutex::default(),
            flusher_started: AtomicBool::new(false),
            config,
        })
    }

    /// Registers an open of `attr.ino`; `attr` is fresh (an open query, or a create). Handles of one inode share dirty data.
    pub fn open(&self, attr: &pb::Attr) -> Arc<OpenFile> {
        let mut inodes = self.inodes.lock();
        let new = || Arc::new(Inode::new(attr.ino, self.config.block_bytes));
        let inode = inodes.entry(attr.ino).or_insert_with(new).clone();
        let losses = {
            let mut state = inode.state.lock();
            state.opens += 1;
            state.observe(attr);
            state.loss.sample()
        };
        let window_max = WINDOW_BYTES_MAX.min(self.config.cache_bytes_max / 4);
        let readahead = Mutex::new(Readahead::new(self.config.block_bytes, window_max));
        Arc::new(OpenFile { ino: attr.ino, inode, readahead, losses_seen: AtomicU64::new(losses) })
    }

    /// Buffers `data` at `offset`; returns when it is taken, which waits while the buffers are full. Full blocks start to upload.
    pub async fn write(&self, file: &OpenFile, offset: u64, data: Bytes) -> Result<(), ClientError> {
        self.write_by(file, offset, data, false).await
    }

    /// The same; with `kill_priv` the commit will take set-user-ID and set-group-ID away.
    pub async fn write_by(
        &self,
        file: &OpenFile,
        offset: u64,
        data: Bytes,
        kill_priv: bool,
    ) -> Result<(), ClientError> {
        if data.is_empty() {
            return Ok(());
        }
        self.start_flusher();
        self.take(&file.inode, offset, &data, kill_priv).await
    }

    /// Bytes [offset, offset + len), shorter at end of file, in pieces. Sees every write of this mount that returned before.
    pub async fn read(&self, file: &OpenFile, offset: u64, len: u32) -> Result<Vec<Bytes>, ClientError> {
        self.read_range(file, offset, len).await
    }

    /// Makes everything written to the inode durable and committed (fsync, close). EIO if any of it was lost since this handle
    /// last asked. Costs nothing if nothing is dirty. Returns the attributes of the last commit, if there was one.
    pub async fn flush(&self, file: &OpenFile) -> Result<Option<pb::Attr>, ClientError> {
        let result = self.flush_inode(&file.inode).await;
        let loss = {
            let mut state = file.inode.state.lock();
            let seen = file.losses_seen.swap(state.loss.seq, Relaxed);
            state.loss.since(seen)
        };
        match loss {
            Some(error) => Err(error),
            None => result,
        }
    }

    /// The same, by inode: before setattr, getattr by others, link, rename: whoever needs the server to know the size.
    pub async fn flush_ino(&self, ino: u64) -> Result<(), ClientError> {
        match self.inode(ino) {
            Some(inode) => self.flush_inode(&inode).await.map(drop),
            None => Ok(()),
        }
    }

    /// Size with uncommitted writes counted; None if the inode has none.
    pub fn dirty_size(&self, ino: u64) -> Option<u64> {
        let inode = self.inode(ino)?;
        let state = inode.state.lock();
        (!state.dirty.is_empty()).then(|| state.size_now())
    }

    /// Size of an open file, with uncommitted writes counted.
    pub fn size(&self, file: &OpenFile) -> u64 {
        file.inode.state.lock().size_now()
    }

    /// By how much open files have grown that is not committed yet, bytes.
    pub fn uncommitted_growth(&self) -> u64 {
        let inodes: Vec<_> = self.inodes.lock().values().cloned().collect();
        let growth = |inode: &Arc<Inode>| {
            let state = inode.state.lock();
            state.size_now() - state.size
        };
        inodes.iter().map(growth).sum()
    }

    /// Newest data version known of an inode that is open here.
    pub fn version(&self, ino: u64) -> Option<u64> {
        Some(self.inode(ino)?.state.lock().version)
    }

    /// Names of the objects that a slice is stored as, below the volume's prefix; none for a hole.
    pub fn object_keys(&self, slice: &pb::Slice) -> Vec<String> {
        if slice.slice_id == 0 {
            return Vec::new();
        }
        crate::object::keys::slice_keys(slice.slice_id, slice.slice_len, self.config.block_bytes)
    }

    /// Fresh attributes arrived: what is cached of another data version is dropped.
    pub fn observe(&self, attr: &pb::Attr) {
        if let Some(inode) = self.inode(attr.ino) {
            inode.state.lock().observe(attr);
        }
    }

    /// Last call for a handle. Dirty data that is left is flushed; what fails is logged.
    pub async fn release(&self, file: Arc<OpenFile>) {
        let inode = &file.inode;
        let last = {
            let mut state = inode.state.lock();
            state.opens = state.opens.saturating_sub(1);
            state.opens == 0
        };
        if !last {
            return;
        }
        let result = self.flush_inode(inode).await;
        let mut inodes = self.inodes.lock();
        let mut state = inode.state.lock();
        if state.opens > 0 {
            return;
        }
        if let Err(error) = result {
            let (bytes, _) = state.lose_all(error.clone());
            tracing::error!(ino = inode.ino, bytes, %error, "the last handle was closed: data that could not be saved is lost");
        }
        inodes.remove(&inode.ino);
    }

    /// Inodes that are open here: what an orphan question asks.
    pub fn is_open(&self, ino: u64) -> bool {
        self.inodes.lock().contains_key(&ino)
    }

    /// The session was lost: uncommitted data of it is failed (EIO at the next flush), never silently dropped.
    pub fn fence(&self) {
        for inode in self.all_inodes() {
            let (bytes, _) = {
                let mut state = inode.state.lock();
                state.lists.clear();
                state.lose_all(ClientError::SessionLost)
            };
            inode.settled.notify_waiters();
            if bytes > 0 {
                tracing::error!(ino = inode.ino, bytes, "the session was lost: data written under it is lost");
            }
        }
    }

    /// Memory that written data takes now, bytes.
    pub fn buffered_bytes(&self) -> usize {
        self.pool.used()
    }

    fn inode(&self, ino: u64) -> Option<Arc<Inode>> {
        self.inodes.lock().get(&ino).cloned()
    }

    fn all_inodes(&self) -> Vec<Arc<Inode>> {
        self.inodes.lock().values().cloned().collect()
    }

    /// Files that are written and neither closed nor synced (logs) get out as well. Starts with the first write, ends with the mount.
    fn start_flusher(&self) {
        if self.flusher_started.swap(true, Relaxed) {
            return;
        }
        let me = self.me.clone();
        let dirty_max = self.tuning.dirty_max;
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(dirty_max / 4).await;
                let Some(data) = me.upgrade() else { return };
                for inode in data.all_inodes() {
                    let due = {
                        let state = inode.state.lock();
                        state.flushes == 0 && state.dirty_since.is_some_and(|since| since.elapsed() >= dirty_max)
                    };
                    if due {
                        data.flush_in_background(&inode);
                    }
                }
            }
        });
    }
}
