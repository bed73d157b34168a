//! What holds of all locks of a volume: ranges that exclude each other are never both held, nobody waits for what is free, and no session
//! that is gone holds or waits. Called by invariants.

use super::lock;
use crate::store::codec::Record;
use crate::store::lock_record::{FileLocks, LockCount};
use crate::store::{KvRead, StoreError, keys, read, records};
use bytes::Bytes;
use holdfast_proto::range_lock::RangeLocks;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// What is wrong, in words.
pub fn check(
    view: &dyn KvRead,
    volume: u32,
    sessions: &BTreeSet<u64>,
    is_file: impl Fn(u64) -> bool,
) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    // The keys by which locks are found from their session follow from the locks.
    let mut wanted: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    let prefix = keys::all_locks(volume);
    read::scan(view, &prefix, &prefix.end(), |key, value| {
        let ino = keys::tail_u64(key, keys::HEAD_BYTES)?;
        let locks = FileLocks::decode(value)?;
        if locks.is_empty() || !is_file(ino) {
            problems.push(format!("a record of locks of {ino}, which has none or is no file"));
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
    if found != wanted {
        problems.push(format!("locks by session {found:02x?} and not {wanted:02x?}"));
    }
    Ok(problems)
}

fn check_file(ino: u64, locks: &FileLocks, sessions: &BTreeSet<u64>, problems: &mut Vec<String>) {
    check_held(ino, &locks.flocks, problems);
    check_held(ino, &locks.ranges, problems);
    let owners = locks.held().map(|held| held.owner).chain(locks.waits.iter().map(|wait| wait.wanted.owner));
    for owner in owners.filter(|owner| !sessions.contains(&owner.session)) {
        problems.push(format!("a lock of {ino} by session {}, which has ended", owner.session));
    }
    for wait in &locks.waits {
        if locks.of(wait.kind).in_the_way(&wait.wanted).next().is_none() {
            problems.push(format!("{wait:?} waits for {ino}, and nothing is in its way"));
        }
    }
}

fn check_held(ino: u64, locks: &RangeLocks, problems: &mut Vec<String>) {
    let held = locks.as_slice();
    for (at, one) in held.iter().enumerate() {
        for other in held[at + 1..].iter().take_while(|other| other.range.first <= one.range.last) {
            let doubled = one.owner == other.owner && one.range.overlaps(&other.range);
            if doubled || one.excludes(other) {
                problems.push(format!("{one:?} and {other:?} are both locked in {ino}"));
            }
        }
    }
}
