//! Repair: what to write where a state does not hold what it must, without guessing. One rule a kind of problem, in files by subject. Pure:
//! looks at a state that is held still and plans; the plan goes through the log, and `ops/repair` does of it what still fits.
//!
//! - Nothing that may be somebody's data is dropped: an inode that is lost is made anew from what is left of it (its slices, its entries, its
//!   target), and what has no name gets one in /lost+found.
//! - A fix is a set of keys with what was found there and what is to be there. All that a rule has asked for by key is a condition, so that
//!   an operation in between makes the fix void and not wrong; the next round looks again.
//! - Counts that move with every operation (links, entries, usage) are changed by what is missing from them, which no operation changes.
//!
//! Called by query/upkeep.

mod files;
mod names;
mod sessions;

use super::problem::{Problem, What};
use crate::store::records::Stamp;
use crate::store::{KvRead, StoreError, Visit, keys, read, txn::Txn};
use bytes::Bytes;
use holdfast_proto::limits::REQUEST_BYTES_MAX;
use holdfast_proto::{ROOT_INO, pb};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Where inodes go that nothing names.
pub const LOST_FOUND: &[u8] = b"lost+found";
/// Most problems one plan deals with; more take another round.
pub const PROBLEMS_MAX: usize = 2048;
const PLAN_BYTES_MAX: usize = REQUEST_BYTES_MAX / 2;

const GONE: &str = "is gone with another repair";
const NO_RULE: &str = "nothing is known to do about it: please report it";
/// A number from here on is damage, and must not raise a counter: there would be none left.
const INO_END: u64 = 1 << 62;

/// What a rule says.
enum Remedy {
    /// Written, if anything was left to write after the fixes before it: what it does, for people.
    Fix(&'static str),
    /// Added to the usage of the volume.
    Usage(&'static str),
    /// What other fixes change: the next round does it.
    Later(&'static str),
    /// Nothing can be done without guessing: what a person can do.
    Refused(&'static str),
    /// It needs /lost+found, which is no directory, or not there.
    NoLostFound,
}

/// What the rules know beside the state.
struct Scope {
    volume: u32,
    /// Log index of the state.
    index: u64,
    now: Stamp,
}

/// What becomes of one problem.
pub struct Told {
    pub problem: Problem,
    /// What is done about it, or what a person can do.
    pub remedy: Result<&'static str, &'static str>,
    pub by: By,
}

/// What of a plan repairs a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The fix in this place.
    Fix(usize),
    Usage,
    /// Nothing of its own: a fix before it, or the next round; or nothing can be done.
    None,
}

#[derive(Default)]
pub struct Plan {
    pub op: pb::RepairOp,
    pub told: Vec<Told>,
    pub needs_lost_found: bool,
}

/// Plans the repair of the first problems, those of one volume and of the cluster.
///
/// # Errors
/// Storage failed, or stored data does not decode.
pub fn plan(view: &dyn KvRead, volume: u32, index: u64, problems: Vec<Problem>) -> Result<Plan, StoreError> {
    let scope = Scope { volume, index, now: read::clock(view)? };
    let mut plan = Plan { op: pb::RepairOp { volume, found_index: index, ..Default::default() }, ..Default::default() };
    let mut usage = pb::UsageFix::default();
    let is_key = |what: &What| matches!(what, What::LockKey { .. });
    let locks_change = problems.iter().any(|problem| problem.what.is_lock() && !is_key(&problem.what));
    let mut state = Txn::new(view);
    let mut bytes = 0;
    for problem in problems.into_iter().filter(|problem| problem.volume == 0 || problem.volume == volume) {
        if plan.told.len() == PROBLEMS_MAX || bytes > PLAN_BYTES_MAX {
            break;
        }
        let others = plan.op.fixes.len();
        let (fix, remedy) = look(&state, &scope, &problem.what, &mut usage, (others, locks_change))?;
        let (remedy, by) = match (remedy, fix) {
            (Remedy::Fix(done), Some(fix)) => {
                take_over(&mut state, &fix);
                bytes += prost::Message::encoded_len(&fix);
                plan.op.fixes.push(fix);
                (Ok(done), By::Fix(others))
            }
            (Remedy::Fix(done) | Remedy::Later(done), _) => (Ok(done), By::None),
            (Remedy::Usage(done), _) => (Ok(done), By::Usage),
            (Remedy::Refused(advice), _) => (Err(advice), By::None),
            (Remedy::NoLostFound, _) => {
                plan.needs_lost_found = true;
                (Ok("is moved to /lost+found"), By::None)
            }
        };
        plan.told.push(Told { problem, remedy, by });
    }
    if usage != pb::UsageFix::default() {
        plan.op.usage = Some(usage);
    }
    Ok(plan)
}

/// Asks the rule of one problem, on the state that the fixes before it leave.
fn look(
    state: &Txn<'_>,
    scope: &Scope,
    what: &What,
    usage: &mut pb::UsageFix,
    (others, locks_change): (usize, bool),
) -> Result<(Option<pb::Fix>, Remedy), StoreError> {
    let seen = Seen { view: state, keys: RefCell::default() };
    let mut txn = Txn::new(&seen);
    let remedy = match what {
        What::InodeCounter { ino } if *ino >= INO_END => {
            Remedy::Refused("no inode can have this number: copy what is in it, and remove it")
        }
        What::InodeCounter { ino } => {
            usage.next_ino_min = usage.next_ino_min.max(ino + 1);
            Remedy::Usage("the counter is raised")
        }
        What::Usage { .. } if others > 0 => Remedy::Later("is counted anew"),
        What::Usage { found, wanted } => {
            usage.used_bytes = wanted.0.wrapping_sub(found.0) as i64;
            usage.used_inodes = wanted.1.wrapping_sub(found.1) as i64;
            usage.orphans = wanted.2.wrapping_sub(found.2) as i64;
            usage.deleted_slices = wanted.3.wrapping_sub(found.3) as i64;
            Remedy::Usage("is counted anew")
        }
        // The keys by which locks are found follow from the locks; among themselves they do not change each other.
        What::LockKey { .. } if locks_change => Remedy::Later("is set to what the locks say"),
        _ => rule(&mut txn, scope, what)?,
    };
    let written = txn.into_batch();
    if written.0.is_empty() {
        return Ok((None, remedy));
    }
    let mut fix = pb::Fix::default();
    let mut looked_at = seen.keys.into_inner();
    for (key, wanted) in written.0 {
        let found = looked_at.remove(&key).map_or_else(|| state.get(&key), Ok)?;
        fix.keys.push(pb::KeyChange { key, found, wanted });
    }
    let conditions = looked_at.into_iter().map(|(key, found)| pb::KeyChange { key, wanted: found.clone(), found });
    fix.keys.extend(conditions);
    Ok((Some(fix), remedy))
}

fn rule(txn: &mut Txn<'_>, scope: &Scope, what: &What) -> Result<Remedy, StoreError> {
    match what {
        What::SessionDetails { .. }
        | What::SessionUuid { .. }
        | What::SessionCounter { .. }
        | What::Slot { .. }
        | What::LockRecord { .. }
        | What::LockTwice { .. }
        | What::LockSession { .. }
        | What::LockWait { .. }
        | What::LockKey { .. } => sessions::rule(txn, scope, what),
        What::EntryHash { .. }
        | What::EntryParent { .. }
        | What::EntryNames { .. }
        | What::DotDot { .. }
        | What::ManyNames { .. }
        | What::Nlink { .. }
        | What::Entries { .. }
        | What::OrphanOrNot { .. }
        | What::Root
        | What::NotBelowRoot { .. } => names::rule(txn, scope, what),
        What::Mode { .. }
        | What::Target { .. }
        | What::NoTarget { .. }
        | What::XattrInode { .. }
        | What::Acl { .. }
        | What::Marks { .. }
        | What::SliceFile { .. }
        | What::SliceBounds { .. }
        | What::SliceDeleted { .. }
        | What::SliceRefs { .. }
        | What::OrphanListed { .. }
        | What::OrphanUnlisted { .. }
        | What::HoldSides { .. }
        | What::Hold { .. } => files::rule(txn, scope, what),
        // By `look`.
        What::InodeCounter { .. } | What::Usage { .. } => Ok(Remedy::Later("is counted anew")),
    }
}

/// What a fix writes.
fn take_over(state: &mut Txn<'_>, fix: &pb::Fix) {
    for change in fix.keys.iter().filter(|change| change.found != change.wanted) {
        let key = keys::Key::from_stored(&change.key);
        match &change.wanted {
            Some(value) => state.put_bytes(&key, value.clone()),
            None => state.delete(&key),
        }
    }
}

/// The directory for what has no name.
fn lost_found(txn: &Txn<'_>, scope: &Scope) -> Result<Option<u64>, StoreError> {
    let named = read::dentry(txn, scope.volume, ROOT_INO, LOST_FOUND)?;
    let Some(ino) = named.map(|dentry| dentry.ino) else { return Ok(None) };
    Ok(read::inode(txn, scope.volume, ino)?.filter(|inode| inode.is_dir() && !inode.is_orphan()).map(|_| ino))
}

/// A view that remembers what was asked for by key, and what was there.
struct Seen<'a> {
    view: &'a dyn KvRead,
    keys: RefCell<BTreeMap<Bytes, Option<Bytes>>>,
}

impl KvRead for Seen<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.view.get(key)?;
        self.keys.borrow_mut().insert(Bytes::copy_from_slice(key), found.clone());
        Ok(found)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.view.scan(start, end, visit)
    }
}

#[cfg(test)]
mod meanwhile_test;
#[cfg(test)]
#[path = "repair_test.rs"]
mod tests;
#[cfg(test)]
mod trash_test;
