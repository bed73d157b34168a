//! Config volume: changes limits, and options and credentials of the store. Absolute values. Called by apply::dispatch only.

use crate::apply::context::{Context, Ruling};
use crate::store::records::Settings;
use crate::store::{keys, read, txn::Txn};
use holdfast_proto::{FsErrno, pb};

pub fn apply(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &pb::ConfigVolumeOp) -> Ruling<pb::VolumeReply> {
    let volume = read::volume_named(txn, &op.name)?.ok_or(FsErrno::NoEnt)?;
    let mut settings = read::settings(txn, volume)?;
    let mut usage = read::usage(txn, volume)?;

    cx.volume = volume;
    // A limit below what is used refuses growth and takes nothing away.
    settings.capacity_bytes = op.capacity_bytes.unwrap_or(settings.capacity_bytes);
    settings.inodes_max = op.inodes_max.unwrap_or(settings.inodes_max);
    if let (Some(storage), Some(new)) = (&mut settings.storage, &op.storage) {
        storage.options = new.options.clone();
        storage.secrets = new.secrets.clone();
    }
    usage.capacity_bytes = settings.capacity_bytes;
    usage.inodes_max = settings.inodes_max;
    txn.put(&keys::usage(volume), &usage);
    txn.put(&keys::settings(volume), &Settings(settings.clone()));
    Ok(pb::VolumeReply { settings: Some(settings) })
}
