//! Each damage that the invariants name: it is told of, repaired in some rounds, and what a repair must keep is there afterwards.

use super::*;
use crate::apply::Verdict;
use crate::apply::invariants;
use crate::apply::test_fs::{TestFs, VOLUME};
use crate::store::KvCommit;
use crate::store::inode_record::{Inode, SlicePiece};
use crate::store::lock_record::{FileLocks, LockCount, LockKind, Wait};
use crate::store::records::{self, Counters, Deleted, Dentry, SliceRefs, Xattr};
use holdfast_proto::acl::Acl;
use holdfast_proto::range_lock::{Held, Mode, Owner, Range};
use holdfast_proto::{Op, pb::FileKind};
use prost::Message;

pub(super) const DIR: u64 = 2;
pub(super) const FILE: u64 = 3;
const LINK: u64 = 4;
pub(super) const SUB: u64 = 5;
pub(super) const ORPHAN: u64 = 6;

/// /d/f with 100 bytes of two names (/other), /d/s, /l -> "to", and an orphan that our session holds.
pub(super) fn volume() -> TestFs {
    let mut fs = TestFs::new();
    let dir = fs.mkdir("d", 0o700).expect("makes").ino;
    let file = fs.create_at(dir, "f", 0o640, true).expect("creates").attr.expect("attr").ino;
    fs.write(file, 0, 100).expect("writes");
    fs.symlink("l", "to").expect("links");
    fs.mkdir_at(dir, "s", 0o700).expect("makes");
    fs.link(file, ROOT_INO, "other").expect("links");
    let orphan = fs.create("gone", 0o600).expect("creates").ino;
    fs.unlink("gone").expect("removes");
    fs.hold(fs.log_index(), &[orphan]);
    assert_eq!((dir, file, orphan), (DIR, FILE, ORPHAN));
    fs.check();
    fs
}

pub(super) fn damage(fs: &TestFs, damage: impl FnOnce(&mut Txn<'_>)) {
    let batch = fs.store().view(|view| {
        let mut txn = Txn::new(view);
        damage(&mut txn);
        txn.into_batch()
    });
    fs.store().commit(fs.log_index(), batch).expect("commits");
}

pub(super) fn edit(txn: &mut Txn<'_>, ino: u64, change: impl FnOnce(&mut Inode)) {
    let mut inode = read::named_inode(txn, VOLUME, ino).expect("reads");
    change(&mut inode);
    txn.put(&keys::inode(VOLUME, ino), &inode);
}

pub(super) fn planned(fs: &TestFs) -> Plan {
    fs.store().view(|view| plan(view, VOLUME, fs.log_index(), invariants::check(view).expect("checks"))).expect("plans")
}

pub(super) fn send(fs: &mut TestFs, op: pb::RepairOp) -> pb::RepairOpReply {
    let Verdict::Reply(reply) = fs.send(0, 0, op.into_wire()) else { panic!("refused") };
    pb::RepairOpReply::decode(reply).expect("decodes")
}

/// Rounds until nothing is left that can be repaired. What was found at first, and what is left.
pub(super) fn repair(fs: &mut TestFs) -> (Vec<String>, Vec<String>) {
    let mut first = None;
    for _ in 0..9 {
        let plan = planned(fs);
        let words: Vec<_> = plan.told.iter().map(|told| told.problem.to_string()).collect();
        first.get_or_insert(words.clone());
        if plan.needs_lost_found {
            fs.mkdir("lost+found", 0o700).expect("makes");
            continue;
        }
        if plan.told.iter().all(|told| told.remedy.is_err()) {
            return (first.unwrap_or_default(), words);
        }
        let reply = send(fs, plan.op);
        assert!(reply.done.iter().all(|done| *done), "nobody else is at work: {words:?}");
    }
    panic!("no end of it: {first:?}");
}

/// Damages a volume; the damage must be told of in these words, and nothing be left of it.
fn repaired(words: &str, break_it: impl FnOnce(&mut Txn<'_>)) -> TestFs {
    let mut fs = volume();
    damage(&fs, break_it);
    let (found, left) = repair(&mut fs);
    assert!(found.iter().any(|problem| problem.contains(words)), "{words:?} in {found:?}");
    assert_eq!(left, Vec::<String>::new(), "{words}");
    fs.check();
    fs
}

fn names_of(fs: &TestFs, ino: u64) -> Vec<String> {
    fs.store().view(|view| paths(view, ino))
}

/// Which entries name an inode: parent/name.
fn paths(view: &dyn KvRead, ino: u64) -> Vec<String> {
    use crate::store::codec::Record;
    let (prefix, mut found) = (keys::all_dentries(VOLUME), Vec::new());
    read::scan(view, &prefix, &prefix.end(), |key, value| {
        if Dentry::decode(value)?.ino == ino {
            let name = String::from_utf8_lossy(&key[keys::HEAD_BYTES + 16..]).into_owned();
            found.push(format!("{}/{name}", keys::tail_u64(key, keys::HEAD_BYTES)?));
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })
    .expect("scans");
    found.sort();
    found
}

fn is_unharmed(fs: &TestFs) {
    assert_eq!(names_of(fs, FILE), ["1/other", "2/f"]);
    assert_eq!((fs.attr(FILE).size, fs.slices(FILE).len()), (100, 1));
    assert_eq!((fs.attr(FILE).nlink, fs.attr(DIR).nlink), (2, 3));
}

#[test]
fn a_sound_volume_needs_nothing() {
    let fs = volume();
    let plan = planned(&fs);
    assert!(plan.told.is_empty() && plan.op.fixes.is_empty() && plan.op.usage.is_none());
}

#[test]
fn counts_are_set_right() {
    type Break = fn(&mut Txn<'_>);
    let cases: [(&str, Break); 9] = [
        ("nlink 9 and not 2", |txn| edit(txn, FILE, |inode| inode.nlink = 9)),
        ("nlink 1 and not 2", |txn| edit(txn, FILE, |inode| inode.nlink = 1)),
        ("nlink 0 and not 2", |txn| edit(txn, FILE, |inode| inode.nlink = 0)),
        ("nlink 2 and not 3", |txn| edit(txn, DIR, |inode| inode.nlink = 2)),
        ("7 entries and not 2", |txn| edit(txn, DIR, |inode| inode.entries = 7)),
        ("mode 170640", |txn| edit(txn, FILE, |inode| inode.mode |= 0o170_000)),
        ("orphan or not", |txn| edit(txn, FILE, |inode| inode.orphaned_at = 5)),
        ("wrong ..", |txn| edit(txn, SUB, |inode| inode.parent = ROOT_INO)),
        ("is marked 0x1", |txn| edit(txn, FILE, |inode| inode.xattrs = 1)),
    ];
    for (words, break_it) in cases {
        is_unharmed(&repaired(words, break_it));
    }
}

#[test]
fn the_usage_is_counted_anew_and_no_number_comes_twice() {
    let usage = |change: fn(&mut records::Usage)| {
        move |txn: &mut Txn<'_>| {
            let mut usage = read::usage(txn, VOLUME).expect("reads");
            change(&mut usage);
            txn.put(&keys::usage(VOLUME), &usage);
        }
    };
    repaired("usage (bytes, inodes, orphans, deleted)", usage(|usage| usage.used_bytes = 0));
    repaired("usage", usage(|usage| (usage.used_inodes, usage.orphans, usage.deleted_slices) = (0, 99, u64::MAX)));
    let mut fs = repaired("beyond the counter", usage(|usage| (usage.next_ino, usage.used_inodes) = (2, 3)));
    assert_eq!(fs.create("new", 0o600).expect("creates").ino, ORPHAN + 1);
    fs.check();
}

#[test]
fn an_entry_under_a_wrong_hash_is_moved_and_one_too_many_goes() {
    let misplaced = |name: &str, hash: u64, ino: u64| {
        let name = name.as_bytes().to_vec();
        move |txn: &mut Txn<'_>| {
            let mut wrong = keys::dentries_from(VOLUME, DIR, hash).to_vec();
            wrong.extend(&name);
            txn.delete(&keys::dentry(VOLUME, DIR, &name));
            txn.put(&keys::Key::from_stored(&wrong), &Dentry { ino, kind: FileKind::Regular });
        }
    };
    is_unharmed(&repaired("wrong hash", misplaced("f", 77, FILE)));
    let fs = repaired("wrong hash", |txn| {
        misplaced("f", 77, FILE)(txn);
        txn.put(&keys::dentry(VOLUME, DIR, b"f"), &Dentry { ino: FILE, kind: FileKind::Regular });
    });
    is_unharmed(&fs);
}

#[test]
fn a_lost_inode_is_made_anew_from_what_is_left_of_it() {
    let fs = repaired("names 3, not such a thing", |txn| txn.delete(&keys::inode(VOLUME, FILE)));
    is_unharmed(&fs);
    assert_eq!((fs.attr(FILE).mode, fs.attr(FILE).uid), (0o600, 0));
    let fs = repaired("names 4, not such a thing", |txn| txn.delete(&keys::inode(VOLUME, LINK)));
    assert_eq!((fs.readlink(LINK), names_of(&fs, LINK)), (Ok("to".into()), vec!["1/l".into()]));
    let fs = repaired("in 2, no directory", |txn| txn.delete(&keys::inode(VOLUME, DIR)));
    is_unharmed(&fs);
    // Nothing is left of an empty directory: its name goes, and so does that of an empty file.
    let fs = repaired("names 5, not such a thing", |txn| txn.delete(&keys::inode(VOLUME, SUB)));
    assert_eq!((names_of(&fs, SUB), fs.attr(DIR).nlink), (vec![], 2));
    let fs = repaired("no root", |txn| txn.delete(&keys::inode(VOLUME, ROOT_INO)));
    is_unharmed(&fs);
    assert_eq!(fs.attr(ROOT_INO).mode, 0o755);
}

#[test]
fn what_nothing_names_goes_to_lost_found() {
    let fs = repaired("nlink 1 and not 0", |txn| {
        txn.delete(&keys::dentry(VOLUME, DIR, b"f"));
        txn.delete(&keys::dentry(VOLUME, ROOT_INO, b"other"));
        edit(txn, FILE, |inode| inode.nlink = 1);
    });
    let home = fs.lookup(ROOT_INO, "lost+found").expect("is there").ino;
    assert_eq!((names_of(&fs, FILE), fs.attr(FILE).size), (vec![format!("{home}/#3")], 100));
    // A directory with all that is in it.
    let fs = repaired("nlink 3 and not 0", |txn| txn.delete(&keys::dentry(VOLUME, ROOT_INO, b"d")));
    assert_eq!(names_of(&fs, DIR), [format!("{home}/#2")]);
    assert_eq!((names_of(&fs, FILE), fs.attr(home).nlink), (vec!["1/other".to_owned(), "2/f".into()], 3));
    // A file whose inode and names are lost.
    let fs = repaired("a slice of 3 ends at 100, size None", |txn| {
        txn.delete(&keys::dentry(VOLUME, DIR, b"f"));
        txn.delete(&keys::dentry(VOLUME, ROOT_INO, b"other"));
        txn.delete(&keys::inode(VOLUME, FILE));
    });
    assert_eq!((names_of(&fs, FILE), fs.attr(FILE).size), (vec![format!("{home}/#3")], 100));
    let fs = repaired("a target without its symlink", |txn| {
        txn.delete(&keys::dentry(VOLUME, ROOT_INO, b"l"));
        txn.delete(&keys::inode(VOLUME, LINK));
    });
    assert_eq!((names_of(&fs, LINK), fs.readlink(LINK)), (vec![format!("{home}/#4")], Ok("to".into())));
}

#[test]
fn an_entry_in_what_is_no_directory_goes_and_its_file_stays() {
    let fs = repaired("in 4, no directory", |txn| {
        txn.delete(&keys::dentry(VOLUME, ROOT_INO, b"other"));
        txn.put(&keys::dentry(VOLUME, LINK, b"x"), &Dentry { ino: FILE, kind: FileKind::Regular });
    });
    assert_eq!((names_of(&fs, FILE), fs.attr(FILE).size), (vec!["2/f".to_owned()], 100));
}

#[test]
fn of_two_kinds_the_inodes_is_believed_unless_it_holds_something_else() {
    let kind = |kind| move |txn: &mut Txn<'_>| edit(txn, FILE, |inode| inode.kind = kind);
    is_unharmed(&repaired("names 3, not such a thing", kind(FileKind::Fifo)));
    is_unharmed(&repaired("names 3, not such a thing", kind(FileKind::Directory)));
    let fs = repaired("names 3, not such a thing", |txn| {
        txn.put(&keys::dentry(VOLUME, DIR, b"f"), &Dentry { ino: FILE, kind: FileKind::Socket });
    });
    is_unharmed(&fs);
}

#[test]
fn a_directory_keeps_one_name_and_a_loop_is_cut() {
    let fs = repaired("directory 5 has 2 names", |txn| {
        txn.put(&keys::dentry(VOLUME, ROOT_INO, b"again"), &Dentry { ino: SUB, kind: FileKind::Directory });
    });
    assert_eq!(names_of(&fs, SUB), ["2/s"]);
    let fs = repaired("directory 2 is not below the root", |txn| {
        txn.delete(&keys::dentry(VOLUME, ROOT_INO, b"d"));
        txn.put(&keys::dentry(VOLUME, SUB, b"d"), &Dentry { ino: DIR, kind: FileKind::Directory });
        edit(txn, DIR, |inode| inode.parent = SUB);
    });
    let home = fs.lookup(ROOT_INO, "lost+found").expect("is there").ino;
    assert_eq!((names_of(&fs, DIR), names_of(&fs, SUB)), (vec![format!("{home}/#2")], vec!["2/s".to_owned()]));
}

#[test]
fn of_the_three_that_say_orphan_two_are_believed() {
    let is_orphan = |fs: &TestFs| (fs.attr(ORPHAN).nlink, fs.usage().orphans, names_of(fs, ORPHAN)) == (0, 1, vec![]);
    let index = |txn: &Txn<'_>| read::named_inode(txn, VOLUME, ORPHAN).expect("reads").orphaned_at;
    assert!(is_orphan(&repaired("nlink 1 and not 0", |txn| edit(txn, ORPHAN, |inode| inode.nlink = 1))));
    assert!(is_orphan(&repaired("orphan or not", |txn| edit(txn, ORPHAN, |inode| inode.orphaned_at = 0))));
    let unlist = |txn: &mut Txn<'_>| {
        let key = keys::orphan(VOLUME, index(txn), ORPHAN);
        txn.delete(&key);
    };
    assert!(is_orphan(&repaired("is not listed", unlist)));
    let fs = repaired("orphan or not", |txn| {
        unlist(txn);
        edit(txn, ORPHAN, |inode| inode.orphaned_at = 0);
    });
    assert_eq!((fs.attr(ORPHAN).nlink, names_of(&fs, ORPHAN).len()), (1, 1));
    let list = |txn: &mut Txn<'_>| txn.put_bytes(&keys::orphan(VOLUME, 3, FILE), records::marker());
    is_unharmed(&repaired("3 is listed as orphan of log index 3", list));
}

#[test]
fn holds_have_two_sides_and_are_of_orphans_by_live_sessions() {
    let session = volume().session();
    let held =
        |fs: &TestFs| fs.store().view(|view| read::last_numbers(view, &keys::holds(VOLUME, ORPHAN))).expect("reads");
    let one_side = |txn: &mut Txn<'_>| txn.delete(&keys::hold(VOLUME, ORPHAN, session));
    assert_eq!(held(&repaired("has one side only", one_side)), [session]);
    let ended = |txn: &mut Txn<'_>| crate::apply::session::add_hold(txn, VOLUME, 99, ORPHAN);
    assert_eq!(held(&repaired("session 99 holds 6", ended)), [session]);
    is_unharmed(&repaired("holds 3", |txn| crate::apply::session::add_hold(txn, VOLUME, session, FILE)));
}

#[test]
fn slices_are_counted_and_no_data_goes() {
    let id = volume().slices(FILE)[0].slice_id;
    let refs = |count| move |txn: &mut Txn<'_>| txn.put(&keys::slice_refs(VOLUME, id), &SliceRefs(count));
    is_unharmed(&repaired("shared by pieces: counted 2 and not 1", refs(2)));
    let copy = |txn: &mut Txn<'_>| {
        let piece = SlicePiece {
            chunk_offset: 500,
            ..read::chunk_slices(txn, VOLUME, FILE, 0).expect("reads").remove(0).piece
        };
        txn.put(&keys::slice(VOLUME, FILE, 0, 9 << 16), &piece);
        edit(txn, FILE, |inode| inode.size = 600);
    };
    let fs = repaired("counted 1 and not 2", copy);
    assert_eq!(fs.slices(FILE).len(), 2);
    let deleted = |txn: &mut Txn<'_>| txn.put(&keys::deleted(VOLUME, id), &Deleted { slice_len: 100 });
    let fs = repaired("of 3 is deleted", deleted);
    assert_eq!(fs.deleted_slices(), Vec::<u64>::new());
    is_unharmed(&repaired("ends at 100, size Some(5)", |txn| edit(txn, FILE, |inode| inode.size = 5)));
    let empty = |txn: &mut Txn<'_>| txn.put(&keys::slice(VOLUME, FILE, 0, 7), &SlicePiece::hole(3, 0));
    is_unharmed(&repaired("out of bounds", empty));
    let of_dir = |txn: &mut Txn<'_>| txn.put(&keys::slice(VOLUME, SUB, 0, 7), &SlicePiece::hole(3, 2));
    is_unharmed(&repaired("a slice of 5 ends at 5, size None", of_dir));
}

#[test]
fn attributes_without_their_inode_go_and_an_acl_allows_what_both_allow() {
    let value = || Xattr(bytes::Bytes::from_static(b"v"));
    let fs = repaired("an extended attribute without its inode 99", |txn| {
        txn.put(&keys::xattr(VOLUME, 99, b"user.a"), &value())
    });
    assert!(fs.store().view(|view| read::xattr(view, VOLUME, 99, b"user.a")).expect("reads").is_none());
    let fs = repaired("inode 3 is marked 0x0", |txn| txn.put(&keys::xattr(VOLUME, FILE, b"user.a"), &value()));
    assert_eq!(fs.get_xattr(FILE, "user.a"), Ok("v".into()));
    // Owner rwx, user 7 rwx, group r, mask rwx, other r; the mode is 640.
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 7), (4, 4, u32::MAX), (16, 7, u32::MAX), (32, 4, u32::MAX)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let name = holdfast_proto::xattr::ACL_ACCESS;
    let fs = repaired("the ACL of inode 3 does not agree", |txn| {
        txn.put(&keys::xattr(VOLUME, FILE, name), &Xattr(acl.into()));
    });
    assert_eq!(fs.attr(FILE).mode, 0o640);
    let left = fs.store().view(|view| read::xattr(view, VOLUME, FILE, name)).expect("reads").expect("is there");
    assert_eq!(Acl::parse(&left.0).expect("parses").expect("an ACL").mode_bits(), 0o640);
    let fs = repaired("the ACL of inode 3", |txn| txn.put(&keys::xattr(VOLUME, FILE, name), &value()));
    assert_eq!(fs.list_xattr(FILE), Ok(vec![]));
}

#[test]
fn sessions_are_found_or_ended_and_their_numbers_never_come_twice() {
    let session = volume().session();
    let uuid = |txn: &Txn<'_>| read::session_details(txn, session).expect("reads").expect("details").uuid;
    let mut fs = repaired("is not found by its uuid", |txn| txn.delete(&keys::session_uuid(&uuid(txn))));
    fs.create("works", 0o600).expect("the session goes on");
    let fs = repaired("has no details", |txn| txn.delete(&keys::session_info(session)));
    assert!(fs.store().view(|view| read::session(view, session)).expect("reads").is_none());
    repaired("slot 3 of session 99, which has ended", |txn| txn.put_bytes(&keys::slot(99, 3), records::marker()));
    let counters = Counters { next_session: 1, next_volume: 2 };
    let fs = repaired("there has been session 1", |txn| txn.put(&keys::counters(), &counters));
    assert!(fs.store().view(read::counters).expect("reads").next_session > 1000);
    // The sessions of slices have been, too.
    let piece = SlicePiece { slice_id: 7 << 32 | 1, slice_len: 2, block_crc32c: vec![0], ..SlicePiece::hole(0, 2) };
    repaired("there has been session 7", |txn| txn.put(&keys::slice(VOLUME, FILE, 0, 7), &piece));
}

fn lock(session: u64, number: u64, mode: Mode) -> Held {
    Held { range: Range::ALL, owner: Owner { session, number }, mode, pid: 1 }
}

#[test]
fn locks_of_ended_sessions_go_and_what_is_free_is_granted() {
    let session = volume().session();
    let stored = |locks: &FileLocks| {
        let locks = locks.clone();
        move |txn: &mut Txn<'_>| txn.put(&keys::lock(VOLUME, FILE), &locks)
    };
    let left = |fs: &TestFs| fs.store().view(|view| read::locks(view, VOLUME, FILE)).expect("reads");
    let mut locks = FileLocks::default();
    locks.ranges.lock(lock(99, 1, Mode::Exclusive));
    assert!(left(&repaired("by session 99, which has ended", stored(&locks))).is_empty());
    let wait = Wait { kind: LockKind::Range, wanted: lock(session, 2, Mode::Exclusive), number: 1, no_deadlock: false };
    locks.waits.push(wait);
    assert_eq!(left(&repaired("by session 99, which has ended", stored(&locks))).held().count(), 1);
    locks.ranges = Default::default();
    assert_eq!(left(&repaired("nothing is in its way", stored(&locks))).held().count(), 1);
    repaired("a record of locks of 2", |txn| txn.put(&keys::lock(VOLUME, DIR), &FileLocks::default()));
    repaired("locks by session", |txn| txn.put(&keys::lock_count(VOLUME, session), &LockCount(4)));
    // The keys that lead to the locks are missing.
    let mut held = FileLocks::default();
    held.flocks.lock(lock(session, 1, Mode::Shared));
    assert_eq!(left(&repaired("locks by session", stored(&held))).held().count(), 1);
}

#[test]
fn what_would_be_a_guess_is_refused_with_advice() {
    let session = volume().session();
    let twice = RangesOfTwo::both_exclusive(session);
    let out = SlicePiece { slice_id: 1 << 32 | 99, slice_len: 5, block_crc32c: vec![0], ..SlicePiece::hole(0, 50) };
    type Break = Box<dyn Fn(&mut Txn<'_>)>;
    let far = SlicePiece { slice_id: 1 << 63, slice_len: 5, block_crc32c: vec![0], ..SlicePiece::hole(0, 5) };
    let last = |txn: &mut Txn<'_>| {
        let inode = read::named_inode(txn, VOLUME, FILE).expect("reads");
        txn.put(&keys::inode(VOLUME, u64::MAX), &Inode { nlink: 1, size: 0, ..inode });
    };
    let cases: [(&str, &str, Break); 5] = [
        (
            "there has been session 2147483648",
            "slice's record",
            Box::new(move |txn| txn.put(&keys::slice(VOLUME, FILE, 0, 7), &far)),
        ),
        ("inode 18446744073709551615 is beyond", "remove it", Box::new(last)),
        ("are both locked in 3", "unmount", Box::new(move |txn| twice.put(txn))),
        ("out of bounds", "write that part", Box::new(move |txn| txn.put(&keys::slice(VOLUME, FILE, 0, 7), &out))),
        ("symlink 4 without its target", "remove it", Box::new(|txn| txn.delete(&keys::symlink(VOLUME, LINK)))),
    ];
    for (words, advice, break_it) in cases {
        let mut fs = volume();
        damage(&fs, break_it);
        let (_, left) = repair(&mut fs);
        assert!(left.iter().all(|problem| problem.contains(words)) && !left.is_empty(), "{words}: {left:?}");
        let told = planned(&fs).told;
        assert!(told.iter().all(|told| told.remedy.is_err_and(|said| said.contains(advice))), "{words}");
    }
}

/// A record that says that two have the whole file, which no operation makes.
struct RangesOfTwo(FileLocks);

impl RangesOfTwo {
    fn both_exclusive(session: u64) -> RangesOfTwo {
        let mut locks = FileLocks::default();
        locks.flocks.lock(lock(session, 1, Mode::Exclusive));
        locks.flocks.lock(lock(session, 2, Mode::Exclusive));
        RangesOfTwo(locks)
    }

    fn put(&self, txn: &mut Txn<'_>) {
        txn.put(&keys::lock(VOLUME, FILE), &self.0);
        let session = self.0.held().next().expect("a lock").owner.session;
        txn.put(&keys::lock_count(VOLUME, session), &LockCount(2));
        txn.put_bytes(&keys::locked_file(VOLUME, session, FILE), records::marker());
    }
}
