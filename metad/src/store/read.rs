//! Typed reads: a key's record at one state. Called by apply (on a Txn) and query (on a view).

use super::codec::Record;
use super::inode_record::{Inode, SlicePiece};
use super::keys::{self, Key};
use super::lock_record::{FileLocks, LockCount};
use super::node_record::NodeRecord;
use super::records::{
    Counters, Dentry, Repaired, Session, SessionDetails, SessionRef, Settings, SliceRefs, Slot, Stamp, Symlink, Usage,
    VolumeRef, Xattr,
};
use super::{KvRead, StoreError};
use holdfast_proto::pb;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

fn record<R: Record>(view: &dyn KvRead, key: &Key) -> Result<Option<R>, StoreError> {
    view.get(key)?.map(|bytes| R::decode(&bytes)).transpose()
}

pub fn clock(view: &dyn KvRead) -> Result<Stamp, StoreError> {
    Ok(record(view, &keys::clock())?.unwrap_or_default())
}

pub fn counters(view: &dyn KvRead) -> Result<Counters, StoreError> {
    Ok(record(view, &keys::counters())?.unwrap_or_default())
}

pub fn volume_named(view: &dyn KvRead, name: &str) -> Result<Option<u32>, StoreError> {
    Ok(record::<VolumeRef>(view, &keys::volume_name(name))?.map(|found| found.0))
}

pub fn settings(view: &dyn KvRead, volume: u32) -> Result<pb::VolumeSettings, StoreError> {
    record::<Settings>(view, &keys::settings(volume))?
        .map(|found| found.0)
        .ok_or_else(|| missing("settings of volume", u64::from(volume)))
}

pub fn usage(view: &dyn KvRead, volume: u32) -> Result<Usage, StoreError> {
    record(view, &keys::usage(volume))?.ok_or_else(|| missing("usage of volume", u64::from(volume)))
}

pub fn session(view: &dyn KvRead, session: u64) -> Result<Option<Session>, StoreError> {
    record(view, &keys::session(session))
}

pub fn session_details(view: &dyn KvRead, session: u64) -> Result<Option<SessionDetails>, StoreError> {
    record(view, &keys::session_info(session))
}

pub fn session_of_uuid(view: &dyn KvRead, uuid: &[u8]) -> Result<Option<u64>, StoreError> {
    Ok(record::<SessionRef>(view, &keys::session_uuid(uuid))?.map(|found| found.0))
}

pub fn slot(view: &dyn KvRead, session: u64, slot: u32) -> Result<Option<Slot>, StoreError> {
    record(view, &keys::slot(session, slot))
}

pub fn node(view: &dyn KvRead, id: u64) -> Result<Option<NodeRecord>, StoreError> {
    record(view, &keys::node(id))
}

/// All members of the cluster, by id. None before they are recorded.
pub fn nodes(view: &dyn KvRead) -> Result<BTreeMap<u64, NodeRecord>, StoreError> {
    let prefix = keys::nodes();
    let mut found = BTreeMap::new();
    scan(view, &prefix, &prefix.end(), |key, value| {
        found.insert(keys::tail_u64(key, keys::HEAD_BYTES)?, NodeRecord::decode(value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

pub fn is_founding(view: &dyn KvRead) -> Result<bool, StoreError> {
    Ok(view.get(&keys::founding())?.is_some())
}

pub fn inode(view: &dyn KvRead, volume: u32, ino: u64) -> Result<Option<Inode>, StoreError> {
    view.get(&keys::inode(volume, ino))?.map(|bytes| Inode::from_stored(ino, &bytes)).transpose()
}

/// An inode that something stored names, so that it must be there.
///
/// # Errors
/// It is not: stored data is damaged.
pub fn named_inode(view: &dyn KvRead, volume: u32, ino: u64) -> Result<Inode, StoreError> {
    inode(view, volume, ino)?.ok_or_else(|| missing("inode", ino))
}

pub fn dentry(view: &dyn KvRead, volume: u32, parent: u64, name: &[u8]) -> Result<Option<Dentry>, StoreError> {
    record(view, &keys::dentry(volume, parent, name))
}

pub fn symlink(view: &dyn KvRead, volume: u32, ino: u64) -> Result<Option<Symlink>, StoreError> {
    record(view, &keys::symlink(volume, ino))
}

pub fn xattr(view: &dyn KvRead, volume: u32, ino: u64, name: &[u8]) -> Result<Option<Xattr>, StoreError> {
    record(view, &keys::xattr(volume, ino, name))
}

/// The locks of a file; none where nobody has any.
pub fn locks(view: &dyn KvRead, volume: u32, ino: u64) -> Result<FileLocks, StoreError> {
    Ok(record(view, &keys::lock(volume, ino))?.unwrap_or_default())
}

/// How many ranges a session has locked or waits for.
pub fn lock_count(view: &dyn KvRead, volume: u32, session: u64) -> Result<u64, StoreError> {
    Ok(record::<LockCount>(view, &keys::lock_count(volume, session))?.unwrap_or_default().0)
}

/// The numbers with which the keys below `prefix` end.
pub fn last_numbers(view: &dyn KvRead, prefix: &Key) -> Result<Vec<u64>, StoreError> {
    let mut found = Vec::new();
    scan(view, prefix, &prefix.end(), |key, _| {
        found.push(keys::tail_u64(key, prefix.len())?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// All live sessions, by id.
pub fn sessions(view: &dyn KvRead) -> Result<Vec<(u64, Session)>, StoreError> {
    let prefix = keys::sessions();
    let mut found = Vec::new();
    scan(view, &prefix, &prefix.end(), |key, value| {
        found.push((keys::tail_u64(key, keys::HEAD_BYTES)?, Session::decode(value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// A slice as it is stored: where, and what.
pub struct StoredSlice {
    pub chunk: u32,
    pub order: u64,
    pub piece: SlicePiece,
}

/// How many pieces name a slice that at least one does.
pub fn slice_refs(view: &dyn KvRead, volume: u32, slice_id: u64) -> Result<u64, StoreError> {
    Ok(record::<SliceRefs>(view, &keys::slice_refs(volume, slice_id))?.map_or(1, |refs| refs.0))
}

/// Visits slices in the range of keys, by chunk, oldest first.
pub fn slices(
    view: &dyn KvRead,
    start: &Key,
    end: &Key,
    mut visit: impl FnMut(StoredSlice) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    scan(view, start, end, |key, value| {
        let chunk = keys::tail_u32(key, keys::HEAD_BYTES + 8)?;
        let order = keys::tail_u64(key, keys::HEAD_BYTES + 12)?;
        Ok(visit(StoredSlice { chunk, order, piece: SlicePiece::decode(value)? }))
    })
}

/// All slices of one chunk, oldest first.
pub fn chunk_slices(view: &dyn KvRead, volume: u32, ino: u64, chunk: u32) -> Result<Vec<StoredSlice>, StoreError> {
    let prefix = keys::chunk_slices(volume, ino, chunk);
    let mut found = Vec::new();
    slices(view, &prefix, &prefix.end(), |slice| {
        found.push(slice);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Scans with a visitor that may fail.
pub fn scan(
    view: &dyn KvRead,
    start: &[u8],
    end: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut failure = None;
    view.scan(start, end, &mut |key, value| {
        visit(key, value).unwrap_or_else(|error| {
            failure = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failure.map_or(Ok(()), Err)
}

/// Whether any key starts with this.
pub fn any(view: &dyn KvRead, prefix: &Key) -> Result<bool, StoreError> {
    let mut found = false;
    view.scan(prefix, &prefix.end(), &mut |_, _| {
        found = true;
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Log index of the last repair of a volume; 0 where there was none.
pub fn repaired(view: &dyn KvRead, volume: u32) -> Result<u64, StoreError> {
    Ok(record::<Repaired>(view, &keys::repaired(volume))?.unwrap_or_default().0)
}

fn missing(what: &'static str, number: u64) -> StoreError {
    StoreError::Damaged { what, detail: format!("{number} is named but not there") }
}
