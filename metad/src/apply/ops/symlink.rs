//! Symlink: a name for a path that nobody checks. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::dir::{self, NewInode};
use crate::store::records::Symlink;
use crate::store::{keys, txn::Txn};
use holdfast_proto::pb::{self, FileKind};
use holdfast_proto::{FsErrno, limits};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::SymlinkOp) -> Ruling<pb::EntryReply> {
    if op.target.is_empty() {
        return Err(FsErrno::NoEnt.into());
    }
    if op.target.len() > limits::SYMLINK_BYTES_MAX {
        return Err(FsErrno::NameTooLong.into());
    }
    if op.target.contains(&0) {
        return Err(FsErrno::Inval.into());
    }
    let name = dir::name(&op.name)?;
    let mut parent = dir::load(txn, cx, op.parent)?;
    dir::check_free(txn, cx, &parent, &name, FileKind::Symlink)?;
    let volume = cx.volume;
    let new = NewInode { kind: FileKind::Symlink, mode: 0o777, umask: 0 };
    dir::add_new(txn, cx, (&mut parent, &name), new, |txn, child| {
        child.size = op.target.len() as u64;
        txn.put(&keys::symlink(volume, child.ino), &Symlink(op.target.clone()));
    })
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::FsErrno;

    #[test]
    fn a_link_has_the_size_of_its_target_and_every_permission() {
        let mut fs = TestFs::new();
        let attr = fs.symlink("l", "../some/where").expect("makes");
        assert_eq!((attr.size, attr.mode), (13, 0o777));
        assert_eq!(fs.readlink(attr.ino).as_deref(), Ok(&b"../some/where"[..]));
        assert_eq!(fs.symlink("l", "x").map(|a| a.ino), Err(FsErrno::Exist));
    }

    #[test]
    fn targets_are_bounded() {
        let mut fs = TestFs::new();
        assert_eq!(fs.symlink("l", "").map(|a| a.ino), Err(FsErrno::NoEnt));
        assert_eq!(fs.symlink("l", &"t".repeat(4096)).map(|a| a.ino), Err(FsErrno::NameTooLong));
        assert!(fs.symlink("l", &"t".repeat(4095)).is_ok());
    }

    #[test]
    fn a_removed_link_leaves_nothing() {
        let mut fs = TestFs::new();
        let before = fs.usage();
        let ino = fs.symlink("l", "x").expect("makes").ino;
        assert_eq!(fs.unlink("l").map(|r| r.orphaned), Ok(false));
        assert_eq!(fs.readlink(ino), Err(FsErrno::Stale));
        assert_eq!(fs.usage().used_inodes, before.used_inodes);
        fs.check();
    }
}
