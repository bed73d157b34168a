//! mkdir.

use crate::{alice, next_instant, stat};
use holdfast_tests::fs::{Fs, Kind};

on_both!(
    a_new_directory_is_empty_and_counts_in_its_parent,
    a_name_is_made_once,
    a_missing_or_wrong_parent_is_refused,
    deep_trees_work,
    the_parents_times_move,
);

fn a_new_directory_is_empty_and_counts_in_its_parent(fs: &dyn Fs) {
    fs.chmod("", 0o777).unwrap();
    let before = stat(fs, "").nlink;
    fs.by(&alice()).mkdir("d", 0o750).unwrap();
    let found = stat(fs, "d");
    assert_eq!((found.kind, found.mode, found.nlink), (Kind::Dir, 0o750, 2));
    assert_eq!((found.uid, found.gid), (alice().uid, alice().gid));
    assert_eq!(stat(fs, "").nlink, before + 1);
    assert_eq!(fs.readdir("d"), Ok(vec![]));
}

fn a_name_is_made_once(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    fs.create("f", 0o644, true).unwrap();
    fs.symlink("nowhere", "l").unwrap();
    for name in ["d", "f", "l"] {
        assert_eq!(fs.mkdir(name, 0o755), Err(libc::EEXIST), "{name}");
    }
}

fn a_missing_or_wrong_parent_is_refused(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.mkdir("none/d", 0o755), Err(libc::ENOENT));
    assert_eq!(fs.mkdir("f/d", 0o755), Err(libc::ENOTDIR));
}

fn deep_trees_work(fs: &dyn Fs) {
    let mut path = "d".to_string();
    for _ in 0..60 {
        fs.mkdir(&path, 0o755).unwrap();
        path.push_str("/d");
    }
    fs.create(&path, 0o644, true).unwrap();
    assert_eq!(stat(fs, &path).kind, Kind::File);
}

fn the_parents_times_move(fs: &dyn Fs) {
    let before = stat(fs, "");
    next_instant();
    fs.mkdir("d", 0o755).unwrap();
    assert!(stat(fs, "").mtime > before.mtime && stat(fs, "").ctime > before.ctime);
}
