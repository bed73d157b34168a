//! Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2), and xattr(7) on who may.

use crate::{alice, next_instant, stat};
use holdfast_tests::fs::{Fs, Kind};

on_both!(
    attributes_are_set_replaced_listed_and_removed,
    create_and_replace_are_obeyed,
    values_may_be_empty_and_up_to_64_kib,
    setting_one_moves_ctime_and_nothing_else,
    trusted_attributes_are_roots_alone,
    links_and_devices_take_no_user_attributes,
    unknown_namespaces_are_not_supported,
    attributes_follow_the_inode_through_rename_and_go_with_it,
);

fn attributes_are_set_replaced_listed_and_removed(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.mkdir("d", 0o755).unwrap();
    for path in ["f", "d"] {
        assert_eq!(fs.list_xattr(path), Ok(vec![]));
        assert_eq!(fs.get_xattr(path, "user.a"), Err(libc::ENODATA));
        fs.set_xattr(path, "user.b", b"one", 0).unwrap();
        fs.set_xattr(path, "user.a", &[0, 255, 0], 0).unwrap();
        fs.set_xattr(path, "security.x", b"s", 0).unwrap();
        fs.set_xattr(path, "user.b", b"another", 0).unwrap();
        assert_eq!(fs.list_xattr(path), Ok(vec!["security.x".into(), "user.a".into(), "user.b".into()]));
        assert_eq!(fs.get_xattr(path, "user.b").as_deref(), Ok(&b"another"[..]));
        assert_eq!(fs.get_xattr(path, "user.a").as_deref(), Ok(&[0, 255, 0][..]));
        fs.remove_xattr(path, "user.b").unwrap();
        assert_eq!(fs.remove_xattr(path, "user.b"), Err(libc::ENODATA));
        assert_eq!(fs.list_xattr(path), Ok(vec!["security.x".into(), "user.a".into()]));
    }
    assert_eq!(fs.get_xattr("missing", "user.a"), Err(libc::ENOENT));
}

fn create_and_replace_are_obeyed(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let (create, replace) = (libc::XATTR_CREATE as u32, libc::XATTR_REPLACE as u32);
    assert_eq!(fs.set_xattr("f", "user.a", b"1", replace), Err(libc::ENODATA));
    assert_eq!(fs.set_xattr("f", "user.a", b"1", create), Ok(()));
    assert_eq!(fs.set_xattr("f", "user.a", b"2", create), Err(libc::EEXIST));
    assert_eq!(fs.set_xattr("f", "user.a", b"2", replace), Ok(()));
    assert_eq!(fs.get_xattr("f", "user.a").as_deref(), Ok(&b"2"[..]));
}

fn values_may_be_empty_and_up_to_64_kib(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let large: Vec<u8> = (0..65_536u32).map(|n| (n % 251) as u8).collect();
    fs.set_xattr("f", "user.large", &large, 0).unwrap();
    fs.set_xattr("f", "user.empty", b"", 0).unwrap();
    assert_eq!(fs.get_xattr("f", "user.large"), Ok(large));
    assert_eq!(fs.get_xattr("f", "user.empty"), Ok(vec![]));
    assert_eq!(fs.set_xattr("f", "user.larger", &vec![0; 65_537], 0), Err(libc::E2BIG));
    let long = format!("user.{}", "n".repeat(250));
    fs.set_xattr("f", &long, b"x", 0).unwrap();
    assert_eq!(fs.set_xattr("f", &format!("{long}n"), b"x", 0), Err(libc::ERANGE));
    assert_eq!(fs.list_xattr("f"), Ok(vec!["user.empty".into(), "user.large".into(), long]));
}

fn setting_one_moves_ctime_and_nothing_else(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let before = stat(fs, "f");
    next_instant();
    fs.set_xattr("f", "user.a", b"1", 0).unwrap();
    let after = stat(fs, "f");
    assert!(after.ctime > before.ctime);
    assert_eq!((after.mtime, after.atime, after.mode), (before.mtime, before.atime, before.mode));
    next_instant();
    fs.remove_xattr("f", "user.a").unwrap();
    assert!(stat(fs, "f").ctime > after.ctime);
}

fn trusted_attributes_are_roots_alone(fs: &dyn Fs) {
    fs.create("f", 0o666, true).unwrap();
    fs.set_xattr("f", "trusted.t", b"1", 0).unwrap();
    let alice = alice();
    let user = fs.by(&alice);
    assert_eq!(user.set_xattr("f", "trusted.t", b"2", 0), Err(libc::EPERM));
    assert_eq!(user.get_xattr("f", "trusted.t"), Err(libc::ENODATA));
    assert_eq!(user.list_xattr("f"), Ok(vec![]));
    assert_eq!(fs.list_xattr("f"), Ok(vec!["trusted.t".into()]));
}

fn links_and_devices_take_no_user_attributes(fs: &dyn Fs) {
    fs.symlink("x", "l").unwrap();
    fs.mknod("p", Kind::Fifo, 0o666, 0).unwrap();
    for path in ["l", "p"] {
        assert_eq!(fs.set_xattr(path, "user.a", b"1", 0), Err(libc::EPERM), "{path}");
        assert_eq!(fs.set_xattr(path, "trusted.t", b"1", 0), Ok(()), "{path}");
    }
}

fn unknown_namespaces_are_not_supported(fs: &dyn Fs) {
    fs.create("f", 0o666, true).unwrap();
    for name in ["odd.name", "system.odd", "user."] {
        let refused = fs.set_xattr("f", name, b"1", 0);
        assert!(matches!(refused, Err(libc::EOPNOTSUPP | libc::EINVAL)), "{name}: {refused:?}");
    }
}

fn attributes_follow_the_inode_through_rename_and_go_with_it(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.set_xattr("f", "user.a", b"1", 0).unwrap();
    fs.link("f", "g").unwrap();
    fs.rename("f", "h", 0).unwrap();
    assert_eq!(fs.get_xattr("g", "user.a").as_deref(), Ok(&b"1"[..]));
    assert_eq!(fs.get_xattr("h", "user.a").as_deref(), Ok(&b"1"[..]));
    fs.unlink("g").unwrap();
    fs.unlink("h").unwrap();
    fs.create("h", 0o644, true).unwrap();
    assert_eq!(fs.list_xattr("h"), Ok(vec![]));
}
