//! Set lock: flock(2), F_SETLK and F_SETLKW: takes a lock, changes it, gives it up, or queues for it. Works on a held orphan.
//! Called by apply::dispatch only.
//!
//! A lock of flock that is converted is given up first, as on Linux: two holders that both want more cannot wait for each other,
//! and one whose conversion fails has lost what it had. It may pass to another in between.

use crate::apply::context::{Context, Ruling};
use crate::apply::{inode, lock};
use crate::store::lock_record::{FileLocks, LockKind, Wait};
use crate::store::{read, txn::Txn};
use holdfast_proto::limits::{LOCK_WAITS_FILE_MAX, LOCKS_FILE_MAX, LOCKS_SESSION_MAX};
use holdfast_proto::range_lock::{Held, Mode, Owner, Range};
use holdfast_proto::{FsErrno, pb};

/// Cutting a range out of the middle of another makes three of one.
const RANGES_ADDED_MAX: usize = 2;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::SetLockOp) -> Ruling<pb::SetLockReply> {
    let kind = match op.kind() {
        pb::LockKind::Flock => LockKind::Flock,
        pb::LockKind::Range => LockKind::Range,
        pb::LockKind::Unspecified => return Err(FsErrno::Inval.into()),
    };
    let range = match kind {
        LockKind::Flock => Range::ALL,
        LockKind::Range => lock::range(op.range.as_ref())?,
    };
    let inode = inode::load(txn, cx, op.ino)?;
    if !inode.is_regular() {
        return Err(FsErrno::Inval.into());
    }
    let owner = Owner { session: cx.session, number: op.owner };
    let before = read::locks(txn, cx.volume, op.ino)?;
    let mut after = before.clone();
    let granted = match lock::mode(op.mode())? {
        Some(mode) => {
            let wanted = Held { range, owner, mode, pid: op.pid };
            let wait = Wait { kind, wanted, number: op.wait, no_deadlock: op.no_deadlock };
            let mut granted = Vec::new();
            let taken = take(txn, cx.volume, &mut after, wait, &mut granted)?;
            cx.effects.granted = granted;
            taken
        }
        None => {
            after.of_mut(kind).unlock(owner, range);
            true
        }
    };
    lock::save(txn, &mut cx.effects, (cx.volume, op.ino), &before, after)?;
    Ok(pb::SetLockReply { granted, attr: Some(inode.to_attr()) })
}

/// Takes the lock, or queues for it. True where it is held now.
fn take(txn: &Txn<'_>, volume: u32, locks: &mut FileLocks, wait: Wait, granted: &mut Vec<(u64, u64)>) -> Ruling<bool> {
    let Wait { kind, wanted, .. } = wait;
    let has_flock = if kind == LockKind::Flock { locks.flocks.mode_at(wanted.owner, 0) } else { None };
    if has_flock == Some(wanted.mode) {
        return Ok(true);
    }
    if has_flock.is_some() {
        locks.flocks.unlock(wanted.owner, Range::ALL);
    }
    if has_flock == Some(Mode::Shared) && wait.number != 0 {
        // Who wants more queues behind those that have waited for just that.
        lock::grant(locks, granted);
    }
    let in_the_way: Vec<Owner> = locks.of(kind).in_the_way(&wanted).map(|held| held.owner).collect();
    if in_the_way.is_empty() {
        check_room(txn, volume, locks, wanted.owner)?;
        locks.of_mut(kind).lock(wanted);
        return Ok(true);
    }
    if wait.number == 0 {
        return if has_flock.is_some() { Ok(false) } else { Err(FsErrno::Again.into()) };
    }
    if locks.waits.iter().any(|other| other.number == wait.number && other.wanted.owner.session == wanted.owner.session)
    {
        return Ok(false);
    }
    if kind == LockKind::Range && !wait.no_deadlock && lock::is_deadlock(txn, volume, wanted.owner, in_the_way)? {
        return Err(FsErrno::Deadlk.into());
    }
    check_room(txn, volume, locks, wanted.owner)?;
    if locks.waits.len() >= LOCK_WAITS_FILE_MAX {
        return Err(FsErrno::NoLck.into());
    }
    locks.waits.push(wait);
    Ok(false)
}

fn check_room(txn: &Txn<'_>, volume: u32, locks: &FileLocks, owner: Owner) -> Ruling<()> {
    let count = read::lock_count(txn, volume, owner.session)?;
    let fits = locks.held().count() + RANGES_ADDED_MAX <= LOCKS_FILE_MAX
        && count + RANGES_ADDED_MAX as u64 <= LOCKS_SESSION_MAX;
    if fits { Ok(()) } else { Err(FsErrno::NoLck.into()) }
}

#[cfg(test)]
#[path = "set_lock_test.rs"]
mod tests;
