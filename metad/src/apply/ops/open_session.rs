//! Open session: gives a client its session of one volume. Idempotent by uuid while the session lives: a lost reply is asked
//! for again. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::store::records::{Session, SessionDetails, SessionRef};
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::{FsErrno, pb};

/// Session ids are the upper half of slice ids.
const SESSION_MAX: u64 = u32::MAX as u64;

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::OpenSessionOp) -> Ruling<pb::OpenSessionReply> {
    let uuid: [u8; 16] = op.uuid[..].try_into().map_err(|_| FsErrno::Inval)?;
    let volume = read::volume_named(txn, &op.volume)?.ok_or(FsErrno::NoEnt)?;
    cx.volume = volume;
    if let Some(session) = read::session_of_uuid(txn, &uuid)? {
        return repeated(txn, session, volume);
    }
    let mut counters = read::counters(txn)?;
    let session = counters.next_session;
    if session > SESSION_MAX {
        return Err(FsErrno::NoSpc.into());
    }

    counters.next_session += 1;
    let info = pb::SessionInfo {
        session,
        host: op.host.clone(),
        mountpoint: op.mountpoint.clone(),
        pid: op.pid,
        version: op.version.clone(),
        opened: Some(cx.now.into()),
        volume,
    };
    let record = Session { volume, opened_index: cx.log_index, watermark: cx.log_index };
    txn.put(&keys::counters(), &counters);
    txn.put(&keys::session(session), &record);
    txn.put(&keys::session_info(session), &SessionDetails { uuid, info });
    txn.put(&keys::session_uuid(&uuid), &SessionRef(session));
    Ok(pb::OpenSessionReply { session, volume })
}

/// The uuid has a session already. Of another volume: two clients share a uuid, which none of them may.
fn repeated(txn: &Txn<'_>, session: u64, volume: u32) -> Ruling<pb::OpenSessionReply> {
    let record = read::session(txn, session)?
        .ok_or_else(|| StoreError::Damaged { what: "session", detail: format!("{session} is named but not there") })?;
    if record.volume != volume {
        return Err(FsErrno::Exist.into());
    }
    Ok(pb::OpenSessionReply { session, volume })
}
