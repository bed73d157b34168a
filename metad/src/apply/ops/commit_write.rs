//! Commit write: publishes slices whose blocks are all durable in the object store. Works on a held orphan: its writers have it
//! open. Called by apply::dispatch only.
//!
//! A slice id is committed once, ever: it is then named by one piece, and by more only as copies count them (slices.rs).

use crate::apply::context::{Context, Ruling, Stop};
use crate::apply::{inode, quota, slices};
use crate::store::inode_record::{Inode, SlicePiece};
use crate::store::records::Usage;
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::limits::{CHUNK_BYTES, COMMIT_SLICES_MAX, FILE_BYTES_MAX};
use holdfast_proto::{FsErrno, pb};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// How many of a chunk's oldest slices a new one is compared with, to drop those it hides wholly.
const HIDDEN_LOOK_MAX: usize = 128;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::CommitWriteOp) -> Ruling<pb::EntryReply> {
    if op.slices.len() > COMMIT_SLICES_MAX {
        return Err(Stop::Failed(pb::FailureCode::TooLarge));
    }
    let mut inode = inode::load_file(txn, cx, op.ino)?;
    let mut usage = read::usage(txn, cx.volume)?;
    check_slices(&usage, cx.session, &op.slices)?;
    let new_size = op.slices.iter().map(end_of).fold(inode.size, u64::max);
    if new_size > FILE_BYTES_MAX {
        return Err(FsErrno::FBig.into());
    }
    if !inode.is_orphan() {
        quota::check_bytes(&usage, new_size - inode.size)?;
    }
    cx.orders.require(op.slices.len())?;
    if op.slices.is_empty() {
        return Ok(pb::EntryReply { attr: Some(inode.to_attr()), created: false });
    }

    let before = usage;
    if !inode.is_orphan() {
        quota::count_resize(&mut usage, inode.size, new_size);
    }
    for slice in &op.slices {
        usage.deleted_slices += drop_hidden(txn, cx, &inode, slice)?;
        let key = keys::slice(cx.volume, op.ino, slice.chunk, cx.orders.take());
        txn.put(&key, &SlicePiece::from_wire(slice));
    }
    inode.size = new_size;
    inode.data_version = cx.log_index;
    inode::note_write(txn, cx, &mut inode, op.kill_priv)?;
    inode::save(txn, cx, &inode);
    if usage != before {
        txn.put(&keys::usage(cx.volume), &usage);
    }
    Ok(pb::EntryReply { attr: Some(inode.to_attr()), created: false })
}

/// First byte of the file after the slice.
fn end_of(slice: &pb::Slice) -> u64 {
    u64::from(slice.chunk) * u64::from(CHUNK_BYTES) + u64::from(slice.chunk_offset) + u64::from(slice.len)
}

/// EINVAL for slices that cannot be: outside of their chunk or of their own data, without their checksums, named twice, or numbered
/// by another session than the one that commits them (the upper half of a slice id): what a session left uncommitted stays so.
fn check_slices(usage: &Usage, session: u64, slices: &[pb::Slice]) -> Ruling<()> {
    let mut ids = BTreeSet::new();
    let sound = slices.iter().all(|slice| {
        let within = |offset: u32, len: u32, end: u32| u64::from(offset) + u64::from(len) <= u64::from(end);
        let hole = slice.slice_id == 0;
        let blocks_count = slice.slice_len.div_ceil(usage.block_bytes.max(1)) as usize;
        slice.len > 0
            && within(slice.chunk_offset, slice.len, CHUNK_BYTES)
            && (hole || within(slice.slice_offset, slice.len, slice.slice_len))
            && (!hole || slice.slice_len == 0)
            && slice.block_crc32c.len() == blocks_count
            && (hole || (slice.slice_id >> 32 == session && ids.insert(slice.slice_id)))
    });
    if sound { Ok(()) } else { Err(FsErrno::Inval.into()) }
}

/// Drops older slices that the new one hides wholly, so that a page written again and again leaves no list behind. Data that is
/// appended hides nothing and is not looked at.
fn drop_hidden(txn: &mut Txn<'_>, cx: &Context<'_>, inode: &Inode, new: &pb::Slice) -> Result<u64, StoreError> {
    let begin = end_of(new) - u64::from(new.len);
    if begin >= inode.size {
        return Ok(0);
    }
    let new_end = u64::from(new.chunk_offset) + u64::from(new.len);
    let prefix = keys::chunk_slices(cx.volume, inode.ino, new.chunk);
    let mut looked_count = 0;
    let mut hidden = Vec::new();
    read::slices(txn, &prefix, &prefix.end(), |old| {
        if old.piece.chunk_offset >= new.chunk_offset && old.piece.chunk_end() <= new_end {
            hidden.push(old);
        }
        looked_count += 1;
        if looked_count < HIDDEN_LOOK_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let mut deleted = 0;
    for old in hidden {
        txn.delete(&keys::slice(cx.volume, inode.ino, old.chunk, old.order));
        deleted += slices::drop_name(txn, cx.volume, &old.piece)?;
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::limits::CHUNK_BYTES;
    use holdfast_proto::{FsErrno, ROOT_INO, pb};

    #[test]
    fn a_commit_grows_the_file_and_moves_its_data_version() {
        let mut fs = TestFs::new();
        let before = fs.create("f", 0o600).expect("creates");
        let after = fs.write(before.ino, 100, 50).expect("writes");
        assert_eq!((after.size, after.data_version), (150, fs.log_index()));
        assert!(after.mtime > before.mtime && after.ctime == after.mtime);
        assert_eq!(fs.write(before.ino, 0, 10).map(|a| a.size), Ok(150));
        assert_eq!(fs.usage().used_bytes, 150);
        fs.check();
    }

    #[test]
    fn what_is_hidden_wholly_goes_and_the_rest_stays_in_order() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        fs.write(ino, 0, 100).expect("writes");
        fs.write(ino, 50, 100).expect("writes");
        fs.write(ino, 50, 100).expect("writes");
        let offsets: Vec<_> = fs.slices(ino).iter().map(|s| (s.chunk_offset, s.len)).collect();
        assert_eq!(offsets, [(0, 100), (50, 100)]);
        assert_eq!(fs.deleted_slices().len(), 1);
        fs.check();
    }

    #[test]
    fn a_write_by_an_ordinary_user_takes_set_id_bits_away() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        fs.chmod(ino, 0o6777).expect("chmods");
        assert_eq!(fs.write(ino, 0, 1).map(|a| a.mode), Ok(0o6777));
        fs.become_user(9, 9);
        assert_eq!(fs.write(ino, 0, 1).map(|a| a.mode), Ok(0o777));
    }

    #[test]
    fn slices_that_cannot_be_are_refused() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        let good = fs.slice(0, 10);
        let bad = [
            pb::Slice { len: 0, ..good.clone() },
            pb::Slice { chunk_offset: CHUNK_BYTES - 5, ..good.clone() },
            pb::Slice { slice_offset: 1, ..good.clone() },
            pb::Slice { block_crc32c: vec![], ..good.clone() },
            pb::Slice { slice_id: 0, ..good.clone() },
            pb::Slice { slice_id: good.slice_id + (1 << 32), ..good.clone() },
        ];
        for slice in bad {
            assert_eq!(fs.commit(ino, vec![slice]).map(|a| a.size), Err(FsErrno::Inval));
        }
        assert_eq!(fs.commit(ino, vec![good.clone(), good.clone()]).map(|a| a.size), Err(FsErrno::Inval));
        let far = pb::Slice { chunk: u32::MAX, ..good.clone() };
        assert_eq!(fs.commit(ino, vec![far]).map(|a| a.size), Err(FsErrno::FBig));
        assert_eq!(fs.commit(ROOT_INO, vec![good.clone()]).map(|a| a.size), Err(FsErrno::IsDir));
        assert_eq!(fs.commit(999, vec![good]).map(|a| a.size), Err(FsErrno::Stale));
        assert_eq!(fs.attr(ino).size, 0);
    }
}
