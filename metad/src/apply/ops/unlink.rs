//! Unlink: removes one name. Never frees data: that waits for the last close (orphan.rs). Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::dir;
use crate::store::txn::Txn;
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::UnlinkOp) -> Ruling<pb::RemovedReply> {
    dir::remove(txn, cx, (op.parent, &op.name), |victim| if victim.is_dir() { Err(FsErrno::IsDir) } else { Ok(()) })
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::{FsErrno, ROOT_INO};

    #[test]
    fn the_last_name_makes_an_orphan_and_earlier_ones_do_not() {
        let mut fs = TestFs::new();
        let ino = fs.create("a", 0o600).expect("creates").ino;
        fs.link(ino, ROOT_INO, "b").expect("links");
        assert_eq!(fs.unlink("a").map(|r| (r.ino, r.orphaned)), Ok((ino, false)));
        assert_eq!(fs.unlink("b").map(|r| (r.ino, r.orphaned)), Ok((ino, true)));
        assert_eq!(fs.attr(ino).nlink, 0);
        assert_eq!(fs.open(ino), Err(FsErrno::Stale));
        assert_eq!(fs.last_effects().orphaned, [ino]);
        fs.check();
    }

    #[test]
    fn directories_and_missing_names_are_refused() {
        let mut fs = TestFs::new();
        fs.mkdir("d", 0o700).expect("makes");
        assert_eq!(fs.unlink("d").map(|r| r.ino), Err(FsErrno::IsDir));
        assert_eq!(fs.unlink("x").map(|r| r.ino), Err(FsErrno::NoEnt));
    }

    #[test]
    fn in_a_sticky_directory_only_an_owner_removes() {
        let mut fs = TestFs::new();
        let dir = fs.mkdir("d", 0o1777).expect("makes").ino;
        fs.become_user(5, 5);
        fs.create_at(dir, "of5", 0o666, true).expect("creates");
        fs.become_user(6, 6);
        assert_eq!(fs.unlink_at(dir, "of5").map(|r| r.ino), Err(FsErrno::Perm));
        assert_eq!(fs.rename(dir, "of5", dir, "x", 0).map(|r| r.ino), Err(FsErrno::Perm));
        fs.create_at(dir, "of6", 0o666, true).expect("creates");
        assert_eq!(fs.rename(dir, "of6", dir, "of5", 0).map(|r| r.ino), Err(FsErrno::Perm));
        fs.become_user(5, 5);
        assert!(fs.unlink_at(dir, "of5").is_ok());
    }
}
