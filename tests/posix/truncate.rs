//! truncate: down, up, and what lies beyond the new end.

use crate::{next_instant, stat};
use holdfast_tests::fs::{Fs, Kind};
use holdfast_tests::shared;
use std::fs::File;
use std::io::Write;

on_both!(
    growing_adds_zeros,
    what_was_cut_off_stays_cut_off,
    only_regular_files_have_a_size,
    truncation_moves_the_times,
    cutting_at_odd_places_over_several_chunks,
);

fn growing_adds_zeros(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, b"abc").unwrap();
    fs.truncate("f", 10).unwrap();
    assert_eq!((stat(fs, "f").size, fs.read("f", 0, 20)), (10, Ok(b"abc\0\0\0\0\0\0\0".to_vec())));
}

fn what_was_cut_off_stays_cut_off(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, &[9; 200_000]).unwrap();
    fs.truncate("f", 70_001).unwrap();
    fs.truncate("f", 150_000).unwrap();
    let found = fs.read("f", 0, 200_000).unwrap();
    assert_eq!(found.len(), 150_000);
    assert!(found[..70_001].iter().all(|&b| b == 9) && found[70_001..].iter().all(|&b| b == 0));
    fs.write("f", 100_000, &[8; 10]).unwrap();
    assert_eq!(fs.read("f", 99_995, 20).unwrap(), [&[0; 5][..], &[8; 10], &[0; 5]].concat());
    fs.truncate("f", 0).unwrap();
    assert_eq!(fs.read("f", 0, 10), Ok(vec![]));
}

fn only_regular_files_have_a_size(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    fs.mknod("p", Kind::Fifo, 0o644, 0).unwrap();
    assert_eq!(fs.truncate("d", 0), Err(libc::EISDIR));
    assert_eq!(fs.truncate("p", 0), Err(libc::EINVAL));
    assert_eq!(fs.truncate("none", 0), Err(libc::ENOENT));
}

fn truncation_moves_the_times(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, b"abc").unwrap();
    let before = stat(fs, "f");
    next_instant();
    fs.truncate("f", 1).unwrap();
    let after = stat(fs, "f");
    assert!(after.mtime > before.mtime && after.ctime > before.ctime);
}

fn cutting_at_odd_places_over_several_chunks(fs: &dyn Fs) {
    let chunk = 64_u64 << 20;
    fs.create("f", 0o644, true).unwrap();
    for at in [0, chunk - 5, chunk + 5, 3 * chunk - 5] {
        fs.write("f", at, &[7; 10]).unwrap();
    }
    fs.truncate("f", 3 * chunk - 2).unwrap();
    fs.truncate("f", 4 * chunk).unwrap();
    assert_eq!(fs.read("f", 3 * chunk - 5, 10).unwrap(), [7, 7, 7, 0, 0, 0, 0, 0, 0, 0]);
    fs.truncate("f", chunk + 7).unwrap();
    fs.truncate("f", 2 * chunk).unwrap();
    assert_eq!(fs.read("f", chunk - 6, 20).unwrap(), [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn ftruncate_sees_writes_that_are_not_flushed_yet() {
    let path = shared::fresh_dir().join("f");
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
    file.write_all(&[5; 50_000]).unwrap();
    file.set_len(20_000).unwrap();
    file.set_len(30_000).unwrap();
    file.write_all(&[6; 10]).unwrap();
    drop(file);
    let found = std::fs::read(&path).unwrap();
    assert_eq!(found.len(), 50_010);
    assert!(found[..20_000].iter().all(|&b| b == 5) && found[20_000..50_000].iter().all(|&b| b == 0));
    assert!(found[50_000..].iter().all(|&b| b == 6));
}

#[test]
fn ftruncate_needs_no_write_permission_on_the_mode() {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let path = shared::fresh_dir().join("f");
    let file = File::options().create_new(true).write(true).mode(0o644).open(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o444)).unwrap();
    file.set_len(7).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 7);
}
