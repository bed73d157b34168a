//! (P) Which bytes come from where: lays slices over each other, oldest first, and cuts a range of a file into pieces of blocks, of
//! memory and of holes. Called by chunk_reader; chunk_writer gives it what is dirty.

use super::layout::{chunk_start, overlap};
use crate::cache::BlockId;
use bytes::Bytes;
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::overlay::Overlay;
use holdfast_proto::pb;
use std::ops::Range;

/// A stored block, and what it must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub id: BlockId,
    pub len: u32,
    pub crc32c: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Zeros.
    Hole,
    /// From this offset of the block.
    Block(Block, u32),
    Memory(Bytes),
}

impl Source {
    /// The same, `skip` bytes further on, for `len` bytes.
    fn part(&self, skip: u64, len: u64) -> Source {
        match self {
            Source::Hole => Source::Hole,
            Source::Block(block, offset) => Source::Block(*block, offset + skip as u32),
            Source::Memory(bytes) => Source::Memory(bytes.slice(skip as usize..(skip + len) as usize)),
        }
    }
}

/// Bytes of the file [range), and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub range: Range<u64>,
    pub source: Source,
}

/// A visible run of one slice.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u32,
    end: u32,
    slice: usize,
    /// Offset from the slice's own first visible byte.
    skip: u32,
}

/// The committed slices of one chunk, laid over each other once, asked often.
#[derive(Debug, Default)]
pub struct ChunkMap {
    slices: Vec<pb::Slice>,
    extents: Vec<Extent>,
}

impl ChunkMap {
    /// `slices` oldest first, all of one chunk.
    ///
    /// # Errors
    /// What is wrong with the list: it came over the network.
    pub fn new(slices: Vec<pb::Slice>, block_bytes: u32) -> Result<Self, String> {
        let mut overlay = Overlay::default();
        for (index, slice) in slices.iter().enumerate() {
            check(slice, block_bytes)?;
            let start = u64::from(slice.chunk_offset);
            overlay.paint(start..start + u64::from(slice.len), index);
        }
        let extents = overlay
            .into_spans()
            .map(|span| Extent {
                start: span.range.start as u32,
                end: span.range.end as u32,
                slice: span.of,
                skip: span.skip as u32,
            })
            .collect();
        Ok(ChunkMap { slices, extents })
    }

    /// Appends the pieces of [start, end) of the chunk, without gaps.
    pub fn pieces(&self, chunk: u32, start: u32, end: u32, block_bytes: u32, out: &mut Vec<Piece>) {
        let base = chunk_start(chunk);
        let mut at = start;
        let first = self.extents.partition_point(|extent| extent.end <= start);
        for extent in &self.extents[first..] {
            if extent.start >= end {
                break;
            }
            let from = extent.start.max(at);
            let to = extent.end.min(end);
            if from > at {
                push_hole(base, at, from, out);
            }
            self.blocks(base, extent, from..to, block_bytes, out);
            at = to;
        }
        if at < end {
            push_hole(base, at, end, out);
        }
    }

    fn blocks(&self, base: u64, extent: &Extent, range: Range<u32>, block_bytes: u32, out: &mut Vec<Piece>) {
        let slice = &self.slices[extent.slice];
        if slice.slice_id == 0 {
            push_hole(base, range.start, range.end, out);
            return;
        }
        let shift = slice.slice_offset + extent.skip;
        let mut at = range.start;
        while at < range.end {
            let in_slice = shift + (at - extent.start);
            let index = in_slice / block_bytes;
            let offset = in_slice % block_bytes;
            let len = block_bytes.min(slice.slice_len - index * block_bytes);
            let end = range.end.min(at + (len - offset));
            let crc32c = slice.block_crc32c[index as usize];
            let block = Block { id: BlockId { slice_id: slice.slice_id, index }, len, crc32c };
            out.push(Piece {
                range: base + u64::from(at)..base + u64::from(end),
                source: Source::Block(block, offset),
            });
            at = end;
        }
    }
}

fn push_hole(base: u64, from: u32, to: u32, out: &mut Vec<Piece>) {
    out.push(Piece { range: base + u64::from(from)..base + u64::from(to), source: Source::Hole });
}

fn check(slice: &pb::Slice, block_bytes: u32) -> Result<(), String> {
    let in_chunk = u64::from(slice.chunk_offset) + u64::from(slice.len) <= u64::from(CHUNK_BYTES);
    let in_slice = slice.slice_id == 0
        || (u64::from(slice.slice_offset) + u64::from(slice.len) <= u64::from(slice.slice_len)
            && slice.slice_len <= CHUNK_BYTES
            && slice.block_crc32c.len() as u32 == slice.slice_len.div_ceil(block_bytes));
    match in_chunk && in_slice {
        true => Ok(()),
        false => Err(format!("slice {} of chunk {} does not fit its own bounds", slice.slice_id, slice.chunk)),
    }
}

/// Lays `over` (oldest first) on `base`, which covers `range` without gaps.
pub fn overlay(range: &Range<u64>, base: Vec<Piece>, over: Vec<Piece>) -> Vec<Piece> {
    if over.is_empty() {
        return base;
    }
    let mut overlay = Overlay::default();
    for piece in base.into_iter().chain(over) {
        let Some(visible) = overlap(&piece.range, range) else { continue };
        let skip = visible.start - piece.range.start;
        let source = piece.source.part(skip, visible.end - visible.start);
        overlay.paint(visible, source);
    }
    overlay
        .into_spans()
        .map(|span| {
            let source = span.of.part(span.skip, span.range.end - span.range.start);
            Piece { range: span.range, source }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    const BLOCK: u32 = 16;

    fn slice(id: u64, chunk_offset: u32, len: u32, slice_offset: u32, slice_len: u32) -> pb::Slice {
        let count = if id == 0 { 0 } else { slice_len.div_ceil(BLOCK) };
        let block_crc32c = (0..count).collect();
        pb::Slice { chunk: 0, chunk_offset, len, slice_id: id, slice_offset, slice_len, block_crc32c }
    }

    /// What byte `at` of slice `id` is, in these tests.
    fn byte(id: u64, at: u32) -> u8 {
        if id == 0 { 0 } else { (id as u32 * 31 + at * 7 + 1) as u8 | 1 }
    }

    fn bytes_of(pieces: &[Piece]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces {
            for n in 0..(piece.range.end - piece.range.start) as u32 {
                out.push(match &piece.source {
                    Source::Hole => 0,
                    Source::Block(block, offset) => {
                        assert!(offset + n < block.len, "inside the block");
                        assert_eq!(block.crc32c, block.id.index, "the block's own checksum");
                        byte(block.id.slice_id, block.id.index * BLOCK + offset + n)
                    }
                    Source::Memory(bytes) => bytes[n as usize],
                });
            }
        }
        out
    }

    #[test]
    fn random_slices_read_as_if_written_one_after_the_other() {
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut model = vec![0_u8; 400];
            let mut slices = Vec::new();
            for id in 1..rng.random_range(1..30_u64) {
                let slice_len = rng.random_range(1..100_u32);
                let slice_offset = rng.random_range(0..slice_len);
                let len = rng.random_range(1..=slice_len - slice_offset);
                let at = rng.random_range(0..400 - len);
                let id = if rng.random_bool(0.2) { 0 } else { id };
                slices.push(slice(id, at, len, slice_offset, slice_len));
                for n in 0..len {
                    model[(at + n) as usize] = byte(id, slice_offset + n);
                }
            }
            let map = ChunkMap::new(slices, BLOCK).expect("slices are well formed");
            for _ in 0..20 {
                let start = rng.random_range(0..399_u32);
                let end = rng.random_range(start + 1..=400);
                let mut base = Vec::new();
                map.pieces(0, start, end, BLOCK, &mut base);
                assert_eq!(bytes_of(&base), model[start as usize..end as usize], "seed {seed}, {start}..{end}");
                check_overlay(&mut rng, u64::from(start)..u64::from(end), base, &model, seed);
            }
        }
    }

    fn check_overlay(rng: &mut StdRng, range: Range<u64>, base: Vec<Piece>, model: &[u8], seed: u64) {
        let mut model = model.to_vec();
        let mut over = Vec::new();
        for _ in 0..rng.random_range(0..6) {
            let start = rng.random_range(0..390_u64);
            let end = rng.random_range(start + 1..=400);
            let fill: Vec<u8> = (start..end).map(|_| rng.random()).collect();
            model[start as usize..end as usize].copy_from_slice(&fill);
            over.push(Piece { range: start..end, source: Source::Memory(fill.into()) });
        }
        let pieces = overlay(&range, base, over);
        assert_eq!(pieces.first().map(|piece| piece.range.start), Some(range.start));
        assert!(pieces.windows(2).all(|pair| pair[0].range.end == pair[1].range.start), "no gaps");
        assert_eq!(bytes_of(&pieces), model[range.start as usize..range.end as usize], "seed {seed}");
    }

    #[test]
    fn a_slice_that_contradicts_itself_is_an_error() {
        let mut wrong = slice(1, 0, 20, 0, 20);
        wrong.block_crc32c.pop();
        assert!(ChunkMap::new(vec![wrong], BLOCK).is_err());
        assert!(ChunkMap::new(vec![slice(1, 0, 20, 5, 20)], BLOCK).is_err());
        assert!(ChunkMap::new(vec![slice(0, CHUNK_BYTES - 1, 2, 0, 0)], BLOCK).is_err());
    }
}
