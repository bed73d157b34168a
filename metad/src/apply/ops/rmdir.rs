//! Rmdir: removes an empty directory. It stays as an orphan while somebody has it open. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::dir;
use crate::store::txn::Txn;
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::RmdirOp) -> Ruling<pb::RemovedReply> {
    dir::remove(txn, cx, (op.parent, &op.name), |victim| match victim.entries {
        _ if !victim.is_dir() => Err(FsErrno::NotDir),
        0 => Ok(()),
        _ => Err(FsErrno::NotEmpty),
    })
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::{FsErrno, ROOT_INO};

    #[test]
    fn only_an_empty_directory_goes() {
        let mut fs = TestFs::new();
        let dir = fs.mkdir("d", 0o700).expect("makes").ino;
        fs.create_at(dir, "f", 0o600, true).expect("creates");
        assert_eq!(fs.rmdir("d").map(|r| r.ino), Err(FsErrno::NotEmpty));
        fs.unlink_at(dir, "f").expect("removes");
        assert_eq!(fs.rmdir("d").map(|r| r.ino), Ok(dir));
        assert_eq!(fs.attr(ROOT_INO).nlink, 2);
        assert_eq!(fs.attr(dir).nlink, 0);
        fs.check();
    }

    #[test]
    fn files_and_missing_names_are_refused() {
        let mut fs = TestFs::new();
        fs.create("f", 0o600).expect("creates");
        assert_eq!(fs.rmdir("f").map(|r| r.ino), Err(FsErrno::NotDir));
        assert_eq!(fs.rmdir("x").map(|r| r.ino), Err(FsErrno::NoEnt));
    }
}
