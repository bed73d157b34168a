//! create: open(2) with O_CREAT.

use crate::{alice, next_instant, stat};
use holdfast_tests::fs::{Fs, Kind};

on_both!(
    a_new_file_is_empty_and_has_its_creators_ids,
    o_excl_refuses_a_name_that_exists,
    without_o_excl_the_existing_file_is_opened,
    a_directory_cannot_be_created_over,
    the_parents_times_move_and_the_files_are_now,
    a_missing_or_wrong_parent_is_refused,
    inode_numbers_are_never_shared,
);

fn a_new_file_is_empty_and_has_its_creators_ids(fs: &dyn Fs) {
    fs.chmod("", 0o777).unwrap();
    fs.by(&alice()).create("f", 0o640, true).unwrap();
    let found = stat(fs, "f");
    assert_eq!((found.kind, found.mode, found.nlink, found.size), (Kind::File, 0o640, 1, 0));
    assert_eq!((found.uid, found.gid), (alice().uid, alice().gid));
}

fn o_excl_refuses_a_name_that_exists(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.create("f", 0o644, true), Err(libc::EEXIST));
    fs.symlink("nowhere", "l").unwrap();
    assert_eq!(fs.create("l", 0o644, true), Err(libc::EEXIST));
}

fn without_o_excl_the_existing_file_is_opened(fs: &dyn Fs) {
    fs.create("f", 0o600, true).unwrap();
    fs.write("f", 0, b"data").unwrap();
    let before = stat(fs, "f").ino;
    assert_eq!(fs.create("f", 0o777, false), Ok(()));
    let after = stat(fs, "f");
    assert_eq!((after.ino, after.mode, after.size), (before, 0o600, 4));
}

fn a_directory_cannot_be_created_over(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    assert_eq!(fs.create("d", 0o644, false), Err(libc::EISDIR));
    assert_eq!(fs.create("d", 0o644, true), Err(libc::EEXIST));
}

fn the_parents_times_move_and_the_files_are_now(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    let before = stat(fs, "d");
    next_instant();
    fs.create("d/f", 0o644, true).unwrap();
    let (parent, file) = (stat(fs, "d"), stat(fs, "d/f"));
    assert!(parent.mtime > before.mtime && parent.ctime > before.ctime);
    assert!(file.mtime > before.mtime && file.ctime == file.mtime && file.atime == file.mtime);
    assert_eq!(parent.nlink, before.nlink);
}

fn a_missing_or_wrong_parent_is_refused(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.create("none/f", 0o644, true), Err(libc::ENOENT));
    assert_eq!(fs.create("f/g", 0o644, true), Err(libc::ENOTDIR));
}

fn inode_numbers_are_never_shared(fs: &dyn Fs) {
    let mut inos = Vec::new();
    for round in 0..20 {
        fs.create(&format!("f{round}"), 0o644, true).unwrap();
        inos.push(stat(fs, &format!("f{round}")).ino);
        fs.unlink(&format!("f{round}")).unwrap();
    }
    inos.sort_unstable();
    inos.dedup();
    assert_eq!(inos.len(), 20);
}
