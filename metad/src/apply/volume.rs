//! Volumes: what a format makes. Called by format_volume and config_volume.

use super::context::{Context, Ruling};
use super::inode;
use crate::store::records::{Settings, Usage, VolumeRef};
use crate::store::{keys, txn::Txn};
use holdfast_proto::pb::{self, FileKind};
use holdfast_proto::{FsErrno, ROOT_INO, limits};

/// EINVAL for settings no volume can have.
pub fn check_settings(settings: &pb::VolumeSettings) -> Ruling<()> {
    let block = settings.block_size;
    let sound = limits::volume_name_ok(&settings.name)
        && settings.uuid.len() == 16
        && settings.storage.is_some()
        && settings.trash_days <= limits::TRASH_DAYS_MAX
        && block.is_power_of_two()
        && (limits::BLOCK_BYTES_MIN..=limits::BLOCK_BYTES_MAX).contains(&block);
    if sound { Ok(()) } else { Err(FsErrno::Inval.into()) }
}

/// Writes a new volume with its root directory, which belongs to whoever formats.
pub fn write_new(txn: &mut Txn<'_>, cx: &Context<'_>, settings: &pb::VolumeSettings) {
    let volume = settings.id;
    let owner = (cx.creds.uid, cx.creds.gid);
    let root = inode::blank(cx, ROOT_INO, (FileKind::Directory, 0o755), owner, ROOT_INO);
    let usage = Usage {
        next_ino: ROOT_INO + 1,
        capacity_bytes: settings.capacity_bytes,
        inodes_max: settings.inodes_max,
        block_bytes: settings.block_size,
        trash_days: settings.trash_days,
        ..Usage::default()
    };
    txn.put(&keys::volume_name(&settings.name), &VolumeRef(volume));
    txn.put(&keys::settings(volume), &Settings(settings.clone()));
    txn.put(&keys::usage(volume), &usage);
    txn.put(&keys::inode(volume, ROOT_INO), &root);
}
