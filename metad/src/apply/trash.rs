//! The trash: where an inode goes with its last name, in a volume that keeps removed files for some days. Called by the operations that
//! take names away, and by those that must leave the trash alone.
//!
//! `/.trash` is a directory beside the tree: the root has no entry for it, so that no listing and no count shows it, and a look-up of its name
//! finds it. It has a directory for each hour in which something was removed, `2026-11-22-02` (UTC), and in that the names
//! `<number of the former directory>-<number>-<former name>`. What is there has a name and is an inode like any other: it counts in usage and
//! quota, and a rename brings it back.
//!
//! - The numbers of these directories are reserved: the hour is in the number. So everybody tells them by the number alone, and the oldest
//!   hour is the first key.
//! - They belong to root, with mode 0700, and nobody changes that: what a user removed may be under names and below modes that only its own
//!   directory protected. So only root brings things back, as with a backup.
//! - A removed directory is empty, and takes no new names while it is in the trash, as POSIX says of one that is removed and open (ENOENT).
//! - Of things with several names the last one counts; the ones before it just go.
//! - Directories, symbolic links and devices go there as files do. They hold no bytes, but without them the numbers in the names would lead
//!   nowhere, and a tree that was removed could not be put together again.
//! - Where room is short (`tight`, and quota::is_nearly_full), nothing goes there: whoever removes files then does so to have room.

use super::context::{Context, Ruling};
use super::{dir, inode, orphan, quota};
use crate::store::codec::Record;
use crate::store::inode_record::Inode;
use crate::store::records::{Dentry, Stamp, Usage};
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use bytes::Bytes;
use holdfast_proto::pb::FileKind;
use holdfast_proto::{FsErrno, Name, ROOT_INO, TRASH_INO, date, limits};
use std::ops::ControlFlow;

/// What the trash is called in the root.
pub const NAME: &[u8] = b".trash";
const MODE: u32 = 0o700;
const HOUR_SEC: i64 = 3600;
const DAY_SEC: i64 = 24 * HOUR_SEC;
/// Hour 0, which began with 1970, is the first number after the trash; there are 2^32 of them.
const HOUR_0_INO: u64 = TRASH_INO + 1;
const INO_END: u64 = HOUR_0_INO + (1 << 32);

/// Whether this is the number of the trash or of one of its hours.
pub fn is_own(ino: u64) -> bool {
    (TRASH_INO..INO_END).contains(&ino)
}

/// Whether this directory was removed and is in the trash.
pub fn holds(dir: &Inode) -> bool {
    is_own(dir.parent) && !is_own(dir.ino)
}

/// EPERM where a name would come into the trash by anything but a removal.
pub fn check_adds_to(dir: &Inode) -> Ruling<()> {
    if is_own(dir.ino) { Err(FsErrno::Perm.into()) } else { Ok(()) }
}

/// EPERM where the trash or one of its hours would be renamed or changed.
pub fn check_changes(ino: u64) -> Ruling<()> {
    if is_own(ino) { Err(FsErrno::Perm.into()) } else { Ok(()) }
}

/// EPERM for the trash itself. An hour goes like any other empty directory.
pub fn check_removes(ino: u64) -> Ruling<()> {
    if ino == TRASH_INO { Err(FsErrno::Perm.into()) } else { Ok(()) }
}

/// What a name in a directory names, the trash's in the root included.
pub fn dentry(view: &dyn KvRead, volume: u32, parent: u64, name: &[u8]) -> Result<Option<Dentry>, StoreError> {
    let found = read::dentry(view, volume, parent, name)?;
    if found.is_some() || parent != ROOT_INO || name != NAME {
        return Ok(found);
    }
    let trash = read::inode(view, volume, TRASH_INO)?;
    Ok(trash.map(|trash| Dentry { ino: TRASH_INO, kind: trash.kind }))
}

fn hour_ino(hour: i64) -> u64 {
    HOUR_0_INO + u64::from(u32::try_from(hour.max(0)).unwrap_or(u32::MAX))
}

/// What the directory of an hour is called; None for any other number.
pub fn hour_name(ino: u64) -> Option<String> {
    let hour = ino.checked_sub(HOUR_0_INO).filter(|_| is_own(ino))?;
    let (year, month, day) = date::civil((hour / 24) as i64);
    Some(format!("{year:04}-{month:02}-{day:02}-{:02}", hour % 24))
}

/// The first hour that is kept: of those before it everything has been in the trash for longer than so many days.
fn first_kept_ino(days: u32, now: Stamp) -> u64 {
    match days {
        0 => INO_END,
        days => hour_ino(now.sec.saturating_sub(i64::from(days) * DAY_SEC).div_euclid(HOUR_SEC)),
    }
}

/// The trash of a volume from now on; from then on its name is taken. EEXIST where a user's file has it; then nothing is written.
pub fn make(txn: &mut Txn<'_>, cx: &mut Context<'_>) -> Ruling<()> {
    if read::inode(txn, cx.volume, TRASH_INO)?.is_some() {
        return Ok(());
    }
    if read::dentry(txn, cx.volume, ROOT_INO, NAME)?.is_some() {
        return Err(FsErrno::Exist.into());
    }
    let name = Name::new(Bytes::from_static(NAME))?;
    let trash = new_dir(cx, TRASH_INO, ROOT_INO);
    inode::save(txn, cx, &trash);
    cx.changed_name(ROOT_INO, &name);
    Ok(())
}

fn new_dir(cx: &Context<'_>, ino: u64, parent: u64) -> Inode {
    inode::blank(cx, ino, (FileKind::Directory, MODE), (0, 0), parent)
}

/// What becomes of an inode that has just lost this name in this directory: with its last one it goes to the trash, or becomes an orphan
/// (then true).
pub fn lose_name(
    txn: &mut Txn<'_>,
    cx: &mut Context<'_>,
    (parent, name): (u64, &Name),
    victim: Inode,
) -> Result<bool, StoreError> {
    if is_own(victim.ino) {
        // An hour, which is empty. It is not counted, and its number may come again: it waits for nobody who has it open.
        txn.delete(&keys::inode(cx.volume, victim.ino));
        cx.changed_inode(victim.ino);
        return Ok(false);
    }
    let is_last = victim.is_dir() || victim.nlink <= 1;
    if !is_last || is_own(parent) || !takes(cx, &read::usage(txn, cx.volume)?) {
        return orphan::lose_name(txn, cx, victim);
    }
    match read::inode(txn, cx.volume, TRASH_INO)? {
        Some(trash) => take_in(txn, cx, trash, (parent, name), victim)?,
        // Damage: fsck tells of it where there is something in the trash.
        None => return orphan::lose_name(txn, cx, victim),
    }
    Ok(false)
}

fn takes(cx: &Context<'_>, usage: &Usage) -> bool {
    usage.trash_days > 0 && !cx.tight && !quota::is_nearly_full(usage)
}

fn take_in(
    txn: &mut Txn<'_>,
    cx: &mut Context<'_>,
    mut trash: Inode,
    (parent, name): (u64, &Name),
    mut victim: Inode,
) -> Result<(), StoreError> {
    let ino = hour_ino(cx.now.sec.div_euclid(HOUR_SEC));
    let mut hour = match read::inode(txn, cx.volume, ino)? {
        Some(hour) => hour,
        None => {
            let hour = new_dir(cx, ino, TRASH_INO);
            let name = stored_name(hour_name(ino).unwrap_or_default().into_bytes())?;
            dir::add_entry(txn, cx, &mut trash, &name, &hour);
            hour
        }
    };
    let mut kept_name = format!("{parent}-{}-", victim.ino).into_bytes();
    kept_name.extend_from_slice(name.as_bytes());
    // It begins with two numbers that no other inode has, so no cut makes two names one.
    kept_name.truncate(limits::NAME_BYTES_MAX);
    victim.ctime = cx.now;
    if victim.is_dir() {
        victim.parent = hour.ino;
    }
    inode::save(txn, cx, &victim);
    dir::add_entry(txn, cx, &mut hour, &stored_name(kept_name)?, &victim);
    Ok(())
}

fn stored_name(bytes: Vec<u8>) -> Result<Name, StoreError> {
    let damaged = |_| StoreError::Damaged { what: "name", detail: "cannot be kept in the trash".to_owned() };
    Name::new(bytes.into()).map_err(damaged)
}

/// What is due to be removed from the trash, oldest hour first, at most `max`: names and the directories they are in. An hour comes after
/// all that is in it. What cannot be removed is damage: it is left to fsck, and to nobody's loop.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn due(view: &dyn KvRead, volume: u32, now: Stamp, max: usize) -> Result<Vec<(u64, Name)>, StoreError> {
    if !read::inode(view, volume, TRASH_INO)?.is_some_and(|trash| trash.is_dir()) {
        return Ok(Vec::new());
    }
    let end = first_kept_ino(read::usage(view, volume)?.trash_days, now);
    let mut hours = Vec::new();
    read::scan(view, &keys::inode(volume, HOUR_0_INO), &keys::inode(volume, end), |key, _| {
        hours.push(keys::tail_u64(key, keys::HEAD_BYTES)?);
        Ok(if hours.len() < limits::BACKGROUND_BATCH_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    let mut found = Vec::new();
    for hour in hours {
        let all = names_due(view, volume, hour, &mut found, max)?;
        if found.len() >= max {
            break;
        }
        let Some(name) = hour_name(hour) else { continue };
        if all && read::dentry(view, volume, TRASH_INO, name.as_bytes())?.is_some() {
            found.push((TRASH_INO, stored_name(name.into_bytes())?));
        }
    }
    Ok(found)
}

/// Adds the names in one hour. True where nothing else is in it.
fn names_due(
    view: &dyn KvRead,
    volume: u32,
    hour: u64,
    found: &mut Vec<(u64, Name)>,
    max: usize,
) -> Result<bool, StoreError> {
    let (prefix, mut all) = (keys::dentries(volume, hour), true);
    read::scan(view, &prefix, &prefix.end(), |key, value| {
        if found.len() >= max {
            all = false;
            return Ok(ControlFlow::Break(()));
        }
        let name = Name::new(Bytes::copy_from_slice(key.get(keys::HEAD_BYTES + 16..).unwrap_or_default()));
        let inode = read::inode(view, volume, Dentry::decode(value)?.ino)?;
        match (name, inode) {
            (Ok(name), Some(inode)) if !inode.is_dir() || inode.entries == 0 => found.push((hour, name)),
            _ => all = false,
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

#[cfg(test)]
#[path = "trash_test.rs"]
mod tests;
