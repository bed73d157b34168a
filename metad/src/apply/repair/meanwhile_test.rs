//! A repair among others at work: what was planned before an operation came in between, and what a plan may not write.

use super::tests::{DIR, FILE, ORPHAN, SUB, damage, edit, planned, repair, send, volume};
use super::*;
use crate::apply::Verdict;
use crate::apply::test_fs::{TestFs, VOLUME};
use crate::store::KvCommit;
use crate::store::records::{self, Dentry, SliceRefs, Xattr};
use holdfast_proto::{Op, pb::FileKind};

#[test]
fn a_fix_is_void_where_somebody_was_there_in_between_and_the_next_round_does_it() {
    let mut fs = volume();
    damage(&fs, |txn| edit(txn, FILE, |inode| inode.nlink = 9));
    let old = planned(&fs).op;
    fs.link(FILE, ROOT_INO, "third").expect("links");
    assert_eq!(send(&mut fs, old).done, [false]);
    assert_eq!(fs.attr(FILE).nlink, 10);
    assert_eq!(repair(&mut fs).1, Vec::<String>::new());
    assert_eq!(fs.attr(FILE).nlink, 3);
}

#[test]
fn a_usage_that_was_repaired_by_another_is_not_repaired_twice() {
    let mut fs = volume();
    damage(&fs, |txn| {
        let usage = read::usage(txn, VOLUME).expect("reads");
        txn.put(&keys::usage(VOLUME), &records::Usage { used_bytes: 7, ..usage });
    });
    let (one, two) = (planned(&fs).op, planned(&fs).op);
    // Counters go on meanwhile.
    fs.write(FILE, 100, 50).expect("writes");
    assert!(send(&mut fs, one).usage_done);
    assert!(!send(&mut fs, two).usage_done);
    assert_eq!(fs.usage().used_bytes, 150);
    fs.check();
}

#[test]
fn keys_that_are_not_the_volumes_own_are_out_of_reach() {
    let mut fs = volume();
    let own =
        [keys::usage(VOLUME).to_bytes(), keys::clock().to_bytes(), keys::raft_applied(), keys::inode(2, 1).to_bytes()];
    for key in own.into_iter().chain([vec![0xff; 9].into(), vec![0, 1].into()]) {
        let change = pb::KeyChange { key, found: None, wanted: Some("x".into()) };
        let fixes = vec![pb::Fix { keys: vec![change] }];
        let op = pb::RepairOp { volume: VOLUME, found_index: u64::MAX, fixes, usage: None };
        assert!(matches!(fs.send(0, 0, op.into_wire()), Verdict::Failed(pb::FailureCode::Malformed)));
    }
    let nowhere = pb::RepairOp { volume: 9, ..Default::default() };
    assert!(matches!(fs.send(0, 0, nowhere.into_wire()), Verdict::Failed(pb::FailureCode::Malformed)));
    assert_eq!(fs.store().view(|view| view.get(&keys::inode(2, 1))).expect("reads"), None);
}

/// Damage that operations do not stumble over.
const DAMAGES: [fn(&mut Txn<'_>); 13] = [
    |txn| edit(txn, FILE, |inode| inode.nlink = 9),
    |txn| edit(txn, FILE, |inode| inode.nlink = 1),
    |txn| edit(txn, DIR, |inode| (inode.entries, inode.nlink) = (70, 9)),
    |txn| edit(txn, FILE, |inode| inode.size = 5),
    |txn| edit(txn, SUB, |inode| inode.parent = ROOT_INO),
    |txn| edit(txn, ORPHAN, |inode| inode.nlink = 1),
    |txn| txn.delete(&keys::dentry(VOLUME, DIR, b"f")),
    |txn| txn.delete(&keys::dentry(VOLUME, ROOT_INO, b"d")),
    |txn| txn.put(&keys::dentry(VOLUME, ROOT_INO, b"again"), &Dentry { ino: SUB, kind: FileKind::Directory }),
    |txn| txn.put(&keys::slice_refs(VOLUME, 1 << 32 | 1), &SliceRefs(2)),
    |txn| txn.put_bytes(&keys::orphan(VOLUME, 3, FILE), records::marker()),
    |txn| txn.put(&keys::xattr(VOLUME, FILE, b"user.a"), &Xattr("v".into())),
    |txn| {
        let usage = read::usage(txn, VOLUME).expect("reads");
        txn.put(&keys::usage(VOLUME), &records::Usage { used_bytes: 3, used_inodes: 90, ..usage });
    },
];

/// What somebody may do between the look and the repair. It may be refused.
const MEANWHILE: [fn(&mut TestFs); 12] = [
    |fs| {
        let _ = fs.link(FILE, ROOT_INO, "third");
    },
    |fs| {
        let _ = fs.unlink("other");
    },
    |fs| {
        let _ = fs.unlink_at(DIR, "f");
    },
    |fs| {
        let _ = (fs.unlink("other"), fs.unlink_at(DIR, "f"));
    },
    |fs| {
        let _ = fs.rename(DIR, "f", ROOT_INO, "moved", 0);
    },
    |fs| {
        let _ = fs.rename(ROOT_INO, "d", ROOT_INO, "e", 0);
    },
    |fs| {
        let _ = fs.rename(DIR, "s", ROOT_INO, "s", 0);
    },
    |fs| {
        let _ = fs.write(FILE, 50, 100);
    },
    |fs| {
        let _ = fs.truncate(FILE, 10);
    },
    |fs| {
        let _ = (fs.copy((FILE, 0), (FILE, 500), 100), fs.truncate(FILE, 550));
    },
    |fs| {
        let _ = (fs.mkdir_at(DIR, "n", 0o700), fs.create_at(DIR, "g", 0o600, true));
    },
    |fs| {
        let _ = (fs.set_xattr(FILE, "user.b", b"w", 0), fs.release(&[ORPHAN]));
    },
];

#[test]
fn whatever_comes_between_the_look_and_the_repair_the_volume_is_sound_in_the_end() {
    for (damage_at, break_it) in DAMAGES.iter().enumerate() {
        for (at, meanwhile) in MEANWHILE.iter().enumerate() {
            let mut fs = volume();
            damage(&fs, break_it);
            let old = planned(&fs).op;
            meanwhile(&mut fs);
            send(&mut fs, old);
            let (_, left) = repair(&mut fs);
            assert_eq!(left, Vec::<String>::new(), "damage {damage_at}, then {at}");
            fs.check();
        }
    }
}
