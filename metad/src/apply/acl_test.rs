//! Tests of ACLs in the state machine.

use crate::apply::test_fs::TestFs;
use holdfast_proto::xattr::{ACL_ACCESS, ACL_DEFAULT, mark};
use holdfast_proto::{FsErrno, pb};

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The value of an ACL's attribute.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        value.extend([&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    value
}

fn none() -> u32 {
    u32::MAX
}

/// rw-, user 7 rwx, group r-x, mask rw-, other ---.
fn shared() -> Vec<u8> {
    acl(&[(OWNER, 6, none()), (USER, 7, 7), (OWNING_GROUP, 5, none()), (MASK, 6, none()), (OTHER, 0, none())])
}

fn text(name: &[u8]) -> &str {
    std::str::from_utf8(name).expect("ascii")
}

#[test]
fn an_access_acl_sets_the_mode_and_the_mode_the_acl() {
    let mut fs = TestFs::new();
    let file = fs.create("f", 0o4644).expect("creates").ino;
    let after = fs.set_xattr(file, text(ACL_ACCESS), &shared(), 0).expect("sets");
    assert_eq!((after.mode, after.xattrs), (0o4660, mark::ANY | mark::ACL_ACCESS));
    assert_eq!(fs.get_xattr(file, text(ACL_ACCESS)).as_deref(), Ok(&shared()[..]));
    fs.chmod(file, 0o604).expect("chmods");
    let masked =
        acl(&[(OWNER, 6, none()), (USER, 7, 7), (OWNING_GROUP, 5, none()), (MASK, 0, none()), (OTHER, 4, none())]);
    assert_eq!(fs.get_xattr(file, text(ACL_ACCESS)).as_deref(), Ok(&masked[..]));
    fs.check();
}

#[test]
fn an_acl_that_a_mode_can_say_is_only_a_mode() {
    let mut fs = TestFs::new();
    let file = fs.create("f", 0o600).expect("creates").ino;
    fs.set_xattr(file, text(ACL_ACCESS), &shared(), 0).expect("sets");
    let plain = acl(&[(OWNER, 7, none()), (OWNING_GROUP, 5, none()), (OTHER, 4, none())]);
    let after = fs.set_xattr(file, text(ACL_ACCESS), &plain, 0).expect("sets");
    assert_eq!((after.mode, after.xattrs), (0o754, 0));
    assert_eq!(fs.get_xattr(file, text(ACL_ACCESS)), Err(FsErrno::NoData));
    fs.check();
}

#[test]
fn only_the_owner_sets_acls_and_defaults_are_for_directories() {
    let mut fs = TestFs::new();
    let file = fs.create("f", 0o666).expect("creates").ino;
    let dir = fs.mkdir("d", 0o777).expect("makes").ino;
    let link = fs.symlink("l", "f").expect("makes").ino;
    let mut errno = |ino, name, value: &[u8]| fs.set_xattr(ino, text(name), value, 0).map(drop);
    assert_eq!(errno(file, ACL_DEFAULT, &shared()), Err(FsErrno::Access));
    assert_eq!(errno(link, ACL_ACCESS, &shared()), Err(FsErrno::OpNotSupp));
    assert_eq!(errno(file, ACL_ACCESS, b"odd"), Err(FsErrno::Inval));
    assert_eq!(errno(dir, ACL_DEFAULT, &shared()), Ok(()));
    fs.become_user(7, 7);
    assert_eq!(fs.set_xattr(file, text(ACL_ACCESS), &shared(), 0).map(drop), Err(FsErrno::Perm));
    assert_eq!(fs.remove_xattr(dir, text(ACL_DEFAULT)).map(drop), Err(FsErrno::Perm));
    fs.check();
}

#[test]
fn a_default_acl_is_inherited_instead_of_the_umask() {
    let mut fs = TestFs::new();
    let dir = fs.mkdir("d", 0o777).expect("makes").ino;
    fs.set_xattr(dir, text(ACL_DEFAULT), &shared(), 0).expect("sets");
    let create = |name: &'static str, parent| pb::CreateOp {
        parent,
        name: name.into(),
        mode: 0o666,
        exclusive: true,
        umask: 0o077,
    };
    let plain = fs.mutate(create("f", 1)).expect("creates").attr.expect("attr");
    assert_eq!((plain.mode, plain.xattrs), (0o600, 0));
    let child = fs.mutate(create("f", dir)).expect("creates").attr.expect("attr");
    assert_eq!((child.mode, child.xattrs), (0o660, mark::ANY | mark::ACL_ACCESS));
    assert_eq!(fs.get_xattr(child.ino, text(ACL_ACCESS)).as_deref(), Ok(&shared()[..]));
    let sub = fs.mkdir_at(dir, "s", 0o755).expect("makes");
    assert_eq!((sub.mode, sub.xattrs), (0o640, mark::ANY | mark::ACL_ACCESS | mark::ACL_DEFAULT));
    assert_eq!(fs.get_xattr(sub.ino, text(ACL_DEFAULT)).as_deref(), Ok(&shared()[..]));
    let link = fs.mutate(pb::SymlinkOp { parent: dir, name: "l".into(), target: "x".into() }).expect("makes");
    assert_eq!(link.attr.map(|attr| (attr.mode, attr.xattrs)), Some((0o777, 0)));
    fs.check();
}

#[test]
fn an_acl_decides_who_may_truncate() {
    let mut fs = TestFs::new();
    let file = fs.create("f", 0o600).expect("creates").ino;
    fs.become_user(7, 7);
    assert_eq!(fs.truncate(file, 5).map(drop), Err(FsErrno::Access));
    fs.become_user(0, 0);
    fs.set_xattr(file, text(ACL_ACCESS), &shared(), 0).expect("sets");
    fs.become_user(7, 7);
    assert_eq!(fs.truncate(file, 5).map(|attr| attr.size), Ok(5));
    fs.become_user(8, 8);
    assert_eq!(fs.truncate(file, 6).map(drop), Err(FsErrno::Access));
}

#[test]
fn file_capabilities_go_with_a_change_of_data_or_owner_also_by_root() {
    let mut fs = TestFs::new();
    let file = fs.create("f", 0o755).expect("creates").ino;
    let sets = |fs: &mut TestFs| fs.set_xattr(file, "security.capability", b"caps", 0).map(drop).expect("sets");
    sets(&mut fs);
    fs.set_xattr(file, "user.a", b"stays", 0).expect("sets");
    fs.chmod(file, 0o700).expect("chmods");
    assert!(fs.get_xattr(file, "security.capability").is_ok(), "chmod changes neither");
    fs.truncate(file, 3).expect("truncates");
    assert_eq!(fs.get_xattr(file, "security.capability"), Err(FsErrno::NoData));
    sets(&mut fs);
    fs.chown(file, 5, 5).expect("chowns");
    assert_eq!(fs.get_xattr(file, "security.capability"), Err(FsErrno::NoData));
    sets(&mut fs);
    fs.write(file, 0, 10).expect("commits");
    assert_eq!(fs.get_xattr(file, "security.capability"), Err(FsErrno::NoData));
    assert_eq!(fs.getattr(file).map(|attr| attr.xattrs), Ok(mark::ANY));
    fs.check();
}
