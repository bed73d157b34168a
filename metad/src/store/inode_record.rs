//! The INODE and SLICE records: what stat(2) shows, and where the bytes of a file are. Layout in records.rs. Called by apply and query.

use super::StoreError;
use super::codec::{Reader, Record, Writer};
use super::keys::kind;
use super::records::{Stamp, read_kind};
use holdfast_proto::pb::{self, FileKind};

/// What stat(2) shows as the size of a directory, bytes.
const DIRECTORY_SIZE_BYTES: u64 = 4096;

/// An inode; its number is in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    pub ino: u64,
    pub kind: FileKind,
    /// Permission bits, 0o7777.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub size: u64,
    pub atime: Stamp,
    pub mtime: Stamp,
    pub ctime: Stamp,
    pub btime: Stamp,
    /// Log index at which it was made.
    pub generation: u64,
    /// Log index of the last change of the data.
    pub data_version: u64,
    /// Directories only: the ino of "..".
    pub parent: u64,
    /// Directories only: how many names are in it.
    pub entries: u64,
    /// Log index at which it lost its last name; 0 while it has one.
    pub orphaned_at: u64,
    /// Which extended attributes it has: bits of `holdfast_proto::xattr::mark`.
    pub xattrs: u32,
}

impl Inode {
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    pub fn is_regular(&self) -> bool {
        self.kind == FileKind::Regular
    }

    pub fn is_orphan(&self) -> bool {
        self.nlink == 0
    }

    /// Bytes it counts in the volume's usage while it has a name.
    pub fn charge_bytes(&self) -> u64 {
        if self.is_regular() { self.size } else { 0 }
    }

    pub fn to_attr(&self) -> pb::Attr {
        pb::Attr {
            ino: self.ino,
            generation: self.generation,
            kind: self.kind.into(),
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size: if self.is_dir() { DIRECTORY_SIZE_BYTES } else { self.size },
            atime: Some(self.atime.into()),
            mtime: Some(self.mtime.into()),
            ctime: Some(self.ctime.into()),
            btime: Some(self.btime.into()),
            data_version: self.data_version,
            parent: if self.is_dir() { self.parent } else { 0 },
            xattrs: self.xattrs,
        }
    }

    /// # Errors
    /// Stored data is damaged.
    pub fn from_stored(ino: u64, bytes: &[u8]) -> Result<Inode, StoreError> {
        Ok(Inode { ino, ..Inode::decode(bytes)? })
    }
}

fn write_stamp(stamp: Stamp, out: &mut Writer) {
    out.i64(stamp.sec);
    out.u32(stamp.nsec);
}

fn read_stamp(input: &mut Reader<'_>) -> Result<Stamp, StoreError> {
    Ok(Stamp { sec: input.i64()?, nsec: input.u32()? })
}

impl Record for Inode {
    const KIND: u8 = kind::INODE;
    const SIZE_HINT: usize = 1 + 20 + 8 + 48 + 40 + 4;

    fn write(&self, out: &mut Writer) {
        out.u8(self.kind as i32 as u8);
        for field in [self.mode, self.nlink, self.uid, self.gid, self.rdev] {
            out.u32(field);
        }
        out.u64(self.size);
        for stamp in [self.atime, self.mtime, self.ctime, self.btime] {
            write_stamp(stamp, out);
        }
        for field in [self.generation, self.data_version, self.parent, self.entries, self.orphaned_at] {
            out.u64(field);
        }
        // Not written where there is nothing to say: the record of a plain inode is as it always was.
        if self.xattrs != 0 {
            out.u32(self.xattrs);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(Inode {
            ino: 0,
            kind: read_kind(input)?,
            mode: input.u32()?,
            nlink: input.u32()?,
            uid: input.u32()?,
            gid: input.u32()?,
            rdev: input.u32()?,
            size: input.u64()?,
            atime: read_stamp(input)?,
            mtime: read_stamp(input)?,
            ctime: read_stamp(input)?,
            btime: read_stamp(input)?,
            generation: input.u64()?,
            data_version: input.u64()?,
            parent: input.u64()?,
            entries: input.u64()?,
            orphaned_at: input.u64()?,
            xattrs: if input.is_empty() { 0 } else { input.u32()? },
        })
    }
}

/// A piece of a chunk. Chunk and order are in its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePiece {
    /// 0 is a hole: zeros.
    pub slice_id: u64,
    pub chunk_offset: u32,
    pub len: u32,
    pub slice_offset: u32,
    pub slice_len: u32,
    pub block_crc32c: Vec<u32>,
}

impl SlicePiece {
    pub fn from_wire(slice: &pb::Slice) -> SlicePiece {
        SlicePiece {
            slice_id: slice.slice_id,
            chunk_offset: slice.chunk_offset,
            len: slice.len,
            slice_offset: slice.slice_offset,
            slice_len: slice.slice_len,
            block_crc32c: slice.block_crc32c.clone(),
        }
    }

    pub fn into_wire(self, chunk: u32) -> pb::Slice {
        pb::Slice {
            chunk,
            chunk_offset: self.chunk_offset,
            len: self.len,
            slice_id: self.slice_id,
            slice_offset: self.slice_offset,
            slice_len: self.slice_len,
            block_crc32c: self.block_crc32c,
        }
    }

    pub fn hole(chunk_offset: u32, len: u32) -> SlicePiece {
        SlicePiece { slice_id: 0, chunk_offset, len, slice_offset: 0, slice_len: 0, block_crc32c: Vec::new() }
    }

    /// Whether `next` shows what follows in the same slice, right behind it.
    pub fn goes_on_as(&self, next: &SlicePiece) -> bool {
        self.slice_id == next.slice_id
            && self.chunk_end() == u64::from(next.chunk_offset)
            && u64::from(self.slice_offset) + u64::from(self.len) == u64::from(next.slice_offset)
    }

    /// First byte of the chunk after it; in u64, so that damaged records cannot overflow it.
    pub fn chunk_end(&self) -> u64 {
        u64::from(self.chunk_offset) + u64::from(self.len)
    }
}

impl Record for SlicePiece {
    const KIND: u8 = kind::SLICE;
    const SIZE_HINT: usize = 24 + 8;

    fn write(&self, out: &mut Writer) {
        out.u64(self.slice_id);
        for field in [self.chunk_offset, self.len, self.slice_offset, self.slice_len] {
            out.u32(field);
        }
        for &crc in &self.block_crc32c {
            out.u32(crc);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        let mut piece = SlicePiece {
            slice_id: input.u64()?,
            chunk_offset: input.u32()?,
            len: input.u32()?,
            slice_offset: input.u32()?,
            slice_len: input.u32()?,
            block_crc32c: Vec::with_capacity(1),
        };
        while !input.is_empty() {
            piece.block_crc32c.push(input.u32()?);
        }
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::*;
    use bytes::Bytes;
    use holdfast_proto::FsErrno;

    fn inode() -> Inode {
        let stamp = |sec| Stamp { sec, nsec: 5 };
        Inode {
            ino: 0,
            kind: FileKind::Directory,
            mode: 0o1755,
            nlink: 2,
            uid: 3,
            gid: 4,
            rdev: 5,
            size: 6,
            atime: stamp(-7),
            mtime: stamp(8),
            ctime: stamp(9),
            btime: stamp(10),
            generation: 11,
            data_version: 12,
            parent: 13,
            entries: 14,
            orphaned_at: 15,
            xattrs: 3,
        }
    }

    fn round_trip<R: Record + PartialEq + std::fmt::Debug>(record: &R) {
        let bytes = record.encode();
        assert_eq!(&R::decode(&bytes).expect("decodes"), record);
        for len in 0..bytes.len() {
            // A shorter record is an error or, where it ends in free bytes, another record; never a panic.
            let _ = R::decode(&bytes[..len]);
        }
        let mut newer = bytes.to_vec();
        newer[0] = 99;
        assert!(matches!(R::decode(&newer), Err(StoreError::RecordVersion { found: 99, .. })));
    }

    #[test]
    fn every_record_survives_its_encoding_and_refuses_newer_versions() {
        round_trip(&inode());
        round_trip(&Inode { xattrs: 0, ..inode() });
        round_trip(&Stamp { sec: -1, nsec: 999 });
        round_trip(&Counters { next_session: 9, next_volume: 2 });
        round_trip(&VolumeRef(7));
        round_trip(&SessionRef(8));
        round_trip(&Session { volume: 1, opened_index: 2, watermark: 3 });
        round_trip(&SessionDetails {
            uuid: [7; 16],
            info: pb::SessionInfo { session: 5, host: "h".into(), ..Default::default() },
        });
        round_trip(&Slot { seq: 4, result: Ok(Bytes::from_static(b"reply")) });
        round_trip(&Slot { seq: 4, result: Err(FsErrno::NoEnt) });
        round_trip(&Usage { next_ino: 2, used_bytes: 3, block_bytes: 4, ..Usage::default() });
        round_trip(&Dentry { ino: 7, kind: FileKind::Fifo });
        round_trip(&Symlink(Bytes::from_static(b"../x")));
        round_trip(&Deleted { slice_len: 9 });
        round_trip(&SliceRefs(3));
        round_trip(&Repaired(4));
        let piece = SlicePiece {
            slice_id: 1,
            chunk_offset: 2,
            len: 3,
            slice_offset: 4,
            slice_len: 5,
            block_crc32c: vec![6, 7],
        };
        round_trip(&piece);
    }

    #[test]
    fn settings_are_the_same_bytes_whatever_the_order_of_their_maps() {
        let storage = |n: u32| pb::Storage {
            kind: "s3".into(),
            url: "u".into(),
            options: (0..n).map(|i| (format!("o{i}"), "v".into())).collect(),
            secrets: (0..n).rev().map(|i| (format!("s{i}"), "v".into())).collect(),
        };
        let settings =
            || pb::VolumeSettings { id: 1, name: "a".into(), storage: Some(storage(20)), ..Default::default() };
        assert_eq!(Settings(settings()).encode(), Settings(settings()).encode());
        round_trip(&Settings(settings()));
    }

    #[test]
    fn a_damaged_inode_is_an_error() {
        let good = inode().encode();
        assert!(matches!(Inode::decode(&good[..20]), Err(StoreError::Damaged { .. })));
        let mut kind = good.to_vec();
        kind[1] = 200;
        assert!(matches!(Inode::decode(&kind), Err(StoreError::Damaged { .. })));
    }
}
