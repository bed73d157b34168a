//! (P) Every object name below the volume's prefix. Called by data/{upload,blocks,reclaim} and retry.
//!
//! `chunks/<id / 1 000 000>/<id / 1000 % 1000>/<id>_<block index>_<length>`, all decimal. Ids grow, so a directory of a `file` store
//! gets the blocks of 1000 slices and is then left alone. The length in the name makes a truncated copy visible in a listing.

/// Where all blocks are.
pub const BLOCKS_PREFIX: &str = "chunks";

/// Name of block `index` of a slice; `len` is its stored length, bytes.
pub fn block_key(slice_id: u64, index: u32, len: u32) -> String {
    format!("{BLOCKS_PREFIX}/{}/{}/{slice_id}_{index}_{len}", slice_id / 1_000_000, slice_id / 1000 % 1000)
}

/// Stored length of the block with this name, bytes; 0 for what is no block.
pub fn block_len(key: &str) -> u64 {
    key.rsplit_once('_').and_then(|(_, len)| len.parse::<u32>().ok()).map_or(0, u64::from)
}

/// What the name of a block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockName {
    pub slice_id: u64,
    pub index: u32,
    /// Bytes.
    pub len: u32,
}

impl BlockName {
    /// None for what is not named as we name blocks.
    pub fn parse(key: &str) -> Option<BlockName> {
        let mut parts = key.rsplit('/').next()?.split('_');
        let (slice_id, index, len) = (parts.next()?, parts.next()?, parts.next()?);
        let name = BlockName { slice_id: slice_id.parse().ok()?, index: index.parse().ok()?, len: len.parse().ok()? };
        // Only what would be called so: no other place, no zeros in front.
        Some(name).filter(|name| name.key() == key)
    }

    pub fn key(&self) -> String {
        block_key(self.slice_id, self.index, self.len)
    }
}

/// Blocks of a slice of `slice_len` bytes.
pub fn slice_blocks(slice_id: u64, slice_len: u32, block_bytes: u32) -> impl Iterator<Item = BlockName> {
    (0..slice_len.div_ceil(block_bytes)).map(move |index| {
        let len = block_bytes.min(slice_len - index * block_bytes);
        BlockName { slice_id, index, len }
    })
}

/// Names of all blocks of a slice of `slice_len` bytes.
pub fn slice_keys(slice_id: u64, slice_len: u32, block_bytes: u32) -> Vec<String> {
    slice_blocks(slice_id, slice_len, block_bytes).map(|block| block.key()).collect()
}

/// The prefix of a volume's objects inside its bucket.
pub fn volume_prefix(name: &str, uuid: &[u8]) -> String {
    let hex: String = uuid.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}-{hex}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_named_by_slice_index_and_length() {
        assert_eq!(block_key((7 << 32) | 12, 3, 4096), "chunks/30064/771/30064771084_3_4096");
        assert_eq!(block_len("chunks/30064/771/30064771084_3_4096"), 4096);
        assert_eq!((block_len("proof/0123"), block_len("a_9999999999999")), (0, 0));
    }

    #[test]
    fn only_a_name_that_we_would_give_is_a_blocks() {
        let name = BlockName { slice_id: (7 << 32) | 12, index: 3, len: 4096 };
        assert_eq!(BlockName::parse(&name.key()), Some(name));
        for key in [
            "chunks/30064/771/30064771084_3",
            "chunks/30064/772/30064771084_3_4096",
            "chunks/30064/771/030064771084_3_4096",
            "chunks/30064/771/30064771084_3_4096_1",
            "chunks/30064/771/30064771084_3_4096.tmp",
            "30064771084_3_4096",
            "",
        ] {
            assert_eq!(BlockName::parse(key), None, "{key}");
        }
    }

    #[test]
    fn the_last_block_of_a_slice_is_short() {
        assert_eq!(slice_keys(5, 100, 64), ["chunks/0/0/5_0_64", "chunks/0/0/5_1_36"]);
        assert_eq!(slice_keys(5, 128, 64), ["chunks/0/0/5_0_64", "chunks/0/0/5_1_64"]);
        assert!(slice_keys(5, 0, 64).is_empty());
    }

    #[test]
    fn a_volume_prefix_is_name_and_eight_hex_digits() {
        assert_eq!(volume_prefix("home", &[0xab, 1, 2, 3, 4, 5]), "home-ab010203/");
    }
}
