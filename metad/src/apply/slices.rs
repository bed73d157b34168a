//! Slices of files: how many pieces name one, what of a list is visible, and how a range is taken out of it. Called by the operations.
//!
//! A piece is a SLICE record: it shows a part of a slice in a chunk of a file. Most slices are named by one piece, and then nothing
//! is counted. Copies add pieces, and SLICE_REFS counts those of a slice while there are more than one. A slice that no piece
//! names any more is marked as deleted, once.

use super::context::Context;
use crate::store::inode_record::SlicePiece;
use crate::store::read::StoredSlice;
use crate::store::records::{Deleted, SliceRefs};
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::overlay::{Overlay, Span};
use std::ops::{ControlFlow, Range};

/// The chunk that a byte of a file is in, and where there. File sizes are bounded so that a chunk index fits.
pub fn locate(offset: u64) -> (u32, u32) {
    let chunk = u64::from(CHUNK_BYTES);
    ((offset / chunk) as u32, (offset % chunk) as u32)
}

/// One piece more names a slice that is named already.
pub fn add_name(txn: &mut Txn<'_>, volume: u32, slice_id: u64) -> Result<(), StoreError> {
    let refs = read::slice_refs(txn, volume, slice_id)?;
    txn.put(&keys::slice_refs(volume, slice_id), &SliceRefs(refs + 1));
    Ok(())
}

/// One piece less names a slice. 1 where it was the last, and there are objects to delete (a hole has none).
pub fn drop_name(txn: &mut Txn<'_>, volume: u32, piece: &SlicePiece) -> Result<u64, StoreError> {
    let slice_id = piece.slice_id;
    if slice_id == 0 {
        return Ok(0);
    }
    let key = keys::slice_refs(volume, slice_id);
    match read::slice_refs(txn, volume, slice_id)? {
        0 | 1 => {
            txn.put(&keys::deleted(volume, slice_id), &Deleted { slice_len: piece.slice_len });
            return Ok(1);
        }
        2 => txn.delete(&key),
        more => txn.put(&key, &SliceRefs(more - 1)),
    }
    Ok(0)
}

/// What is seen of a chunk's slices (oldest first): runs of data, by index into them. Holes are gaps.
pub fn visible(slices: &[StoredSlice]) -> impl Iterator<Item = Span<usize>> {
    let mut overlay = Overlay::default();
    for (index, slice) in slices.iter().enumerate() {
        overlay.paint(u64::from(slice.piece.chunk_offset)..slice.piece.chunk_end(), index);
    }
    overlay.into_spans().filter(|span| slices[span.of].piece.slice_id != 0)
}

/// The first chunk from `from` to `last` in which the file has slices.
pub fn next_chunk(view: &dyn KvRead, volume: u32, ino: u64, from: u32, last: u32) -> Result<Option<u32>, StoreError> {
    let mut found = None;
    let start = keys::chunk_slices(volume, ino, from);
    read::slices(view, &start, &keys::chunk_slices(volume, ino, last).end(), |slice| {
        found = Some(slice.chunk);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// What `carve` did.
pub struct Carved {
    /// Slices that nothing names any more; the caller counts them in the usage.
    pub deleted: u64,
    /// How many pieces were looked at.
    pub looked: usize,
    /// A piece that ends where the range begins and may be made longer: nothing else is in the range.
    pub before: Option<StoredSlice>,
}

/// Takes [range) of a chunk out of its slices, so that it reads as zeros: a piece inside goes, one that sticks out is shortened, and
/// over one that goes on at both sides a hole is laid; not where `covered` says that the caller covers the range with data.
pub fn carve(
    txn: &mut Txn<'_>,
    cx: &mut Context<'_>,
    ino: u64,
    chunk: u32,
    range: &Range<u32>,
    covered: bool,
) -> Result<Carved, StoreError> {
    let mut carved = Carved { deleted: 0, looked: 0, before: None };
    let (mut spanned, mut shows_data) = (false, false);
    for mut old in read::chunk_slices(txn, cx.volume, ino, chunk)? {
        carved.looked += 1;
        let (start, end) = (old.piece.chunk_offset, old.piece.chunk_end());
        if end < u64::from(range.start) || start >= range.end {
            continue;
        }
        let key = keys::slice(cx.volume, ino, chunk, old.order);
        match (start < range.start, end > u64::from(range.end)) {
            (true, true) => {
                spanned = true;
                // A hole hides all that is older.
                shows_data = old.piece.slice_id != 0;
            }
            (true, false) => {
                if end > u64::from(range.start) {
                    old.piece.len = range.start - start;
                    txn.put(&key, &old.piece);
                }
                carved.before = Some(old);
            }
            (false, true) => txn.put(&key, &without_head(old.piece, range.end - start)),
            (false, false) => {
                txn.delete(&key);
                carved.deleted += drop_name(txn, cx.volume, &old.piece)?;
            }
        }
    }
    if shows_data && !covered {
        let (chunk_offset, len) = (range.start, range.end - range.start);
        txn.put(&keys::slice(cx.volume, ino, chunk, cx.orders.take()), &SlicePiece::hole(chunk_offset, len));
    }
    carved.before = carved.before.filter(|_| !spanned);
    Ok(carved)
}

/// The piece less its first bytes.
fn without_head(piece: SlicePiece, bytes: u32) -> SlicePiece {
    let skipped = if piece.slice_id == 0 { 0 } else { bytes };
    SlicePiece {
        chunk_offset: piece.chunk_offset + bytes,
        len: piece.len - bytes,
        slice_offset: piece.slice_offset + skipped,
        ..piece
    }
}
