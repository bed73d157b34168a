//! Truncation: what a smaller size does to the slices of a file. A slice wholly beyond the new end goes; one that straddles it
//! is shortened, so that a later extension reads zeros there. Called by setattr.

use super::context::Context;
use super::slices;
use crate::store::inode_record::{Inode, SlicePiece};
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::limits::CHUNK_BYTES;
use std::ops::ControlFlow;

/// Cuts the slices of `inode` to `new_size`. Returns how many became deletable; the caller counts them in the usage.
pub fn cut_slices(txn: &mut Txn<'_>, cx: &Context<'_>, inode: &Inode, new_size: u64) -> Result<u64, StoreError> {
    // File sizes are bounded so that a chunk index fits; a size beyond that has nothing behind it.
    let Ok(last_chunk) = u32::try_from(new_size / u64::from(CHUNK_BYTES)) else { return Ok(0) };
    let keep_in_last = (new_size % u64::from(CHUNK_BYTES)) as u32;
    let start = keys::chunk_slices(cx.volume, inode.ino, last_chunk);
    let mut affected = Vec::new();
    read::slices(txn, &start, &keys::slices(cx.volume, inode.ino).end(), |slice| {
        if slice.chunk > last_chunk || slice.piece.chunk_end() > u64::from(keep_in_last) {
            affected.push(slice);
        }
        ControlFlow::Continue(())
    })?;
    let mut deleted = 0;
    for slice in affected {
        let key = keys::slice(cx.volume, inode.ino, slice.chunk, slice.order);
        if slice.chunk == last_chunk && slice.piece.chunk_offset < keep_in_last {
            let len = keep_in_last - slice.piece.chunk_offset;
            txn.put(&key, &SlicePiece { len, ..slice.piece });
        } else {
            txn.delete(&key);
            deleted += slices::drop_name(txn, cx.volume, &slice.piece)?;
        }
    }
    Ok(deleted)
}
