//! Fallocate: gives a range of a file room, or takes its data away. Called by apply::dispatch only.
//!
//! Room is the volume's capacity, and a file is charged by its size, holes included (quota.rs): so what lies below the size has its
//! room already, and allocating is growing. Taking away is bounded by slices looked at: the reply says how far it came.

use crate::apply::context::{Context, Ruling};
use crate::apply::{inode, quota, slices};
use crate::store::inode_record::Inode;
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use holdfast_proto::{FsErrno, pb};

/// linux/falloc.h
const KEEP_SIZE: u32 = 0x01;
pub const PUNCH_HOLE: u32 = 0x02;
const ZERO_RANGE: u32 = 0x10;

/// An operation ends with the chunk in which it has looked at so many slices.
const LOOKED_MAX: usize = 4096;

/// What the flags of fallocate(2) ask for.
struct Mode {
    keeps_size: bool,
    zeroes: bool,
}

impl Mode {
    /// EOPNOTSUPP for what this filesystem does not do, and for what Linux does not know.
    fn new(flags: u32) -> Ruling<Mode> {
        match flags {
            0 => Ok(Mode { keeps_size: false, zeroes: false }),
            KEEP_SIZE => Ok(Mode { keeps_size: true, zeroes: false }),
            ZERO_RANGE => Ok(Mode { keeps_size: false, zeroes: true }),
            _ if flags == ZERO_RANGE | KEEP_SIZE || flags == PUNCH_HOLE | KEEP_SIZE => {
                Ok(Mode { keeps_size: true, zeroes: true })
            }
            _ => Err(FsErrno::OpNotSupp.into()),
        }
    }
}

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::FallocateOp) -> Ruling<pb::RangeReply> {
    let mode = Mode::new(op.mode)?;
    let mut inode = inode::load_file(txn, cx, op.ino)?;
    if op.len == 0 {
        return Err(FsErrno::Inval.into());
    }
    let end = op.offset.checked_add(op.len).filter(|end| *end <= FILE_BYTES_MAX).ok_or(FsErrno::FBig)?;
    let new_size = if mode.keeps_size { inode.size } else { inode.size.max(end) };
    let mut usage = read::usage(txn, cx.volume)?;
    if !inode.is_orphan() {
        quota::check_bytes(&usage, new_size - inode.size)?;
    }
    let erased_to = if mode.zeroes { end.min(inode.size) } else { op.offset };
    if erased_to > op.offset {
        let (first, _) = slices::locate(op.offset);
        let (last, _) = slices::locate(erased_to - 1);
        cx.orders.require(LOOKED_MAX.min((last - first) as usize + 1))?;
    }

    let before = usage;
    if !inode.is_orphan() {
        quota::count_resize(&mut usage, inode.size, new_size);
    }
    let (reached, deleted) = erase(txn, cx, &inode, op.offset, erased_to)?;
    usage.deleted_slices += deleted;
    if mode.zeroes || new_size > inode.size {
        inode.data_version = cx.log_index;
    }
    inode.size = new_size;
    inode::note_write(txn, cx, &mut inode, !cx.is_root())?;
    inode::save(txn, cx, &inode);
    if usage != before {
        txn.put(&keys::usage(cx.volume), &usage);
    }
    let done = if reached == erased_to { op.len } else { reached - op.offset };
    Ok(pb::RangeReply { attr: Some(inode.to_attr()), done })
}

/// Takes [from, to) out of the file's slices. How far it came, and how many slices became deletable.
fn erase(txn: &mut Txn<'_>, cx: &mut Context<'_>, inode: &Inode, from: u64, to: u64) -> Result<(u64, u64), StoreError> {
    let mut deleted = 0;
    let mut looked = 0;
    let mut at = from;
    while at < to {
        let ((first, _), (last, _)) = (slices::locate(at), slices::locate(to - 1));
        let Some(chunk) = slices::next_chunk(txn, cx.volume, inode.ino, first, last)? else { break };
        let start = u64::from(chunk) * u64::from(CHUNK_BYTES);
        let end = to.min(start + u64::from(CHUNK_BYTES));
        let range = (at.max(start) - start) as u32..(end - start) as u32;
        let carved = slices::carve(txn, cx, inode.ino, chunk, &range, false)?;
        deleted += carved.deleted;
        looked += carved.looked;
        at = end;
        if looked >= LOOKED_MAX {
            return Ok((at, deleted));
        }
    }
    Ok((to, deleted))
}

#[cfg(test)]
#[path = "fallocate_test.rs"]
mod tests;
