//! Set-user-ID, set-group-ID and file capabilities: what a write, a truncation or a change of owner takes away, as on Linux.

use crate::{ALICE, alice, stat};
use holdfast_tests::fs::Fs;
use holdfast_tests::shared::fresh_fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};

on_both!(
    a_users_write_clears_the_bits_and_roots_does_not,
    a_users_truncation_clears_the_bits,
    a_change_of_owner_clears_the_bits_also_by_root,
    any_change_takes_file_capabilities_away,
);

const CAPABILITY: &str = "security.capability";
/// vfs_cap_data, version 2: cap_net_raw, effective and permitted.
const CAPS: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn program(fs: &dyn Fs) {
    fs.create("f", 0o777, true).unwrap();
    fs.write("f", 0, b"program").unwrap();
    fs.chmod("f", 0o6777).unwrap();
}

fn a_users_write_clears_the_bits_and_roots_does_not(fs: &dyn Fs) {
    program(fs);
    fs.write("f", 0, b"x").unwrap();
    assert_eq!(stat(fs, "f").mode, 0o6777);
    fs.by(&alice()).write("f", 0, b"x").unwrap();
    assert_eq!(stat(fs, "f").mode, 0o777);
    // Without group execute, set-group-ID means mandatory locking, and stays.
    fs.chmod("f", 0o6767).unwrap();
    fs.by(&alice()).write("f", 0, b"x").unwrap();
    assert_eq!(stat(fs, "f").mode, 0o2767);
}

fn a_users_truncation_clears_the_bits(fs: &dyn Fs) {
    program(fs);
    fs.truncate("f", 3).unwrap();
    assert_eq!(stat(fs, "f").mode, 0o6777);
    fs.by(&alice()).truncate("f", 2).unwrap();
    assert_eq!(stat(fs, "f").mode, 0o777);
}

fn a_change_of_owner_clears_the_bits_also_by_root(fs: &dyn Fs) {
    program(fs);
    fs.chown("f", Some(ALICE), None).unwrap();
    assert_eq!(stat(fs, "f").mode, 0o777);
}

fn any_change_takes_file_capabilities_away(fs: &dyn Fs) {
    program(fs);
    let changes: [&dyn Fn(); 3] = [&|| fs.write("f", 0, b"x").unwrap(), &|| fs.truncate("f", 2).unwrap(), &|| {
        fs.chown("f", Some(ALICE), Some(ALICE)).unwrap()
    }];
    for change in changes {
        fs.set_xattr("f", CAPABILITY, &CAPS, 0).unwrap();
        assert_eq!(fs.get_xattr("f", CAPABILITY).as_deref(), Ok(&CAPS[..]));
        change();
        assert_eq!(fs.get_xattr("f", CAPABILITY), Err(libc::ENODATA));
    }
}

#[test]
fn the_bits_are_gone_when_write_returns_and_not_only_at_close() {
    let fs = fresh_fs();
    program(&fs);
    let path = fs.path("f");
    let mode = || path.metadata().unwrap().permissions().mode() & 0o7777;
    let opened = std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            // SAFETY: takes integers; for this thread alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, ALICE, ALICE, ALICE) }, 0);
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(b"one", 0).unwrap();
            file
        });
        user.join().expect("the user's thread")
    });
    assert_eq!(mode(), 0o777);
    drop(opened);
    assert_eq!(mode(), 0o777);
}

#[test]
fn bits_that_are_set_while_data_waits_to_be_committed_stay() {
    let fs = fresh_fs();
    fs.create("f", 0o777, true).unwrap();
    let mut file = OpenOptions::new().write(true).open(fs.path("f")).unwrap();
    file.write_all(b"data").unwrap();
    fs.chmod("f", 0o6777).unwrap();
    fs.set_xattr("f", CAPABILITY, &CAPS, 0).unwrap();
    drop(file);
    assert_eq!(stat(&fs, "f").mode, 0o6777);
    assert_eq!(fs.get_xattr("f", CAPABILITY).as_deref(), Ok(&CAPS[..]));
}
