//! Lookup: a name in a directory, with its attributes. Also "." and "..". Called by query::answer.

use super::{View, entry_reply};
use crate::apply::context::Ruling;
use crate::apply::trash;
use crate::store::read;
use holdfast_proto::{FsErrno, Name, pb};

pub fn answer(view: &View<'_>, query: &pb::LookupQuery) -> Ruling<pb::EntryReply> {
    let dir = view.directory(query.parent)?;
    match &query.name[..] {
        b"." => return Ok(entry_reply(&dir)),
        b".." => return Ok(entry_reply(&view.inode(dir.parent)?)),
        _ => {}
    }
    let name = Name::new(query.name.clone())?;
    let dentry = trash::dentry(view.kv, view.volume, dir.ino, name.as_bytes())?.ok_or(FsErrno::NoEnt)?;
    Ok(entry_reply(&read::named_inode(view.kv, view.volume, dentry.ino)?))
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::{FsErrno, ROOT_INO};

    #[test]
    fn names_dots_and_what_is_missing() {
        let mut fs = TestFs::new();
        let dir = fs.mkdir("d", 0o700).expect("makes").ino;
        let file = fs.create_at(dir, "f", 0o600, true).expect("creates").attr.expect("attr").ino;
        let ino = |parent, name: &str| fs.lookup(parent, name).map(|attr| attr.ino);
        assert_eq!(ino(dir, "f"), Ok(file));
        assert_eq!(ino(dir, "."), Ok(dir));
        assert_eq!(ino(dir, ".."), Ok(ROOT_INO));
        assert_eq!(ino(ROOT_INO, ".."), Ok(ROOT_INO));
        assert_eq!(ino(dir, "x"), Err(FsErrno::NoEnt));
        assert_eq!(ino(file, "x"), Err(FsErrno::NotDir));
        assert_eq!(ino(999, "x"), Err(FsErrno::Stale));
        assert_eq!(ino(dir, &"n".repeat(256)), Err(FsErrno::NameTooLong));
    }
}
