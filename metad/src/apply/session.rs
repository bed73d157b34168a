//! The end of a session: one step drops its slots, its holds, its locks and itself, so that nothing it sends later takes effect.
//! Called by close_session and expire_sessions.

use super::context::Context;
use super::lock;
use crate::store::records::Session;
use crate::store::{StoreError, keys, read, txn::Txn};
use bytes::Bytes;
use std::ops::ControlFlow;

pub fn end(txn: &mut Txn<'_>, cx: &mut Context<'_>, id: u64, session: &Session) -> Result<(), StoreError> {
    let mut slots = Vec::new();
    let prefix = keys::slots(id);
    read::scan(txn, &prefix, &prefix.end(), |key, _| {
        slots.push(keys::tail_u32(key, keys::HEAD_BYTES + 8)?);
        Ok(ControlFlow::Continue(()))
    })?;
    let mut held = Vec::new();
    let prefix = keys::session_holds(session.volume, id);
    read::scan(txn, &prefix, &prefix.end(), |key, _| {
        held.push(keys::tail_u64(key, keys::HEAD_BYTES + 8)?);
        Ok(ControlFlow::Continue(()))
    })?;
    let details = read::session_details(txn, id)?;
    for slot in slots {
        txn.delete(&keys::slot(id, slot));
    }
    for ino in held {
        drop_hold(txn, session.volume, id, ino);
    }
    lock::end_session(txn, &mut cx.effects, session.volume, id)?;
    if let Some(details) = details {
        txn.delete(&keys::session_uuid(&details.uuid));
    }
    txn.delete(&keys::session_info(id));
    txn.delete(&keys::session(id));
    cx.effects.ended.push(id);
    Ok(())
}

pub fn add_hold(txn: &mut Txn<'_>, volume: u32, session: u64, ino: u64) {
    txn.put_bytes(&keys::hold(volume, ino, session), Bytes::from_static(&[1]));
    txn.put_bytes(&keys::session_hold(volume, session, ino), Bytes::from_static(&[1]));
}

pub fn drop_hold(txn: &mut Txn<'_>, volume: u32, session: u64, ino: u64) {
    txn.delete(&keys::hold(volume, ino, session));
    txn.delete(&keys::session_hold(volume, session, ino));
}
