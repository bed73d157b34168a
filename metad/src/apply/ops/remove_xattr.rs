//! Remove xattr: removexattr(2). Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::{inode, xattr};
use crate::store::txn::Txn;
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::RemoveXattrOp) -> Ruling<pb::EntryReply> {
    xattr::check_name(&op.name)?;
    let mut inode = inode::load(txn, cx, op.ino)?;
    xattr::check_change(cx, &inode, &op.name)?;
    if xattr::get(txn, cx.volume, op.ino, &op.name)?.is_none() {
        return Err(FsErrno::NoData.into());
    }
    if xattr::is_acl(&op.name) && !inode::is_owner(cx, &inode) {
        return Err(FsErrno::Perm.into());
    }
    xattr::remove(txn, cx.volume, &mut inode, &op.name)?;
    inode.ctime = cx.now;
    inode::save(txn, cx, &inode);
    Ok(pb::EntryReply { attr: Some(inode.to_attr()), created: false })
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::FsErrno;

    #[test]
    fn what_is_removed_is_gone_and_what_is_not_there_is_said_to_be_missing() {
        let mut fs = TestFs::new();
        let before = fs.create("f", 0o600).expect("creates");
        fs.set_xattr(before.ino, "user.a", b"1", 0).expect("sets");
        assert!(fs.remove_xattr(before.ino, "user.a").expect("removes").ctime > before.ctime);
        assert_eq!(fs.get_xattr(before.ino, "user.a"), Err(FsErrno::NoData));
        assert_eq!(fs.remove_xattr(before.ino, "user.a").map(|a| a.ino), Err(FsErrno::NoData));
        assert_eq!(fs.remove_xattr(999, "user.a").map(|a| a.ino), Err(FsErrno::Stale));
        fs.check();
    }
}
