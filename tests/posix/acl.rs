//! POSIX ACLs (acl(5)): kept in step with the mode, inherited, and enforced, by the kernel on a mount and by the server where the
//! kernel does not ask.

use crate::{ALICE, BOB, alice, bob, stat};
use holdfast_tests::fs::{Fs, User};
use holdfast_tests::shared::fresh_fs;

on_both!(
    an_acl_sets_the_group_bits_to_its_mask,
    chmod_changes_the_mask_and_not_the_group,
    what_a_mode_can_say_is_no_acl,
    a_default_acl_is_for_directories_and_is_inherited,
    only_the_owner_changes_an_acl,
    truncate_asks_the_acl,
);

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// The attribute's value (linux/posix_acl_xattr.h): owner, named users, owning group, mask, other.
fn acl(owner: u16, users: &[(u32, u16)], group: u16, mask: Option<u16>, other: u16) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    let mut entry = |tag: u16, perm: u16, id: u32| {
        value.extend([&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
    };
    entry(0x01, owner, u32::MAX);
    for &(id, perm) in users {
        entry(0x02, perm, id);
    }
    entry(0x04, group, u32::MAX);
    if let Some(mask) = mask {
        entry(0x10, mask, u32::MAX);
    }
    entry(0x20, other, u32::MAX);
    value
}

fn an_acl_sets_the_group_bits_to_its_mask(fs: &dyn Fs) {
    fs.create("f", 0o600, true).unwrap();
    let wanted = acl(6, &[(ALICE, 7)], 4, Some(5), 0);
    fs.set_xattr("f", ACCESS, &wanted, 0).unwrap();
    assert_eq!(stat(fs, "f").mode, 0o650);
    assert_eq!(fs.get_xattr("f", ACCESS), Ok(wanted));
    assert_eq!(fs.list_xattr("f"), Ok(vec![ACCESS.to_owned()]));
    fs.remove_xattr("f", ACCESS).unwrap();
    assert_eq!(fs.get_xattr("f", ACCESS), Err(libc::ENODATA));
}

fn chmod_changes_the_mask_and_not_the_group(fs: &dyn Fs) {
    fs.create("f", 0o600, true).unwrap();
    fs.set_xattr("f", ACCESS, &acl(6, &[(ALICE, 7)], 4, Some(5), 0), 0).unwrap();
    fs.chmod("f", 0o471).unwrap();
    assert_eq!(fs.get_xattr("f", ACCESS), Ok(acl(4, &[(ALICE, 7)], 4, Some(7), 1)));
    assert_eq!(stat(fs, "f").mode, 0o471);
}

fn what_a_mode_can_say_is_no_acl(fs: &dyn Fs) {
    fs.create("f", 0o600, true).unwrap();
    fs.set_xattr("f", ACCESS, &acl(7, &[], 5, None, 1), 0).unwrap();
    assert_eq!(stat(fs, "f").mode, 0o751);
    assert_eq!(fs.get_xattr("f", ACCESS), Err(libc::ENODATA));
}

fn a_default_acl_is_for_directories_and_is_inherited(fs: &dyn Fs) {
    fs.create("f", 0o600, true).unwrap();
    fs.mkdir("d", 0o755).unwrap();
    let default = acl(7, &[(ALICE, 7)], 5, Some(7), 0);
    assert_eq!(fs.set_xattr("f", DEFAULT, &default, 0), Err(libc::EACCES));
    fs.set_xattr("d", DEFAULT, &default, 0).unwrap();
    assert_eq!(stat(fs, "d").mode, 0o755);
    fs.create("d/f", 0o664, true).unwrap();
    assert_eq!(stat(fs, "d/f").mode, 0o660);
    assert_eq!(fs.get_xattr("d/f", ACCESS), Ok(acl(6, &[(ALICE, 7)], 5, Some(6), 0)));
    fs.mkdir("d/e", 0o777).unwrap();
    assert_eq!(fs.get_xattr("d/e", DEFAULT), Ok(default.clone()));
    assert_eq!(fs.get_xattr("d/e", ACCESS), Ok(default));
    fs.symlink("x", "d/l").unwrap();
    assert_eq!(fs.list_xattr("d/l"), Ok(vec![]));
}

fn only_the_owner_changes_an_acl(fs: &dyn Fs) {
    fs.create("f", 0o666, true).unwrap();
    fs.chown("f", Some(ALICE), Some(ALICE)).unwrap();
    let wanted = acl(6, &[(BOB, 4)], 4, Some(4), 0);
    assert_eq!(fs.by(&bob()).set_xattr("f", ACCESS, &wanted, 0), Err(libc::EPERM));
    assert_eq!(fs.by(&alice()).set_xattr("f", ACCESS, &wanted, 0), Ok(()));
    assert_eq!(fs.by(&bob()).remove_xattr("f", ACCESS), Err(libc::EPERM));
}

fn truncate_asks_the_acl(fs: &dyn Fs) {
    fs.create("f", 0o600, true).unwrap();
    assert_eq!(fs.by(&alice()).truncate("f", 5), Err(libc::EACCES));
    fs.set_xattr("f", ACCESS, &acl(6, &[(ALICE, 6)], 0, Some(6), 0), 0).unwrap();
    assert_eq!(fs.by(&alice()).truncate("f", 5), Ok(()));
    assert_eq!(fs.by(&bob()).truncate("f", 6), Err(libc::EACCES));
}

#[test]
fn the_kernel_enforces_what_an_acl_says() {
    let fs = fresh_fs();
    fs.mkdir("d", 0o700).unwrap();
    fs.create("d/f", 0o600, true).unwrap();
    fs.write("d/f", 0, b"secret").unwrap();
    fs.chown("d/f", None, Some(BOB)).unwrap();
    let (alice, bob) = (alice(), bob());
    assert_eq!(fs.by(&alice).read("d/f", 0, 6), Err(libc::EACCES));
    fs.set_xattr("d", ACCESS, &acl(7, &[(ALICE, 1), (BOB, 1)], 0, Some(1), 0), 0).unwrap();
    assert_eq!(fs.by(&alice).read("d/f", 0, 6), Err(libc::EACCES));
    fs.set_xattr("d/f", ACCESS, &acl(6, &[(ALICE, 6)], 4, Some(4), 0), 0).unwrap();
    assert_eq!(fs.by(&alice).read("d/f", 0, 6).as_deref(), Ok(&b"secret"[..]));
    assert_eq!(fs.by(&alice).write("d/f", 0, b"x"), Err(libc::EACCES), "the mask");
    assert_eq!(fs.by(&bob).read("d/f", 0, 6).as_deref(), Ok(&b"secret"[..]), "the owning group");
    assert_eq!(fs.by(&User::new(1003, 1003)).stat("d/f").map(drop), Err(libc::EACCES));
    fs.chmod("d/f", 0o600).unwrap();
    assert_eq!(fs.by(&alice).read("d/f", 0, 6), Err(libc::EACCES), "chmod closed the mask");
}

#[test]
fn the_umask_counts_only_without_a_default_acl() {
    let fs = fresh_fs();
    fs.mkdir("plain", 0o777).unwrap();
    fs.mkdir("d", 0o777).unwrap();
    fs.set_xattr("d", DEFAULT, &acl(7, &[(ALICE, 7)], 7, Some(7), 5), 0).unwrap();
    std::thread::scope(|scope| {
        let masked = scope.spawn(|| {
            // SAFETY: gives this thread a umask of its own; umask(2) touches no memory.
            unsafe {
                assert_eq!(libc::unshare(libc::CLONE_FS), 0);
                libc::umask(0o027);
            }
            for dir in ["plain", "d"] {
                fs.create(&format!("{dir}/f"), 0o666, true).unwrap();
                fs.mkdir(&format!("{dir}/e"), 0o777).unwrap();
                fs.mknod(&format!("{dir}/p"), holdfast_tests::fs::Kind::Fifo, 0o666, 0).unwrap();
            }
        });
        masked.join().expect("the masked thread");
    });
    let modes = |dir: &str| ["f", "e", "p"].map(|name| stat(&fs, &format!("{dir}/{name}")).mode);
    assert_eq!(modes("plain"), [0o640, 0o750, 0o640]);
    assert_eq!(modes("d"), [0o664, 0o775, 0o664]);
}
