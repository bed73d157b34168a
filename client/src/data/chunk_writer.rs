//! (P, but for the memory it carries) The dirty data of one inode: slices in the order they were begun, cut into blocks. Decides which
//! slice a write goes to, when a block is ready to upload, and which slices may be committed. Uploads and commits nothing itself.
//! Called under the inode's lock by upload, commit and chunk_reader.
//!
//! Order: a later slice hides an earlier one, here and in metadata. So a write may join a slice only if no later slice touches the
//! written range, and slices are committed strictly from the front.

use super::buffer_pool::Memory;
use super::layout::{ChunkPart, chunk_start};
use super::read_plan::{Block, Piece, Source};
use crate::cache::BlockId;
use crate::error::ClientError;
use crate::object::aligned::AlignedBuf;
use bytes::Bytes;
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::pb;
use std::collections::VecDeque;
use std::ops::Range;

/// First capacity of a buffer, bytes: small files must not cost a whole block of memory.
const BUFFER_BYTES_MIN: usize = 4096;

/// A full or sealed block on its way to the store. Memory goes with it.
#[derive(Debug)]
pub struct UploadJob {
    pub seq: u64,
    pub id: BlockId,
    pub bytes: Bytes,
    pub memory: Option<Memory>,
}

#[derive(Debug)]
enum DirtyBlock {
    /// The last block of an unsealed slice: still written to.
    Open {
        buffer: AlignedBuf,
        memory: Option<Memory>,
    },
    Uploading {
        bytes: Bytes,
    },
    /// To be tried again by the next flush.
    Failed {
        bytes: Bytes,
        memory: Option<Memory>,
        error: ClientError,
    },
    /// Durable in the object store.
    Stored {
        len: u32,
        crc32c: u32,
    },
}

#[derive(Debug)]
struct DirtySlice {
    /// Order among the slices of the inode, and what names the slice here.
    seq: u64,
    slice_id: u64,
    chunk: u32,
    chunk_offset: u32,
    len: u32,
    /// No more is written to it.
    sealed: bool,
    /// A commit of it was sent when this was the file's data version, and nobody knows how it ended.
    doubt: Option<u64>,
    blocks: Vec<DirtyBlock>,
}

/// What flush waits for.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    Waiting,
    AllStored,
    Failed(ClientError),
}

/// Slices that may be committed now, in order.
#[derive(Debug, Default)]
pub struct Batch {
    pub seqs: Vec<u64>,
    pub slices: Vec<pb::Slice>,
    /// A commit of exactly these was sent, as `DirtySlice::doubt` says.
    pub doubt: Option<u64>,
}

#[derive(Debug)]
pub struct Dirty {
    block_bytes: u32,
    slices: VecDeque<DirtySlice>,
    seq_next: u64,
}

/// The session that began a slice.
pub fn session_of(slice_id: u64) -> u64 {
    slice_id >> 32
}

impl DirtySlice {
    fn end(&self) -> u32 {
        self.chunk_offset + self.len
    }

    fn touches(&self, part: &ChunkPart) -> bool {
        self.chunk == part.chunk && self.chunk_offset < part.offset + part.len && part.offset < self.end()
    }

    /// First byte (in the chunk) that can still be written.
    fn open_from(&self) -> u32 {
        match self.blocks.last() {
            Some(DirtyBlock::Open { buffer, .. }) => self.end() - buffer.len() as u32,
            _ => self.end(),
        }
    }

    fn takes(&self, part: &ChunkPart, session: u64) -> bool {
        !self.sealed
            && self.chunk == part.chunk
            && session_of(self.slice_id) == session
            && (self.open_from()..=self.end()).contains(&part.offset)
    }

    fn all_stored(&self) -> bool {
        self.blocks.iter().all(|block| matches!(block, DirtyBlock::Stored { .. }))
    }

    fn to_wire(&self) -> pb::Slice {
        let block_crc32c = self.blocks.iter().filter_map(|block| match block {
            DirtyBlock::Stored { crc32c, .. } => Some(*crc32c),
            _ => None,
        });
        pb::Slice {
            chunk: self.chunk,
            chunk_offset: self.chunk_offset,
            len: self.len,
            slice_id: self.slice_id,
            slice_offset: 0,
            slice_len: self.len,
            block_crc32c: block_crc32c.collect(),
        }
    }

    /// Ends the open block, if there is one: it goes to the store as it is.
    fn close_block(&mut self) -> Option<UploadJob> {
        let Some(DirtyBlock::Open { .. }) = self.blocks.last() else { return None };
        let Some(DirtyBlock::Open { buffer, memory }) = self.blocks.pop() else { return None };
        let bytes = buffer.freeze();
        let id = BlockId { slice_id: self.slice_id, index: self.blocks.len() as u32 };
        self.blocks.push(DirtyBlock::Uploading { bytes: bytes.clone() });
        Some(UploadJob { seq: self.seq, id, bytes, memory })
    }

    /// Writes `data` at `offset` of the chunk, which `takes` allowed. Full blocks are closed.
    fn write(
        &mut self,
        offset: u32,
        mut data: &[u8],
        memory: &mut Memory,
        block_bytes: u32,
        jobs: &mut Vec<UploadJob>,
    ) {
        let mut at = offset - self.chunk_offset;
        while !data.is_empty() {
            let index = (at / block_bytes) as usize;
            let in_block = (at % block_bytes) as usize;
            let n = data.len().min(block_bytes as usize - in_block);
            let (now, rest) = data.split_at(n);
            if index == self.blocks.len() {
                let buffer = AlignedBuf::with_capacity(capacity(n, index, block_bytes));
                self.blocks.push(DirtyBlock::Open { buffer, memory: None });
            }
            if let Some(DirtyBlock::Open { buffer, memory: held }) = self.blocks.last_mut() {
                let over = (buffer.len() - in_block).min(n);
                buffer.as_mut_slice()[in_block..in_block + over].copy_from_slice(&now[..over]);
                let fresh = &now[over..];
                match (held.as_mut(), memory.split(fresh.len())) {
                    (Some(held), Some(more)) => held.merge(more),
                    (None, more) => *held = more,
                    (Some(_), None) => {}
                }
                buffer.extend(fresh, capacity(buffer.len() + fresh.len(), index, block_bytes));
                self.len += fresh.len() as u32;
                if buffer.len() == block_bytes as usize {
                    jobs.extend(self.close_block());
                }
            }
            at += n as u32;
            data = rest;
        }
        if self.end() == CHUNK_BYTES {
            self.sealed = true;
            jobs.extend(self.close_block());
        }
    }

    /// Adds what is visible of this slice in `range` of the file.
    fn pieces(&self, range: &Range<u64>, block_bytes: u32, out: &mut Vec<Piece>) {
        let base = chunk_start(self.chunk) + u64::from(self.chunk_offset);
        let Some(seen) = super::layout::overlap(range, &(base..base + u64::from(self.len))) else { return };
        let first = ((seen.start - base) / u64::from(block_bytes)) as usize;
        for (index, block) in self.blocks.iter().enumerate().skip(first) {
            let start = base + index as u64 * u64::from(block_bytes);
            let len = match block {
                DirtyBlock::Open { buffer, .. } => buffer.len() as u64,
                DirtyBlock::Uploading { bytes } | DirtyBlock::Failed { bytes, .. } => bytes.len() as u64,
                DirtyBlock::Stored { len, .. } => u64::from(*len),
            };
            let Some(part) = super::layout::overlap(&seen, &(start..start + len)) else { break };
            let from = (part.start - start) as usize;
            let to = (part.end - start) as usize;
            let source = match block {
                DirtyBlock::Open { buffer, .. } => Source::Memory(Bytes::copy_from_slice(&buffer.as_slice()[from..to])),
                DirtyBlock::Uploading { bytes } | DirtyBlock::Failed { bytes, .. } => {
                    Source::Memory(bytes.slice(from..to))
                }
                DirtyBlock::Stored { len, crc32c } => {
                    let id = BlockId { slice_id: self.slice_id, index: index as u32 };
                    Source::Block(Block { id, len: *len, crc32c: *crc32c }, from as u32)
                }
            };
            out.push(Piece { range: part, source });
        }
    }
}

/// Room for `len` bytes in block `index`: small at first, whole once the slice shows that it grows.
fn capacity(len: usize, index: usize, block_bytes: u32) -> usize {
    let block_bytes = block_bytes as usize;
    match index > 0 || len > 1 << 20 {
        true => block_bytes,
        false => len.next_power_of_two().clamp(BUFFER_BYTES_MIN, block_bytes),
    }
}

impl Dirty {
    pub fn new(block_bytes: u32) -> Self {
        Dirty { block_bytes, slices: VecDeque::new(), seq_next: 1 }
    }

    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    pub fn count(&self) -> usize {
        self.slices.len()
    }

    /// The newest slice: what a flush that begins now has to reach.
    pub fn last_seq(&self) -> u64 {
        self.seq_next - 1
    }

    /// End of the furthest dirty byte in the file.
    pub fn end(&self) -> Option<u64> {
        self.slices.iter().map(|slice| chunk_start(slice.chunk) + u64::from(slice.end())).max()
    }

    /// Takes `data` (all of `part`). `memory` pays for it; what a rewrite in place does not need comes back when it is dropped.
    /// `new_id` gives the id of a new slice of `session`.
    pub fn write(
        &mut self,
        part: &ChunkPart,
        data: &[u8],
        mut memory: Memory,
        session: u64,
        new_id: impl FnOnce() -> u64,
    ) -> Vec<UploadJob> {
        let mut jobs = Vec::new();
        let mut target = None;
        for (index, slice) in self.slices.iter().enumerate().rev() {
            if slice.takes(part, session) {
                target = Some(index);
                break;
            }
            if slice.touches(part) {
                break;
            }
        }
        let index = target.unwrap_or_else(|| {
            self.slices.push_back(DirtySlice {
                seq: self.seq_next,
                slice_id: new_id(),
                chunk: part.chunk,
                chunk_offset: part.offset,
                len: 0,
                sealed: false,
                doubt: None,
                blocks: Vec::new(),
            });
            self.seq_next += 1;
            self.slices.len() - 1
        });
        self.slices[index].write(part.offset, data, &mut memory, self.block_bytes, &mut jobs);
        jobs
    }

    /// Seals every slice up to `through`, and takes up again what failed: the blocks to upload.
    pub fn seal(&mut self, through: u64) -> Vec<UploadJob> {
        let mut jobs = Vec::new();
        for slice in self.slices.iter_mut().take_while(|slice| slice.seq <= through) {
            if !slice.sealed {
                slice.sealed = true;
                jobs.extend(slice.close_block());
            }
            for index in 0..slice.blocks.len() {
                if !matches!(slice.blocks[index], DirtyBlock::Failed { .. }) {
                    continue;
                }
                let nothing = DirtyBlock::Uploading { bytes: Bytes::new() };
                if let DirtyBlock::Failed { bytes, memory, .. } = std::mem::replace(&mut slice.blocks[index], nothing) {
                    slice.blocks[index] = DirtyBlock::Uploading { bytes: bytes.clone() };
                    let id = BlockId { slice_id: slice.slice_id, index: index as u32 };
                    jobs.push(UploadJob { seq: slice.seq, id, bytes, memory });
                }
            }
        }
        jobs
    }

    fn block_mut(&mut self, seq: u64, index: u32) -> Option<&mut DirtyBlock> {
        let at = self.slices.binary_search_by_key(&seq, |slice| slice.seq).ok()?;
        self.slices[at].blocks.get_mut(index as usize)
    }

    /// A block is durable. False if its slice was dropped meanwhile.
    pub fn stored(&mut self, seq: u64, index: u32, len: u32, crc32c: u32) -> bool {
        self.block_mut(seq, index).map(|block| *block = DirtyBlock::Stored { len, crc32c }).is_some()
    }

    /// An upload failed for good; the bytes stay.
    pub fn failed(&mut self, job: UploadJob, error: ClientError) {
        if let Some(block) = self.block_mut(job.seq, job.id.index) {
            *block = DirtyBlock::Failed { bytes: job.bytes, memory: job.memory, error };
        }
    }

    /// How the uploads of the slices up to `through` stand. All of them end before one failure is told.
    pub fn settled(&self, through: u64) -> Settled {
        let mut failure = None;
        for block in self.slices.iter().take_while(|slice| slice.seq <= through).flat_map(|slice| &slice.blocks) {
            match block {
                DirtyBlock::Open { .. } | DirtyBlock::Uploading { .. } => return Settled::Waiting,
                DirtyBlock::Failed { error, .. } => failure = Some(error.clone()),
                DirtyBlock::Stored { .. } => {}
            }
        }
        failure.map_or(Settled::AllStored, Settled::Failed)
    }

    /// The slices at the front, up to `through`, that are sealed and stored. Those of one commit in doubt come alone.
    pub fn ready(&self, through: u64, count_max: usize, bytes_max: usize) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for slice in self.slices.iter().take_while(|slice| slice.seq <= through && slice.sealed && slice.all_stored()) {
            // Upper bound of its encoding: checksums are four bytes each, the rest is a few small numbers.
            bytes += 64 + 4 * slice.blocks.len();
            let first = batch.seqs.is_empty();
            if batch.seqs.len() == count_max || (!first && (bytes > bytes_max || slice.doubt != batch.doubt)) {
                break;
            }
            batch.doubt = slice.doubt;
            batch.seqs.push(slice.seq);
            batch.slices.push(slice.to_wire());
        }
        batch
    }

    /// How many slices at the front are ready, and whether one of them fills its chunk to the end.
    pub fn ready_count(&self) -> (usize, bool) {
        let ready = self.slices.iter().take_while(|slice| slice.sealed && slice.all_stored());
        ready.fold((0, false), |(count, full), slice| (count + 1, full || slice.end() == CHUNK_BYTES))
    }

    /// Nobody knows whether these were committed; `version` is what the file had before.
    pub fn mark_doubtful(&mut self, seqs: &[u64], version: u64) {
        for slice in self.slices.iter_mut().filter(|slice| seqs.contains(&slice.seq)) {
            slice.doubt = Some(version);
        }
    }

    /// Forgets slices that are committed.
    pub fn remove(&mut self, seqs: &[u64]) {
        self.slices.retain(|slice| !seqs.contains(&slice.seq));
    }

    /// Whether anything up to `through` was begun under another session than this one.
    pub fn has_foreign(&self, through: u64, session: u64) -> bool {
        self.slices.iter().any(|slice| slice.seq <= through && session_of(slice.slice_id) != session)
    }

    /// Drops what was begun under another session; how many bytes that is.
    pub fn drop_foreign(&mut self, session: u64) -> u64 {
        let lost = self.slices.iter().filter(|slice| session_of(slice.slice_id) != session);
        let bytes = lost.map(|slice| u64::from(slice.len)).sum();
        self.slices.retain(|slice| session_of(slice.slice_id) == session);
        bytes
    }

    /// Drops everything. Bytes lost, and the slices (id, length) whose objects nobody will ever name: all stored, never sent.
    pub fn drop_all(&mut self) -> (u64, Vec<(u64, u32)>) {
        let bytes = self.slices.iter().map(|slice| u64::from(slice.len)).sum();
        let unnamed = self.slices.iter().filter(|slice| slice.sealed && slice.all_stored() && slice.doubt.is_none());
        let unnamed = unnamed.map(|slice| (slice.slice_id, slice.len)).collect();
        self.slices.clear();
        (bytes, unnamed)
    }

    /// What is dirty in `range` of the file, oldest first.
    pub fn pieces(&self, range: &Range<u64>) -> Vec<Piece> {
        let mut out = Vec::new();
        for slice in &self.slices {
            slice.pieces(range, self.block_bytes, &mut out);
        }
        out
    }
}
