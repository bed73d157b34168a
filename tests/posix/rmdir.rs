//! rmdir.

use crate::{next_instant, stat};
use holdfast_tests::fs::Fs;
use holdfast_tests::shared;

on_both!(an_empty_directory_goes, a_full_directory_stays, only_directories_go, a_removed_name_can_be_used_again);

fn an_empty_directory_goes(fs: &dyn Fs) {
    let before = stat(fs, "");
    fs.mkdir("d", 0o755).unwrap();
    next_instant();
    let between = stat(fs, "");
    fs.rmdir("d").unwrap();
    let after = stat(fs, "");
    assert_eq!((fs.stat("d").err(), after.nlink), (Some(libc::ENOENT), before.nlink));
    assert!(after.mtime > between.mtime && after.ctime > between.ctime);
    assert_eq!(fs.rmdir("d"), Err(libc::ENOENT));
}

fn a_full_directory_stays(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    fs.mkdir("d/e", 0o755).unwrap();
    assert_eq!(fs.rmdir("d"), Err(libc::ENOTEMPTY));
    fs.rmdir("d/e").unwrap();
    fs.create("d/f", 0o644, true).unwrap();
    assert_eq!(fs.rmdir("d"), Err(libc::ENOTEMPTY));
    fs.unlink("d/f").unwrap();
    assert_eq!(fs.rmdir("d"), Ok(()));
}

fn only_directories_go(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.symlink("nowhere", "l").unwrap();
    assert_eq!((fs.rmdir("f"), fs.rmdir("l")), (Err(libc::ENOTDIR), Err(libc::ENOTDIR)));
}

fn a_removed_name_can_be_used_again(fs: &dyn Fs) {
    fs.mkdir("x", 0o755).unwrap();
    let first = stat(fs, "x").ino;
    fs.rmdir("x").unwrap();
    fs.create("x", 0o644, true).unwrap();
    assert_ne!(stat(fs, "x").ino, first);
}

#[test]
fn a_removed_directory_that_is_a_cwd_takes_no_new_names() {
    let dir = shared::fresh_dir().join("d");
    std::fs::create_dir(&dir).unwrap();
    let handle = std::fs::File::open(&dir).unwrap();
    std::fs::remove_dir(&dir).unwrap();
    let below = format!("/proc/self/fd/{}/f", std::os::fd::AsRawFd::as_raw_fd(&handle));
    let error = std::fs::File::create(below).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}
