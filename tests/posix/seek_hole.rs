//! lseek with SEEK_DATA and SEEK_HOLE: to the byte, since slices are.

use holdfast_tests::fs::Fs;
use holdfast_tests::shared;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

on_both!(data_and_holes_are_found_to_the_byte, the_end_is_a_hole_and_beyond_it_is_nothing, what_was_punched_is_a_hole);

const DATA: i32 = libc::SEEK_DATA;
const HOLE: i32 = libc::SEEK_HOLE;

fn data_and_holes_are_found_to_the_byte(fs: &dyn Fs) {
    let chunk = 64_u64 << 20;
    fs.create("f", 0o644, true).unwrap();
    for at in [1000, chunk - 7, 20 * chunk + 3] {
        fs.write("f", at, &[7; 500]).unwrap();
    }
    let data = |at| fs.seek("f", at, DATA).unwrap();
    assert_eq!((data(0), data(1000), data(1499), data(1500)), (1000, 1000, 1499, chunk - 7));
    assert_eq!((data(chunk), data(chunk + 493)), (chunk, 20 * chunk + 3));
    let hole = |at| fs.seek("f", at, HOLE).unwrap();
    assert_eq!((hole(0), hole(1000), hole(chunk - 7)), (0, 1500, chunk + 493));
    assert_eq!((hole(5 * chunk), hole(20 * chunk + 10)), (5 * chunk, 20 * chunk + 503));
}

fn the_end_is_a_hole_and_beyond_it_is_nothing(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    assert_eq!((fs.seek("f", 0, DATA), fs.seek("f", 0, HOLE)), (Err(libc::ENXIO), Err(libc::ENXIO)));
    fs.write("f", 0, &[7; 500]).unwrap();
    assert_eq!((fs.seek("f", 0, HOLE), fs.seek("f", 499, HOLE)), (Ok(500), Ok(500)));
    assert_eq!((fs.seek("f", 500, HOLE), fs.seek("f", 500, DATA)), (Err(libc::ENXIO), Err(libc::ENXIO)));
    fs.truncate("f", 1 << 50).unwrap();
    assert_eq!((fs.seek("f", 0, HOLE), fs.seek("f", 500, DATA)), (Ok(500), Err(libc::ENXIO)));
    assert_eq!(fs.seek("f", 1 << 49, HOLE), Ok(1 << 49));
}

fn what_was_punched_is_a_hole(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, &[7; 100_000]).unwrap();
    fs.fallocate("f", libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 5000, 5000).unwrap();
    assert_eq!((fs.seek("f", 0, HOLE), fs.seek("f", 5000, DATA)), (Ok(5000), Ok(10_000)));
    fs.write("f", 6000, &[8; 10]).unwrap();
    assert_eq!((fs.seek("f", 5000, DATA), fs.seek("f", 6000, HOLE)), (Ok(6000), Ok(6010)));
}

#[test]
fn it_sees_writes_that_are_not_flushed_yet() {
    let file = File::options().create_new(true).read(true).write(true).open(shared::fresh_dir().join("f")).unwrap();
    file.write_all_at(&[7; 100], 70_000).unwrap();
    // SAFETY: an open descriptor and integers.
    let seek = |at, whence| unsafe { libc::lseek(file.as_raw_fd(), at, whence) };
    assert_eq!((seek(0, DATA), seek(70_000, HOLE), seek(0, HOLE)), (70_000, 70_100, 0));
    file.write_all_at(&[7; 100], 200).unwrap();
    assert_eq!((seek(0, DATA), seek(200, HOLE), seek(300, DATA)), (200, 300, 70_000));
    assert_eq!(seek(-1, DATA), -1);
    assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ENXIO));
}

#[test]
fn what_is_mapped_counts_after_msync() {
    let path = shared::fresh_dir().join("f");
    let file = File::options().create_new(true).read(true).write(true).open(path).unwrap();
    file.set_len(1 << 20).unwrap();
    let (all, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a mapping of an open file as long as the file, which nobody shortens; one byte within it is written.
    let found = unsafe {
        let map = libc::mmap(std::ptr::null_mut(), 1 << 20, all, shared, file.as_raw_fd(), 0).cast::<u8>();
        assert_ne!(map.cast(), libc::MAP_FAILED);
        map.add(500_000).write_volatile(7);
        assert_eq!(libc::msync(map.cast(), 1 << 20, libc::MS_SYNC), 0);
        let found = libc::lseek(file.as_raw_fd(), 0, DATA);
        libc::munmap(map.cast(), 1 << 20);
        found
    };
    assert!((500_000 - 4096..=500_000).contains(&found), "the page of the byte, not {found}");
}
