//! access: the kernel asks the modes that we report; classes do not fall through.

use crate::{ALICE, alice, bob};
use holdfast_tests::fs::Fs;
use holdfast_tests::shared;

#[test]
fn search_permission_is_needed_on_the_way() {
    let fs = shared::fresh_fs();
    fs.mkdir("d", 0o700).unwrap();
    fs.create("d/f", 0o666, true).unwrap();
    assert_eq!(fs.by(&alice()).stat("d/f").err(), Some(libc::EACCES));
    fs.chmod("d", 0o701).unwrap();
    assert_eq!(fs.by(&alice()).open("d/f"), Ok(()));
    assert_eq!(fs.by(&alice()).readdir("d").err(), Some(libc::EACCES));
}

#[test]
fn write_permission_on_the_directory_decides_about_names() {
    let fs = shared::fresh_fs();
    fs.mkdir("d", 0o755).unwrap();
    fs.create("d/f", 0o666, true).unwrap();
    let alice = alice();
    let user = fs.by(&alice);
    assert_eq!(user.create("d/g", 0o644, true), Err(libc::EACCES));
    assert_eq!(user.unlink("d/f"), Err(libc::EACCES));
    assert_eq!(user.mkdir("d/e", 0o755), Err(libc::EACCES));
    assert_eq!(user.rename("d/f", "d/g", 0), Err(libc::EACCES));
    fs.chmod("d", 0o757).unwrap();
    assert_eq!(user.unlink("d/f"), Ok(()));
}

#[test]
fn an_owner_without_permission_is_refused_although_others_have_it() {
    let fs = shared::fresh_fs();
    fs.create("f", 0o077, true).unwrap();
    fs.chown("f", Some(ALICE), Some(ALICE)).unwrap();
    fs.chmod("f", 0o077).unwrap();
    assert_eq!(fs.by(&alice()).open("f"), Err(libc::EACCES));
    assert_eq!(fs.by(&bob()).open("f"), Ok(()));
}
