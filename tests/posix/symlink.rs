//! symlink.

use crate::{alice, stat};
use holdfast_tests::fs::{Fs, Kind};
use holdfast_tests::shared;

on_both!(
    a_link_has_its_targets_length_and_its_makers_ids,
    a_name_is_made_once,
    targets_over_the_limit_are_refused,
    links_may_point_nowhere_and_at_themselves,
);

fn a_link_has_its_targets_length_and_its_makers_ids(fs: &dyn Fs) {
    fs.chmod("", 0o777).unwrap();
    fs.by(&alice()).symlink("some/target", "l").unwrap();
    let found = stat(fs, "l");
    assert_eq!((found.kind, found.mode, found.size, found.nlink), (Kind::Symlink, 0o777, 11, 1));
    assert_eq!((found.uid, found.gid), (alice().uid, alice().gid));
}

fn a_name_is_made_once(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.symlink("x", "f"), Err(libc::EEXIST));
    assert_eq!(fs.symlink("x", "none/l"), Err(libc::ENOENT));
    assert_eq!(fs.symlink("x", "f/l"), Err(libc::ENOTDIR));
}

fn targets_over_the_limit_are_refused(fs: &dyn Fs) {
    let longest = "t".repeat(4095);
    fs.symlink(&longest, "l").unwrap();
    assert_eq!(fs.readlink("l"), Ok(longest));
    assert_eq!(fs.symlink(&"t".repeat(4096), "m"), Err(libc::ENAMETOOLONG));
    assert_eq!(fs.symlink(&"t".repeat(5000), "m"), Err(libc::ENAMETOOLONG));
    assert_eq!(fs.stat("m").err(), Some(libc::ENOENT));
}

fn links_may_point_nowhere_and_at_themselves(fs: &dyn Fs) {
    fs.symlink("not/there", "l").unwrap();
    fs.symlink("self", "self").unwrap();
    assert_eq!((fs.readlink("l"), fs.readlink("self")), (Ok("not/there".into()), Ok("self".into())));
}

#[test]
fn the_kernel_follows_links_on_the_mount() {
    let dir = shared::fresh_dir();
    std::fs::create_dir(dir.join("d")).unwrap();
    std::fs::write(dir.join("d/f"), b"data").unwrap();
    std::os::unix::fs::symlink("d", dir.join("l")).unwrap();
    assert_eq!(std::fs::read(dir.join("l/f")).unwrap(), b"data");
    std::os::unix::fs::symlink("loop", dir.join("loop")).unwrap();
    assert_eq!(std::fs::read(dir.join("loop")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
}
