//! Tests of rename.rs.

use crate::apply::test_fs::TestFs;
use holdfast_proto::{FsErrno, ROOT_INO, pb};

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

#[test]
fn a_name_moves_within_and_across_directories() {
    let mut fs = TestFs::new();
    let file = fs.create("a", 0o600).expect("creates");
    let dir = fs.mkdir("d", 0o700).expect("makes").ino;
    fs.rename(ROOT_INO, "a", ROOT_INO, "b", 0).expect("renames");
    fs.rename(ROOT_INO, "b", dir, "c", 0).expect("renames");
    assert_eq!(fs.lookup(ROOT_INO, "a").map(|a| a.ino), Err(FsErrno::NoEnt));
    assert_eq!(fs.lookup(ROOT_INO, "b").map(|a| a.ino), Err(FsErrno::NoEnt));
    let moved = fs.lookup(dir, "c").expect("is there");
    assert_eq!((moved.ino, moved.mtime), (file.ino, file.mtime));
    assert!(moved.ctime > file.ctime);
    fs.check();
}

#[test]
fn a_directory_takes_its_dot_dot_along() {
    let mut fs = TestFs::new();
    let a = fs.mkdir("a", 0o700).expect("makes").ino;
    let b = fs.mkdir("b", 0o700).expect("makes").ino;
    let sub = fs.mkdir_at(a, "s", 0o700).expect("makes").ino;
    fs.rename(a, "s", b, "t", 0).expect("renames");
    assert_eq!((fs.attr(a).nlink, fs.attr(b).nlink, fs.attr(sub).parent), (2, 3, b));
    fs.check();
}

#[test]
fn an_existing_file_is_replaced_and_orphaned() {
    let mut fs = TestFs::new();
    let a = fs.create("a", 0o600).expect("creates").ino;
    let b = fs.create("b", 0o600).expect("creates").ino;
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "b", 0).map(|r| (r.ino, r.orphaned)), Ok((b, true)));
    assert_eq!(fs.lookup(ROOT_INO, "b").map(|x| x.ino), Ok(a));
    assert_eq!(fs.last_effects().orphaned, [b]);
    fs.check();
}

#[test]
fn an_empty_directory_is_replaced_and_a_full_one_is_not() {
    let mut fs = TestFs::new();
    let a = fs.mkdir("a", 0o700).expect("makes").ino;
    let b = fs.mkdir("b", 0o700).expect("makes").ino;
    fs.create_at(b, "f", 0o600, true).expect("creates");
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "b", 0).map(|r| r.ino), Err(FsErrno::NotEmpty));
    fs.rename(ROOT_INO, "b", ROOT_INO, "a", 0).expect("replaces");
    assert_eq!((fs.attr(ROOT_INO).nlink, fs.attr(a).nlink), (3, 0));
    fs.check();
}

#[test]
fn files_and_directories_do_not_replace_one_another() {
    let mut fs = TestFs::new();
    fs.mkdir("d", 0o700).expect("makes");
    fs.create("f", 0o600).expect("creates");
    assert_eq!(fs.rename(ROOT_INO, "d", ROOT_INO, "f", 0).map(|r| r.ino), Err(FsErrno::NotDir));
    assert_eq!(fs.rename(ROOT_INO, "f", ROOT_INO, "d", 0).map(|r| r.ino), Err(FsErrno::IsDir));
}

#[test]
fn a_directory_cannot_move_below_itself() {
    let mut fs = TestFs::new();
    let a = fs.mkdir("a", 0o700).expect("makes").ino;
    let b = fs.mkdir_at(a, "b", 0o700).expect("makes").ino;
    let c = fs.mkdir_at(b, "c", 0o700).expect("makes").ino;
    for below in [a, b, c] {
        assert_eq!(fs.rename(ROOT_INO, "a", below, "x", 0).map(|r| r.ino), Err(FsErrno::Inval));
    }
    assert_eq!(fs.rename(b, "c", ROOT_INO, "a", 0).map(|r| r.ino), Err(FsErrno::NotEmpty));
    assert_eq!(fs.rename(b, "c", ROOT_INO, "a", EXCHANGE).map(|r| r.ino), Err(FsErrno::Inval));
    fs.check();
}

#[test]
fn renaming_onto_the_own_hard_link_changes_nothing() {
    let mut fs = TestFs::new();
    let ino = fs.create("a", 0o600).expect("creates").ino;
    fs.link(ino, ROOT_INO, "b").expect("links");
    let before = fs.attr(ino);
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "b", 0).map(|r| r.ino), Ok(0));
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "a", 0).map(|r| r.ino), Ok(0));
    assert_eq!(fs.attr(ino), before);
    assert!(fs.lookup(ROOT_INO, "a").is_ok());
    fs.check();
}

#[test]
fn flags_are_obeyed() {
    let mut fs = TestFs::new();
    fs.create("a", 0o600).expect("creates");
    fs.create("b", 0o600).expect("creates");
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "b", NOREPLACE).map(|r| r.ino), Err(FsErrno::Exist));
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "x", EXCHANGE).map(|r| r.ino), Err(FsErrno::NoEnt));
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "x", 3).map(|r| r.ino), Err(FsErrno::Inval));
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "x", 8).map(|r| r.ino), Err(FsErrno::Inval));
    assert_eq!(fs.rename(ROOT_INO, "no", ROOT_INO, "x", 0).map(|r| r.ino), Err(FsErrno::NoEnt));
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "x", NOREPLACE).map(|r| r.ino), Ok(0));
}

#[test]
fn exchange_swaps_names_of_any_kind() {
    let mut fs = TestFs::new();
    let a = fs.mkdir("a", 0o700).expect("makes").ino;
    let sub = fs.mkdir_at(a, "s", 0o700).expect("makes").ino;
    let file = fs.create("f", 0o600).expect("creates").ino;
    fs.rename(a, "s", ROOT_INO, "f", EXCHANGE).expect("exchanges");
    assert_eq!((fs.lookup(a, "s").map(|x| x.ino), fs.lookup(ROOT_INO, "f").map(|x| x.ino)), (Ok(file), Ok(sub)));
    assert_eq!((fs.attr(a).nlink, fs.attr(ROOT_INO).nlink, fs.attr(sub).parent), (2, 4, ROOT_INO));
    fs.rename(ROOT_INO, "a", ROOT_INO, "f", EXCHANGE).expect("exchanges");
    assert_eq!(fs.lookup(ROOT_INO, "f").map(|x| x.ino), Ok(a));
    fs.check();
}

#[test]
fn a_whiteout_takes_an_inode_and_the_place_of_the_name() {
    let mut fs = TestFs::new();
    fs.config(None, Some(2));
    let moved = fs.create("a", 0o600).expect("creates").ino;
    assert_eq!(fs.rename(ROOT_INO, "a", ROOT_INO, "b", 4).map(|r| r.ino), Ok(0));
    let left = fs.lookup(ROOT_INO, "a").expect("is there");
    assert_eq!((left.kind(), left.mode, left.rdev), (pb::FileKind::Char, 0, 0));
    assert_eq!(fs.lookup(ROOT_INO, "b").map(|attr| attr.ino), Ok(moved));
    assert_eq!(fs.rename(ROOT_INO, "b", ROOT_INO, "c", 4).map(|r| r.ino), Err(FsErrno::NoSpc), "no inode is left");
    fs.check();
}
