//! Problem: one thing that is wrong with a state, as data; its words are what people read. Found by invariants and lock_invariants, told
//! by query/verify and query/upkeep, repaired by apply/repair.

use crate::store::inode_record::SlicePiece;
use crate::store::lock_record::Wait;
use bytes::Bytes;
use holdfast_proto::range_lock::Held;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// 0: the cluster itself.
    pub volume: u32,
    pub what: What,
}

/// The counters of a volume: bytes, inodes, orphans, deleted slices.
pub type Counted = (u64, u64, u64, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    SessionDetails { session: u64 },
    SessionUuid { session: u64 },
    SessionCounter { next: u64, seen: u64 },
    Slot { session: u64, slot: u32 },
    EntryHash { parent: u64, key: Bytes },
    EntryParent { parent: u64, name: Bytes },
    EntryNames { parent: u64, name: Bytes, ino: u64 },
    DotDot { ino: u64, parent: u64 },
    ManyNames { ino: u64, names: Vec<(u64, Bytes)> },
    Nlink { ino: u64, found: u32, wanted: u32 },
    Entries { ino: u64, found: u64, wanted: u64 },
    InodeCounter { ino: u64 },
    OrphanOrNot { ino: u64, names: u32 },
    Mode { ino: u64, mode: u32 },
    Root,
    NotBelowRoot { dir: u64 },
    Usage { found: Counted, wanted: Counted },
    Target { ino: u64 },
    NoTarget { ino: u64 },
    XattrInode { ino: u64 },
    Acl { ino: u64, mode: u32 },
    Marks { ino: u64, found: u32, wanted: u32 },
    SliceFile { at: SliceAt, end: u64, size: Option<u64> },
    SliceBounds { at: SliceAt, piece: SlicePiece },
    SliceDeleted { ino: u64, slice_id: u64 },
    SliceRefs { slice_id: u64, found: u64, wanted: u64 },
    OrphanListed { ino: u64, orphaned_at: u64 },
    OrphanUnlisted { ino: u64, orphaned_at: u64 },
    HoldSides { ino: u64, session: u64 },
    Hold { ino: u64, session: u64 },
    LockRecord { ino: u64 },
    LockTwice { ino: u64, one: Held, other: Held },
    LockSession { ino: u64, session: u64 },
    LockWait { ino: u64, wait: Wait },
    LockKey { key: Bytes, found: Option<Bytes>, wanted: Option<Bytes> },
}

/// Where a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceAt {
    pub ino: u64,
    pub chunk: u32,
    pub order: u64,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.volume != 0 {
            write!(f, "volume {}: ", self.volume)?;
        }
        self.what.fmt(f)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::SessionDetails { session } => write!(f, "session {session} has no details"),
            What::SessionUuid { session } => write!(f, "session {session} is not found by its uuid"),
            What::SessionCounter { next, seen } => {
                write!(f, "the next session would be {next}, but there has been session {seen}")
            }
            What::Slot { session, slot } => write!(f, "slot {slot} of session {session}, which has ended"),
            What::EntryHash { parent, .. } => write!(f, "an entry of directory {parent} is under a wrong hash"),
            What::EntryParent { parent, name } => write!(f, "an entry {name:?} in {parent}, no directory"),
            What::EntryNames { parent, ino, .. } => write!(f, "an entry in {parent} names {ino}, not such a thing"),
            What::DotDot { ino, .. } => write!(f, "directory {ino}: wrong .."),
            What::ManyNames { ino, names } => write!(f, "directory {ino} has {} names", names.len()),
            What::Nlink { ino, found, wanted } => write!(f, "inode {ino}: nlink {found} and not {wanted}"),
            What::Entries { ino, found, wanted } => write!(f, "inode {ino}: {found} entries and not {wanted}"),
            What::InodeCounter { ino } => write!(f, "inode {ino} is beyond the counter"),
            What::OrphanOrNot { ino, .. } => write!(f, "inode {ino}: orphan or not?"),
            What::Mode { ino, mode } => write!(f, "inode {ino}: mode {mode:o}"),
            What::Root => write!(f, "no root"),
            What::NotBelowRoot { dir } => write!(f, "directory {dir} is not below the root"),
            What::Usage { found, wanted } => {
                write!(f, "usage (bytes, inodes, orphans, deleted) {found:?} and not {wanted:?}")
            }
            What::Target { ino } => write!(f, "a target without its symlink {ino}"),
            What::NoTarget { ino } => write!(f, "symlink {ino} without its target"),
            What::XattrInode { ino } => write!(f, "an extended attribute without its inode {ino}"),
            What::Acl { ino, mode } => write!(f, "the ACL of inode {ino} does not agree with its mode {mode:o}"),
            What::Marks { ino, found, wanted } => {
                write!(f, "inode {ino} is marked {found:#x}, its attributes are {wanted:#x}")
            }
            other => other.fmt_data(f),
        }
    }
}

impl What {
    /// Whether it is about locks.
    pub fn is_lock(&self) -> bool {
        matches!(
            self,
            What::LockRecord { .. }
                | What::LockTwice { .. }
                | What::LockSession { .. }
                | What::LockWait { .. }
                | What::LockKey { .. }
        )
    }

    /// The words of what is about slices, orphans and locks.
    fn fmt_data(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::SliceFile { at, end, size } => write!(f, "a slice of {} ends at {end}, size {size:?}", at.ino),
            What::SliceBounds { at, piece } => write!(f, "a slice of {} is out of bounds: {piece:?}", at.ino),
            What::SliceDeleted { ino, slice_id } => write!(f, "slice {slice_id} of {ino} is deleted"),
            What::SliceRefs { slice_id, found, wanted } => {
                write!(f, "slice {slice_id}, shared by pieces: counted {found} and not {wanted}")
            }
            What::OrphanListed { ino, orphaned_at } => {
                write!(f, "{ino} is listed as orphan of log index {orphaned_at} and is none")
            }
            What::OrphanUnlisted { ino, orphaned_at } => {
                write!(f, "orphan {ino} of log index {orphaned_at} is not listed")
            }
            What::HoldSides { ino, session } => write!(f, "a hold of {ino} by session {session} has one side only"),
            What::Hold { ino, session } => write!(f, "session {session} holds {ino}"),
            What::LockRecord { ino } => write!(f, "a record of locks of {ino}, which has none or is no file"),
            What::LockTwice { ino, one, other } => write!(f, "{one:?} and {other:?} are both locked in {ino}"),
            What::LockSession { ino, session } => write!(f, "a lock of {ino} by session {session}, which has ended"),
            What::LockWait { ino, wait } => write!(f, "{wait:?} waits for {ino}, and nothing is in its way"),
            What::LockKey { key, found, wanted } => {
                write!(f, "locks by session: {:02x?} is {found:02x?} and not {wanted:02x?}", &key[..])
            }
            _ => Ok(()),
        }
    }
}
