//! copy_file_range: a copy names the slices of its source and moves no data; objects go with the last file that names them.

use crate::{next_instant, stat};
use holdfast_tests::files::object_count;
use holdfast_tests::fs::Fs;
use holdfast_tests::fs::mount_fs::MountFs;
use holdfast_tests::{process, shared};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

on_both!(
    any_range_is_copied_anywhere,
    holes_stay_holes_and_hide_what_was_there,
    a_copy_and_its_source_change_apart,
    it_ends_with_the_source,
    over_several_chunks,
    within_one_file,
    it_moves_the_times_of_the_target,
    what_is_no_file_is_refused,
);

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + seed * 31 + at / 251) as u8 | 1).collect()
}

fn any_range_is_copied_anywhere(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    let (a, b) = (pattern(300_000, 1), pattern(200_000, 2));
    fs.write("a", 0, &a).unwrap();
    fs.write("b", 0, &b).unwrap();
    assert_eq!(fs.copy_file_range(("a", 12_345), ("b", 100_001), 150_002), Ok(150_002));
    let expected = [&b[..100_001], &a[12_345..12_345 + 150_002]].concat();
    assert!(fs.read("b", 0, 1 << 20).unwrap() == expected);
    assert!(fs.read("a", 0, 1 << 20).unwrap() == a);
}

fn holes_stay_holes_and_hide_what_was_there(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    fs.write("a", 50_000, &[1; 1000]).unwrap();
    fs.truncate("a", 100_000).unwrap();
    fs.write("b", 0, &[2; 200_000]).unwrap();
    assert_eq!(fs.copy_file_range(("a", 0), ("b", 50_000), 100_000), Ok(100_000));
    let found = fs.read("b", 0, 200_000).unwrap();
    let expected = |at| match at {
        100_000..101_000 => 1,
        50_000..150_000 => 0,
        _ => 2,
    };
    assert!(found.iter().enumerate().all(|(at, &byte)| byte == expected(at)));
    assert_eq!(fs.seek("b", 50_000, libc::SEEK_DATA), Ok(100_000));
}

fn a_copy_and_its_source_change_apart(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    fs.write("a", 0, &[1; 10_000]).unwrap();
    fs.copy_file_range(("a", 0), ("b", 0), 10_000).unwrap();
    fs.write("a", 100, &[2; 100]).unwrap();
    fs.write("b", 300, &[3; 100]).unwrap();
    assert!(fs.read("a", 300, 100).unwrap() == [1; 100] && fs.read("b", 100, 100).unwrap() == [1; 100]);
    fs.truncate("a", 0).unwrap();
    assert_eq!(fs.read("b", 250, 100).unwrap(), [[1; 50], [3; 50]].concat());
    fs.unlink("a").unwrap();
    assert_eq!(fs.read("b", 0, 20_000).unwrap().len(), 10_000);
}

fn it_ends_with_the_source(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    fs.write("a", 0, &[1; 1000]).unwrap();
    assert_eq!(fs.copy_file_range(("a", 900), ("b", 5000), 1000), Ok(100));
    assert_eq!(stat(fs, "b").size, 5100);
    assert_eq!(fs.copy_file_range(("a", 1000), ("b", 9000), 10), Ok(0));
    assert_eq!(fs.copy_file_range(("a", 0), ("b", 9000), 0), Ok(0));
    assert_eq!(stat(fs, "b").size, 5100);
}

fn over_several_chunks(fs: &dyn Fs) {
    let chunk = 64_u64 << 20;
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    let data = pattern(300_000, 3);
    for at in [0, chunk - 100_000, 3 * chunk - 1] {
        fs.write("a", at, &data).unwrap();
    }
    let size = 3 * chunk - 1 + 300_000;
    assert_eq!(fs.copy_file_range(("a", 7), ("b", 1_000_003), size), Ok(size - 7));
    let shift = 1_000_003 - 7;
    assert!(fs.read("b", 1_000_003, 299_993).unwrap() == data[7..]);
    for at in [chunk - 100_000, 3 * chunk - 1] {
        assert!(fs.read("b", at + shift, 300_000).unwrap() == data);
    }
    assert_eq!(fs.read("b", 2 * chunk, 10), Ok(vec![0; 10]));
    assert_eq!(stat(fs, "b").size, size + shift);
}

fn within_one_file(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    let data = pattern(10_000, 4);
    fs.write("a", 0, &data).unwrap();
    assert_eq!(fs.copy_file_range(("a", 0), ("a", 5000), 6000), Err(libc::EINVAL));
    assert_eq!(fs.copy_file_range(("a", 0), ("a", 5000), 5000), Ok(5000));
    assert!(fs.read("a", 0, 20_000).unwrap() == [&data[..5000], &data[..5000]].concat());
    assert_eq!(fs.copy_file_range(("a", 2000), ("a", 20_000), 100), Ok(100));
    assert!(fs.read("a", 20_000, 200).unwrap() == data[2000..2100]);
}

fn it_moves_the_times_of_the_target(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    fs.write("a", 0, b"abc").unwrap();
    let (a, b) = (stat(fs, "a"), stat(fs, "b"));
    next_instant();
    fs.copy_file_range(("a", 0), ("b", 0), 3).unwrap();
    assert_eq!(stat(fs, "a").mtime, a.mtime);
    assert!(stat(fs, "b").mtime > b.mtime && stat(fs, "b").ctime > b.ctime);
}

fn what_is_no_file_is_refused(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    fs.create("a", 0o644, true).unwrap();
    assert_eq!(fs.copy_file_range(("d", 0), ("a", 0), 1), Err(libc::EISDIR));
    assert_eq!(fs.copy_file_range(("a", 0), ("d", 0), 1), Err(libc::EISDIR));
}

fn copy(source: &File, target: &File, offset: i64, len: usize) -> isize {
    let (mut from, mut to) = (offset, offset);
    // SAFETY: open descriptors, and two offsets that live longer than the call.
    unsafe { libc::copy_file_range(source.as_raw_fd(), &mut from, target.as_raw_fd(), &mut to, len, 0) }
}

fn new_file(path: &std::path::Path) -> File {
    File::options().create_new(true).read(true).write(true).open(path).unwrap()
}

#[test]
fn it_sees_writes_that_are_not_flushed_yet_on_both_sides() {
    let dir = shared::fresh_dir();
    let (mut a, b) = (new_file(&dir.join("a")), new_file(&dir.join("b")));
    for round in 0..20_u8 {
        a.write_all_at(&[round; 50_000], 0).unwrap();
        b.write_all_at(&[100; 60_000], 0).unwrap();
        assert_eq!(copy(&a, &b, 0, 50_000), 50_000);
        b.write_all_at(&[200; 10], 5).unwrap();
        let mut found = vec![0; 60_000];
        b.read_exact_at(&mut found, 0).unwrap();
        let expected = [vec![round; 5], vec![200; 10], vec![round; 49_985], vec![100; 10_000]].concat();
        assert!(found == expected, "round {round}");
    }
    a.flush().unwrap();
    b.sync_all().unwrap();
}

#[test]
fn what_is_mapped_shows_the_copy() {
    let dir = shared::fresh_dir();
    std::fs::write(dir.join("a"), [1; 20_000]).unwrap();
    std::fs::write(dir.join("b"), [2; 20_000]).unwrap();
    let open = |name| File::options().read(true).write(true).open(dir.join(name)).unwrap();
    let (a, b) = (open("a"), open("b"));
    let (all, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: mappings of open files as long as the files, which nobody shortens; bytes are read and written within them.
    unsafe {
        let map = |file: &File| {
            let map = libc::mmap(std::ptr::null_mut(), 20_000, all, shared, file.as_raw_fd(), 0).cast::<u8>();
            assert_ne!(map.cast(), libc::MAP_FAILED);
            map
        };
        let (from, to) = (map(&a), map(&b));
        from.add(9000).write_volatile(9);
        to.add(3).write_volatile(8);
        assert_eq!(copy(&a, &b, 5000, 10_000), 10_000);
        let at = |offset| to.add(offset).read_volatile();
        assert_eq!((at(3), at(4999), at(5000), at(9000), at(15_000)), (8, 2, 1, 9, 2));
        libc::munmap(from.cast(), 20_000);
        libc::munmap(to.cast(), 20_000);
    }
}

#[test]
fn a_copy_stores_nothing_and_objects_go_with_the_last_file() {
    let (meta, mount) = shared::own_volume();
    let bucket = shared::cluster().bucket(meta.rsplit('/').next().unwrap());
    let stored = || object_count(&bucket);
    let content = pattern(20 << 20, 5);
    std::fs::write(mount.path("a"), &content).unwrap();
    let objects = stored();
    // Five blocks; more where the machine is slow, and what was written for five seconds went out.
    assert!(objects >= 5);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "d")] {
        let (source, target) = (File::open(mount.path(from)).unwrap(), new_file(&mount.path(to)));
        assert_eq!(copy(&source, &target, 0, 20 << 20), 20 << 20);
    }
    assert_eq!(stored(), objects);
    // One goes, one is cut, one is overwritten: the last still names every byte.
    std::fs::remove_file(mount.path("a")).unwrap();
    File::options().write(true).open(mount.path("b")).unwrap().set_len(0).unwrap();
    File::options().write(true).open(mount.path("c")).unwrap().write_all_at(&[0; 1 << 20], 0).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(std::fs::read(mount.path("d")).unwrap() == content);
    assert!(stored() > objects, "an object of a copy is gone");
    std::fs::remove_file(mount.path("c")).unwrap();
    std::fs::remove_file(mount.path("d")).unwrap();
    process::wait_for("the objects of all copies to go", || (stored() == 0).then_some(()));
}

#[test]
fn files_open_on_two_mounts_are_copied_from_one_to_the_other() {
    let name = shared::fresh_name();
    let (here, there) = (shared::mount().path(&name), shared::second_mount().path(&name));
    for round in 0..20_u8 {
        std::fs::write(here.join("a"), [round; 100_000]).unwrap();
        std::fs::copy(there.join("a"), there.join("b")).unwrap();
        assert!(std::fs::read(here.join("b")).unwrap() == [round; 100_000], "round {round}");
    }
}

#[test]
fn cp_copies_no_data_and_keeps_holes() {
    let (meta, mount) = shared::own_volume();
    let bucket = shared::cluster().bucket(meta.rsplit('/').next().unwrap());
    let fs = MountFs::new(&mount.dir);
    fs.create("a", 0o644, true).unwrap();
    fs.write("a", 10 << 20, &pattern(1 << 20, 6)).unwrap();
    fs.truncate("a", 100 << 20).unwrap();
    let objects = object_count(&bucket);
    for how in ["--reflink=auto", "--sparse=always"] {
        let mut cp = Command::new("cp");
        cp.arg(how).arg(mount.path("a")).arg(mount.path("b"));
        process::run(cp).ok("cp");
        let same = Command::new("cmp").arg(mount.path("a")).arg(mount.path("b")).status().unwrap();
        assert!(same.success() && fs.seek("b", 0, libc::SEEK_DATA) == Ok(10 << 20));
        assert_eq!(stat(&fs, "b").size, 100 << 20);
        if how == "--reflink=auto" {
            assert_eq!(object_count(&bucket), objects);
        }
    }
}

#[test]
fn between_two_volumes_the_kernel_copies_the_bytes() {
    let (_, other) = shared::own_volume();
    let dir = shared::fresh_dir();
    let content = pattern(3 << 20, 7);
    std::fs::write(dir.join("a"), &content).unwrap();
    let (source, target) = (File::open(dir.join("a")).unwrap(), new_file(&other.path("b")));
    assert_ne!(source.metadata().unwrap().dev(), target.metadata().unwrap().dev());
    assert_eq!(copy(&source, &target, 0, 3 << 20), 3 << 20);
    assert!(std::fs::read(other.path("b")).unwrap() == content);
}
