//! Link: one more name for an inode that is not a directory. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::{dir, inode};
use crate::store::txn::Txn;
use holdfast_proto::{FsErrno, limits, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::LinkOp) -> Ruling<pb::EntryReply> {
    let name = dir::name(&op.new_name)?;
    let mut parent = dir::load(txn, cx, op.new_parent)?;
    let mut target = inode::load(txn, cx, op.ino)?;
    dir::check_free(txn, cx, &parent, &name, target.kind)?;
    if target.is_dir() {
        return Err(FsErrno::Perm.into());
    }
    if target.is_orphan() {
        return Err(FsErrno::NoEnt.into());
    }
    if target.nlink >= limits::NLINK_MAX {
        return Err(FsErrno::MLink.into());
    }

    target.nlink += 1;
    target.ctime = cx.now;
    inode::save(txn, cx, &target);
    dir::add_entry(txn, cx, &mut parent, &name, &target);
    Ok(pb::EntryReply { attr: Some(target.to_attr()), created: true })
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::{FsErrno, ROOT_INO, limits::NLINK_MAX};

    #[test]
    fn link_counts_and_changes_ctime_only() {
        let mut fs = TestFs::new();
        let before = fs.create("a", 0o600).expect("creates");
        let after = fs.link(before.ino, ROOT_INO, "b").expect("links");
        assert_eq!((after.ino, after.nlink, after.mtime), (before.ino, 2, before.mtime));
        assert!(after.ctime > before.ctime);
        assert_eq!(fs.link(before.ino, ROOT_INO, "b").map(|a| a.ino), Err(FsErrno::Exist));
    }

    // No test over a mount can get there, and pjdfstest does not try: glibc's pathconf knows no limit of a FUSE mount.
    #[test]
    fn the_last_link_that_fits_is_followed_by_emlink() {
        let mut fs = TestFs::new();
        let file = fs.create("f", 0o600).expect("creates").ino;
        fs.edit_inode(file, |inode| inode.nlink = NLINK_MAX - 1);
        assert_eq!(fs.link(file, ROOT_INO, "last").map(|a| a.nlink), Ok(NLINK_MAX));
        assert_eq!(fs.link(file, ROOT_INO, "more").map(|a| a.nlink), Err(FsErrno::MLink));
        assert_eq!(fs.lookup(ROOT_INO, "more").map(|a| a.ino), Err(FsErrno::NoEnt));
        assert_eq!(fs.unlink("last").map(|_| fs.attr(file).nlink), Ok(NLINK_MAX - 1));
    }

    #[test]
    fn directories_and_orphans_get_no_names() {
        let mut fs = TestFs::new();
        let dir = fs.mkdir("d", 0o700).expect("makes").ino;
        let file = fs.create("f", 0o600).expect("creates").ino;
        fs.unlink("f").expect("removes");
        assert_eq!(fs.link(dir, ROOT_INO, "x").map(|a| a.ino), Err(FsErrno::Perm));
        assert_eq!(fs.link(file, ROOT_INO, "x").map(|a| a.ino), Err(FsErrno::NoEnt));
        assert_eq!(fs.link(999, ROOT_INO, "x").map(|a| a.ino), Err(FsErrno::Stale));
    }
}
