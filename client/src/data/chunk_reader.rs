//! Reads: committed slices, with what is dirty laid over them, from cache or store. Called by mod (read).

use super::inode::{Inode, State};
use super::layout::{chunk_start, chunks_of};
use super::read_plan::{Piece, Source, overlay};
use super::{Data, OpenFile};
use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use bytes::Bytes;
use futures::future::try_join_all;
use holdfast_proto::limits::{CHUNK_BYTES, READ_CHUNKS_MAX};
use holdfast_proto::pb;
use std::ops::Range;
use std::sync::Arc;

/// Lists of so many further chunks come with the ones that are needed.
const CHUNKS_AHEAD: u32 = 3;
/// Attempts to get lists that our own commits do not overtake.
const LIST_ATTEMPTS_MAX: u32 = 100;

static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

impl<M: MetaApi> Data<M> {
    pub(super) async fn read_range(&self, file: &OpenFile, offset: u64, len: u32) -> Result<Vec<Bytes>, ClientError> {
        let inode = &file.inode;
        let (plan, size) = self.plan(inode, offset, u64::from(len)).await?;
        let Some(end) = plan.last().map(|piece| piece.range.end) else { return Ok(Vec::new()) };
        let ahead = file.readahead.lock().on_read(offset, end - offset, size);
        if let Some(range) = ahead {
            self.read_ahead(inode, range);
        }
        match self.gather(plan).await {
            Err(ClientError::Damaged(reason)) => self.read_again(inode, offset, len, reason).await,
            other => other,
        }
    }

    /// A block that is gone may have been hidden, truncated away and deleted by others since the list was fetched: the newest list
    /// decides. What it still names and is not there is damage.
    async fn read_again(
        &self,
        inode: &Arc<Inode>,
        offset: u64,
        len: u32,
        reason: String,
    ) -> Result<Vec<Bytes>, ClientError> {
        tracing::warn!(
            ino = inode.ino,
            offset,
            reason,
            "a block is damaged or gone, asking metadata for the newest list"
        );
        inode.state.lock().lists.clear();
        let (plan, _) = self.plan(inode, offset, u64::from(len)).await?;
        let result = self.gather(plan).await;
        if let Err(error) = &result {
            tracing::error!(ino = inode.ino, offset, %error, "cannot read");
        }
        result
    }

    /// The pieces of the range, as of one moment, and the file's size then.
    async fn plan(&self, inode: &Arc<Inode>, offset: u64, len: u64) -> Result<(Vec<Piece>, u64), ClientError> {
        for _ in 0..LIST_ATTEMPTS_MAX {
            let asked = {
                let state = inode.state.lock();
                if let Some(plan) = self.plan_now(&state, offset, len) {
                    return Ok(plan);
                }
                let end = offset.saturating_add(len).min(state.size);
                let chunks = chunks_of(&(offset..end));
                let last_of_file = chunks_of(&(0..state.size)).end() + 1;
                let wanted = (chunks.end() + 1 + CHUNKS_AHEAD).min(last_of_file);
                *chunks.start()..wanted.min(chunks.start().saturating_add(READ_CHUNKS_MAX))
            };
            let chunk_count = asked.end - asked.start;
            let ask = pb::ReadSlicesQuery { ino: inode.ino, first_chunk: asked.start, chunk_count };
            let reply = self.meta.query(&own_creds(), ask).await?.reply;
            let mut state = inode.state.lock();
            state.absorb(reply, asked, self.config.block_bytes).map_err(ClientError::Protocol)?;
            if let Some(plan) = self.plan_now(&state, offset, len) {
                return Ok(plan);
            }
        }
        Err(ClientError::Unavailable(format!("the slices of inode {} change too fast to be read", inode.ino)))
    }

    /// None if the list of a chunk is missing.
    fn plan_now(&self, state: &State, offset: u64, len: u64) -> Option<(Vec<Piece>, u64)> {
        let size = state.size_now();
        let end = offset.saturating_add(len).min(size);
        if offset >= end {
            return Some((Vec::new(), size));
        }
        let mut base = Vec::new();
        for chunk in chunks_of(&(offset..end)) {
            let start = chunk_start(chunk);
            let from = offset.max(start);
            let to = end.min(start + u64::from(CHUNK_BYTES));
            // Beyond the committed size there is nothing to ask for.
            let known_to = to.min(state.size).max(from);
            if known_to > from {
                let list = state.lists.get(&chunk)?;
                list.pieces(
                    chunk,
                    (from - start) as u32,
                    (known_to - start) as u32,
                    self.config.block_bytes,
                    &mut base,
                );
            }
            if to > known_to {
                base.push(Piece { range: known_to..to, source: Source::Hole });
            }
        }
        let range = offset..end;
        Some((overlay(&range, base, state.dirty.pieces(&range)), size))
    }

    /// Fetches the blocks of a plan, all at once, and cuts out what was asked for. Nothing is copied.
    async fn gather(&self, plan: Vec<Piece>) -> Result<Vec<Bytes>, ClientError> {
        let fetches = plan.iter().map(|piece| {
            let len = (piece.range.end - piece.range.start) as usize;
            async move {
                Ok::<Vec<Bytes>, ClientError>(match &piece.source {
                    Source::Hole => zeros(len),
                    Source::Memory(bytes) => vec![bytes.clone()],
                    Source::Block(block, offset) => {
                        let bytes = self.blocks.get(*block).await?;
                        vec![bytes.slice(*offset as usize..*offset as usize + len)]
                    }
                })
            }
        });
        if let [piece] = plan.as_slice()
            && let Source::Memory(bytes) = &piece.source
        {
            return Ok(vec![bytes.clone()]);
        }
        Ok(try_join_all(fetches).await?.into_iter().flatten().collect())
    }

    /// Fetches the blocks of a range into the cache, and waits for none of them. What fails is found again by the read itself.
    fn read_ahead(&self, inode: &Arc<Inode>, range: Range<u64>) {
        let Some(data) = self.me.upgrade() else { return };
        let inode = inode.clone();
        tokio::spawn(async move {
            let Ok((plan, _)) = data.plan(&inode, range.start, range.end - range.start).await else { return };
            let blocks = plan.iter().filter_map(|piece| match &piece.source {
                Source::Block(block, _) => Some(data.blocks.get(*block)),
                Source::Hole | Source::Memory(_) => None,
            });
            futures::future::join_all(blocks).await;
        });
    }
}

fn zeros(len: usize) -> Vec<Bytes> {
    let mut out = Vec::with_capacity(len.div_ceil(ZEROS.len()));
    let mut left = len;
    while left > 0 {
        let n = left.min(ZEROS.len());
        out.push(Bytes::from_static(&ZEROS[..n]));
        left -= n;
    }
    out
}
