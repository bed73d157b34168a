//! Format volume: a new volume with an empty root. Idempotent by (name, uuid). Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::{trash, volume};
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::FormatVolumeOp) -> Ruling<pb::VolumeReply> {
    let wanted = op.settings.as_ref().ok_or(FsErrno::Inval)?;
    volume::check_settings(wanted)?;
    if let Some(existing) = read::volume_named(txn, &wanted.name)? {
        let settings = read::settings(txn, existing)?;
        if settings.uuid != wanted.uuid {
            return Err(FsErrno::Exist.into());
        }
        return Ok(pb::VolumeReply { settings: Some(settings) });
    }
    let mut counters = read::counters(txn)?;
    let id = counters.next_volume;
    // The highest numbers are reserved (keys.rs).
    if id >= 1 << 31 {
        return Err(FsErrno::NoSpc.into());
    }

    cx.volume = id;
    counters.next_volume += 1;
    txn.put(&keys::counters(), &counters);
    let settings = pb::VolumeSettings { id, created: Some(cx.now.into()), ..wanted.clone() };
    volume::write_new(txn, cx, &settings);
    if settings.trash_days > 0 {
        trash::make(txn, cx)?;
    }
    Ok(pb::VolumeReply { settings: Some(settings) })
}
