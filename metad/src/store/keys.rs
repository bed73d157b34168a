//! Every key of the state, by byte. Integers are big-endian, so that key order is number order. A key starts with the volume
//! (u32; 0 is the cluster itself) and a kind byte; a kind that was ever used is reserved for ever. Values are in `records`.
//!
//! ```text
//! volume 0, the cluster:
//!   00000000 01                                   CLOCK         newest time any entry carried
//!   00000000 02                                   COUNTERS      next session, next volume
//!   00000000 03 | name                            VOLUME_NAME   e.g. 00000000 03 "photos" -> volume 1
//!   00000000 04 | session u64                     SESSION       what every mutation of it needs
//!   00000000 05 | session u64                     SESSION_INFO  who it is, for people
//!   00000000 06 | uuid 16 bytes                   SESSION_UUID  makes opening idempotent
//!   00000000 07 | session u64 | slot u32          SLOT          last seq and its result
//!   00000000 10                                   RAFT_APPLIED  opaque, written by raft/state_machine
//!   00000000 11                                   RAFT_MEMBERSHIP
//!   00000000 50 | node u64                        NODE          a member of the cluster, and which life of its disk
//!   00000000 51                                   FOUNDING      there while the cluster is being founded
//! volume 1 and up:
//!   vvvvvvvv 20                                   SETTINGS      pb::VolumeSettings
//!   vvvvvvvv 21                                   USAGE         counters and limits, the hot part of a volume
//!   vvvvvvvv 22 | ino u64                         INODE         e.g. 00000001 22 0000000000000001: the root of volume 1
//!   vvvvvvvv 23 | parent u64 | hash u64 | name    DENTRY        in hash order: the hash is the readdir cookie
//!   vvvvvvvv 24 | ino u64 | chunk u32 | order u64 SLICE         later order hides earlier; order = log index << 16 | n
//!   vvvvvvvv 25 | ino u64                         SYMLINK       target
//!   vvvvvvvv 26 | log index u64 | ino u64         ORPHAN        lost its last name at this index
//!   vvvvvvvv 27 | ino u64 | session u64           HOLD          the session has this orphan open
//!   vvvvvvvv 28 | session u64 | ino u64           SESSION_HOLD  the same, to be found from the session
//!   vvvvvvvv 29 | slice id u64                    DELETED       nothing names it; its objects may be deleted
//!   vvvvvvvv 2a | ino u64 | name                  XATTR         an extended attribute's value
//!   vvvvvvvv 2d | slice id u64                    SLICE_REFS    how many pieces name it, where it is more than one
//!   vvvvvvvv 2b | ino u64                         LOCK          all locks of a file, and who waits for one
//!   vvvvvvvv 2c | session u64 | 00                SESSION_LOCK  how many ranges the session has locked or waits for
//!   vvvvvvvv 2c | session u64 | 01 | ino u64                    it has locks of this file, or waits for one
//!   vvvvvvvv 2c | session u64 | 02 | owner u64 | ino u64        this owner waits for a range of this file
//!   vvvvvvvv 54                                   REPAIRED      log index of the last repair; findings older than it are void
//! volume ffffffff is the store's own (see sled_image) and never part of the state.
//! ```

use super::StoreError;
use bytes::Bytes;
use std::ops::Deref;

macro_rules! kinds {
    ($($name:ident = $byte:literal),* $(,)?) => {
        $(pub const $name: u8 = $byte;)*

        /// What a kind is called in reports; empty for one that is not known.
        pub fn name(kind: u8) -> &'static str {
            match kind {
                $($byte => stringify!($name),)*
                _ => "",
            }
        }
    };
}

/// The kind byte of each key.
pub mod kind {
    kinds! {
        CLOCK = 0x01,
        COUNTERS = 0x02,
        VOLUME_NAME = 0x03,
        SESSION = 0x04,
        SESSION_INFO = 0x05,
        SESSION_UUID = 0x06,
        SLOT = 0x07,
        RAFT_APPLIED = 0x10,
        RAFT_MEMBERSHIP = 0x11,
        SETTINGS = 0x20,
        USAGE = 0x21,
        INODE = 0x22,
        DENTRY = 0x23,
        SLICE = 0x24,
        SYMLINK = 0x25,
        ORPHAN = 0x26,
        HOLD = 0x27,
        SESSION_HOLD = 0x28,
        DELETED = 0x29,
        XATTR = 0x2a,
        LOCK = 0x2b,
        SESSION_LOCK = 0x2c,
        SLICE_REFS = 0x2d,
        REPAIRED = 0x54,
        NODE = 0x50,
        FOUNDING = 0x51,
    }
}

/// The cluster's own pseudo volume.
pub const CLUSTER: u32 = 0;
/// Keys from here on belong to the store itself.
pub const STATE_END: [u8; 4] = [0xff; 4];

/// What all keys but those of long names fit into.
const SHORT_BYTES: usize = 56;
/// volume, kind, parent, hash and a name of 255 bytes.
const KEY_BYTES_MAX: usize = 4 + 1 + 8 + 8 + 255;

/// A key under construction or for a look-up; most take no heap allocation.
#[derive(Clone)]
pub struct Key {
    len: usize,
    short: [u8; SHORT_BYTES],
    /// All of the key, where it is longer than `short`; else empty.
    long: Vec<u8>,
}

impl Key {
    fn new(volume: u32, kind: u8) -> Key {
        let mut key = Key { len: 0, short: [0; SHORT_BYTES], long: Vec::new() };
        key.push(&volume.to_be_bytes());
        key.push(&[kind]);
        key
    }

    /// A key as it was found.
    pub fn from_stored(bytes: &[u8]) -> Key {
        Key { len: 0, short: [0; SHORT_BYTES], long: Vec::new() }.with(bytes)
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        if self.long.is_empty() && end <= SHORT_BYTES {
            self.short[self.len..end].copy_from_slice(part);
        } else {
            if self.long.is_empty() {
                self.long.reserve(KEY_BYTES_MAX.max(end));
                self.long.extend_from_slice(&self.short[..self.len]);
            }
            self.long.extend_from_slice(part);
        }
        self.len = end;
    }

    fn with_u64(mut self, value: u64) -> Key {
        self.push(&value.to_be_bytes());
        self
    }

    fn with_u32(mut self, value: u32) -> Key {
        self.push(&value.to_be_bytes());
        self
    }

    fn with(mut self, part: &[u8]) -> Key {
        self.push(part);
        self
    }

    pub fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }

    /// The first key after all that start with this one.
    pub fn end(&self) -> Key {
        let mut end = self.clone();
        while let Some(last) = end.len.checked_sub(1) {
            let byte = if end.long.is_empty() { &mut end.short[last] } else { &mut end.long[last] };
            if *byte < 0xff {
                *byte += 1;
                break;
            }
            end.long.truncate(last);
            end.len = last;
        }
        end
    }
}

impl Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.len] } else { &self.long }
    }
}

pub fn clock() -> Key {
    Key::new(CLUSTER, kind::CLOCK)
}
pub fn counters() -> Key {
    Key::new(CLUSTER, kind::COUNTERS)
}
pub fn volume_name(name: &str) -> Key {
    Key::new(CLUSTER, kind::VOLUME_NAME).with(name.as_bytes())
}
/// All volumes, by name.
pub fn volume_names() -> Key {
    Key::new(CLUSTER, kind::VOLUME_NAME)
}
pub fn session(session: u64) -> Key {
    Key::new(CLUSTER, kind::SESSION).with_u64(session)
}
/// All sessions, by id.
pub fn sessions() -> Key {
    Key::new(CLUSTER, kind::SESSION)
}
pub fn session_info(session: u64) -> Key {
    Key::new(CLUSTER, kind::SESSION_INFO).with_u64(session)
}
pub fn session_uuid(uuid: &[u8]) -> Key {
    Key::new(CLUSTER, kind::SESSION_UUID).with(uuid)
}
pub fn slot(session: u64, slot: u32) -> Key {
    Key::new(CLUSTER, kind::SLOT).with_u64(session).with_u32(slot)
}
/// All slots of a session.
pub fn slots(session: u64) -> Key {
    Key::new(CLUSTER, kind::SLOT).with_u64(session)
}
/// All slots of all sessions.
pub fn all_slots() -> Key {
    Key::new(CLUSTER, kind::SLOT)
}
/// Raft's last applied log id: opaque here, put into each batch by raft/state_machine.
pub fn raft_applied() -> Bytes {
    Bytes::from_static(&[0, 0, 0, 0, kind::RAFT_APPLIED])
}
/// Raft's last applied membership: opaque here, as `raft_applied`.
pub fn raft_membership() -> Bytes {
    Bytes::from_static(&[0, 0, 0, 0, kind::RAFT_MEMBERSHIP])
}
pub fn node(id: u64) -> Key {
    nodes().with_u64(id)
}
/// All members of the cluster, by id.
pub fn nodes() -> Key {
    Key::new(CLUSTER, kind::NODE)
}
pub fn founding() -> Key {
    Key::new(CLUSTER, kind::FOUNDING)
}

pub fn settings(volume: u32) -> Key {
    Key::new(volume, kind::SETTINGS)
}
pub fn usage(volume: u32) -> Key {
    Key::new(volume, kind::USAGE)
}
pub fn inode(volume: u32, ino: u64) -> Key {
    Key::new(volume, kind::INODE).with_u64(ino)
}
pub fn inodes(volume: u32) -> Key {
    Key::new(volume, kind::INODE)
}
pub fn dentry(volume: u32, parent: u64, name: &[u8]) -> Key {
    dentries_from(volume, parent, name_hash(name)).with(name)
}
/// All entries of a directory.
pub fn dentries(volume: u32, parent: u64) -> Key {
    Key::new(volume, kind::DENTRY).with_u64(parent)
}
/// Where the entries of this hash begin.
pub fn dentries_from(volume: u32, parent: u64, hash: u64) -> Key {
    dentries(volume, parent).with_u64(hash)
}
pub fn all_dentries(volume: u32) -> Key {
    Key::new(volume, kind::DENTRY)
}
pub fn slice(volume: u32, ino: u64, chunk: u32, order: u64) -> Key {
    chunk_slices(volume, ino, chunk).with_u64(order)
}
/// All slices of one chunk; also where the slices of this chunk and later ones begin.
pub fn chunk_slices(volume: u32, ino: u64, chunk: u32) -> Key {
    slices(volume, ino).with_u32(chunk)
}
/// All slices of a file.
pub fn slices(volume: u32, ino: u64) -> Key {
    Key::new(volume, kind::SLICE).with_u64(ino)
}
pub fn all_slices(volume: u32) -> Key {
    Key::new(volume, kind::SLICE)
}
pub fn symlink(volume: u32, ino: u64) -> Key {
    Key::new(volume, kind::SYMLINK).with_u64(ino)
}
pub fn symlinks(volume: u32) -> Key {
    Key::new(volume, kind::SYMLINK)
}
pub fn orphan(volume: u32, log_index: u64, ino: u64) -> Key {
    Key::new(volume, kind::ORPHAN).with_u64(log_index).with_u64(ino)
}
/// All orphans, oldest first.
pub fn orphans(volume: u32) -> Key {
    Key::new(volume, kind::ORPHAN)
}
/// Where the orphans of this log index begin.
pub fn orphans_from(volume: u32, log_index: u64) -> Key {
    orphans(volume).with_u64(log_index)
}
pub fn hold(volume: u32, ino: u64, session: u64) -> Key {
    holds(volume, ino).with_u64(session)
}
/// All holds of one orphan.
pub fn holds(volume: u32, ino: u64) -> Key {
    Key::new(volume, kind::HOLD).with_u64(ino)
}
pub fn all_holds(volume: u32) -> Key {
    Key::new(volume, kind::HOLD)
}
pub fn session_hold(volume: u32, session: u64, ino: u64) -> Key {
    session_holds(volume, session).with_u64(ino)
}
/// All holds of one session.
pub fn session_holds(volume: u32, session: u64) -> Key {
    Key::new(volume, kind::SESSION_HOLD).with_u64(session)
}
pub fn all_session_holds(volume: u32) -> Key {
    Key::new(volume, kind::SESSION_HOLD)
}
pub fn deleted(volume: u32, slice_id: u64) -> Key {
    Key::new(volume, kind::DELETED).with_u64(slice_id)
}
pub fn all_deleted(volume: u32) -> Key {
    Key::new(volume, kind::DELETED)
}
pub fn slice_refs(volume: u32, slice_id: u64) -> Key {
    Key::new(volume, kind::SLICE_REFS).with_u64(slice_id)
}
pub fn all_slice_refs(volume: u32) -> Key {
    Key::new(volume, kind::SLICE_REFS)
}

pub fn repaired(volume: u32) -> Key {
    Key::new(volume, kind::REPAIRED)
}

pub fn xattr(volume: u32, ino: u64, name: &[u8]) -> Key {
    xattrs(volume, ino).with(name)
}
/// All extended attributes of an inode, by name.
pub fn xattrs(volume: u32, ino: u64) -> Key {
    Key::new(volume, kind::XATTR).with_u64(ino)
}
pub fn all_xattrs(volume: u32) -> Key {
    Key::new(volume, kind::XATTR)
}

pub fn lock(volume: u32, ino: u64) -> Key {
    all_locks(volume).with_u64(ino)
}
/// All files' locks.
pub fn all_locks(volume: u32) -> Key {
    Key::new(volume, kind::LOCK)
}
pub fn lock_count(volume: u32, session: u64) -> Key {
    session_locks(volume, session).with(&[LOCK_COUNT])
}
/// All of a session's keys about locks.
pub fn session_locks(volume: u32, session: u64) -> Key {
    all_session_locks(volume).with_u64(session)
}
pub fn all_session_locks(volume: u32) -> Key {
    Key::new(volume, kind::SESSION_LOCK)
}
pub fn locked_file(volume: u32, session: u64, ino: u64) -> Key {
    locked_files(volume, session).with_u64(ino)
}
/// All files of which a session has locks, or waits for one.
pub fn locked_files(volume: u32, session: u64) -> Key {
    session_locks(volume, session).with(&[LOCKED_FILE])
}
pub fn lock_waiter(volume: u32, session: u64, owner: u64, ino: u64) -> Key {
    lock_waiters(volume, session, owner).with_u64(ino)
}
/// All files that an owner waits for a range of.
pub fn lock_waiters(volume: u32, session: u64, owner: u64) -> Key {
    session_locks(volume, session).with(&[LOCK_WAITER]).with_u64(owner)
}

/// Parts of SESSION_LOCK.
const LOCK_COUNT: u8 = 0;
const LOCKED_FILE: u8 = 1;
const LOCK_WAITER: u8 = 2;

/// The integers that follow the prefix of `prefix_len` bytes in a stored key.
///
/// # Errors
/// The key is shorter than that: stored data is damaged.
pub fn tail_u64(key: &[u8], prefix_len: usize) -> Result<u64, StoreError> {
    let bytes = key.get(prefix_len..prefix_len + 8).and_then(|b| b.try_into().ok());
    bytes
        .map(u64::from_be_bytes)
        .ok_or_else(|| StoreError::Damaged { what: "key", detail: format!("too short: {key:02x?}") })
}

/// As `tail_u64`, for a u32.
///
/// # Errors
/// The key is shorter than that: stored data is damaged.
pub fn tail_u32(key: &[u8], prefix_len: usize) -> Result<u32, StoreError> {
    let bytes = key.get(prefix_len..prefix_len + 4).and_then(|b| b.try_into().ok());
    bytes
        .map(u32::from_be_bytes)
        .ok_or_else(|| StoreError::Damaged { what: "key", detail: format!("too short: {key:02x?}") })
}

/// Bytes before the first field of a key: volume and kind.
pub const HEAD_BYTES: usize = 5;

/// Smallest readdir cookie: 0 starts a listing, 1 and 2 are "." and "..".
pub const COOKIE_MIN: u64 = 3;

/// Stable hash of a name, which is its readdir cookie: in [3, 2^63), since lseek(2) offsets are signed. FNV-1a, with the
/// finalizer of MurmurHash3 so that names that differ in their last byte only are spread as well.
pub fn name_hash(name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    ((hash ^ (hash >> 33)) & (u64::MAX >> 1)).max(COOKIE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_documented_bytes() {
        assert_eq!(&*inode(1, 1), [0, 0, 0, 1, 0x22, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(&*volume_name("photos"), b"\0\0\0\0\x03photos");
        assert_eq!(&*slot(2, 3), [0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(&raft_applied()[..], &*Key::new(CLUSTER, kind::RAFT_APPLIED));
        assert_eq!(&raft_membership()[..], &*Key::new(CLUSTER, kind::RAFT_MEMBERSHIP));
        let long = dentry(1, 2, &[7; 255]);
        assert_eq!((&*Key::from_stored(&long), &*Key::from_stored(&inode(1, 1))), (&*long, &*inode(1, 1)));
    }

    #[test]
    fn hashes_of_names_never_change_and_leave_room_for_dots() {
        assert_eq!(name_hash(b"a"), 0x02a2_a958_a9be_ce5b);
        for n in 0..10_000_u32 {
            let hash = name_hash(&n.to_le_bytes());
            assert!((COOKIE_MIN..1 << 63).contains(&hash));
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_after_all_its_keys_and_before_the_next() {
        let prefix = dentries(1, u64::MAX);
        assert!(*dentry(1, u64::MAX, b"x") < *prefix.end());
        assert!(*prefix.end() <= *Key::new(1, kind::DENTRY + 1));
        assert!(*slices(7, 4).end() == *slices(7, 5));
        let long = dentry(1, 2, &[0xff; 255]);
        assert_eq!(long.len(), KEY_BYTES_MAX);
        assert_eq!(&long[SHORT_BYTES..], &[0xff; KEY_BYTES_MAX - SHORT_BYTES]);
        assert!(*long < *long.end() && *long.end() <= *dentries(1, 2).end());
    }

    #[test]
    fn a_key_that_is_too_short_is_damage() {
        assert_eq!(tail_u64(&inode(1, 77), HEAD_BYTES).ok(), Some(77));
        assert!(matches!(tail_u64(&inodes(1), HEAD_BYTES), Err(StoreError::Damaged { .. })));
        assert!(matches!(tail_u32(&inodes(1), HEAD_BYTES), Err(StoreError::Damaged { .. })));
    }
}
