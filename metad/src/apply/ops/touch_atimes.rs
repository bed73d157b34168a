//! Touch atimes: reads of many files, told late and together, so that reading costs no commit. Moves atime alone: ctime is for changes.
//! Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling, Stop};
use crate::apply::inode;
use crate::store::records::Stamp;
use crate::store::{read, txn::Txn};
use holdfast_proto::limits::BACKGROUND_BATCH_MAX;
use holdfast_proto::pb;

/// Inodes that are gone, or were changed after the read (utimensat(2) may have set atime back), are left as they are.
pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::TouchAtimesOp) -> Ruling<pb::Empty> {
    if op.reads.len() > BACKGROUND_BATCH_MAX {
        return Err(Stop::Failed(pb::FailureCode::TooLarge));
    }
    for one in &op.reads {
        let Some(mut inode) = read::inode(txn, cx.volume, one.ino)? else { continue };
        let read_at = earlier(cx.now, one.age_ms);
        if inode.atime < read_at && inode.ctime <= read_at {
            inode.atime = read_at;
            inode::save(txn, cx, &inode);
        }
    }
    Ok(pb::Empty {})
}

fn earlier(now: Stamp, age_ms: u64) -> Stamp {
    let age_sec = i64::try_from(age_ms / 1000).unwrap_or(i64::MAX);
    let age_nsec = (age_ms % 1000) as u32 * 1_000_000;
    let borrows = age_nsec > now.nsec;
    Stamp {
        sec: now.sec.saturating_sub(age_sec).saturating_sub(i64::from(borrows)),
        nsec: now.nsec + if borrows { 1_000_000_000 } else { 0 } - age_nsec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::test_fs::TestFs;

    fn touch(fs: &mut TestFs, ino: u64, age_ms: u64) {
        let reads = vec![pb::AtimeRead { ino, age_ms }];
        fs.mutate(pb::TouchAtimesOp { reads }).expect("touches");
    }

    #[test]
    fn a_read_moves_atime_and_nothing_else() {
        let mut fs = TestFs::new();
        let before = fs.create("f", 0o600).expect("creates");
        fs.mkdir("d", 0o700).expect("makes");
        touch(&mut fs, before.ino, 500);
        let after = fs.attr(before.ino);
        assert!(after.atime > before.atime);
        assert_eq!((after.mtime, after.ctime, after.data_version), (before.mtime, before.ctime, before.data_version));
        touch(&mut fs, 999, 0);
        fs.check();
    }

    #[test]
    fn a_read_before_the_last_change_or_the_last_read_moves_nothing() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        touch(&mut fs, ino, 0);
        let read = fs.attr(ino);
        touch(&mut fs, ino, 5_000);
        assert_eq!(fs.attr(ino), read);
        fs.setattr(pb::SetattrOp { ino, atime: Some(pb::SetTime::default()), ..Default::default() })
            .expect_err("a time is missing");
        let past = pb::SetTime { now: false, time: Some(pb::TimeSpec { sec: 1, nsec: 0 }) };
        let set = fs.setattr(pb::SetattrOp { ino, atime: Some(past), ..Default::default() }).expect("sets");
        touch(&mut fs, ino, 1_500);
        assert_eq!(fs.attr(ino), set);
    }

    #[test]
    fn ages_reach_back_over_the_second() {
        let at = |sec, nsec| Stamp { sec, nsec };
        assert_eq!(earlier(at(10, 300_000_000), 1_200), at(9, 100_000_000));
        assert_eq!(earlier(at(10, 100_000_000), 1_200), at(8, 900_000_000));
        assert_eq!(earlier(at(10, 0), 0), at(10, 0));
        assert_eq!(earlier(at(10, 0), u64::MAX).sec, 10 - (u64::MAX / 1000) as i64 - 1);
    }
}
