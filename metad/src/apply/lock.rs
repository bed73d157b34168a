//! What all operations on locks share: loading and saving a file's locks with the keys that find them from their session, granting
//! what has become free, and looking for deadlocks. Called by set_lock, cancel_lock, drop_locks, session and reclaim.
//!
//! A new request is granted where no *held* lock is in its way, also past those that wait: as on Linux, else F_GETLK and F_SETLK
//! would contradict each other, and who holds one range could not take another beside it. What is given up goes to those that
//! wait, in order of arrival, within the same log entry.

use super::Effects;
use super::context::Ruling;
use crate::store::lock_record::{FileLocks, LockCount, LockKind, Wait};
use crate::store::{KvRead, StoreError, keys, read, records, txn::Txn};
use holdfast_proto::limits::DEADLOCK_OWNERS_MAX;
use holdfast_proto::range_lock::{Mode, Owner, Range};
use holdfast_proto::{FsErrno, pb};
use std::collections::{BTreeMap, BTreeSet};

/// # Errors
/// EINVAL: not a range of bytes.
pub fn range(range: Option<&pb::LockRange>) -> Ruling<Range> {
    let range = range.ok_or(FsErrno::Inval)?;
    Ok(Range::new(range.first, range.last).ok_or(FsErrno::Inval)?)
}

/// None: to be unlocked.
///
/// # Errors
/// EINVAL.
pub fn mode(mode: pb::LockMode) -> Ruling<Option<Mode>> {
    match mode {
        pb::LockMode::Shared => Ok(Some(Mode::Shared)),
        pb::LockMode::Exclusive => Ok(Some(Mode::Exclusive)),
        pb::LockMode::Unlock => Ok(None),
        pb::LockMode::Unspecified => Err(FsErrno::Inval.into()),
    }
}

/// Grants what has become free, and saves what differs from `before`.
pub fn save(
    txn: &mut Txn<'_>,
    effects: &mut Effects,
    (volume, ino): (u32, u64),
    before: &FileLocks,
    mut after: FileLocks,
) -> Result<(), StoreError> {
    grant(&mut after, &mut effects.granted);
    if after == *before {
        return Ok(());
    }
    save_counts(txn, (volume, ino), &counts(before), &counts(&after))?;
    let (waited, waiting) = (range_waiters(before), range_waiters(&after));
    for owner in waited.difference(&waiting) {
        txn.delete(&keys::lock_waiter(volume, owner.session, owner.number, ino));
    }
    for owner in waiting.difference(&waited) {
        txn.put_bytes(&keys::lock_waiter(volume, owner.session, owner.number, ino), records::marker());
    }
    if after.is_empty() {
        txn.delete(&keys::lock(volume, ino));
    } else {
        txn.put(&keys::lock(volume, ino), &after);
    }
    Ok(())
}

/// Ranges held and waited for, of each session.
pub fn counts(locks: &FileLocks) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    let owners = locks.held().map(|held| held.owner).chain(locks.waits.iter().map(|wait| wait.wanted.owner));
    owners.for_each(|owner| *counts.entry(owner.session).or_default() += 1);
    counts
}

/// Owners that wait for a range, and whose waits count for deadlocks.
pub fn range_waiters(locks: &FileLocks) -> BTreeSet<Owner> {
    locks.waits.iter().filter(|wait| may_deadlock(wait)).map(|wait| wait.wanted.owner).collect()
}

fn may_deadlock(wait: &Wait) -> bool {
    wait.kind == LockKind::Range && !wait.no_deadlock
}

fn save_counts(
    txn: &mut Txn<'_>,
    (volume, ino): (u32, u64),
    before: &BTreeMap<u64, u64>,
    after: &BTreeMap<u64, u64>,
) -> Result<(), StoreError> {
    let sessions: BTreeSet<u64> = before.keys().chain(after.keys()).copied().collect();
    for session in sessions {
        let (had, has) = (before.get(&session).copied(), after.get(&session).copied());
        if had == has {
            continue;
        }
        let (had, has) = (had.unwrap_or(0), has.unwrap_or(0));
        let total = (read::lock_count(txn, volume, session)? + has).saturating_sub(had);
        match total {
            0 => txn.delete(&keys::lock_count(volume, session)),
            total => txn.put(&keys::lock_count(volume, session), &LockCount(total)),
        }
        match (had, has) {
            (0, _) => txn.put_bytes(&keys::locked_file(volume, session, ino), records::marker()),
            (_, 0) => txn.delete(&keys::locked_file(volume, session, ino)),
            _ => {}
        }
    }
    Ok(())
}

/// Gives to those that wait what nothing is in the way of any more. Names them in `granted`: session, and its number of the wait.
pub fn grant(locks: &mut FileLocks, granted: &mut Vec<(u64, u64)>) {
    let mut at = 0;
    while let Some(wait) = locks.waits.get(at).copied() {
        if locks.of(wait.kind).in_the_way(&wait.wanted).next().is_some() {
            at += 1;
            continue;
        }
        locks.waits.remove(at);
        locks.of_mut(wait.kind).lock(wait.wanted);
        granted.push((wait.wanted.owner.session, wait.number));
        // It may have taken the place of an exclusive lock of the same owner, which somebody earlier waits for.
        at = 0;
    }
}

/// Drops what a session holds and waits for, in all files.
pub fn end_session(txn: &mut Txn<'_>, effects: &mut Effects, volume: u32, session: u64) -> Result<(), StoreError> {
    for ino in read::last_numbers(txn, &keys::locked_files(volume, session))? {
        let before = read::locks(txn, volume, ino)?;
        let mut after = before.clone();
        after.flocks.drop_owners(|owner| owner.session == session);
        after.ranges.drop_owners(|owner| owner.session == session);
        after.waits.retain(|wait| wait.wanted.owner.session != session);
        save(txn, effects, (volume, ino), &before, after)?;
    }
    Ok(())
}

/// The file goes, and with it what a client may have left.
pub fn end_file(txn: &mut Txn<'_>, volume: u32, ino: u64) -> Result<(), StoreError> {
    let before = read::locks(txn, volume, ino)?;
    save(txn, &mut Effects::default(), (volume, ino), &before, FileLocks::default())
}

/// Whether `blockers`, directly or through those that they wait for, wait for `owner`.
pub fn is_deadlock(view: &dyn KvRead, volume: u32, owner: Owner, blockers: Vec<Owner>) -> Result<bool, StoreError> {
    let (mut seen, mut ahead) = (BTreeSet::new(), blockers);
    while let Some(next) = ahead.pop() {
        if next == owner {
            return Ok(true);
        }
        if !seen.insert(next) {
            continue;
        }
        if seen.len() > DEADLOCK_OWNERS_MAX {
            return Ok(false);
        }
        for ino in read::last_numbers(view, &keys::lock_waiters(volume, next.session, next.number))? {
            let locks = read::locks(view, volume, ino)?;
            for wait in locks.waits.iter().filter(|wait| wait.wanted.owner == next && may_deadlock(wait)) {
                ahead.extend(locks.ranges.in_the_way(&wait.wanted).map(|held| held.owner));
            }
        }
    }
    Ok(false)
}
