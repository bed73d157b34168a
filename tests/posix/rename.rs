//! rename, with NOREPLACE and EXCHANGE.

use crate::{alice, names_in, next_instant, stat};
use holdfast_tests::fs::{Fs, Kind};
use holdfast_tests::shared;

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;
const WHITEOUT: u32 = 4;

on_both!(
    a_file_moves_with_its_inode_and_data,
    a_file_replaces_a_file,
    a_directory_replaces_an_empty_directory_only,
    kinds_are_not_mixed,
    a_directory_cannot_move_below_itself,
    moving_a_directory_moves_the_link_counts,
    a_hard_link_of_the_same_file_changes_nothing,
    noreplace_refuses_what_exists,
    exchange_swaps_any_two,
    exchange_needs_both_and_no_ancestry,
    a_whiteout_stays_behind,
    flags_at_odds_are_refused,
    missing_names_are_refused,
    rename_moves_the_times_of_both_parents_and_ctime,
    dotdot_follows_a_moved_directory,
);

fn a_file_moves_with_its_inode_and_data(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    fs.create("a", 0o640, true).unwrap();
    fs.write("a", 0, b"data").unwrap();
    let before = stat(fs, "a");
    fs.rename("a", "d/b", 0).unwrap();
    let after = stat(fs, "d/b");
    assert_eq!((after.ino, after.mode, after.nlink, after.mtime), (before.ino, 0o640, 1, before.mtime));
    assert_eq!((fs.read("d/b", 0, 10), fs.stat("a").err()), (Ok(b"data".to_vec()), Some(libc::ENOENT)));
}

fn a_file_replaces_a_file(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    fs.link("b", "other").unwrap();
    fs.write("a", 0, b"from a").unwrap();
    fs.rename("a", "b", 0).unwrap();
    assert_eq!(fs.read("b", 0, 10), Ok(b"from a".to_vec()));
    assert_eq!((stat(fs, "other").nlink, names_in(fs, "")), (1, vec!["b".to_string(), "other".into()]));
}

fn a_directory_replaces_an_empty_directory_only(fs: &dyn Fs) {
    for dir in ["a", "b", "c", "c/full"] {
        fs.mkdir(dir, 0o755).unwrap();
    }
    fs.create("a/f", 0o644, true).unwrap();
    assert_eq!(fs.rename("a", "c", 0), Err(libc::ENOTEMPTY));
    fs.rename("a", "b", 0).unwrap();
    assert_eq!((names_in(fs, ""), names_in(fs, "b")), (vec!["b".to_string(), "c".into()], vec!["f".to_string()]));
}

fn kinds_are_not_mixed(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.rename("d", "f", 0), Err(libc::ENOTDIR));
    assert_eq!(fs.rename("f", "d", 0), Err(libc::EISDIR));
}

fn a_directory_cannot_move_below_itself(fs: &dyn Fs) {
    fs.mkdir("a", 0o755).unwrap();
    fs.mkdir("a/b", 0o755).unwrap();
    fs.mkdir("a/b/c", 0o755).unwrap();
    assert_eq!(fs.rename("a", "a/x", 0), Err(libc::EINVAL));
    assert_eq!(fs.rename("a", "a/b/c/x", 0), Err(libc::EINVAL));
    assert_eq!(fs.rename("a/b/c", "a", 0), Err(libc::ENOTEMPTY));
    assert_eq!(fs.rename("a", "a", 0), Ok(()));
}

fn moving_a_directory_moves_the_link_counts(fs: &dyn Fs) {
    fs.mkdir("from", 0o755).unwrap();
    fs.mkdir("to", 0o755).unwrap();
    fs.mkdir("from/d", 0o755).unwrap();
    fs.rename("from/d", "to/d", 0).unwrap();
    assert_eq!((stat(fs, "from").nlink, stat(fs, "to").nlink), (2, 3));
    fs.mkdir("from/d", 0o755).unwrap();
    fs.rename("from/d", "to/d", 0).unwrap();
    assert_eq!((stat(fs, "from").nlink, stat(fs, "to").nlink), (2, 3));
}

fn a_hard_link_of_the_same_file_changes_nothing(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.link("a", "b").unwrap();
    let before = stat(fs, "a");
    fs.rename("a", "b", 0).unwrap();
    assert_eq!((stat(fs, "a").nlink, stat(fs, "b").ino), (2, before.ino));
}

fn noreplace_refuses_what_exists(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    fs.link("a", "c").unwrap();
    assert_eq!(fs.rename("a", "b", NOREPLACE), Err(libc::EEXIST));
    assert_eq!(fs.rename("a", "c", NOREPLACE), Err(libc::EEXIST));
    assert_eq!(fs.rename("a", "new", NOREPLACE), Ok(()));
    assert_eq!(names_in(fs, ""), ["b", "c", "new"]);
}

fn exchange_swaps_any_two(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    fs.mkdir("d/sub", 0o755).unwrap();
    fs.create("f", 0o644, true).unwrap();
    let (dir, file) = (stat(fs, "d/sub").ino, stat(fs, "f").ino);
    let root_nlink = stat(fs, "").nlink;
    fs.rename("d/sub", "f", EXCHANGE).unwrap();
    assert_eq!((stat(fs, "d/sub").ino, stat(fs, "f").ino), (file, dir));
    assert_eq!((stat(fs, "d").nlink, stat(fs, "").nlink), (2, root_nlink + 1));
    fs.create("g", 0o644, true).unwrap();
    fs.rename("d/sub", "g", EXCHANGE).unwrap();
    assert_eq!(stat(fs, "g").ino, file);
}

fn exchange_needs_both_and_no_ancestry(fs: &dyn Fs) {
    fs.mkdir("a", 0o755).unwrap();
    fs.mkdir("a/b", 0o755).unwrap();
    assert_eq!(fs.rename("a", "none", EXCHANGE), Err(libc::ENOENT));
    assert_eq!(fs.rename("a", "a/b", EXCHANGE), Err(libc::EINVAL));
    assert_eq!(fs.rename("a/b", "a", EXCHANGE), Err(libc::EINVAL));
    assert_eq!(fs.rename("a", "x", EXCHANGE | NOREPLACE), Err(libc::EINVAL));
}

fn missing_names_are_refused(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.rename("none", "x", 0), Err(libc::ENOENT));
    assert_eq!(fs.rename("f", "none/x", 0), Err(libc::ENOENT));
    assert_eq!(fs.rename("f", "f/x", 0), Err(libc::ENOTDIR));
    assert_eq!(fs.rename("f/x", "y", 0), Err(libc::ENOTDIR));
}

fn rename_moves_the_times_of_both_parents_and_ctime(fs: &dyn Fs) {
    fs.mkdir("a", 0o755).unwrap();
    fs.mkdir("b", 0o755).unwrap();
    fs.create("a/f", 0o644, true).unwrap();
    let before = (stat(fs, "a"), stat(fs, "b"), stat(fs, "a/f"));
    next_instant();
    fs.rename("a/f", "b/f", 0).unwrap();
    assert!(stat(fs, "a").mtime > before.0.mtime && stat(fs, "b").mtime > before.1.mtime);
    assert!(stat(fs, "b/f").ctime > before.2.ctime);
}

fn dotdot_follows_a_moved_directory(fs: &dyn Fs) {
    fs.mkdir("a", 0o755).unwrap();
    fs.mkdir("b", 0o755).unwrap();
    fs.mkdir("a/d", 0o755).unwrap();
    fs.rename("a/d", "b/d", 0).unwrap();
    // Were ".." wrong, a loop could be made.
    assert_eq!(fs.rename("b", "b/d/x", 0), Err(libc::EINVAL));
    assert_eq!(fs.rename("a", "b/d/a", 0), Ok(()));
}

#[test]
fn a_replaced_file_that_is_open_stays_readable() {
    use std::io::Read;
    let dir = shared::fresh_dir();
    std::fs::write(dir.join("old"), b"old data").unwrap();
    std::fs::write(dir.join("new"), b"new data").unwrap();
    let mut open = std::fs::File::open(dir.join("old")).unwrap();
    std::fs::rename(dir.join("new"), dir.join("old")).unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), std::fs::read(dir.join("old")).unwrap()), ("old data", b"new data".to_vec()));
}

#[test]
fn dotdot_of_a_moved_directory_on_the_mount() {
    let dir = shared::fresh_dir();
    for name in ["a", "b", "a/d"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    std::fs::rename(dir.join("a/d"), dir.join("b/d")).unwrap();
    let ino = |path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.join(path)).unwrap());
    assert_eq!(ino("b/d/.."), ino("b"));
}

fn a_whiteout_stays_behind(fs: &dyn Fs) {
    fs.mkdir("d", 0o777).unwrap();
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    fs.rename("a", "c", WHITEOUT).unwrap();
    fs.rename("b", "d/b", WHITEOUT | NOREPLACE).unwrap();
    for path in ["a", "b"] {
        let left = stat(fs, path);
        assert_eq!((left.kind, left.rdev, left.mode, left.nlink), (Kind::Char, 0, 0, 1), "{path}");
    }
    assert_eq!((stat(fs, "c").kind, stat(fs, "d/b").kind), (Kind::File, Kind::File));
    assert_eq!(fs.by(&alice()).rename("d/b", "d/c", WHITEOUT), Err(libc::EPERM));
}

fn flags_at_odds_are_refused(fs: &dyn Fs) {
    fs.create("a", 0o644, true).unwrap();
    fs.create("b", 0o644, true).unwrap();
    for flags in [EXCHANGE | NOREPLACE, EXCHANGE | WHITEOUT, 8] {
        assert_eq!(fs.rename("a", "b", flags), Err(libc::EINVAL), "{flags}");
    }
}
