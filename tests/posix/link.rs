//! link.

use crate::{next_instant, stat};
use holdfast_tests::fs::{Fs, Kind};

on_both!(
    both_names_are_one_file,
    a_name_is_made_once,
    directories_have_one_name,
    the_data_stays_until_the_last_name_goes,
    every_other_kind_can_be_linked,
    link_moves_ctime_and_the_parents_times,
);

fn both_names_are_one_file(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.mkdir("d", 0o755).unwrap();
    fs.link("a", "d/b").unwrap();
    fs.write("d/b", 0, b"shared").unwrap();
    assert_eq!(fs.read("a", 0, 10), Ok(b"shared".to_vec()));
    assert_eq!((stat(fs, "a").ino, stat(fs, "a").nlink), (stat(fs, "d/b").ino, 2));
}

fn a_name_is_made_once(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    assert_eq!(fs.link("a", "b"), Err(libc::EEXIST));
    assert_eq!(fs.link("a", "a"), Err(libc::EEXIST));
    assert_eq!(fs.link("none", "c"), Err(libc::ENOENT));
    assert_eq!(fs.link("a", "none/c"), Err(libc::ENOENT));
    assert_eq!(stat(fs, "a").nlink, 1);
}

fn directories_have_one_name(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    assert_eq!(fs.link("d", "e"), Err(libc::EPERM));
}

fn the_data_stays_until_the_last_name_goes(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.write("a", 0, b"kept").unwrap();
    fs.link("a", "b").unwrap();
    fs.unlink("a").unwrap();
    assert_eq!((fs.read("b", 0, 10), stat(fs, "b").nlink), (Ok(b"kept".to_vec()), 1));
}

fn every_other_kind_can_be_linked(fs: &dyn Fs) {
    fs.mknod("p", Kind::Fifo, 0o644, 0).unwrap();
    fs.symlink("nowhere", "l").unwrap();
    fs.link("p", "p2").unwrap();
    fs.link("l", "l2").unwrap();
    assert_eq!((stat(fs, "p2").nlink, fs.readlink("l2")), (2, Ok("nowhere".into())));
}

fn link_moves_ctime_and_the_parents_times(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.mkdir("d", 0o755).unwrap();
    let (file, dir) = (stat(fs, "a"), stat(fs, "d"));
    next_instant();
    fs.link("a", "d/b").unwrap();
    assert!(stat(fs, "a").ctime > file.ctime && stat(fs, "a").mtime == file.mtime);
    assert!(stat(fs, "d").mtime > dir.mtime && stat(fs, "d").ctime > dir.ctime);
}
