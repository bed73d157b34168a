//! Copy file range: the slices behind a range of one file are named by another as well. No data moves. What the target had there
//! goes; holes stay holes. Whole or not at all for the bytes that the reply calls done. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::{inode, quota, slices};
use crate::store::inode_record::{Inode, SlicePiece};
use crate::store::read::StoredSlice;
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use holdfast_proto::limits::{CHUNK_BYTES, COMMIT_SLICES_MAX, COPY_BYTES_MAX, FILE_BYTES_MAX, REQUEST_BYTES_MAX};
use holdfast_proto::overlay::Span;
use holdfast_proto::{FsErrno, pb};
use std::ops::Range;

/// A range of one chunk of the target, and the pieces that will be in it.
struct Part {
    chunk: u32,
    range: Range<u32>,
    pieces: Vec<SlicePiece>,
}

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::CopyFileRangeOp) -> Ruling<pb::RangeReply> {
    let source = inode::load_file(txn, cx, op.ino_in)?;
    let mut target = inode::load_file(txn, cx, op.ino_out)?;
    let len = op.len.min(source.size.saturating_sub(op.offset_in));
    if len == 0 {
        return Ok(pb::RangeReply { attr: Some(target.to_attr()), done: 0 });
    }
    check_ranges(op, len)?;
    let mut usage = read::usage(txn, cx.volume)?;
    if !target.is_orphan() {
        quota::check_bytes(&usage, (op.offset_out + len).saturating_sub(target.size))?;
    }
    let (parts, done) = plan(txn, cx.volume, op, len.min(COPY_BYTES_MAX))?;
    // A part may take a number for a hole, too.
    cx.orders.require(parts.iter().map(|part| part.pieces.len() + 1).sum())?;

    let before = usage;
    let new_size = target.size.max(op.offset_out + done);
    if !target.is_orphan() {
        quota::count_resize(&mut usage, target.size, new_size);
    }
    // Before anything is dropped, so that no slice is without a name in between.
    for piece in parts.iter().flat_map(|part| &part.pieces) {
        slices::add_name(txn, cx.volume, piece.slice_id)?;
    }
    for part in parts {
        usage.deleted_slices += lay(txn, cx, &target, part)?;
    }
    target.size = new_size;
    target.data_version = cx.log_index;
    inode::note_write(txn, cx, &mut target, !cx.is_root())?;
    inode::save(txn, cx, &target);
    if usage != before {
        txn.put(&keys::usage(cx.volume), &usage);
    }
    Ok(pb::RangeReply { attr: Some(target.to_attr()), done })
}

/// EFBIG, and EINVAL where a file would be copied onto itself.
fn check_ranges(op: &pb::CopyFileRangeOp, len: u64) -> Ruling<()> {
    let end_out = op.offset_out.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX).ok_or(FsErrno::FBig)?;
    let overlaps = op.offset_in < end_out && op.offset_out < op.offset_in + len;
    if op.ino_in == op.ino_out && overlaps { Err(FsErrno::Inval.into()) } else { Ok(()) }
}

/// The slices of one chunk of the source, and what is seen of them.
struct SourceChunk {
    chunk: u32,
    slices: Vec<StoredSlice>,
    spans: Vec<Span<usize>>,
}

impl SourceChunk {
    fn load(view: &dyn KvRead, volume: u32, ino: u64, chunk: u32) -> Result<SourceChunk, StoreError> {
        let slices = read::chunk_slices(view, volume, ino, chunk)?;
        let spans = slices::visible(&slices).collect();
        Ok(SourceChunk { chunk, slices, spans })
    }

    /// The data in [from, from + len), as pieces of a chunk in which it begins at `to`.
    fn pieces(&self, from: u32, len: u32, to: u32) -> impl Iterator<Item = SlicePiece> {
        let (start, end) = (u64::from(from), u64::from(from) + u64::from(len));
        let first = self.spans.partition_point(|span| span.range.end <= start);
        self.spans[first..].iter().take_while(move |span| span.range.start < end).map(move |span| {
            let seen = span.range.start.max(start)..span.range.end.min(end);
            let piece = &self.slices[span.of].piece;
            let skip = span.skip + (seen.start - span.range.start);
            SlicePiece {
                slice_id: piece.slice_id,
                chunk_offset: to + (seen.start - start) as u32,
                len: (seen.end - seen.start) as u32,
                slice_offset: piece.slice_offset + skip as u32,
                slice_len: piece.slice_len,
                block_crc32c: piece.block_crc32c.clone(),
            }
        })
    }
}

/// What one operation may write: as much as a commit.
#[derive(Default)]
struct Budget {
    pieces: usize,
    bytes: usize,
}

impl Budget {
    /// False where the piece is too much. The first never is.
    fn take(&mut self, piece: &SlicePiece) -> bool {
        self.pieces += 1;
        self.bytes += 64 + 4 * piece.block_crc32c.len();
        self.pieces == 1 || (self.pieces <= COMMIT_SLICES_MAX && self.bytes <= REQUEST_BYTES_MAX)
    }
}

/// The parts of the target, each within one chunk of either file, and how many bytes they are: all of `len`, or what fits the budget.
fn plan(view: &dyn KvRead, volume: u32, op: &pb::CopyFileRangeOp, len: u64) -> Result<(Vec<Part>, u64), StoreError> {
    let mut parts = Vec::new();
    let mut budget = Budget::default();
    let mut source = SourceChunk::load(view, volume, op.ino_in, slices::locate(op.offset_in).0)?;
    let mut done = 0;
    while done < len {
        let (chunk_in, from) = slices::locate(op.offset_in + done);
        let (chunk, to) = slices::locate(op.offset_out + done);
        let part_len = (len - done).min(u64::from((CHUNK_BYTES - from).min(CHUNK_BYTES - to))) as u32;
        if source.chunk != chunk_in {
            source = SourceChunk::load(view, volume, op.ino_in, chunk_in)?;
        }
        let mut part = Part { chunk, range: to..to + part_len, pieces: Vec::new() };
        let mut full = false;
        for piece in source.pieces(from, part_len, to) {
            if !budget.take(&piece) {
                part.range.end = piece.chunk_offset;
                full = true;
                break;
            }
            part.pieces.push(piece);
        }
        done += u64::from(part.range.end - part.range.start);
        if !part.range.is_empty() {
            parts.push(part);
        }
        if full {
            break;
        }
    }
    Ok((parts, done))
}

/// Puts a part in place of what the target has there. How many slices became deletable.
fn lay(txn: &mut Txn<'_>, cx: &mut Context<'_>, target: &Inode, part: Part) -> Result<u64, StoreError> {
    let Part { chunk, range, pieces } = part;
    let covered = pieces.iter().map(|piece| piece.len).sum::<u32>() == range.end - range.start;
    let carved = slices::carve(txn, cx, target.ino, chunk, &range, covered)?;
    let mut last = carved.before;
    for piece in pieces {
        // Copied bit by bit, a slice is one piece again.
        let joined = last.take().filter(|last| last.piece.goes_on_as(&piece));
        let slice = match joined {
            Some(mut longer) => {
                longer.piece.len += piece.len;
                slices::drop_name(txn, cx.volume, &piece)?;
                longer
            }
            None => StoredSlice { chunk, order: cx.orders.take(), piece },
        };
        txn.put(&keys::slice(cx.volume, target.ino, chunk, slice.order), &slice.piece);
        last = Some(slice);
    }
    Ok(carved.deleted)
}

#[cfg(test)]
#[path = "copy_file_range_test.rs"]
mod tests;
