//! Mkdir: an empty directory and its name. Its ".." is a link to the parent. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::dir::{self, NewInode};
use crate::store::txn::Txn;
use holdfast_proto::pb::{self, FileKind};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::MkdirOp) -> Ruling<pb::EntryReply> {
    let name = dir::name(&op.name)?;
    let mut parent = dir::load(txn, cx, op.parent)?;
    dir::check_free(txn, cx, &parent, &name, FileKind::Directory)?;
    let new = NewInode { kind: FileKind::Directory, mode: op.mode, umask: op.umask };
    dir::add_new(txn, cx, (&mut parent, &name), new, |_, _| {})
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::{FsErrno, ROOT_INO};

    #[test]
    fn mkdir_counts_the_links_of_dot_and_dot_dot() {
        let mut fs = TestFs::new();
        let child = fs.mkdir("d", 0o6755).expect("makes");
        assert_eq!((child.nlink, child.parent, child.mode), (2, ROOT_INO, 0o755));
        assert_eq!(fs.attr(ROOT_INO).nlink, 3);
        assert_eq!(fs.mkdir("d", 0o755).map(|a| a.ino), Err(FsErrno::Exist));
    }

    #[test]
    fn a_set_group_id_parent_passes_group_and_bit_on() {
        let mut fs = TestFs::new();
        let parent = fs.mkdir("d", 0o777).expect("makes").ino;
        fs.chown(parent, 0, 50).expect("chowns");
        fs.chmod(parent, 0o2777).expect("chmods");
        fs.become_user(7, 7);
        let child = fs.mkdir_at(parent, "sub", 0o1700).expect("makes");
        assert_eq!((child.gid, child.mode), (50, 0o3700));
    }
}
