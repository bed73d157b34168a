//! Space: what lseek and copy_file_range look like between the kernel and vfs. Called by the callbacks.

use crate::error::ClientError;
use crate::fuse::view::View;
use crate::vfs::Seek;
use fuser::{CopyFileRangeFlags, ReplyLseek, ReplyWrite};
use holdfast_proto::FsErrno;

/// lseek(2): the kernel asks for these two only.
pub fn seek(offset: i64, whence: i32) -> Result<(u64, Seek), ClientError> {
    let seek = match whence {
        libc::SEEK_DATA => Seek::Data,
        libc::SEEK_HOLE => Seek::Hole,
        _ => return Err(FsErrno::Inval.into()),
    };
    Ok((u64::try_from(offset).map_err(|_| FsErrno::NxIo)?, seek))
}

/// How much of a copy is done at once: the reply counts in 32 bits, and the next copy should begin at a page. copy_file_range(2)
/// has no flags yet.
pub fn copy_len(len: u64, flags: CopyFileRangeFlags) -> Result<u64, ClientError> {
    const LEN_MAX: u64 = !0xfff_u32 as u64;
    if flags.is_empty() { Ok(len.min(LEN_MAX)) } else { Err(FsErrno::Inval.into()) }
}

pub fn offset(_: View, reply: ReplyLseek, offset: u64) {
    reply.offset(offset as i64);
}

/// `copy_len` has made sure that it fits.
pub fn copied(_: View, reply: ReplyWrite, bytes: u64) {
    reply.written(bytes as u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_data_and_holes_are_sought_and_nothing_before_the_file() {
        assert_eq!(seek(7, libc::SEEK_DATA).ok(), Some((7, Seek::Data)));
        assert_eq!(seek(7, libc::SEEK_HOLE).ok(), Some((7, Seek::Hole)));
        assert_eq!(seek(-1, libc::SEEK_DATA).err(), Some(FsErrno::NxIo.into()));
        assert_eq!(seek(7, libc::SEEK_SET).err(), Some(FsErrno::Inval.into()));
    }

    #[test]
    fn a_copy_of_any_length_fits_its_reply() {
        let none = CopyFileRangeFlags::empty();
        assert_eq!(copy_len(5, none).ok(), Some(5));
        assert_eq!(copy_len(u64::MAX, none).ok(), Some(u64::from(u32::MAX) - 4095));
        assert!(copy_len(5, CopyFileRangeFlags::from_bits_retain(1)).is_err());
    }
}
