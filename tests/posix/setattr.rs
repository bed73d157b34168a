//! setattr: chmod(2), chown(2), utimensat(2), and who may.

use crate::{ALICE, BOB, alice, bob, next_instant, stat};
use holdfast_tests::fs::{Fs, SetTime};

on_both!(
    chmod_sets_all_twelve_bits,
    only_the_owner_may_chmod,
    only_root_gives_files_away,
    an_owner_may_choose_among_own_groups,
    chown_by_a_user_clears_the_set_id_bits,
    times_are_kept_to_the_nanosecond,
    times_before_1970_and_after_2038_are_kept,
    utime_omit_and_now,
    only_the_owner_may_set_times_to_a_value,
    every_change_moves_ctime,
);

fn chmod_sets_all_twelve_bits(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    for mode in [0, 0o777, 0o7777, 0o1000, 0o4711, 0o644] {
        fs.chmod("f", mode).unwrap();
        assert_eq!(stat(fs, "f").mode, mode);
    }
}

fn only_the_owner_may_chmod(fs: &dyn Fs) {
    fs.create("f", 0o666, true).unwrap();
    fs.chown("f", Some(ALICE), Some(ALICE)).unwrap();
    assert_eq!(fs.by(&bob()).chmod("f", 0o777), Err(libc::EPERM));
    assert_eq!(fs.by(&alice()).chmod("f", 0o600), Ok(()));
    assert_eq!(stat(fs, "f").mode, 0o600);
}

fn only_root_gives_files_away(fs: &dyn Fs) {
    fs.create("f", 0o666, true).unwrap();
    fs.chown("f", Some(ALICE), Some(ALICE)).unwrap();
    assert_eq!(fs.by(&alice()).chown("f", Some(BOB), None), Err(libc::EPERM));
    assert_eq!(fs.by(&bob()).chown("f", None, Some(BOB)), Err(libc::EPERM));
    fs.chown("f", Some(BOB), None).unwrap();
    assert_eq!((stat(fs, "f").uid, stat(fs, "f").gid), (BOB, ALICE));
}

fn an_owner_may_choose_among_own_groups(fs: &dyn Fs) {
    fs.create("f", 0o666, true).unwrap();
    fs.chown("f", Some(ALICE), Some(ALICE)).unwrap();
    let member = alice().with_groups(&[5005, 5006]);
    assert_eq!(fs.by(&member).chown("f", None, Some(5006)), Ok(()));
    assert_eq!(stat(fs, "f").gid, 5006);
    assert_eq!(fs.by(&member).chown("f", None, Some(5007)), Err(libc::EPERM));
}

fn chown_by_a_user_clears_the_set_id_bits(fs: &dyn Fs) {
    fs.create("f", 0o755, true).unwrap();
    fs.chown("f", Some(ALICE), Some(ALICE)).unwrap();
    fs.chmod("f", 0o6755).unwrap();
    fs.by(&alice().with_groups(&[5005])).chown("f", None, Some(5005)).unwrap();
    assert_eq!(stat(fs, "f").mode, 0o755);
}

fn times_are_kept_to_the_nanosecond(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let (atime, mtime) = ((1_700_000_001, 123_456_789), (1_600_000_002, 999_999_999));
    fs.utimens("f", SetTime::To(atime), SetTime::To(mtime)).unwrap();
    assert_eq!((stat(fs, "f").atime, stat(fs, "f").mtime), (atime, mtime));
}

fn times_before_1970_and_after_2038_are_kept(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let (atime, mtime) = ((-5, 500_000_000), (5_000_000_000, 1));
    fs.utimens("f", SetTime::To(atime), SetTime::To(mtime)).unwrap();
    assert_eq!((stat(fs, "f").atime, stat(fs, "f").mtime), (atime, mtime));
}

fn utime_omit_and_now(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let created = stat(fs, "f");
    fs.utimens("f", SetTime::To((1, 2)), SetTime::To((3, 4))).unwrap();
    fs.utimens("f", SetTime::Omit, SetTime::Now).unwrap();
    let found = stat(fs, "f");
    assert_eq!(found.atime, (1, 2));
    assert!(found.mtime >= created.mtime);
}

fn only_the_owner_may_set_times_to_a_value(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.chown("f", Some(ALICE), Some(ALICE)).unwrap();
    assert_eq!(fs.by(&bob()).utimens("f", SetTime::To((1, 0)), SetTime::To((1, 0))), Err(libc::EPERM));
    assert_eq!(fs.by(&alice()).utimens("f", SetTime::To((1, 0)), SetTime::To((1, 0))), Ok(()));
    fs.chmod("f", 0o666).unwrap();
    // With write permission, "now" may be set by anybody (utimensat(2)).
    assert_eq!(fs.by(&bob()).utimens("f", SetTime::Now, SetTime::Now), Ok(()));
}

fn every_change_moves_ctime(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let changes: [&dyn Fn(); 3] =
        [&|| fs.chmod("f", 0o600).unwrap(), &|| fs.chown("f", Some(7), Some(8)).unwrap(), &|| {
            fs.utimens("f", SetTime::To((1, 0)), SetTime::Omit).unwrap()
        }];
    for change in changes {
        let before = stat(fs, "f").ctime;
        next_instant();
        change();
        assert!(stat(fs, "f").ctime > before);
    }
}
