//! Create: a regular file and its name, or what open(2) with O_CREAT finds there already. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::dir::{self, NewInode};
use crate::apply::trash;
use crate::store::{read, txn::Txn};
use holdfast_proto::FsErrno;
use holdfast_proto::pb::{self, FileKind};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::CreateOp) -> Ruling<pb::EntryReply> {
    let name = dir::name(&op.name)?;
    let mut parent = dir::load(txn, cx, op.parent)?;
    if let Some(dentry) = dir::find(txn, cx, &parent, &name)? {
        return open_existing(txn, cx, op, dentry.ino);
    }
    trash::check_adds_to(&parent)?;
    let new = NewInode { kind: FileKind::Regular, mode: op.mode, umask: op.umask };
    dir::add_new(txn, cx, (&mut parent, &name), new, |_, _| {})
}

/// The name is there. Without O_EXCL a regular file is opened. For what the client's kernel follows or opens by itself (a
/// symbolic link, a device) ESTALE makes it look the name up again: it must have come after its own look-up.
fn open_existing(txn: &Txn<'_>, cx: &Context<'_>, op: &pb::CreateOp, ino: u64) -> Ruling<pb::EntryReply> {
    if op.exclusive {
        return Err(FsErrno::Exist.into());
    }
    let existing = read::named_inode(txn, cx.volume, ino)?;
    match existing.kind {
        FileKind::Regular => Ok(pb::EntryReply { attr: Some(existing.to_attr()), created: false }),
        FileKind::Directory => Err(FsErrno::IsDir.into()),
        _ => Err(FsErrno::Stale.into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::pb::FileKind;
    use holdfast_proto::{FsErrno, ROOT_INO};

    #[test]
    fn create_makes_an_empty_file_and_touches_the_directory() {
        let mut fs = TestFs::new();
        let before = fs.attr(ROOT_INO);
        let attr = fs.create("f", 0o4640).expect("creates");
        assert_eq!((attr.kind(), attr.mode, attr.nlink, attr.size), (FileKind::Regular, 0o4640, 1, 0));
        assert_eq!(attr.generation, fs.log_index());
        let after = fs.attr(ROOT_INO);
        assert!(after.mtime > before.mtime && after.ctime == after.mtime);
        assert_eq!(after.nlink, before.nlink);
    }

    #[test]
    fn an_existing_file_is_opened_unless_exclusive() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        assert_eq!(
            fs.create_at(ROOT_INO, "f", 0o777, false).map(|r| (r.attr.map(|a| (a.ino, a.mode)), r.created)),
            Ok((Some((ino, 0o600)), false))
        );
        assert_eq!(fs.create("f", 0o600).map(|a| a.ino), Err(FsErrno::Exist));
        fs.mkdir("d", 0o700).expect("makes");
        assert_eq!(fs.create_at(ROOT_INO, "d", 0o777, false).map(|r| r.created), Err(FsErrno::IsDir));
        fs.symlink("l", "f").expect("makes");
        assert_eq!(fs.create_at(ROOT_INO, "l", 0o777, false).map(|r| r.created), Err(FsErrno::Stale));
    }

    #[test]
    fn a_missing_or_wrong_parent_is_refused() {
        let mut fs = TestFs::new();
        let file = fs.create("f", 0o600).expect("creates").ino;
        assert_eq!(fs.create_at(file, "x", 0o600, true).map(|r| r.created), Err(FsErrno::NotDir));
        assert_eq!(fs.create_at(999, "x", 0o600, true).map(|r| r.created), Err(FsErrno::Stale));
        let dir = fs.mkdir("d", 0o700).expect("makes").ino;
        fs.rmdir("d").expect("removes");
        assert_eq!(fs.create_at(dir, "x", 0o600, true).map(|r| r.created), Err(FsErrno::NoEnt));
        assert_eq!(fs.create_at(ROOT_INO, &"n".repeat(256), 0o600, true).map(|r| r.created), Err(FsErrno::NameTooLong));
    }

    #[test]
    fn a_set_group_id_directory_gives_its_group_but_not_the_right_to_run_as_it() {
        let mut fs = TestFs::new();
        let dir = fs.mkdir("d", 0o777).expect("makes").ino;
        fs.chown(dir, 0, 50).expect("chowns");
        fs.chmod(dir, 0o2777).expect("chmods");
        fs.become_user(7, 7);
        let stranger = fs.create_at(dir, "a", 0o2775, true).expect("creates").attr.expect("attr");
        assert_eq!((stranger.gid, stranger.mode), (50, 0o775));
        fs.join_group(50);
        let member = fs.create_at(dir, "b", 0o2775, true).expect("creates").attr.expect("attr");
        assert_eq!((member.gid, member.mode), (50, 0o2775));
    }

    #[test]
    fn the_inode_limit_is_exact_and_a_removed_name_gives_room_at_once() {
        let mut fs = TestFs::new();
        fs.config(None, Some(2));
        fs.create("a", 0o600).expect("creates");
        fs.create("b", 0o600).expect("creates");
        assert_eq!(fs.create("c", 0o600).map(|a| a.ino), Err(FsErrno::NoSpc));
        fs.unlink("a").expect("removes");
        assert!(fs.create("c", 0o600).is_ok());
    }
}
