//! Mknod: a fifo, socket, device or empty regular file. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::dir::{self, NewInode};
use crate::store::txn::Txn;
use holdfast_proto::FsErrno;
use holdfast_proto::pb::{self, FileKind};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::MknodOp) -> Ruling<pb::EntryReply> {
    let name = dir::name(&op.name)?;
    let kind = op.kind();
    match kind {
        FileKind::Regular | FileKind::Fifo | FileKind::Socket => {}
        FileKind::Char | FileKind::Block if cx.is_root() => {}
        FileKind::Char | FileKind::Block => return Err(FsErrno::Perm.into()),
        FileKind::Unspecified | FileKind::Directory | FileKind::Symlink => return Err(FsErrno::Inval.into()),
    }
    let mut parent = dir::load(txn, cx, op.parent)?;
    dir::check_free(txn, cx, &parent, &name, kind)?;
    let is_device = matches!(kind, FileKind::Char | FileKind::Block);
    let new = NewInode { kind, mode: op.mode, umask: op.umask };
    dir::add_new(txn, cx, (&mut parent, &name), new, |_, child| {
        child.rdev = if is_device { op.rdev } else { 0 };
    })
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::FsErrno;
    use holdfast_proto::pb::FileKind;

    #[test]
    fn devices_are_for_root_and_directories_for_mkdir() {
        let mut fs = TestFs::new();
        let device = fs.mknod("c", FileKind::Char, 0x103).expect("makes");
        assert_eq!((device.kind(), device.rdev), (FileKind::Char, 0x103));
        assert_eq!(fs.mknod("d", FileKind::Directory, 0).map(|a| a.ino), Err(FsErrno::Inval));
        fs.become_user(7, 7);
        assert_eq!(fs.mknod("e", FileKind::Block, 1).map(|a| a.ino), Err(FsErrno::Perm));
        assert_eq!(fs.mknod("f", FileKind::Fifo, 9).map(|a| a.rdev), Ok(0));
        assert_eq!(fs.mknod("f", FileKind::Fifo, 0).map(|a| a.ino), Err(FsErrno::Exist));
    }

    #[test]
    fn a_removed_fifo_is_gone_at_once() {
        let mut fs = TestFs::new();
        let ino = fs.mknod("f", FileKind::Fifo, 0).expect("makes").ino;
        assert_eq!(fs.unlink("f").map(|r| r.orphaned), Ok(false));
        assert_eq!(fs.getattr(ino), Err(FsErrno::Stale));
    }
}
