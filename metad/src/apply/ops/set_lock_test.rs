//! Tests of locks in the state machine: who gets what, who waits, who is told, and what ends them. Called by cargo test.

use crate::apply::test_fs::TestFs;
use crate::apply::{Effects, Verdict, invariants, lock};
use crate::store::lock_record::FileLocks;
use crate::store::txn::Txn;
use crate::store::{KvCommit, read};
use holdfast_proto::pb::{LockKind, LockMode, mutation::Op};
use holdfast_proto::range_lock::{Held, Mode, Owner, Range, RangeLocks};
use holdfast_proto::{FsErrno, Op as _, limits, pb};
use prost::Message;
use std::collections::BTreeMap;

/// Several sessions on one file.
struct Room {
    fs: TestFs,
    file: u64,
    sent: BTreeMap<u64, u64>,
}

const ALL: (u64, u64) = (0, limits::LOCK_LAST_BYTE);
const SHARED: LockMode = LockMode::Shared;
const EXCLUSIVE: LockMode = LockMode::Exclusive;
const UNLOCK: LockMode = LockMode::Unlock;

impl Room {
    /// With sessions 1, 2 and 3.
    fn new() -> Room {
        let mut fs = TestFs::new();
        let file = fs.create("f", 0o600).expect("creates").ino;
        fs.open_session();
        fs.open_session();
        Room { fs, file, sent: [(1, 1)].into() }
    }

    fn send<O: holdfast_proto::Op>(&mut self, session: u64, op: O) -> Result<O::Reply, FsErrno> {
        let seq = self.sent.entry(session).or_insert(0);
        *seq += 1;
        let verdict = self.fs.send(session, *seq, op.into_wire());
        self.check();
        match verdict {
            Verdict::Reply(reply) => Ok(O::Reply::decode(reply).expect("decodes")),
            Verdict::Refused(errno) => Err(errno),
            Verdict::Failed(code) => panic!("{code:?}"),
        }
    }

    fn check(&self) {
        let problems = self.fs.store().view(|view| invariants::check(view)).expect("reads");
        assert!(problems.is_empty(), "{problems:#?}");
    }

    fn op(&self, owner: u64, mode: LockMode, (first, last): (u64, u64)) -> pb::SetLockOp {
        pb::SetLockOp {
            ino: self.file,
            owner,
            kind: LockKind::Range.into(),
            mode: mode.into(),
            range: Some(pb::LockRange { first, last }),
            pid: owner as u32,
            ..Default::default()
        }
    }

    fn set(&mut self, session: u64, mode: LockMode, range: (u64, u64)) -> Result<bool, FsErrno> {
        let op = self.op(session, mode, range);
        self.send(session, op).map(|reply| reply.granted)
    }

    fn wait(&mut self, session: u64, mode: LockMode, range: (u64, u64), number: u64) -> Result<bool, FsErrno> {
        let op = pb::SetLockOp { wait: number, ..self.op(session, mode, range) };
        self.send(session, op).map(|reply| reply.granted)
    }

    fn flock(&mut self, session: u64, mode: LockMode, number: u64) -> Result<bool, FsErrno> {
        let op = pb::SetLockOp { kind: LockKind::Flock.into(), wait: number, ..self.op(session, mode, ALL) };
        self.send(session, op).map(|reply| reply.granted)
    }

    /// Session 1 locks every other byte, so many, as by as many operations.
    fn fill(&mut self, count: usize) {
        let owner = Owner { session: 1, number: 1 };
        let byte = |n| Held { range: Range { first: n, last: n }, owner, mode: Mode::Shared, pid: 1 };
        let held = (0..count as u64).map(|n| byte(2 * n)).collect();
        let locks = FileLocks { ranges: RangeLocks::from_stored(held).expect("locks"), ..FileLocks::default() };
        let batch = self.fs.store().view(|view| {
            let mut txn = Txn::new(view);
            let none = FileLocks::default();
            lock::save(&mut txn, &mut Effects::default(), (1, self.file), &none, locks).expect("saves");
            txn.into_batch()
        });
        self.fs.store().commit(self.fs.log_index(), batch).expect("commits");
    }

    fn granted(&self) -> Vec<(u64, u64)> {
        self.fs.last_effects().granted.clone()
    }

    fn ranges(&self, session: u64) -> Vec<(u64, u64)> {
        let locks = self.fs.store().view(|view| read::locks(view, 1, self.file)).expect("reads");
        let own = locks.ranges.as_slice().iter().filter(|held| held.owner.session == session);
        own.map(|held| (held.range.first, held.range.last)).collect()
    }
}

#[test]
fn a_lock_excludes_other_sessions_until_it_is_unlocked() {
    let mut room = Room::new();
    assert_eq!(room.set(1, EXCLUSIVE, (10, 19)), Ok(true));
    assert_eq!(room.set(2, SHARED, (0, 10)), Err(FsErrno::Again));
    assert_eq!(room.set(2, SHARED, (0, 9)), Ok(true));
    assert_eq!(room.set(1, UNLOCK, (10, 14)), Ok(true));
    assert_eq!(room.set(2, EXCLUSIVE, (0, 14)), Ok(true));
    assert_eq!((room.ranges(1), room.ranges(2)), (vec![(15, 19)], vec![(0, 14)]));
    assert_eq!(room.set(1, UNLOCK, ALL), Ok(true));
    assert_eq!(room.set(2, UNLOCK, ALL), Ok(true));
    assert!(room.fs.store().view(|view| read::locks(view, 1, room.file)).expect("reads").is_empty());
}

#[test]
fn who_waits_gets_it_in_order_of_arrival_and_is_told() {
    let mut room = Room::new();
    room.set(1, EXCLUSIVE, ALL).expect("locks");
    assert_eq!(room.wait(2, EXCLUSIVE, (0, 9), 71), Ok(false));
    assert_eq!(room.wait(3, SHARED, (0, 99), 72), Ok(false));
    assert_eq!(room.wait(3, SHARED, (0, 99), 72), Ok(false), "the same wait");
    room.set(1, UNLOCK, (0, 9)).expect("unlocks");
    assert_eq!(room.granted(), [(2, 71)]);
    room.set(1, UNLOCK, ALL).expect("unlocks");
    assert_eq!(room.granted(), []);
    room.set(2, SHARED, (0, 9)).expect("a downgrade");
    assert_eq!(room.granted(), [(3, 72)]);
}

#[test]
fn a_wait_is_seen_until_it_is_granted_or_cancelled() {
    let mut room = Room::new();
    room.set(1, EXCLUSIVE, ALL).expect("locks");
    room.wait(3, EXCLUSIVE, ALL, 5).expect("waits");
    // The last session that was opened is the one that asks.
    let ask = |room: &Room, session| room.fs.ask(pb::LockWaitQuery { session, ino: room.file, wait: 5 });
    assert_eq!(ask(&room, 3).map(|reply| reply.waiting), Ok(true));
    assert_eq!(ask(&room, 2).map(|reply| reply.waiting), Err(FsErrno::Stale));
    let cancel = pb::CancelLockOp { ino: room.file, wait: 5 };
    assert_eq!(room.send(2, cancel).map(|reply| reply.cancelled), Ok(false), "another session's");
    assert_eq!(room.send(3, cancel).map(|reply| reply.cancelled), Ok(true));
    assert_eq!(ask(&room, 3).map(|reply| reply.waiting), Ok(false));
    room.wait(3, EXCLUSIVE, ALL, 6).expect("waits");
    room.set(1, UNLOCK, ALL).expect("unlocks");
    let late = pb::CancelLockOp { ino: room.file, wait: 6 };
    assert_eq!(room.send(3, late).map(|reply| reply.cancelled), Ok(false));
    assert_eq!(room.ranges(3), [ALL]);
}

#[test]
fn a_cycle_of_waits_is_a_deadlock_also_over_several_files_and_sessions() {
    let mut room = Room::new();
    let other = room
        .send(1, pb::CreateOp { parent: 1, name: "g".into(), mode: 0o600, exclusive: true, umask: 0 })
        .expect("creates");
    let (f, g) = (room.file, other.attr.expect("attr").ino);
    room.set(1, EXCLUSIVE, (0, 0)).expect("locks");
    room.set(2, EXCLUSIVE, (1, 1)).expect("locks");
    room.file = g;
    room.set(3, EXCLUSIVE, ALL).expect("locks");
    assert_eq!(room.wait(2, SHARED, (5, 5), 1), Ok(false));
    room.file = f;
    assert_eq!(room.wait(1, SHARED, (1, 1), 1), Ok(false));
    assert_eq!(room.set(3, SHARED, (0, 0)), Err(FsErrno::Again));
    assert_eq!(room.wait(3, SHARED, (0, 0), 1), Err(FsErrno::Deadlk));
    // By open file description no deadlock is looked for.
    let op = pb::SetLockOp { wait: 2, no_deadlock: true, ..room.op(3, SHARED, (0, 0)) };
    assert_eq!(room.send(3, op).map(|reply| reply.granted), Ok(false));
    room.file = g;
    room.set(3, UNLOCK, ALL).expect("unlocks");
    assert_eq!(room.granted(), [(2, 1)]);
}

#[test]
fn flock_and_ranges_do_not_see_each_other() {
    let mut room = Room::new();
    assert_eq!(room.flock(1, EXCLUSIVE, 0), Ok(true));
    assert_eq!(room.set(2, EXCLUSIVE, ALL), Ok(true));
    assert_eq!(room.flock(2, SHARED, 0), Err(FsErrno::Again));
    assert_eq!(room.set(1, SHARED, (3, 4)), Err(FsErrno::Again));
}

#[test]
fn a_flock_is_given_up_before_it_is_converted() {
    let mut room = Room::new();
    assert_eq!(room.flock(1, SHARED, 0), Ok(true));
    assert_eq!(room.flock(2, SHARED, 0), Ok(true));
    assert_eq!(room.flock(1, EXCLUSIVE, 0), Ok(false), "lost, as on Linux");
    assert_eq!(room.flock(2, EXCLUSIVE, 0), Ok(true));
    assert_eq!(room.flock(1, SHARED, 8), Ok(false));
    assert_eq!(room.flock(2, SHARED, 0), Ok(true));
    assert_eq!(room.granted(), [(1, 8)]);
    // Both want more: neither waits for the other's share.
    assert_eq!(room.flock(1, EXCLUSIVE, 9), Ok(false));
    assert_eq!(room.flock(2, EXCLUSIVE, 9), Ok(false));
    assert_eq!(room.granted(), [(1, 9)]);
}

#[test]
fn the_end_of_a_session_drops_its_locks_and_wakes_who_waited() {
    for end in [pb::CloseSessionOp {}.into_wire(), pb::ExpireSessionsOp { sessions: vec![1] }.into_wire()] {
        let mut room = Room::new();
        room.set(1, EXCLUSIVE, (0, 5)).expect("locks");
        room.flock(1, EXCLUSIVE, 0).expect("locks");
        room.wait(2, SHARED, ALL, 4).expect("waits");
        room.flock(3, SHARED, 5).expect("waits");
        room.set(3, SHARED, (50, 60)).expect("locks");
        room.wait(1, EXCLUSIVE, (50, 60), 6).expect("waits");
        let by_itself = matches!(end, Op::CloseSession(_));
        room.fs.send(if by_itself { 1 } else { 0 }, 100 * u64::from(!by_itself) + room.sent[&1] + 1, end);
        room.check();
        assert_eq!(room.granted(), [(2, 4), (3, 5)]);
        assert_eq!((room.ranges(1), room.ranges(2)), (vec![], vec![ALL]));
    }
}

#[test]
fn a_close_drops_all_of_an_owner_and_nothing_of_another() {
    let mut room = Room::new();
    let (mine, also_mine) = (room.op(10, SHARED, (0, 5)), room.op(11, SHARED, (3, 9)));
    room.send(1, mine).expect("locks");
    room.send(1, also_mine).expect("locks");
    room.set(2, SHARED, (0, 9)).expect("locks");
    room.send(1, pb::DropLocksOp { ino: room.file, owners: vec![10, 12] }).expect("drops");
    assert_eq!((room.ranges(1), room.ranges(2)), (vec![(3, 9)], vec![(0, 9)]));
}

#[test]
fn get_lock_says_what_is_in_the_way() {
    let mut room = Room::new();
    room.set(1, SHARED, (10, 19)).expect("locks");
    let ask = |owner, mode: LockMode, (first, last)| {
        let range = Some(pb::LockRange { first, last });
        room.fs.ask(pb::GetLockQuery { ino: room.file, owner, mode: mode.into(), range }).expect("answers").held
    };
    assert_eq!(ask(9, SHARED, ALL), None);
    assert_eq!(ask(9, EXCLUSIVE, (0, 9)), None);
    let held = ask(9, EXCLUSIVE, ALL).expect("is in the way");
    assert_eq!((held.session, held.pid, held.mode()), (1, 1, SHARED));
    assert_eq!(held.range, Some(pb::LockRange { first: 10, last: 19 }));
}

#[test]
fn locks_are_bounded_and_misshapen_ones_refused() {
    let mut room = Room::new();
    room.fill(limits::LOCKS_FILE_MAX - 1);
    assert_eq!(room.set(1, SHARED, (100_000, 100_000)), Err(FsErrno::NoLck));
    assert_eq!(room.wait(2, EXCLUSIVE, ALL, 1), Err(FsErrno::NoLck));
    assert_eq!(room.set(1, UNLOCK, ALL), Ok(true));
    assert_eq!(room.set(1, SHARED, (5, 4)), Err(FsErrno::Inval));
    assert_eq!(room.set(1, SHARED, (0, limits::LOCK_LAST_BYTE + 1)), Err(FsErrno::Inval));
    room.file = 1;
    assert_eq!(room.set(1, SHARED, ALL), Err(FsErrno::Inval), "a directory");
    room.file = 999;
    assert_eq!(room.set(1, SHARED, ALL), Err(FsErrno::Stale));
}

#[test]
fn a_removed_file_that_is_open_can_be_locked_and_takes_its_locks_along() {
    let mut room = Room::new();
    room.send(1, pb::UnlinkOp { parent: 1, name: "f".into() }).expect("removes");
    assert_eq!(room.set(1, EXCLUSIVE, (0, 4)), Ok(true));
    for session in 1..=3 {
        room.send(session, pb::HoldOp { through_index: room.fs.log_index(), inos: vec![] }).expect("answers");
    }
    room.fs.reclaim(&[room.file]);
    room.check();
    assert_eq!(room.ranges(1), []);
}
