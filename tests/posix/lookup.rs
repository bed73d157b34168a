//! lookup: names are 1 to 255 bytes, any byte but '/' and NUL.

use crate::names_in;
use holdfast_tests::fs::Fs;
use holdfast_tests::shared;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

on_both!(names_over_255_bytes_are_refused_everywhere, odd_names_are_names_like_others);

fn names_over_255_bytes_are_refused_everywhere(fs: &dyn Fs) {
    let (longest, over) = ("n".repeat(255), "n".repeat(256));
    fs.create(&longest, 0o644, true).unwrap();
    assert_eq!(names_in(fs, ""), std::slice::from_ref(&longest));
    let refused = Err(libc::ENAMETOOLONG);
    assert_eq!(fs.create(&over, 0o644, true), refused);
    assert_eq!(fs.mkdir(&over, 0o755), refused);
    assert_eq!(fs.symlink("x", &over), refused);
    assert_eq!(fs.link(&longest, &over), refused);
    assert_eq!(fs.rename(&longest, &over, 0), refused);
    assert_eq!(fs.unlink(&over), refused);
    assert_eq!(fs.rmdir(&over), refused);
    assert_eq!(fs.stat(&over).err(), Some(libc::ENAMETOOLONG));
    fs.unlink(&longest).unwrap();
}

fn odd_names_are_names_like_others(fs: &dyn Fs) {
    let mut names = [" ", "new\nline", "tab\t", "*?[", "ünïcode-日本", "...", "-rf", "\u{1}", "A", "a"];
    names.sort_unstable();
    for name in names {
        fs.create(name, 0o644, true).unwrap();
    }
    assert_eq!(names_in(fs, ""), names);
    for name in names {
        fs.unlink(name).unwrap();
    }
}

#[test]
fn names_need_not_be_utf_8() {
    let dir = shared::fresh_dir();
    let path = dir.join(OsStr::from_bytes(b"\xff\xfe\x80"));
    std::fs::write(&path, b"x").unwrap();
    let entry = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap();
    assert_eq!(entry.file_name().as_bytes(), b"\xff\xfe\x80");
    assert_eq!(std::fs::read(path).unwrap(), b"x");
}

#[test]
fn what_is_on_the_way_must_be_a_directory_and_be_there() {
    let dir = shared::fresh_dir();
    std::fs::write(dir.join("f"), b"x").unwrap();
    let errno = |path: &str| std::fs::metadata(dir.join(path)).err().and_then(|error| error.raw_os_error());
    assert_eq!(errno("f/x"), Some(libc::ENOTDIR));
    assert_eq!(errno("none/x"), Some(libc::ENOENT));
    assert_eq!(errno("./../."), None);
}
