//! Rules for sessions and locks. Called by repair/mod.rs.

use super::{Remedy, Scope};
use crate::apply::context::{Context, SliceOrders};
use crate::apply::problem::What;
use crate::apply::{Effects, lock, session};
use crate::store::records::SessionRef;
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::pb;

/// Left out where the counter of sessions was behind: nobody knows how many there have been since, and no number may come twice.
const SESSIONS_SKIPPED: u64 = 1 << 16;

/// A number from here on is damage, and must not raise the counter: there would be none left.
const SESSIONS_END: u64 = 1 << 31;

pub fn rule(txn: &mut Txn<'_>, scope: &Scope, what: &What) -> Result<Remedy, StoreError> {
    match what {
        What::SessionDetails { session } => end(txn, scope, *session)?,
        What::SessionUuid { session } => {
            if let Some(details) = read::session_details(txn, *session)? {
                txn.put(&keys::session_uuid(&details.uuid), &SessionRef(*session));
            }
            return Ok(Remedy::Fix("is listed by its uuid"));
        }
        What::SessionCounter { seen, .. } if *seen >= SESSIONS_END => {
            return Ok(Remedy::Refused(
                "no session can have had this number: a slice's record is damaged; remove the file of which fsck misses an object",
            ));
        }
        What::SessionCounter { seen, .. } => {
            let mut counters = read::counters(txn)?;
            counters.next_session = seen + SESSIONS_SKIPPED;
            txn.put(&keys::counters(), &counters);
            return Ok(Remedy::Fix("the counter is raised"));
        }
        What::Slot { session, slot } => {
            txn.delete(&keys::slot(*session, *slot));
            return Ok(Remedy::Fix("is dropped"));
        }
        What::LockRecord { ino } => {
            lock::end_file(txn, scope.volume, *ino)?;
            txn.delete(&keys::lock(scope.volume, *ino));
            return Ok(Remedy::Fix("is dropped"));
        }
        What::LockSession { ino, session } => {
            drop_locks(txn, scope, *ino, *session)?;
            return Ok(Remedy::Fix("the lock is dropped"));
        }
        What::LockWait { ino, .. } => {
            let locks = read::locks(txn, scope.volume, *ino)?;
            lock::save(txn, &mut Effects::default(), (scope.volume, *ino), &locks, locks.clone())?;
            return Ok(Remedy::Fix("the lock is granted"));
        }
        What::LockKey { key, wanted, .. } => {
            let key = keys::Key::from_stored(key);
            match wanted {
                Some(value) => txn.put_bytes(&key, value.clone()),
                None => txn.delete(&key),
            }
            return Ok(Remedy::Fix("is set to what the locks say"));
        }
        // Both believe that they have it; which of them is right is not written anywhere.
        _ => return Ok(Remedy::Refused("end one of the two: unmount its client, which ends its locks")),
    }
    Ok(Remedy::Fix("the session is ended; its client opens another"))
}

fn end(txn: &mut Txn<'_>, scope: &Scope, id: u64) -> Result<(), StoreError> {
    let Some(record) = read::session(txn, id)? else { return Ok(()) };
    let (creds, mut orders) = (pb::Creds::default(), SliceOrders::new(scope.index));
    let mut cx = Context {
        tight: false,
        log_index: scope.index,
        now: scope.now,
        volume: record.volume,
        session: 0,
        creds: &creds,
        orders: &mut orders,
        effects: Effects::default(),
    };
    session::end(txn, &mut cx, id, &record)
}

fn drop_locks(txn: &mut Txn<'_>, scope: &Scope, ino: u64, session: u64) -> Result<(), StoreError> {
    let before = read::locks(txn, scope.volume, ino)?;
    let mut after = before.clone();
    after.flocks.drop_owners(|owner| owner.session == session);
    after.ranges.drop_owners(|owner| owner.session == session);
    after.waits.retain(|wait| wait.wanted.owner.session != session);
    lock::save(txn, &mut Effects::default(), (scope.volume, ino), &before, after)
}
