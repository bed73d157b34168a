//! Rmdir: removes an empty directory. It stays as an orphan while somebody has it open. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::{dir, orphan};
use crate::store::txn::Txn;
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::RmdirOp) -> Ruling<pb::RemovedReply> {
    let name = dir::name(&op.name)?;
    let mut parent = dir::load(txn, cx, op.parent)?;
    let victim = dir::find_inode(txn, cx, &parent, &name)?;
    dir::check_sticky(cx, &parent, &victim)?;
    if !victim.is_dir() {
        return Err(FsErrno::NotDir.into());
    }
    if victim.entries > 0 {
        return Err(FsErrno::NotEmpty.into());
    }

    dir::remove_entry(txn, cx, &mut parent, &name, &victim);
    let orphaned = orphan::lose_name(txn, cx, victim)?;
    Ok(pb::RemovedReply { ino: victim.ino, orphaned })
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
