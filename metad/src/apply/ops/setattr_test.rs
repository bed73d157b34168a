//! Tests of setattr.rs.

use crate::apply::test_fs::TestFs;
use crate::store::records::Stamp;
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::pb::{self, SetTime, SetattrOp, TimeSpec};
use holdfast_proto::{FsErrno, ROOT_INO};

fn file_of(uid: u32, gid: u32, mode: u32) -> (TestFs, u64) {
    let mut fs = TestFs::new();
    let ino = fs.create("f", mode).expect("creates").ino;
    fs.chown(ino, uid, gid).expect("chowns");
    fs.chmod(ino, mode).expect("chmods");
    (fs, ino)
}

fn at(sec: i64) -> Option<SetTime> {
    Some(SetTime { now: false, time: Some(TimeSpec { sec, nsec: 7 }) })
}

const NOW: Option<SetTime> = Some(SetTime { now: true, time: None });

#[test]
fn only_the_owner_changes_the_mode() {
    let (mut fs, ino) = file_of(5, 5, 0o644);
    fs.become_user(6, 6);
    assert_eq!(fs.chmod(ino, 0o600).map(|a| a.mode), Err(FsErrno::Perm));
    fs.become_user(5, 5);
    let before = fs.attr(ino);
    let after = fs.chmod(ino, 0o4600).expect("chmods");
    assert_eq!((after.mode, after.mtime), (0o4600, before.mtime));
    assert!(after.ctime > before.ctime);
}

#[test]
fn chmod_by_a_stranger_to_the_group_clears_set_group_id() {
    let (mut fs, ino) = file_of(5, 50, 0o644);
    fs.become_user(5, 5);
    assert_eq!(fs.chmod(ino, 0o2755).map(|a| a.mode), Ok(0o755));
    fs.join_group(50);
    assert_eq!(fs.chmod(ino, 0o2755).map(|a| a.mode), Ok(0o2755));
}

#[test]
fn a_writer_who_is_not_the_owner_may_drop_set_id_bits_only() {
    let (mut fs, ino) = file_of(5, 5, 0o6777);
    fs.become_user(6, 6);
    assert_eq!(fs.chmod(ino, 0o2777).map(|a| a.mode), Ok(0o777));
    let (mut fs, ino) = file_of(5, 5, 0o6777);
    fs.become_user(6, 6);
    assert_eq!(fs.chmod(ino, 0o776).map(|a| a.mode), Err(FsErrno::Perm));
}

#[test]
fn only_root_gives_a_file_away() {
    let (mut fs, ino) = file_of(5, 5, 0o6755);
    fs.become_user(5, 5);
    assert_eq!(fs.chown(ino, 6, 5).map(|a| a.uid), Err(FsErrno::Perm));
    assert_eq!(fs.chown(ino, 5, 9).map(|a| a.gid), Err(FsErrno::Perm));
    fs.join_group(9);
    assert_eq!(fs.chown(ino, 5, 9).map(|a| (a.gid, a.mode)), Ok((9, 0o755)));
    fs.become_user(6, 6);
    assert_eq!(fs.chown(ino, 5, 9).map(|a| a.gid), Err(FsErrno::Perm));
}

#[test]
fn chown_keeps_set_group_id_that_means_locking_and_that_of_directories() {
    let (mut fs, ino) = file_of(5, 5, 0o6745);
    assert_eq!(fs.chown(ino, 6, 6).map(|a| a.mode), Ok(0o2745));
    let dir = fs.mkdir("d", 0o755).expect("makes").ino;
    fs.chmod(dir, 0o2755).expect("chmods");
    assert_eq!(fs.chown(dir, 6, 6).map(|a| a.mode), Ok(0o2755));
}

#[test]
fn times_are_for_the_owner_and_now_for_a_writer() {
    let (mut fs, ino) = file_of(5, 5, 0o666);
    fs.become_user(6, 6);
    let set = |atime, mtime| SetattrOp { ino, atime, mtime, ..SetattrOp::default() };
    assert_eq!(fs.setattr(set(at(1), None)).map(|a| a.ino), Err(FsErrno::Perm));
    assert!(fs.setattr(set(NOW, NOW)).is_ok());
    fs.become_user(5, 5);
    let attr = fs.setattr(set(at(-3), at(4))).expect("sets");
    assert_eq!((attr.atime, attr.mtime), (Stamp { sec: -3, nsec: 7 }, Stamp { sec: 4, nsec: 7 }));
    fs.chmod(ino, 0o644).expect("chmods");
    fs.become_user(6, 6);
    assert_eq!(fs.setattr(set(NOW, NOW)).map(|a| a.ino), Err(FsErrno::Access));
}

#[test]
fn unsound_values_are_refused_whole() {
    let (mut fs, ino) = file_of(0, 0, 0o644);
    let before = fs.attr(ino);
    let bad = Some(SetTime { now: false, time: Some(TimeSpec { sec: 1, nsec: 1_000_000_000 }) });
    let op = SetattrOp { ino, mode: Some(0o777), mtime: bad, ..SetattrOp::default() };
    assert_eq!(fs.setattr(op).map(|a| a.ino), Err(FsErrno::Inval));
    assert_eq!(fs.chown(ino, u32::MAX, 0).map(|a| a.ino), Err(FsErrno::Inval));
    assert_eq!(fs.attr(ino), before);
    assert_eq!(fs.setattr(SetattrOp { ino, ..SetattrOp::default() }), Ok(before));
}

#[test]
fn only_regular_files_have_a_size_to_set() {
    let mut fs = TestFs::new();
    let fifo = fs.mknod("p", pb::FileKind::Fifo, 0).expect("makes").ino;
    assert_eq!(fs.truncate(ROOT_INO, 0).map(|a| a.ino), Err(FsErrno::IsDir));
    assert_eq!(fs.truncate(fifo, 0).map(|a| a.ino), Err(FsErrno::Inval));
    let file = fs.create("f", 0o600).expect("creates").ino;
    assert_eq!(fs.truncate(file, u64::MAX).map(|a| a.ino), Err(FsErrno::FBig));
}

#[test]
fn truncating_needs_write_permission_unless_by_handle() {
    let (mut fs, ino) = file_of(5, 5, 0o6755);
    fs.become_user(6, 6);
    assert_eq!(fs.truncate(ino, 5).map(|a| a.ino), Err(FsErrno::Access));
    let op = SetattrOp { ino, size: Some(5), by_handle: true, ..SetattrOp::default() };
    assert_eq!(fs.setattr(op).map(|a| (a.size, a.mode)), Ok((5, 0o755)));
    fs.check();
}

#[test]
fn truncation_cuts_slices_and_shortens_the_one_at_the_end() {
    let mut fs = TestFs::new();
    let ino = fs.create("f", 0o600).expect("creates").ino;
    fs.write(ino, 0, 1000).expect("writes");
    fs.write(ino, 1000, 1000).expect("writes");
    fs.write(ino, u64::from(CHUNK_BYTES), 10).expect("writes");
    fs.truncate(ino, 500).expect("truncates");
    let slices = fs.slices(ino);
    assert_eq!(
        slices.iter().map(|s| (s.chunk, s.chunk_offset, s.len, s.slice_len)).collect::<Vec<_>>(),
        [(0, 0, 500, 1000)]
    );
    assert_eq!(fs.deleted_slices().len(), 2);
    fs.truncate(ino, 5000).expect("extends");
    assert_eq!(fs.slices(ino), slices);
    fs.check();
    fs.truncate(ino, 0).expect("truncates");
    assert_eq!((fs.slices(ino).len(), fs.deleted_slices().len(), fs.usage().used_bytes), (0, 3, 0));
    fs.check();
}

#[test]
fn growth_is_held_against_the_capacity() {
    let mut fs = TestFs::new();
    fs.config(Some(1000), None);
    let ino = fs.create("f", 0o600).expect("creates").ino;
    assert_eq!(fs.truncate(ino, 1001).map(|a| a.size), Err(FsErrno::NoSpc));
    let version = fs.attr(ino).data_version;
    assert_eq!(fs.truncate(ino, 1000).map(|a| a.size), Ok(1000));
    assert!(fs.attr(ino).data_version > version);
    assert_eq!(fs.write(ino, 1000, 1).map(|a| a.size), Err(FsErrno::NoSpc));
    assert_eq!(fs.write(ino, 0, 1000).map(|a| a.size), Ok(1000));
    fs.check();
}
