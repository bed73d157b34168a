//! Set xattr: setxattr(2), made or replaced. Works on a held orphan: fsetxattr(2). Called by apply::dispatch only.

use crate::apply::acl::{self, Change};
use crate::apply::context::{Context, Ruling};
use crate::apply::{inode, xattr};
use crate::store::txn::Txn;
use holdfast_proto::{FsErrno, limits, pb};

/// setxattr(2): it must not be there.
const XATTR_CREATE: u32 = 1;
/// It must be there.
const XATTR_REPLACE: u32 = 2;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::SetXattrOp) -> Ruling<pb::EntryReply> {
    xattr::check_name(&op.name)?;
    if op.value.len() > limits::XATTR_VALUE_BYTES_MAX {
        return Err(FsErrno::TooBig.into());
    }
    if op.flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
        return Err(FsErrno::Inval.into());
    }
    let mut inode = inode::load(txn, cx, op.ino)?;
    xattr::check_change(cx, &inode, &op.name)?;
    let exists = xattr::get(txn, cx.volume, op.ino, &op.name)?.is_some();
    match op.flags {
        flags if flags & XATTR_CREATE != 0 && exists => return Err(FsErrno::Exist.into()),
        flags if flags & XATTR_REPLACE != 0 && !exists => return Err(FsErrno::NoData.into()),
        _ => {}
    }
    if !exists {
        let names = xattr::names(txn, cx.volume, op.ino)?;
        let list_bytes: usize = names.iter().chain([&op.name]).map(|name| name.len() + 1).sum();
        if list_bytes > limits::XATTR_LIST_BYTES_MAX {
            return Err(FsErrno::NoSpc.into());
        }
    }

    let change = if xattr::is_acl(&op.name) {
        acl::check_set(cx, &inode, &op.name, &op.value)?
    } else {
        Change { value: Some(op.value.clone()), mode: inode.mode }
    };

    inode.mode = change.mode;
    match change.value {
        Some(value) => xattr::put(txn, cx.volume, &mut inode, &op.name, value),
        None => xattr::remove(txn, cx.volume, &mut inode, &op.name)?,
    }
    inode.ctime = cx.now;
    inode::save(txn, cx, &inode);
    Ok(pb::EntryReply { attr: Some(inode.to_attr()), created: !exists })
}

#[cfg(test)]
mod tests {
    use super::{XATTR_CREATE, XATTR_REPLACE};
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::FsErrno;
    use holdfast_proto::pb::FileKind;

    #[test]
    fn an_attribute_is_made_replaced_and_listed() {
        let mut fs = TestFs::new();
        let before = fs.create("f", 0o600).expect("creates");
        let after = fs.set_xattr(before.ino, "user.b", b"1", 0).expect("sets");
        assert!(after.ctime > before.ctime && after.mtime == before.mtime);
        fs.set_xattr(before.ino, "user.a", b"", XATTR_CREATE).expect("sets");
        fs.set_xattr(before.ino, "user.b", b"two", XATTR_REPLACE).expect("replaces");
        assert_eq!(fs.list_xattr(before.ino), Ok(vec!["user.a".into(), "user.b".into()]));
        assert_eq!(fs.get_xattr(before.ino, "user.b").as_deref(), Ok(&b"two"[..]));
        assert_eq!(fs.get_xattr(before.ino, "user.a").as_deref(), Ok(&b""[..]));
        assert_eq!(fs.get_xattr(before.ino, "user.c"), Err(FsErrno::NoData));
        fs.check();
    }

    #[test]
    fn flags_bounds_and_names_are_checked() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        let mut errno = |name: &str, value: &[u8], flags| fs.set_xattr(ino, name, value, flags).map(|a| a.ino);
        assert_eq!(errno("user.a", b"x", XATTR_REPLACE), Err(FsErrno::NoData));
        assert_eq!(errno("user.a", b"x", 0), Ok(ino));
        assert_eq!(errno("user.a", b"x", XATTR_CREATE), Err(FsErrno::Exist));
        assert_eq!(errno("user.a", b"x", 4), Err(FsErrno::Inval));
        assert_eq!(errno("user.a", &[0; 65_537], 0), Err(FsErrno::TooBig));
        assert_eq!(errno("user.a", &[0; 65_536], 0), Ok(ino));
        assert_eq!(errno("", b"", 0), Err(FsErrno::Range));
        assert_eq!(errno(&format!("user.{}", "n".repeat(251)), b"", 0), Err(FsErrno::Range));
        assert_eq!(errno("user.", b"", 0), Err(FsErrno::OpNotSupp));
        assert_eq!(errno("odd.name", b"", 0), Err(FsErrno::OpNotSupp));
        assert_eq!(errno("security.x", b"", 0), Ok(ino));
    }

    #[test]
    fn all_names_fit_into_one_list() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        let name = |n: u32| format!("user.{n:0250}");
        for n in 0..256 {
            fs.set_xattr(ino, &name(n), b"", 0).expect("sets");
        }
        assert_eq!(fs.set_xattr(ino, &name(256), b"", 0).map(|a| a.ino), Err(FsErrno::NoSpc));
        assert!(fs.set_xattr(ino, &name(0), b"again", 0).is_ok());
    }

    #[test]
    fn trusted_is_roots_and_user_is_for_files_and_directories() {
        let mut fs = TestFs::new();
        let file = fs.create("f", 0o666).expect("creates").ino;
        let fifo = fs.mknod("p", FileKind::Fifo, 0).expect("makes").ino;
        let sticky = fs.mkdir("d", 0o1777).expect("makes").ino;
        fs.set_xattr(file, "trusted.t", b"x", 0).expect("sets");
        assert_eq!(fs.set_xattr(fifo, "user.a", b"", 0).map(|a| a.ino), Err(FsErrno::Perm));
        fs.set_xattr(fifo, "trusted.t", b"", 0).expect("sets");
        fs.become_user(7, 7);
        assert_eq!(fs.set_xattr(file, "trusted.t", b"y", 0).map(|a| a.ino), Err(FsErrno::Perm));
        assert_eq!(fs.get_xattr(file, "trusted.t"), Err(FsErrno::NoData));
        assert_eq!(fs.list_xattr(file), Ok(vec![]));
        assert_eq!(fs.set_xattr(sticky, "user.a", b"", 0).map(|a| a.ino), Err(FsErrno::Perm));
        assert!(fs.set_xattr(file, "user.a", b"", 0).is_ok());
    }

    #[test]
    fn attributes_go_with_their_inode() {
        let mut fs = TestFs::new();
        let before = fs.usage();
        let file = fs.create("f", 0o600).expect("creates").ino;
        let fifo = fs.mknod("p", FileKind::Fifo, 0).expect("makes").ino;
        fs.set_xattr(file, "user.a", b"1", 0).expect("sets");
        fs.set_xattr(fifo, "trusted.a", b"1", 0).expect("sets");
        fs.unlink("f").expect("removes");
        fs.unlink("p").expect("removes");
        fs.set_xattr(file, "user.b", b"on an orphan", 0).expect("sets");
        fs.hold(fs.log_index(), &[]);
        fs.reclaim(&[file]);
        assert_eq!(fs.get_xattr(file, "user.a"), Err(FsErrno::Stale));
        assert_eq!(fs.usage().used_inodes, before.used_inodes);
        fs.check();
    }
}
