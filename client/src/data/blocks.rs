//! Blocks: reads stored blocks, each once at a time, and lets none through that is not what metadata says. Knows no files.
//! Called by chunk_reader; uploads put what they wrote into its cache.

use super::read_plan::Block;
use crate::cache::{BlockCache, BlockId};
use crate::error::ClientError;
use crate::object::{ObjectError, ObjectStore, keys};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

type Fetch = Shared<BoxFuture<'static, Result<Bytes, ClientError>>>;

/// CRC32C (Castagnoli), as kept in metadata for each block.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

pub struct Blocks {
    pub store: Arc<dyn ObjectStore>,
    pub cache: Box<dyn BlockCache>,
    fetches: Mutex<HashMap<BlockId, Fetch>>,
}

impl Blocks {
    pub fn new(store: Arc<dyn ObjectStore>, cache: Box<dyn BlockCache>) -> Self {
        Blocks { store, cache, fetches: Mutex::default() }
    }

    /// The whole block, verified.
    ///
    /// # Errors
    /// `Damaged`: it is missing, or is not what was written; `Object`: the store did not answer.
    pub async fn get(self: &Arc<Self>, block: Block) -> Result<Bytes, ClientError> {
        if let Some(bytes) = self.cache.get(block.id)
            && bytes.len() == block.len as usize
        {
            return Ok(bytes);
        }
        self.fetch(block).await
    }

    /// Joins a fetch of the block that is under way, or starts one. It runs in a task of its own: a reader that goes away must not
    /// stop the others.
    fn fetch(self: &Arc<Self>, block: Block) -> Fetch {
        let mut fetches = self.fetches.lock();
        if let Some(fetch) = fetches.get(&block.id) {
            return fetch.clone();
        }
        let blocks = self.clone();
        let task = tokio::spawn(async move {
            let result = blocks.read_verified(block).await;
            if let Ok(bytes) = &result {
                blocks.cache.insert(block.id, bytes.clone());
            }
            blocks.fetches.lock().remove(&block.id);
            result
        });
        let fetch = task
            .map(|joined| joined.unwrap_or_else(|error| Err(ClientError::Object(format!("read task: {error}")))))
            .boxed()
            .shared();
        fetches.insert(block.id, fetch.clone());
        fetch
    }

    /// Twice, if need be: what came may have been spoilt on its way, while the object itself is good.
    async fn read_verified(&self, block: Block) -> Result<Bytes, ClientError> {
        let key = keys::block_key(block.id.slice_id, block.id.index, block.len);
        let mut wrong = match self.read_once(&key, block).await? {
            Ok(bytes) => return Ok(bytes),
            Err(wrong) => wrong,
        };
        tracing::warn!(key, wrong, "a block came damaged from the object store, reading it again");
        match self.read_once(&key, block).await? {
            Ok(bytes) => return Ok(bytes),
            Err(again) => wrong = again,
        }
        Err(ClientError::Damaged(format!("block {key}: {wrong}")))
    }

    async fn read_once(&self, key: &str, block: Block) -> Result<Result<Bytes, String>, ClientError> {
        let bytes = match self.store.get(key).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound(_)) => return Ok(Err("it is missing".into())),
            Err(error) => return Err(ClientError::Object(error.to_string())),
        };
        if bytes.len() != block.len as usize {
            return Ok(Err(format!("it has {} bytes instead of {}", bytes.len(), block.len)));
        }
        let found = crc32c(&bytes);
        match found == block.crc32c {
            true => Ok(Ok(bytes)),
            false => Ok(Err(format!("its checksum is {found:08x} instead of {:08x}", block.crc32c))),
        }
    }
}
