//! Quota: the volume's limits, checked before anything is written.
//!
//! What counts: `used_bytes` is the sum of the sizes of all regular files that have a name. So it is what `du --apparent-size`
//! adds up, a hole counts as it would when filled, data hidden by overwriting does not count, and removing the last name gives
//! the room back at once even while the file is still open. `used_inodes` is every inode that has a name, but
//! not the root. What is in the trash has a name; the trash's own directories are not counted.

use super::context::Ruling;
use crate::store::records::Usage;
use holdfast_proto::FsErrno;

/// Part of a limit that is kept free by not filling the trash any more: a twentieth.
const RESERVE_PARTS: u64 = 20;

/// Whether there is so little room left that what is removed must give its room back. Being full is not enough: whoever is refused a large
/// file before that removes something to have room for it.
pub fn is_nearly_full(usage: &Usage) -> bool {
    let nearly = |used: u64, limit: u64| limit != 0 && used >= limit - limit / RESERVE_PARTS;
    nearly(usage.used_bytes, usage.capacity_bytes) || nearly(usage.used_inodes, usage.inodes_max)
}

/// ENOSPC where one more inode would be over the limit.
pub fn check_inode(usage: &Usage) -> Ruling<()> {
    let full = usage.inodes_max != 0 && usage.used_inodes >= usage.inodes_max;
    if full { Err(FsErrno::NoSpc.into()) } else { Ok(()) }
}

/// ENOSPC where so many more bytes would be over the limit.
pub fn check_bytes(usage: &Usage, growth_bytes: u64) -> Ruling<()> {
    let full = growth_bytes != 0
        && usage.capacity_bytes != 0
        && usage.used_bytes.saturating_add(growth_bytes) > usage.capacity_bytes;
    if full { Err(FsErrno::NoSpc.into()) } else { Ok(()) }
}

/// Counts a file's new size in place of the old one. The difference, also where the count is too low: a repair adds what is missing.
pub fn count_resize(usage: &mut Usage, old_bytes: u64, new_bytes: u64) {
    usage.used_bytes = usage.used_bytes.saturating_add(new_bytes).saturating_sub(old_bytes);
}
