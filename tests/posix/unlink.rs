//! unlink.

use crate::{names_in, next_instant, stat};
use holdfast_tests::fs::{Fs, Kind};

on_both!(
    a_name_goes_and_can_be_used_again,
    directories_are_not_unlinked,
    every_kind_can_be_unlinked,
    the_remaining_name_shows_it,
    unlink_moves_the_parents_times,
);

fn a_name_goes_and_can_be_used_again(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, b"old").unwrap();
    fs.unlink("f").unwrap();
    assert_eq!((fs.stat("f").err(), fs.unlink("f")), (Some(libc::ENOENT), Err(libc::ENOENT)));
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.read("f", 0, 10), Ok(vec![]));
}

fn directories_are_not_unlinked(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    assert_eq!(fs.unlink("d"), Err(libc::EISDIR));
    assert_eq!(stat(fs, "d").kind, Kind::Dir);
}

fn every_kind_can_be_unlinked(fs: &dyn Fs) {
    fs.mknod("p", Kind::Fifo, 0o644, 0).unwrap();
    fs.mknod("s", Kind::Socket, 0o644, 0).unwrap();
    fs.symlink("nowhere", "l").unwrap();
    for name in ["p", "s", "l"] {
        fs.unlink(name).unwrap();
    }
    assert!(names_in(fs, "").is_empty());
}

fn the_remaining_name_shows_it(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.link("a", "b").unwrap();
    let before = stat(fs, "a");
    next_instant();
    fs.unlink("b").unwrap();
    let after = stat(fs, "a");
    assert_eq!((before.nlink, after.nlink), (2, 1));
    assert!(after.ctime > before.ctime && after.mtime == before.mtime);
}

fn unlink_moves_the_parents_times(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let before = stat(fs, "");
    next_instant();
    fs.unlink("f").unwrap();
    assert!(stat(fs, "").mtime > before.mtime && stat(fs, "").ctime > before.ctime);
}
