//! Every value of the state, by byte. All start with a version byte (codec.rs); integers are little-endian. Keys are in `keys`.
//!
//! ```text
//! CLOCK        sec i64 | nsec u32
//! COUNTERS     next session u64 | next volume u32
//! VOLUME_NAME  volume u32
//! SESSION      volume u32 | opened at log index u64 | watermark log index u64
//! SESSION_INFO uuid 16 bytes | pb::SessionInfo
//! SESSION_UUID session u64
//! SLOT         seq u64 | 0 and the reply's bytes, or 1 and errno u32
//! SETTINGS     pb::VolumeSettings
//! USAGE        next ino | used bytes | used inodes | orphans | deleted slices | capacity bytes | inodes max (u64 each) | block u32
//!              | trash days u32, where it is not 0
//! INODE        kind u8 | mode | nlink | uid | gid | rdev (u32 each) | size u64 | atime mtime ctime btime (i64, u32 each)
//!              | generation | data version | parent | entries | orphaned at (u64 each)
//! DENTRY       ino u64 | kind u8
//! SLICE        slice id u64 | chunk offset | len | slice offset | slice len (u32 each) | crc32c of each block u32
//! SYMLINK      target
//! ORPHAN, HOLD, SESSION_HOLD   nothing
//! DELETED      slice len u32
//! SLICE_REFS   pieces u64, 2 and up
//! REPAIRED     log index u64
//! NODE         see node_record; FOUNDING: nothing
//! LOCK         see lock_record; SESSION_LOCK 00: count u64; 01 and 02: nothing
//! ```

use super::StoreError;
use super::codec::{Reader, Record, Writer};
use super::keys::kind;
use bytes::Bytes;
use holdfast_proto::{FsErrno, pb};
use prost::Message;

/// A point in time; orders as time does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    pub sec: i64,
    pub nsec: u32,
}

impl Stamp {
    fn write(self, out: &mut Writer) {
        out.i64(self.sec);
        out.u32(self.nsec);
    }
    fn read(input: &mut Reader<'_>) -> Result<Stamp, StoreError> {
        Ok(Stamp { sec: input.i64()?, nsec: input.u32()? })
    }
}

impl From<Stamp> for pb::TimeSpec {
    fn from(stamp: Stamp) -> pb::TimeSpec {
        pb::TimeSpec { sec: stamp.sec, nsec: stamp.nsec }
    }
}

impl From<pb::TimeSpec> for Stamp {
    fn from(time: pb::TimeSpec) -> Stamp {
        Stamp { sec: time.sec, nsec: time.nsec }
    }
}

impl Record for Stamp {
    const KIND: u8 = kind::CLOCK;
    const SIZE_HINT: usize = 12;
    fn write(&self, out: &mut Writer) {
        Stamp::write(*self, out);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Stamp::read(input)
    }
}

/// The cluster's counters: what the next one is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    pub next_session: u64,
    pub next_volume: u32,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { next_session: 1, next_volume: 1 }
    }
}

impl Record for Counters {
    const KIND: u8 = kind::COUNTERS;
    const SIZE_HINT: usize = 12;
    fn write(&self, out: &mut Writer) {
        out.u64(self.next_session);
        out.u32(self.next_volume);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Counters { next_session: input.u64()?, next_volume: input.u32()? })
    }
}

/// A reference by number: volume of a name, session of a uuid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeRef(pub u32);

impl Record for VolumeRef {
    const KIND: u8 = kind::VOLUME_NAME;
    const SIZE_HINT: usize = 4;
    fn write(&self, out: &mut Writer) {
        out.u32(self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(VolumeRef(input.u32()?))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRef(pub u64);

impl Record for SessionRef {
    const KIND: u8 = kind::SESSION_UUID;
    const SIZE_HINT: usize = 8;
    fn write(&self, out: &mut Writer) {
        out.u64(self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(SessionRef(input.u64()?))
    }
}

/// A live session, as each of its mutations needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub volume: u32,
    /// Log index of the entry that opened it: older orphans cannot be open in it.
    pub opened_index: u64,
    /// It has said which orphans up to this log index it holds. Starts at `opened_index`.
    pub watermark: u64,
}

impl Record for Session {
    const KIND: u8 = kind::SESSION;
    const SIZE_HINT: usize = 20;
    fn write(&self, out: &mut Writer) {
        out.u32(self.volume);
        out.u64(self.opened_index);
        out.u64(self.watermark);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Session { volume: input.u32()?, opened_index: input.u64()?, watermark: input.u64()? })
    }
}

/// Who a session is.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionDetails {
    pub uuid: [u8; 16],
    pub info: pb::SessionInfo,
}

impl Record for SessionDetails {
    const KIND: u8 = kind::SESSION_INFO;
    const SIZE_HINT: usize = 128;
    fn write(&self, out: &mut Writer) {
        out.rest(&self.uuid);
        out.rest(&self.info.encode_to_vec());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        let Some((uuid, info)) = input.rest().split_first_chunk::<16>() else {
            return Err(input.damaged("too short"));
        };
        let info = pb::SessionInfo::decode(info).map_err(|e| input.damaged(&e.to_string()))?;
        Ok(SessionDetails { uuid: *uuid, info })
    }
}

/// The last mutation of a slot and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub seq: u64,
    pub result: Result<Bytes, FsErrno>,
}

impl Record for Slot {
    const KIND: u8 = kind::SLOT;
    const SIZE_HINT: usize = 9 + 112;
    fn write(&self, out: &mut Writer) {
        out.u64(self.seq);
        match &self.result {
            Ok(reply) => {
                out.u8(0);
                out.rest(reply);
            }
            Err(errno) => {
                out.u8(1);
                out.u32(errno.number());
            }
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        let seq = input.u64()?;
        let result = match input.u8()? {
            0 => Ok(Bytes::copy_from_slice(input.rest())),
            1 => Err(FsErrno::from_number(input.u32()?).ok_or_else(|| input.damaged("unknown errno"))?),
            _ => return Err(input.damaged("unknown result")),
        };
        Ok(Slot { seq, result })
    }
}

/// A volume's settings, as they were given.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings(pub pb::VolumeSettings);

impl Record for Settings {
    const KIND: u8 = kind::SETTINGS;
    const SIZE_HINT: usize = 256;
    fn write(&self, out: &mut Writer) {
        // Its maps are ordered ones, so these bytes are the same on every node.
        out.rest(&self.0.encode_to_vec());
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        pb::VolumeSettings::decode(input.rest()).map(Settings).map_err(|e| input.damaged(&e.to_string()))
    }
}

/// What changes often in a volume, and the limits it is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub next_ino: u64,
    /// Sum of the sizes of all regular files that have a name. Holes count; see apply/quota.rs.
    pub used_bytes: u64,
    /// Inodes that have a name; the root is not counted.
    pub used_inodes: u64,
    pub orphans: u64,
    pub deleted_slices: u64,
    /// 0: no limit.
    pub capacity_bytes: u64,
    /// 0: no limit.
    pub inodes_max: u64,
    pub block_bytes: u32,
    /// 0: no trash.
    pub trash_days: u32,
}

impl Record for Usage {
    const KIND: u8 = kind::USAGE;
    const SIZE_HINT: usize = 64;
    fn write(&self, out: &mut Writer) {
        out.u64(self.next_ino);
        out.u64(self.used_bytes);
        out.u64(self.used_inodes);
        out.u64(self.orphans);
        out.u64(self.deleted_slices);
        out.u64(self.capacity_bytes);
        out.u64(self.inodes_max);
        out.u32(self.block_bytes);
        // Not written where there is nothing to say: the record is as it always was.
        if self.trash_days != 0 {
            out.u32(self.trash_days);
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Usage {
            next_ino: input.u64()?,
            used_bytes: input.u64()?,
            used_inodes: input.u64()?,
            orphans: input.u64()?,
            deleted_slices: input.u64()?,
            capacity_bytes: input.u64()?,
            inodes_max: input.u64()?,
            block_bytes: input.u32()?,
            trash_days: if input.is_empty() { 0 } else { input.u32()? },
        })
    }
}

/// A name's value: what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dentry {
    pub ino: u64,
    pub kind: pb::FileKind,
}

impl Record for Dentry {
    const KIND: u8 = kind::DENTRY;
    const SIZE_HINT: usize = 9;
    fn write(&self, out: &mut Writer) {
        out.u64(self.ino);
        out.u8(self.kind as i32 as u8);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Dentry { ino: input.u64()?, kind: read_kind(input)? })
    }
}

pub(super) fn read_kind(input: &mut Reader<'_>) -> Result<pb::FileKind, StoreError> {
    match pb::FileKind::try_from(i32::from(input.u8()?)) {
        Ok(kind) if kind != pb::FileKind::Unspecified => Ok(kind),
        _ => Err(input.damaged("unknown file kind")),
    }
}

/// Target of a symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symlink(pub Bytes);

impl Record for Symlink {
    const KIND: u8 = kind::SYMLINK;
    const SIZE_HINT: usize = 64;
    fn write(&self, out: &mut Writer) {
        out.rest(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Symlink(Bytes::copy_from_slice(input.rest())))
    }
}

/// Value of an extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr(pub Bytes);

impl Record for Xattr {
    const KIND: u8 = kind::XATTR;
    const SIZE_HINT: usize = 64;
    fn write(&self, out: &mut Writer) {
        out.rest(&self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Xattr(Bytes::copy_from_slice(input.rest())))
    }
}

/// A slice that nothing names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub slice_len: u32,
}

impl Record for Deleted {
    const KIND: u8 = kind::DELETED;
    const SIZE_HINT: usize = 4;
    fn write(&self, out: &mut Writer) {
        out.u32(self.slice_len);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Deleted { slice_len: input.u32()? })
    }
}

/// How many pieces name a slice, of whichever files. No record: one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceRefs(pub u64);

impl Record for SliceRefs {
    const KIND: u8 = kind::SLICE_REFS;
    const SIZE_HINT: usize = 8;
    fn write(&self, out: &mut Writer) {
        out.u64(self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(SliceRefs(input.u64()?))
    }
}

/// Log index of the last repair of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired(pub u64);

impl Record for Repaired {
    const KIND: u8 = kind::REPAIRED;
    const SIZE_HINT: usize = 8;
    fn write(&self, out: &mut Writer) {
        out.u64(self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Repaired(input.u64()?))
    }
}

/// A key that says all by being there.
pub fn marker() -> Bytes {
    Bytes::from_static(&[1])
}
