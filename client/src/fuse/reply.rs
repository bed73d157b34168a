//! Reply: vfs values as fuser wants them, and back: attributes, kinds, times, errno. Called by the adapter.

use crate::error::ClientError;
use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use holdfast_proto::pb::{self, FileKind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What stat(2) gives as the best size of a request, bytes: stdio and cp take it, and without a write-back cache each of their
/// writes is a request of its own.
pub const BLKSIZE_BYTES: u32 = 128 << 10;
/// Unit of st_blocks, bytes (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// The kernel's root inode, whatever the mounted directory's own number is.
pub const KERNEL_ROOT: u64 = 1;

/// Numbers that the kernel sees for those of the volume: the root of the mount is always 1.
#[derive(Clone, Copy, Debug)]
pub struct InoMap {
    pub root: u64,
}

impl InoMap {
    pub fn to_volume(self, ino: INodeNo) -> u64 {
        if ino.0 == KERNEL_ROOT { self.root } else { ino.0 }
    }

    pub fn to_kernel(self, ino: u64) -> INodeNo {
        INodeNo(if ino == self.root { KERNEL_ROOT } else { ino })
    }
}

pub fn file_attr(map: InoMap, attr: &pb::Attr) -> FileAttr {
    FileAttr {
        ino: map.to_kernel(attr.ino),
        size: attr.size,
        blocks: attr.size.div_ceil(STAT_BLOCK_BYTES),
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: file_type(attr.kind()),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLKSIZE_BYTES,
        flags: 0,
    }
}

pub fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular | FileKind::Unspecified => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::Char => FileType::CharDevice,
        FileKind::Block => FileType::BlockDevice,
    }
}

/// Before 1970, seconds are negative and nanoseconds still count upwards.
fn system_time(time: Option<pb::TimeSpec>) -> SystemTime {
    let pb::TimeSpec { sec, nsec } = time.unwrap_or_default();
    let whole = if sec >= 0 {
        UNIX_EPOCH.checked_add(Duration::from_secs(sec.unsigned_abs()))
    } else {
        UNIX_EPOCH.checked_sub(Duration::from_secs(sec.unsigned_abs()))
    };
    whole.and_then(|whole| whole.checked_add(Duration::new(0, nsec.min(999_999_999)))).unwrap_or(UNIX_EPOCH)
}

/// A time from the kernel. fuser 0.18 makes -2 s + 0.8 s out of (-2, 0.8) by subtracting both: taken apart the same way, the
/// numbers that the kernel sent come back.
pub fn set_time(time: TimeOrNow) -> pb::SetTime {
    let time = match time {
        TimeOrNow::Now => return pb::SetTime { now: true, time: None },
        TimeOrNow::SpecificTime(time) => time,
    };
    let (sec, nsec) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs() as i64, since.subsec_nanos()),
        Err(before) => (0i64.saturating_sub_unsigned(before.duration().as_secs()), before.duration().subsec_nanos()),
    };
    pb::SetTime { now: false, time: Some(pb::TimeSpec { sec, nsec }) }
}

/// The errno an application sees; what is more than a refusal is logged here, once.
pub fn errno(op: &'static str, error: &ClientError) -> Errno {
    if !matches!(error, ClientError::Refused(_)) {
        tracing::warn!(op, %error, "an operation failed");
    }
    Errno::from_i32(error.errno().number() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::FsErrno;

    #[test]
    fn times_before_1970_survive_both_ways() {
        let spec = pb::TimeSpec { sec: -2, nsec: 800_000_000 };
        let shown = system_time(Some(spec));
        assert_eq!(UNIX_EPOCH.duration_since(shown).ok(), Some(Duration::new(1, 200_000_000)));
        // As fuser 0.18 decodes what the kernel sends for it.
        let decoded = UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(set_time(TimeOrNow::SpecificTime(decoded)).time, Some(spec));
    }

    #[test]
    fn nanoseconds_survive_both_ways() {
        let spec = pb::TimeSpec { sec: 1_700_000_000, nsec: 123_456_789 };
        assert_eq!(set_time(TimeOrNow::SpecificTime(system_time(Some(spec)))).time, Some(spec));
        assert!(set_time(TimeOrNow::Now).now);
    }

    #[test]
    fn a_time_that_no_clock_can_show_is_shown_as_the_epoch() {
        assert_eq!(system_time(Some(pb::TimeSpec { sec: i64::MAX, nsec: 4_000_000_000 })), {
            UNIX_EPOCH + Duration::new(i64::MAX as u64, 999_999_999)
        });
    }

    #[test]
    fn the_root_of_the_mount_is_1_for_the_kernel() {
        let map = InoMap { root: 77 };
        assert_eq!((map.to_volume(INodeNo(1)), map.to_kernel(77)), (77, INodeNo(1)));
        assert_eq!((map.to_volume(INodeNo(5)), map.to_kernel(5)), (5, INodeNo(5)));
    }

    #[test]
    fn every_refusal_has_its_own_number() {
        for &refusal in FsErrno::ALL {
            let shown = errno("test", &ClientError::Refused(refusal));
            assert_eq!(i32::from(shown), refusal.number() as i32);
        }
    }
}
