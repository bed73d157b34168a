//! Statfs: usage of the volume against its limits. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs};
use holdfast_proto::pb::{self, StatfsReply};

/// Unit of the block counts, bytes.
pub const STATFS_BLOCK_BYTES: u64 = 4096;
/// What a volume without a limit shows as free, bytes and inodes: much, and far from any overflow in what reads it.
const UNLIMITED_BYTES: u64 = 1 << 50;
const UNLIMITED_INODES: u64 = 1 << 40;

/// In blocks of STATFS_BLOCK_BYTES, and inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsUsage {
    pub blocks: u64,
    pub blocks_free: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EIO where the cluster does not answer.
    pub async fn statfs(&self, caller: Caller) -> Result<FsUsage, ClientError> {
        Ok(usage(&self.meta.query(&caller.creds(), pb::StatfsQuery {}).await?.reply))
    }
}

fn usage(reply: &StatfsReply) -> FsUsage {
    let (bytes, bytes_free) = of_limit(reply.capacity_bytes, reply.used_bytes, UNLIMITED_BYTES);
    let (inodes, inodes_free) = of_limit(reply.inodes_max, reply.used_inodes, UNLIMITED_INODES);
    FsUsage { blocks: bytes / STATFS_BLOCK_BYTES, blocks_free: bytes_free / STATFS_BLOCK_BYTES, inodes, inodes_free }
}

/// Total and free. Usage may be over a limit that was lowered: then nothing is free.
fn of_limit(limit: u64, used: u64, unlimited: u64) -> (u64, u64) {
    if limit == 0 { (used.saturating_add(unlimited), unlimited) } else { (limit, limit.saturating_sub(used)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_counted_against_the_limit() {
        let reply = StatfsReply { capacity_bytes: 40960, used_bytes: 4096, inodes_max: 10, used_inodes: 3 };
        assert_eq!(usage(&reply), FsUsage { blocks: 10, blocks_free: 9, inodes: 10, inodes_free: 7 });
    }

    #[test]
    fn usage_over_the_limit_leaves_nothing_free() {
        assert_eq!(of_limit(10, 12, 99), (10, 0));
    }

    #[test]
    fn no_limit_shows_much_space_beside_what_is_used() {
        assert_eq!(of_limit(0, 5, 100), (105, 100));
    }
}
