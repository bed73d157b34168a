//! Damage in the trash: a repair puts its directories back where they belong and loses nothing that was kept.

use super::tests::{damage, edit, repair};
use super::*;
use crate::apply::test_fs::{TestFs, VOLUME};
use crate::apply::trash;
use crate::store::KvCommit;
use crate::store::records::Stamp;
use holdfast_proto::{Name, TRASH_INO};

const HOUR: u64 = TRASH_INO + 1;
const HOUR_NAME: &[u8] = b"1970-01-01-00";
const KEPT: u64 = 2;

fn volume() -> TestFs {
    let mut fs = TestFs::new();
    fs.keep_removed(1);
    let file = fs.create("f", 0o640).expect("creates").ino;
    fs.write(file, 0, 100).expect("writes");
    fs.unlink("f").expect("removes");
    assert_eq!(file, KEPT);
    fs.check();
    fs
}

/// After a repair what was kept is where it was, and can be brought back.
fn comes_back_after(words: &str, break_it: impl FnOnce(&mut Txn<'_>)) {
    let mut fs = volume();
    damage(&fs, break_it);
    // Nobody stops or spins over it.
    fs.empty_trash();
    let (found, left) = repair(&mut fs);
    assert!(found.iter().any(|problem| problem.contains(words)), "{words:?} in {found:?}");
    assert_eq!(left, Vec::<String>::new(), "{words}");
    fs.check();
    let dir = fs.lookup(TRASH_INO, "1970-01-01-00").expect("the hour is there");
    assert_eq!((dir.ino, dir.mode, dir.uid, dir.parent), (HOUR, 0o700, 0, TRASH_INO));
    assert_eq!(fs.attr(TRASH_INO).mode, 0o700);
    fs.rename(HOUR, "1-2-f", ROOT_INO, "back", 1).expect("comes back");
    assert_eq!(fs.lookup(ROOT_INO, "back").map(|attr| (attr.ino, attr.size)), Ok((KEPT, 100)));
    fs.check();
}

#[test]
fn its_directories_are_made_anew_or_put_back() {
    comes_back_after("no directory", |txn| txn.delete(&keys::inode(VOLUME, TRASH_INO)));
    comes_back_after("names 4611686018427387905", |txn| txn.delete(&keys::inode(VOLUME, HOUR)));
    comes_back_after("nlink 2 and not 0", |txn| txn.delete(&keys::dentry(VOLUME, TRASH_INO, HOUR_NAME)));
    comes_back_after("nlink 2 and not 0", |txn| {
        txn.delete(&keys::dentry(VOLUME, TRASH_INO, HOUR_NAME));
        txn.delete(&keys::inode(VOLUME, TRASH_INO));
    });
    comes_back_after("wrong ..", |txn| edit(txn, TRASH_INO, |trash| trash.parent = HOUR));
    comes_back_after("wrong ..", |txn| edit(txn, HOUR, |hour| hour.parent = ROOT_INO));
    comes_back_after("nlink 0 and not 3", |txn| edit(txn, TRASH_INO, |trash| trash.nlink = 0));
}

#[test]
fn what_cannot_be_removed_is_left_to_fsck_and_keeps_nothing_else() {
    let mut fs = volume();
    fs.pass_hours(1);
    fs.create("g", 0o600).expect("creates");
    fs.unlink("g").expect("removes");
    fs.keep_removed(0);
    let due = |fs: &TestFs| fs.store().view(|view| trash::due(view, VOLUME, Stamp::default(), 9)).expect("reads");
    let hour =
        |number, name: &str| (number, Name::new(bytes::Bytes::copy_from_slice(name.as_bytes())).expect("a name"));
    damage(&fs, |txn| txn.delete(&keys::inode(VOLUME, KEPT)));
    assert_eq!(due(&fs), [hour(HOUR + 1, "1-3-g"), hour(TRASH_INO, "1970-01-01-01")]);
    fs.empty_trash();
    assert_eq!(due(&fs), []);
    assert_eq!(repair(&mut fs).1, Vec::<String>::new());
    fs.empty_trash();
    fs.check();
    assert_eq!((fs.attr(TRASH_INO).nlink, due(&fs)), (2, vec![]));
}
