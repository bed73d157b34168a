//! Config volume: changes limits, how long the trash keeps things, and options and credentials of the store. Absolute values. Called
//! by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::apply::trash;
use crate::store::records::Settings;
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::{FsErrno, limits, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::ConfigVolumeOp) -> Ruling<pb::VolumeReply> {
    let volume = read::volume_named(txn, &op.name)?.ok_or(FsErrno::NoEnt)?;
    let mut settings = read::settings(txn, volume)?;
    let mut usage = read::usage(txn, volume)?;

    cx.volume = volume;
    let trash_days = op.trash_days.unwrap_or(settings.trash_days);
    if trash_days > limits::TRASH_DAYS_MAX {
        return Err(FsErrno::Inval.into());
    }
    if trash_days > 0 {
        trash::make(txn, cx)?;
    }
    settings.trash_days = trash_days;
    // A limit below what is used refuses growth and takes nothing away.
    settings.capacity_bytes = op.capacity_bytes.unwrap_or(settings.capacity_bytes);
    settings.inodes_max = op.inodes_max.unwrap_or(settings.inodes_max);
    if let (Some(storage), Some(new)) = (&mut settings.storage, &op.storage) {
        storage.options = new.options.clone();
        storage.secrets = new.secrets.clone();
    }
    usage.capacity_bytes = settings.capacity_bytes;
    usage.inodes_max = settings.inodes_max;
    usage.trash_days = settings.trash_days;
    txn.put(&keys::usage(volume), &usage);
    txn.put(&keys::settings(volume), &Settings(settings.clone()));
    Ok(pb::VolumeReply { settings: Some(settings) })
}
