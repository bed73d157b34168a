//! fallocate: room for a range, and data taken away. A file is charged by its size, holes included: so allocating is growing, and
//! what lies below the size has its room.

use crate::{alice, next_instant, stat};
use holdfast_tests::fs::Fs;
use holdfast_tests::fs::mount_fs::MountFs;
use holdfast_tests::mount::Mount;
use holdfast_tests::shared;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

on_both!(
    allocating_grows_the_file_and_keep_size_does_not,
    a_punched_hole_reads_as_zeros_and_the_size_stays,
    zeroing_may_grow_the_file,
    holes_over_several_chunks,
    what_is_not_supported_says_so,
    it_moves_the_times,
);

const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;

fn allocating_grows_the_file_and_keep_size_does_not(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, b"abc").unwrap();
    fs.fallocate("f", 0, 1, 9).unwrap();
    assert_eq!(fs.read("f", 0, 20), Ok(b"abc\0\0\0\0\0\0\0".to_vec()));
    fs.fallocate("f", KEEP, 5, 1000).unwrap();
    fs.fallocate("f", 0, 0, 3).unwrap();
    assert_eq!((stat(fs, "f").size, fs.read("f", 0, 3)), (10, Ok(b"abc".to_vec())));
}

fn a_punched_hole_reads_as_zeros_and_the_size_stays(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, &[7; 100_000]).unwrap();
    fs.fallocate("f", PUNCH, 1000, 50_001).unwrap();
    fs.fallocate("f", PUNCH, 90_000, 1_000_000).unwrap();
    let found = fs.read("f", 0, 200_000).unwrap();
    let zero = |at: usize| (1000..51_001).contains(&at) || at >= 90_000;
    assert_eq!(found.len(), 100_000);
    assert!(found.iter().enumerate().all(|(at, &byte)| byte == if zero(at) { 0 } else { 7 }));
    fs.write("f", 2000, b"again").unwrap();
    assert_eq!(fs.read("f", 1998, 9), Ok(b"\0\0again\0\0".to_vec()));
}

fn zeroing_may_grow_the_file(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, &[7; 100]).unwrap();
    fs.fallocate("f", ZERO | KEEP, 90, 100).unwrap();
    assert_eq!(stat(fs, "f").size, 100);
    fs.fallocate("f", ZERO, 50, 100).unwrap();
    assert_eq!(fs.read("f", 0, 1000).unwrap(), [[7; 50].to_vec(), vec![0; 100]].concat());
}

fn holes_over_several_chunks(fs: &dyn Fs) {
    let chunk = 64_u64 << 20;
    fs.create("f", 0o644, true).unwrap();
    for at in [0, chunk - 5, 2 * chunk, 3 * chunk - 5] {
        fs.write("f", at, &[7; 10]).unwrap();
    }
    fs.fallocate("f", PUNCH, 5, 3 * chunk - 3).unwrap();
    assert_eq!(fs.read("f", 0, 10), Ok(vec![7, 7, 7, 7, 7, 0, 0, 0, 0, 0]));
    assert_eq!(fs.read("f", chunk - 6, 12), Ok(vec![0; 12]));
    assert_eq!(fs.read("f", 3 * chunk - 6, 20), Ok(vec![0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7]));
}

fn what_is_not_supported_says_so(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, &[7; 100_000]).unwrap();
    let odd = [
        libc::FALLOC_FL_COLLAPSE_RANGE,
        libc::FALLOC_FL_INSERT_RANGE,
        libc::FALLOC_FL_UNSHARE_RANGE,
        libc::FALLOC_FL_PUNCH_HOLE,
        PUNCH | ZERO,
    ];
    for mode in odd {
        assert_eq!(fs.fallocate("f", mode, 4096, 4096), Err(libc::EOPNOTSUPP), "mode {mode:x}");
    }
    fs.mkdir("d", 0o755).unwrap();
    assert_eq!(fs.fallocate("d", 0, 0, 1), Err(libc::EISDIR));
    assert_eq!(fs.fallocate("f", 0, 0, 0), Err(libc::EINVAL));
    assert_eq!(fs.fallocate("f", 0, 128 << 50, 1), Err(libc::EFBIG));
    assert!(fs.read("f", 0, 200_000).unwrap() == [7; 100_000]);
}

fn it_moves_the_times(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, b"abc").unwrap();
    for (mode, len) in [(0, 10), (KEEP, 100), (PUNCH, 2), (ZERO, 2)] {
        let before = stat(fs, "f");
        next_instant();
        fs.fallocate("f", mode, 0, len).unwrap();
        let after = stat(fs, "f");
        assert!(after.mtime > before.mtime && after.ctime > before.ctime, "mode {mode:x}");
    }
}

#[test]
fn it_comes_after_writes_that_are_not_flushed_yet() {
    let path = shared::fresh_dir().join("f");
    let mut file = File::options().create_new(true).read(true).write(true).open(&path).unwrap();
    file.write_all(&[5; 50_000]).unwrap();
    // SAFETY: an open descriptor and integers.
    let fallocate = |mode, at, len| unsafe { libc::fallocate(file.as_raw_fd(), mode, at, len) };
    assert_eq!(fallocate(PUNCH, 10_000, 10_000), 0);
    file.write_all_at(&[6; 100], 15_000).unwrap();
    assert_eq!(fallocate(0, 0, 60_000), 0);
    let expected = |at: usize| match at {
        15_000..15_100 => 6,
        10_000..20_000 | 50_000.. => 0,
        _ => 5,
    };
    for _ in 0..2 {
        let found = std::fs::read(&path).unwrap();
        assert_eq!(found.len(), 60_000);
        assert!(found.iter().enumerate().all(|(at, &byte)| byte == expected(at)));
        file.sync_all().unwrap();
    }
}

#[test]
fn what_is_mapped_shows_the_hole() {
    let path = shared::fresh_dir().join("f");
    std::fs::write(&path, [5; 20_000]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let (all, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a mapping of an open file as long as the file, which nobody shortens; bytes are read and written within it.
    unsafe {
        let map = libc::mmap(std::ptr::null_mut(), 20_000, all, shared, file.as_raw_fd(), 0).cast::<u8>();
        assert_ne!(map.cast(), libc::MAP_FAILED);
        map.add(9000).write_volatile(9);
        assert_eq!(libc::fallocate(file.as_raw_fd(), PUNCH, 5000, 10_000), 0);
        let at = |offset| map.add(offset).read_volatile();
        assert_eq!((at(4999), at(5000), at(9000), at(14_999), at(15_000)), (5, 0, 0, 0, 5));
        map.add(9000).write_volatile(8);
        libc::munmap(map.cast(), 20_000);
    }
    drop(file);
    let found = std::fs::read(&path).unwrap();
    assert_eq!((found[8999], found[9000], found[9001], found[15_000]), (0, 8, 0, 5));
}

#[test]
fn by_another_user_it_clears_the_set_id_bits() {
    let fs = shared::fresh_fs();
    fs.create("f", 0o666, true).unwrap();
    fs.chmod("f", 0o6777).unwrap();
    fs.by(&alice()).fallocate("f", 0, 0, 10).unwrap();
    assert_eq!(stat(&fs, "f").mode, 0o777);
}

#[test]
fn room_that_is_not_there_is_refused_and_room_that_was_given_is_kept() {
    let meta = shared::cluster().format("fallocate-full");
    let volume = meta.rsplit('/').next().unwrap();
    shared::cluster().holdfast(&["config", &meta, "--capacity", "1MiB"]).ok("holdfast config");
    let mount = Mount::start(&meta);
    let fs = MountFs::new(&mount.dir);
    fs.create("f", 0o644, true).unwrap();
    fs.fallocate("f", 0, 0, 1 << 20).unwrap();
    assert_eq!(fs.fallocate("f", 0, 0, (1 << 20) + 1), Err(libc::ENOSPC));
    assert_eq!(fs.fallocate("f", ZERO, 1 << 20, 1), Err(libc::ENOSPC));
    fs.create("g", 0o644, true).unwrap();
    assert_eq!(fs.write("g", 0, b"x"), Err(libc::ENOSPC), "{volume} is full");
    fs.write("f", 0, &vec![1; 1 << 20]).unwrap();
    assert_eq!(fs.copy_file_range(("f", 0), ("g", 0), 1), Err(libc::ENOSPC));
    assert_eq!(stat(&fs, "g").size, 0);
}
