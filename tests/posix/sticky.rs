//! Sticky directories: only the owner of the file, of the directory, or root takes a name away.

use crate::{ALICE, alice, bob};
use holdfast_tests::fs::Fs;

on_both!(
    a_stranger_cannot_unlink,
    a_stranger_cannot_rename_away_or_over,
    a_stranger_cannot_rmdir,
    the_directorys_owner_may,
    without_the_bit_anybody_may,
);

fn sticky_dir(fs: &dyn Fs) {
    fs.mkdir("d", 0o777).unwrap();
    fs.chmod("d", 0o1777).unwrap();
    fs.by(&alice()).create("d/hers", 0o666, true).unwrap();
}

fn a_stranger_cannot_unlink(fs: &dyn Fs) {
    sticky_dir(fs);
    assert_eq!(fs.by(&bob()).unlink("d/hers"), Err(libc::EPERM));
    assert_eq!(fs.by(&alice()).unlink("d/hers"), Ok(()));
}

fn a_stranger_cannot_rename_away_or_over(fs: &dyn Fs) {
    sticky_dir(fs);
    fs.by(&bob()).create("d/his", 0o666, true).unwrap();
    assert_eq!(fs.by(&bob()).rename("d/hers", "d/taken", 0), Err(libc::EPERM));
    assert_eq!(fs.by(&bob()).rename("d/his", "d/hers", 0), Err(libc::EPERM));
    assert_eq!(fs.by(&bob()).rename("d/his", "d/hers", 2), Err(libc::EPERM));
    assert_eq!(fs.by(&bob()).rename("d/his", "d/moved", 0), Ok(()));
}

fn a_stranger_cannot_rmdir(fs: &dyn Fs) {
    sticky_dir(fs);
    fs.by(&alice()).mkdir("d/e", 0o777).unwrap();
    assert_eq!(fs.by(&bob()).rmdir("d/e"), Err(libc::EPERM));
    assert_eq!(fs.by(&alice()).rmdir("d/e"), Ok(()));
}

fn the_directorys_owner_may(fs: &dyn Fs) {
    fs.mkdir("d", 0o777).unwrap();
    fs.chown("d", Some(ALICE), Some(ALICE)).unwrap();
    fs.chmod("d", 0o1777).unwrap();
    fs.by(&bob()).create("d/his", 0o666, true).unwrap();
    assert_eq!(fs.by(&alice()).unlink("d/his"), Ok(()));
}

fn without_the_bit_anybody_may(fs: &dyn Fs) {
    sticky_dir(fs);
    fs.chmod("d", 0o777).unwrap();
    assert_eq!(fs.by(&bob()).unlink("d/hers"), Ok(()));
}
