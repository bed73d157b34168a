//! data: the bytes of files. Maps offsets to chunks, slices and blocks; uploads, then commits; reads and verifies.
//! Called by vfs only.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::object::ObjectStore;
use bytes::Bytes;
use holdfast_proto::pb;
use std::sync::Arc;

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

/// One open of a file, by whatever name. Made by `Data::open`, given back to `Data::release`.
#[derive(Debug)]
pub struct OpenFile {
    pub ino: u64,
}

/// The data path of one mount. All methods may be called from many tasks at once.
pub struct Data<M: MetaApi> {
    _meta: Arc<M>,
    _store: Arc<dyn ObjectStore>,
    _config: DataConfig,
}

impl<M: MetaApi> Data<M> {
    pub fn new(meta: Arc<M>, store: Arc<dyn ObjectStore>, config: DataConfig) -> Arc<Self> {
        Arc::new(Data { _meta: meta, _store: store, _config: config })
    }

    /// Registers an open of `attr.ino`; `attr` is fresh (an open query, or a create). Handles of one inode share dirty data.
    pub fn open(&self, attr: &pb::Attr) -> Arc<OpenFile> {
        Arc::new(OpenFile { ino: attr.ino })
    }

    /// Buffers `data` at `offset`; returns when it is taken, which waits while the buffers are full. Full blocks start to upload.
    pub async fn write(&self, _file: &OpenFile, _offset: u64, _data: Bytes) -> Result<(), ClientError> {
        Err(ClientError::Refused(holdfast_proto::FsErrno::NoSys))
    }

    /// Bytes [offset, offset + len), shorter at end of file, in pieces. Sees every write of this mount that returned before.
    pub async fn read(&self, _file: &OpenFile, _offset: u64, _len: u32) -> Result<Vec<Bytes>, ClientError> {
        Err(ClientError::Refused(holdfast_proto::FsErrno::NoSys))
    }

    /// Makes everything written to the inode durable and committed (fsync, close). EIO if any of it was lost since this handle
    /// last asked. Costs nothing if nothing is dirty. Returns the attributes of the last commit, if there was one.
    pub async fn flush(&self, _file: &OpenFile) -> Result<Option<pb::Attr>, ClientError> {
        Ok(None)
    }

    /// The same, by inode: before setattr, getattr by others, link, rename: whoever needs the server to know the size.
    pub async fn flush_ino(&self, _ino: u64) -> Result<(), ClientError> {
        Ok(())
    }

    /// Size with uncommitted writes counted; None if the inode has none.
    pub fn dirty_size(&self, _ino: u64) -> Option<u64> {
        None
    }

    /// Fresh attributes arrived: what is cached of another data version is dropped.
    pub fn observe(&self, _attr: &pb::Attr) {}

    /// Last call for a handle. Dirty data that is left is flushed; what fails is logged.
    pub async fn release(&self, _file: Arc<OpenFile>) {}

    /// Inodes that are open here: what an orphan question asks.
    pub fn is_open(&self, _ino: u64) -> bool {
        false
    }

    /// The session was lost: uncommitted data of it is failed (EIO at the next flush), never silently dropped.
    pub fn fence(&self) {}
}
