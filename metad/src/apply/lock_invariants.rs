//! What holds of all locks of a volume: ranges that exclude each other are never both held, nobody waits for what is free, and no session
//! that is gone holds or waits. Called by invariants.

use super::lock;
use super::problem::What;
use crate::store::codec::Record;
use crate::store::lock_record::{FileLocks, LockCount};
use crate::store::{KvRead, StoreError, keys, read, records};
use bytes::Bytes;
use holdfast_proto::range_lock::RangeLocks;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// What is wrong.
pub fn check(
    view: &dyn KvRead,
    volume: u32,
    sessions: &BTreeSet<u64>,
    is_file: impl Fn(u64) -> bool,
) -> Result<Vec<What>, StoreError> {
    let mut problems = Vec::new();
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    // The keys by which locks are found from their session follow from the locks.
    let mut wanted: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let prefix = keys::all_locks(volume);
    read::scan(view, &prefix, &prefix.end(), |key, value| {
        let ino = keys::tail_u64(key, keys::HEAD_BYTES)?;
        let locks = FileLocks::decode(value)?;
        if locks.is_empty() || !is_file(ino) {
            problems.push(What::LockRecord { ino });
        }
        check_file(ino, &locks, sessions, &mut problems);
        for (session, count) in lock::counts(&locks) {
            *counts.entry(session).or_default() += count;
            wanted.insert(keys::locked_file(volume, session, ino).to_bytes(), records::marker());
        }
        for owner in lock::range_waiters(&locks) {
            wanted.insert(keys::lock_waiter(volume, owner.session, owner.number, ino).to_bytes(), records::marker());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    wanted.extend(
        counts.iter().map(|(id, count)| (keys::lock_count(volume, *id).to_bytes(), LockCount(*count).encode())),
    );
    let prefix = keys::all_session_locks(volume);
    let mut found = BTreeMap::new();
    read::scan(view, &prefix, &prefix.end(), |key, value| {
        found.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Ok(ControlFlow::Continue(()))
    })?;
    for key in found.keys().chain(wanted.keys().filter(|key| !found.contains_key(*key))) {
        let (found, wanted) = (found.get(key).cloned(), wanted.get(key).cloned());
        if found != wanted {
            problems.push(What::LockKey { key: key.clone(), found, wanted });
        }
    }
    Ok(problems)
}

fn check_file(ino: u64, locks: &FileLocks, sessions: &BTreeSet<u64>, problems: &mut Vec<What>) {
    check_held(ino, &locks.flocks, problems);
    check_held(ino, &locks.ranges, problems);
    let owners = locks.held().map(|held| held.owner).chain(locks.waits.iter().map(|wait| wait.wanted.owner));
    let ended: BTreeSet<u64> = owners.map(|owner| owner.session).filter(|id| !sessions.contains(id)).collect();
    problems.extend(ended.into_iter().map(|session| What::LockSession { ino, session }));
    for wait in &locks.waits {
        if locks.of(wait.kind).in_the_way(&wait.wanted).next().is_none() {
            problems.push(What::LockWait { ino, wait: *wait });
        }
    }
}

fn check_held(ino: u64, locks: &RangeLocks, problems: &mut Vec<What>) {
    let held = locks.as_slice();
    for (at, one) in held.iter().enumerate() {
        for other in held[at + 1..].iter().take_while(|other| other.range.first <= one.range.last) {
            let doubled = one.owner == other.owner && one.range.overlaps(&other.range);
            if doubled || one.excludes(other) {
                problems.push(What::LockTwice { ino, one: *one, other: *other });
            }
        }
    }
}
