//! Reclaim: ends orphans that nobody can have open any more; their slices become deletable. Proposed by the leader, which may be
//! behind: what is not reclaimable is left alone. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::{lock, orphan, slices, xattr};
use crate::store::inode_record::Inode;
use crate::store::records::Usage;
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use holdfast_proto::pb;
use std::ops::ControlFlow;

/// Most slices one operation frees. A larger file stays an orphan, with fewer slices, until the leader proposes it again.
const SLICES_MAX: usize = 16_384;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::ReclaimOp) -> Ruling<pb::Empty> {
    cx.volume = op.volume;
    if txn.get(&keys::usage(op.volume))?.is_none() {
        return Ok(pb::Empty {});
    }
    let mut usage = read::usage(txn, op.volume)?;
    let watermark = orphan::watermark(txn, op.volume)?;
    let before = usage;
    let mut budget = SLICES_MAX;
    for &ino in &op.inos {
        let Some(inode) = read::inode(txn, op.volume, ino)? else { continue };
        if !inode.is_orphan() || !orphan::is_reclaimable(txn, op.volume, inode.orphaned_at, ino, watermark)? {
            continue;
        }
        if !reclaim(txn, op.volume, &inode, &mut usage, &mut budget)? {
            break;
        }
    }
    if usage != before {
        txn.put(&keys::usage(op.volume), &usage);
    }
    Ok(pb::Empty {})
}

/// True where all of it went within the budget.
fn reclaim(
    txn: &mut Txn<'_>,
    volume: u32,
    inode: &Inode,
    usage: &mut Usage,
    budget: &mut usize,
) -> Result<bool, StoreError> {
    let mut freed = Vec::new();
    let mut all = true;
    let prefix = keys::slices(volume, inode.ino);
    read::slices(txn, &prefix, &prefix.end(), |slice| {
        all = freed.len() < *budget;
        if all {
            freed.push(slice);
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    *budget -= freed.len();
    for slice in freed {
        txn.delete(&keys::slice(volume, inode.ino, slice.chunk, slice.order));
        usage.deleted_slices += slices::drop_name(txn, volume, &slice.piece)?;
    }
    if all {
        txn.delete(&keys::inode(volume, inode.ino));
        xattr::delete_all(txn, volume, inode.ino)?;
        lock::end_file(txn, volume, inode.ino)?;
        txn.delete(&keys::orphan(volume, inode.orphaned_at, inode.ino));
        usage.orphans = usage.orphans.saturating_sub(1);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::FsErrno;

    fn orphan_with_data(fs: &mut TestFs) -> u64 {
        let ino = fs.create("f", 0o600).expect("creates").ino;
        fs.write(ino, 0, 4096).expect("writes");
        fs.unlink("f").expect("removes");
        ino
    }

    #[test]
    fn an_orphan_waits_for_every_session_to_answer() {
        let mut fs = TestFs::new();
        let ino = orphan_with_data(&mut fs);
        fs.reclaim(&[ino]);
        assert!(fs.getattr(ino).is_ok());
        fs.hold(fs.log_index(), &[]);
        fs.reclaim(&[ino]);
        assert_eq!(fs.getattr(ino), Err(FsErrno::Stale));
        assert_eq!((fs.usage().orphans, fs.usage().deleted_slices), (0, 1));
        fs.check();
    }

    #[test]
    fn a_hold_keeps_the_data_until_the_last_close() {
        let mut fs = TestFs::new();
        let ino = orphan_with_data(&mut fs);
        fs.hold(fs.log_index(), &[ino]);
        fs.write(ino, 4096, 10).expect("an open orphan takes writes");
        fs.reclaim(&[ino]);
        assert_eq!(fs.attr(ino).size, 4106);
        fs.release(&[ino]);
        fs.reclaim(&[ino]);
        assert_eq!(fs.getattr(ino), Err(FsErrno::Stale));
        assert_eq!(fs.deleted_slices().len(), 2);
        let ids = fs.deleted_slices();
        fs.purge(&ids);
        assert!(fs.deleted_slices().is_empty());
        fs.check();
    }

    #[test]
    fn the_end_of_a_session_drops_its_holds() {
        let mut fs = TestFs::new();
        let ino = orphan_with_data(&mut fs);
        fs.hold(fs.log_index(), &[ino]);
        fs.expire_session();
        fs.reclaim(&[ino]);
        fs.check();
        assert_eq!(fs.usage().orphans, 0);
    }

    #[test]
    fn a_session_opened_later_is_not_waited_for() {
        let mut fs = TestFs::new();
        let ino = orphan_with_data(&mut fs);
        fs.expire_session();
        fs.open_session();
        fs.reclaim(&[ino]);
        assert_eq!(fs.getattr(ino), Err(FsErrno::Stale));
    }

    #[test]
    fn a_file_that_has_a_name_is_never_reclaimed() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        fs.hold(fs.log_index(), &[ino]);
        fs.reclaim(&[ino, 999]);
        assert!(fs.getattr(ino).is_ok());
        fs.check();
    }

    #[test]
    fn a_file_of_very_many_slices_goes_in_several_steps() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        for n in 0..17 {
            let slices = (0..1024).map(|i| fs.slice(n * 1024 + i, 1)).collect();
            fs.commit(ino, slices).expect("commits");
        }
        fs.unlink("f").expect("removes");
        fs.hold(fs.log_index(), &[]);
        fs.reclaim(&[ino]);
        assert_eq!(fs.usage().deleted_slices, super::SLICES_MAX as u64);
        assert!(fs.getattr(ino).is_ok());
        fs.check();
        fs.reclaim(&[ino]);
        assert_eq!((fs.usage().deleted_slices, fs.usage().orphans), (17 * 1024, 0));
        fs.check();
    }
}
