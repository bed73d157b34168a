//! Tests of fallocate's rules.

use super::{KEEP_SIZE, LOOKED_MAX, PUNCH_HOLE, ZERO_RANGE};
use crate::apply::test_fs::TestFs;
use holdfast_proto::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use holdfast_proto::{FsErrno, ROOT_INO};

const PUNCH: u32 = PUNCH_HOLE | KEEP_SIZE;
const CHUNK: u64 = CHUNK_BYTES as u64;

fn file(fs: &mut TestFs) -> u64 {
    fs.create("f", 0o600).expect("creates").ino
}

/// Offset, length and offset in the slice of each piece; holes are marked.
fn pieces(fs: &TestFs, ino: u64) -> Vec<(u32, u32, u32, &'static str)> {
    let kind = |id| if id == 0 { "hole" } else { "data" };
    fs.slices(ino).iter().map(|s| (s.chunk_offset, s.len, s.slice_offset, kind(s.slice_id))).collect()
}

#[test]
fn allocating_grows_the_file_and_keep_size_does_not() {
    let mut fs = TestFs::new();
    let ino = file(&mut fs);
    assert_eq!(fs.fallocate(ino, 10, 90, 0).map(|r| r.done), Ok(90));
    assert_eq!((fs.attr(ino).size, fs.usage().used_bytes), (100, 100));
    let version = fs.attr(ino).data_version;
    fs.fallocate(ino, 50, 1000, KEEP_SIZE).expect("allocates");
    fs.fallocate(ino, 0, 20, 0).expect("allocates");
    assert_eq!((fs.attr(ino).size, fs.attr(ino).data_version), (100, version));
    fs.fallocate(ino, 90, 20, ZERO_RANGE).expect("zeroes");
    fs.fallocate(ino, 90, 200, ZERO_RANGE | KEEP_SIZE).expect("zeroes");
    assert_eq!((fs.attr(ino).size, fs.usage().used_bytes), (110, 110));
    assert!(fs.slices(ino).is_empty());
    fs.check();
}

#[test]
fn what_lies_in_a_hole_goes_and_what_sticks_out_is_shortened() {
    let mut fs = TestFs::new();
    let ino = file(&mut fs);
    for (offset, len) in [(0, 20), (20, 10), (30, 30)] {
        fs.write(ino, offset, len).expect("writes");
    }
    fs.fallocate(ino, 15, 20, PUNCH).expect("punches");
    assert_eq!(pieces(&fs, ino), [(0, 15, 0, "data"), (35, 25, 5, "data")]);
    assert_eq!(fs.deleted_slices().len(), 1);
    assert_eq!(fs.attr(ino).size, 60);
    fs.check();
}

#[test]
fn a_hole_within_one_slice_is_laid_over_it_once() {
    let mut fs = TestFs::new();
    let ino = file(&mut fs);
    fs.write(ino, 0, 100).expect("writes");
    for (offset, len) in [(40, 20), (45, 5), (40, 20)] {
        fs.fallocate(ino, offset, len, PUNCH).expect("punches");
    }
    assert_eq!(pieces(&fs, ino), [(0, 100, 0, "data"), (40, 20, 0, "hole")]);
    fs.fallocate(ino, 50, 20, PUNCH).expect("punches");
    assert_eq!(pieces(&fs, ino), [(0, 100, 0, "data"), (40, 10, 0, "hole"), (50, 20, 0, "hole")]);
    fs.fallocate(ino, 0, 100, PUNCH).expect("punches");
    assert_eq!((pieces(&fs, ino), fs.deleted_slices().len()), (vec![], 1));
    fs.check();
}

#[test]
fn a_hole_over_many_chunks_is_cut_at_its_ends_and_at_the_end_of_the_file() {
    let mut fs = TestFs::new();
    let ino = file(&mut fs);
    for chunk in [0, 2, 3, 9] {
        fs.write(ino, chunk * CHUNK, 100).expect("writes");
    }
    assert_eq!(fs.fallocate(ino, 50, 9 * CHUNK, PUNCH).map(|r| r.done), Ok(9 * CHUNK));
    assert_eq!(pieces(&fs, ino), [(0, 50, 0, "data"), (50, 50, 50, "data")]);
    fs.fallocate(ino, 9 * CHUNK + 60, 1 << 50, PUNCH).expect("punches");
    assert_eq!(pieces(&fs, ino), [(0, 50, 0, "data"), (50, 10, 50, "data")]);
    assert_eq!(fs.attr(ino).size, 9 * CHUNK + 100);
    fs.check();
}

#[test]
fn very_many_slices_go_in_several_steps() {
    let mut fs = TestFs::new();
    let ino = file(&mut fs);
    for chunk in 0..6 {
        let slices = (0..1024).map(|n| fs.slice(chunk * CHUNK + n, 1)).collect();
        fs.commit(ino, slices).expect("commits");
    }
    let all = fs.attr(ino).size;
    let first = fs.fallocate(ino, 0, all, PUNCH).expect("punches").done;
    assert_eq!((first, fs.usage().deleted_slices), (4 * CHUNK, LOOKED_MAX as u64));
    assert_eq!(fs.fallocate(ino, first, all - first, PUNCH).map(|r| r.done), Ok(all - first));
    assert_eq!((fs.slices(ino).len(), fs.usage().deleted_slices), (0, 6 * 1024));
    fs.check();
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_done() {
    let mut fs = TestFs::new();
    let ino = file(&mut fs);
    fs.write(ino, 0, 100).expect("writes");
    fs.config(Some(1000), None);
    let before = fs.attr(ino);
    let refusals = [
        (0, 1001, 0, FsErrno::NoSpc),
        (50, 1000, ZERO_RANGE, FsErrno::NoSpc),
        (0, 0, 0, FsErrno::Inval),
        (u64::MAX, 2, PUNCH, FsErrno::FBig),
        (FILE_BYTES_MAX, 1, 0, FsErrno::FBig),
        (0, 10, PUNCH_HOLE, FsErrno::OpNotSupp),
        (0, 10, PUNCH | ZERO_RANGE, FsErrno::OpNotSupp),
        // COLLAPSE_RANGE, INSERT_RANGE, UNSHARE_RANGE, and one that nobody knows.
        (0, 10, 0x08, FsErrno::OpNotSupp),
        (0, 10, 0x20, FsErrno::OpNotSupp),
        (0, 10, 0x40, FsErrno::OpNotSupp),
        (0, 10, 1 << 31, FsErrno::OpNotSupp),
    ];
    for (offset, len, mode, errno) in refusals {
        assert_eq!(fs.fallocate(ino, offset, len, mode).map(|r| r.done), Err(errno), "{offset} {len} {mode:x}");
    }
    assert_eq!(fs.fallocate(ROOT_INO, 0, 1, 0).map(|r| r.done), Err(FsErrno::IsDir));
    assert_eq!(fs.fallocate(999, 0, 1, 0).map(|r| r.done), Err(FsErrno::Stale));
    assert_eq!(fs.attr(ino), before);
    fs.fallocate(ino, 0, 1000, 0).expect("fits");
    fs.check();
}

#[test]
fn it_counts_as_a_write() {
    let mut fs = TestFs::new();
    let ino = file(&mut fs);
    let before = fs.write(ino, 0, 100).expect("writes");
    fs.chmod(ino, 0o6777).expect("chmods");
    fs.become_user(9, 9);
    fs.fallocate(ino, 10, 10, PUNCH).expect("punches");
    let after = fs.attr(ino);
    assert!(after.mtime > before.mtime && after.ctime == after.mtime);
    assert_eq!((after.mode, after.data_version), (0o777, fs.log_index()));
}
