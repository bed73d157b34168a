//! write: overwrites, gaps, the end of the file, times and set-id bits.

use crate::{alice, next_instant, stat};
use holdfast_tests::fs::Fs;
use holdfast_tests::shared;
use std::fs::File;
use std::os::unix::fs::FileExt;

on_both!(
    overwriting_the_middle_keeps_both_sides,
    writing_beyond_the_end_leaves_zeros_between,
    a_write_moves_mtime_and_ctime,
    many_small_overwrites_leave_the_newest_bytes,
    a_write_across_a_chunk_boundary_comes_back,
);

fn overwriting_the_middle_keeps_both_sides(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, &[1; 10_000]).unwrap();
    fs.write("f", 5000, &[2; 100]).unwrap();
    let found = fs.read("f", 0, 20_000).unwrap();
    assert_eq!(found.len(), 10_000);
    assert!(found[..5000].iter().all(|&b| b == 1) && found[5000..5100].iter().all(|&b| b == 2));
    assert!(found[5100..].iter().all(|&b| b == 1));
}

fn writing_beyond_the_end_leaves_zeros_between(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, b"start").unwrap();
    fs.write("f", 100_000, b"end").unwrap();
    let found = fs.read("f", 0, 200_000).unwrap();
    assert_eq!((found.len(), &found[..5], &found[100_000..]), (100_003, &b"start"[..], &b"end"[..]));
    assert!(found[5..100_000].iter().all(|&b| b == 0));
}

fn a_write_moves_mtime_and_ctime(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let before = stat(fs, "f");
    next_instant();
    fs.write("f", 0, b"x").unwrap();
    let after = stat(fs, "f");
    assert!(after.mtime > before.mtime && after.ctime > before.ctime);
}

fn many_small_overwrites_leave_the_newest_bytes(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let mut expected = vec![0_u8; 4000];
    fs.write("f", 0, &expected).unwrap();
    for round in 1..=60_usize {
        let (offset, len) = (round * 997 % 3900, 1 + round * 31 % 100);
        expected[offset..offset + len].fill(round as u8);
        fs.write("f", offset as u64, &vec![round as u8; len]).unwrap();
    }
    assert!(fs.read("f", 0, 5000).unwrap() == expected);
}

fn a_write_across_a_chunk_boundary_comes_back(fs: &dyn Fs) {
    let chunk = 64 << 20;
    fs.create("f", 0o644, true).unwrap();
    let data: Vec<u8> = (0..200_000_u32).map(|at| (at % 253) as u8).collect();
    fs.write("f", chunk - 100_000, &data).unwrap();
    assert!(fs.read("f", chunk - 100_000, 300_000).unwrap() == data);
    assert_eq!(fs.read("f", chunk - 100_010, 10), Ok(vec![0; 10]));
}

#[test]
fn a_write_by_another_user_clears_the_set_id_bits() {
    let fs = shared::fresh_fs();
    fs.create("f", 0o666, true).unwrap();
    fs.chmod("f", 0o6777).unwrap();
    fs.by(&alice()).write("f", 0, b"x").unwrap();
    assert_eq!(stat(&fs, "f").mode, 0o777);
}

#[test]
fn writers_of_different_parts_of_one_file_do_not_disturb_each_other() {
    let path = shared::fresh_dir().join("f");
    File::create(&path).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4_u8 {
            let path = &path;
            scope.spawn(move || {
                let file = File::options().write(true).open(path).unwrap();
                for round in 0..100_u64 {
                    file.write_all_at(&[writer + 1; 1000], (round * 4 + u64::from(writer)) * 1000).unwrap();
                }
            });
        }
    });
    let found = std::fs::read(&path).unwrap();
    assert_eq!(found.len(), 400_000);
    assert!(found.iter().enumerate().all(|(at, &byte)| usize::from(byte) == at / 1000 % 4 + 1));
}
