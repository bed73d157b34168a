//! getattr: stat(2) and fstat(2).

use crate::stat;
use holdfast_tests::fs::{Fs, Kind};
use holdfast_tests::shared;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

on_both!(each_kind_is_what_it_was_made_as, an_inode_keeps_its_number_through_rename_and_link);

fn each_kind_is_what_it_was_made_as(fs: &dyn Fs) {
    fs.create("f", 0o640, true).unwrap();
    fs.mkdir("d", 0o750).unwrap();
    fs.symlink("target", "l").unwrap();
    fs.mknod("p", Kind::Fifo, 0o600, 0).unwrap();
    let seen = |path: &str| {
        let stat = stat(fs, path);
        (stat.kind, stat.mode, stat.nlink, stat.size)
    };
    assert_eq!(seen("f"), (Kind::File, 0o640, 1, 0));
    assert_eq!(seen("l"), (Kind::Symlink, 0o777, 1, 6));
    assert_eq!(seen("p"), (Kind::Fifo, 0o600, 1, 0));
    let (kind, mode, nlink, _) = seen("d");
    assert_eq!((kind, mode, nlink), (Kind::Dir, 0o750, 2));
    assert_eq!(fs.stat("none").err(), Some(libc::ENOENT));
}

fn an_inode_keeps_its_number_through_rename_and_link(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let ino = stat(fs, "f").ino;
    fs.link("f", "g").unwrap();
    fs.rename("f", "h", 0).unwrap();
    assert_eq!((stat(fs, "g").ino, stat(fs, "h").ino), (ino, ino));
    fs.create("f", 0o644, true).unwrap();
    assert_ne!(stat(fs, "f").ino, ino, "numbers are not used twice");
}

#[test]
fn an_open_file_and_its_name_say_the_same_also_before_the_data_is_saved() {
    let path = shared::fresh_dir().join("f");
    let mut file = File::create(&path).unwrap();
    file.write_all(&[1; 5000]).unwrap();
    let (open, named) = (file.metadata().unwrap(), std::fs::metadata(&path).unwrap());
    let said = |seen: &std::fs::Metadata| (seen.ino(), seen.size(), seen.blocks(), seen.mtime(), seen.mtime_nsec());
    assert_eq!(said(&open), said(&named));
    assert_eq!((open.size(), open.blocks(), open.blksize()), (5000, 10, 128 << 10));
    std::fs::remove_file(&path).unwrap();
    let orphan = file.metadata().unwrap();
    assert_eq!((orphan.ino(), orphan.nlink(), orphan.size()), (open.ino(), 0, 5000));
}

#[test]
fn a_file_just_created_shows_what_was_written_and_changed_since() {
    let dir = shared::fresh_dir();
    // The kernel may skip a question it is expected to ask; what comes after the create must never be answered with it.
    for number in 0..50 {
        let path = dir.join(number.to_string());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"four").unwrap();
        assert_eq!(file.metadata().unwrap().size(), 4);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(mode).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    }
}
