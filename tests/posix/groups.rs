//! Supplementary groups: they count wherever the group class counts.

use crate::{alice, bob, stat};
use holdfast_tests::fs::Fs;
use holdfast_tests::shared;

#[test]
fn a_supplementary_group_opens_the_file() {
    let fs = shared::fresh_fs();
    fs.create("f", 0o660, true).unwrap();
    fs.chown("f", None, Some(5005)).unwrap();
    assert_eq!(fs.by(&bob()).open("f"), Err(libc::EACCES));
    assert_eq!(fs.by(&bob().with_groups(&[4004, 5005])).open("f"), Ok(()));
    assert_eq!(fs.by(&bob().with_groups(&[4004, 5005])).write("f", 0, b"x"), Ok(()));
}

#[test]
fn a_supplementary_group_may_create_in_the_groups_directory() {
    let fs = shared::fresh_fs();
    fs.mkdir("d", 0o770).unwrap();
    fs.chown("d", None, Some(5005)).unwrap();
    assert_eq!(fs.by(&bob()).create("d/f", 0o644, true), Err(libc::EACCES));
    fs.by(&bob().with_groups(&[5005])).create("d/f", 0o644, true).unwrap();
    assert_eq!((stat(&fs, "d/f").uid, stat(&fs, "d/f").gid), (bob().uid, bob().gid));
}

#[test]
fn many_groups_are_all_seen() {
    let fs = shared::fresh_fs();
    let groups: Vec<u32> = (7000..7060).collect();
    fs.create("f", 0o640, true).unwrap();
    fs.chown("f", Some(alice().uid), Some(7059)).unwrap();
    assert_eq!(fs.by(&bob().with_groups(&groups)).open("f"), Ok(()));
    // The owner gives the file to the last of the groups: the server has to see them all.
    assert_eq!(fs.by(&alice().with_groups(&groups)).chown("f", None, Some(7058)), Ok(()));
    assert_eq!(stat(&fs, "f").gid, 7058);
}
