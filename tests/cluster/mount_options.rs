//! Mount options as mount(8) has them, and the caches that trade freshness for speed.

use holdfast_tests::fs::mount_fs::MountFs;
use holdfast_tests::fs::{Fs, User};
use holdfast_tests::mount::Mount;
use holdfast_tests::{process, shared};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn mknod(path: &Path, mode: u32, device: u64) {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a valid C string.
    assert_eq!(unsafe { libc::mknod(path.as_ptr(), mode, device) }, 0);
}

#[test]
fn ro_noexec_nosuid_and_nodev_are_obeyed_by_the_mount_that_has_them() {
    let (meta, plain) = shared::own_volume();
    fs::write(plain.path("run"), b"#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(plain.path("run"), fs::Permissions::from_mode(0o755)).unwrap();
    mknod(&plain.path("null"), libc::S_IFCHR | 0o666, libc::makedev(1, 3));
    let run = |dir: &Path| errno(std::process::Command::new(dir.join("run")).status());
    assert_eq!(run(&plain.dir), None);
    assert!(fs::write(plain.path("null"), b"x").is_ok());

    let strict = Mount::start_with(&meta, &["-o", "ro,noexec,nosuid,nodev"]);
    assert_eq!(run(&strict.dir), Some(libc::EACCES));
    assert!(fs::metadata(strict.path("null")).unwrap().file_type().is_char_device());
    assert_eq!(errno(fs::OpenOptions::new().write(true).open(strict.path("null"))), Some(libc::EACCES));
    assert_eq!(errno(fs::write(strict.path("new"), b"")), Some(libc::EROFS));
    assert_eq!(errno(fs::remove_file(strict.path("run"))), Some(libc::EROFS));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.contains(strict.dir.to_str().unwrap())).unwrap();
    for option in ["ro", "noexec", "nosuid", "nodev"] {
        assert!(line.split([' ', ',']).any(|word| word == option), "{option} in {line}");
    }
}

#[test]
fn a_mount_becomes_read_only_and_writable_again_by_remount() {
    let (_, mount) = shared::own_volume();
    let remount = |options: &str| {
        // -i: no helper is asked; it would look for a program of the filesystem's name.
        let mut command = std::process::Command::new("mount");
        command.args(["-i", "-o", options]).arg(&mount.dir);
        process::run(command).ok("mount -i -o remount");
    };
    fs::write(mount.path("f"), b"1").unwrap();
    remount("remount,ro");
    assert_eq!(errno(fs::write(mount.path("f"), b"2")), Some(libc::EROFS));
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"1");
    remount("remount,rw");
    fs::write(mount.path("f"), b"3").unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"3");
}

#[test]
fn an_unknown_option_is_refused_before_anything_is_mounted() {
    let mount = shared::mount();
    let ended = mount.try_again(&shared::meta(), &["-o", "frobnicate"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
}

/// Questions that the cluster has answered.
fn reads() -> u64 {
    let count = |id: u64| {
        let text = holdfast_tests::admin::http_get(shared::cluster().node(id).admin_port, "/metrics");
        let lines = text.lines().filter(|line| line.starts_with("holdfast_metad_reads_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    shared::cluster().ids().into_iter().map(count).sum()
}

#[test]
fn with_all_caches_on_opening_again_asks_nobody_and_changes_still_arrive() {
    let (meta, writer) = shared::own_volume();
    let caches = ["--attr-cache", "600", "--entry-cache", "600", "--open-cache", "600"];
    let reader = Mount::start_with(&meta, &caches);
    fs::write(writer.path("f"), b"one").unwrap();
    assert_eq!(fs::read(reader.path("f")).unwrap(), b"one");
    let before = reads();
    for _ in 0..200 {
        assert_eq!(fs::read(reader.path("f")).unwrap(), b"one");
    }
    let asked = reads() - before;
    assert!(asked < 200, "{asked} questions for 200 opens: the tests beside this one ask, too, but not so much");

    fs::write(writer.path("f"), b"two!").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::read(reader.path("f")).unwrap() != b"two!" {
        assert!(Instant::now() < deadline, "the push does not arrive");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn root_squash_makes_root_nobody() {
    let (meta, plain) = shared::own_volume();
    let make = |name: &str, mode: u32| {
        fs::create_dir(plain.path(name)).unwrap();
        fs::write(plain.path(name).join("f"), b"content").unwrap();
        fs::set_permissions(plain.path(name).join("f"), fs::Permissions::from_mode(mode & 0o666)).unwrap();
        fs::set_permissions(plain.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    make("closed", 0o700);
    make("listed", 0o755);
    make("open", 0o777);

    let squashed = Mount::start_with(&meta, &["-o", "root_squash,anonuid=4321,anongid=4322"]);
    let at = |path: &str| squashed.path(path);
    let denied = Some(libc::EACCES);
    assert_eq!(errno(fs::read(at("closed/f"))), denied);
    assert_eq!(errno(fs::read_dir(at("closed"))), denied);
    assert_eq!(fs::read(at("listed/f")).unwrap(), b"content");
    assert_eq!(fs::read_dir(at("listed")).unwrap().count(), 1);
    assert_eq!(errno(fs::write(at("listed/f"), b"x")), denied);
    assert_eq!(errno(fs::write(at("listed/new"), b"x")), denied);
    assert_eq!(errno(fs::create_dir(at("listed/new"))), denied);
    assert_eq!(errno(fs::remove_file(at("listed/f"))), denied);
    assert_eq!(errno(fs::rename(at("listed/f"), at("open/g"))), denied);
    assert_eq!(errno(fs::hard_link(at("open/f"), at("listed/g"))), denied);
    assert_eq!(errno(std::os::unix::fs::symlink("x", at("listed/l"))), denied);
    assert_eq!(errno(fs::set_permissions(at("open/f"), fs::Permissions::from_mode(0o600))), Some(libc::EPERM));
    assert_eq!(errno(std::os::unix::fs::chown(at("open/f"), Some(0), None)), Some(libc::EPERM));

    fs::write(at("open/new"), b"by nobody").unwrap();
    let found = fs::metadata(plain.path("open/new")).unwrap();
    assert_eq!((found.uid(), found.gid()), (4321, 4322));
    fs::set_permissions(at("open/new"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(at("open/new")).unwrap();
}

#[test]
fn users_may_have_other_numbers_on_this_machine() {
    let (meta, plain) = shared::own_volume();
    let mapped = Mount::start_with(&meta, &["-o", "uidmap=1000:5000:10,gidmap=100:200"]);
    let owner = |mount: &Mount, name: &str| {
        let found = fs::metadata(mount.path(name)).unwrap();
        (found.uid(), found.gid())
    };
    fs::write(mapped.path("f"), b"x").unwrap();
    std::os::unix::fs::chown(mapped.path("f"), Some(1003), Some(100)).unwrap();
    assert_eq!((owner(&mapped, "f"), owner(&plain, "f")), ((1003, 100), (5003, 200)));
    std::os::unix::fs::chown(plain.path("f"), Some(5009), Some(0)).unwrap();
    assert_eq!(owner(&mapped, "f"), (1009, 0));

    fs::set_permissions(mapped.dir.as_path(), fs::Permissions::from_mode(0o777)).unwrap();
    let as_user = MountFs::new(&mapped.dir);
    let user = User::new(1001, 100);
    as_user.by(&user).create("own", 0o600, true).unwrap();
    assert_eq!((owner(&mapped, "own"), owner(&plain, "own")), ((1001, 100), (5001, 200)));

    // An ACL names user 5007 of the volume, who is 1007 here.
    let acl = |uid: u32| {
        let entry =
            |tag: u16, perm: u16, id: u32| [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat();
        let none = u32::MAX;
        let entries = [entry(1, 6, none), entry(2, 4, uid), entry(4, 4, none), entry(16, 4, none), entry(32, 0, none)];
        [2_u32.to_le_bytes().to_vec(), entries.concat()].concat()
    };
    let on_plain = MountFs::new(&plain.dir);
    on_plain.set_xattr("f", "system.posix_acl_access", &acl(5007), 0).unwrap();
    let seen = as_user.get_xattr("f", "system.posix_acl_access");
    assert_eq!(seen, Ok(acl(1007)));
    let reader = User::new(1007, 1);
    assert_eq!(as_user.by(&reader).read("f", 0, 1), Ok(b"x".to_vec()));
}
