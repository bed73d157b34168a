//! What openraft calls a snapshot is a checkpoint (store/checkpoint) with openraft's own meta in its head. Called by
//! raft/state_machine, raft/network and rpc/raft_service.
//!
//! ```text
//!   meta   option(last log id), membership JSON            (convert)
//! ```

use super::convert;
use super::types::SnapshotMeta;
use crate::store::blocks::damaged;
use crate::store::checkpoint::{Head, Reader};
use bytes::{BufMut, Bytes, BytesMut};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// An open checkpoint.
#[derive(Debug)]
pub struct SnapshotFile {
    pub file: File,
    pub bytes: u64,
    /// Where it was received to: it is not one of ours yet.
    pub received: Option<PathBuf>,
}

impl SnapshotFile {
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<SnapshotFile> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(SnapshotFile { file, bytes, received: None })
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// `InvalidData` where its head is damaged.
    pub fn meta(&self) -> io::Result<SnapshotMeta> {
        decode_meta(Reader::open(&self.file)?.head)
    }
}

pub fn encode_meta(meta: &SnapshotMeta) -> Bytes {
    let mut buf = BytesMut::new();
    convert::put_option(&mut buf, &meta.last_log_id);
    buf.put_slice(&convert::encode_stored_membership(&meta.last_membership));
    buf.freeze()
}

/// # Errors
/// `InvalidData`.
pub fn decode_meta(head: Head) -> io::Result<SnapshotMeta> {
    let mut meta = head.meta;
    let last_log_id = convert::get_option(&mut meta).map_err(damaged)?;
    let last_membership = convert::decode_stored_membership(&meta).map_err(damaged)?;
    if last_log_id.map_or(0, |id| id.index) != head.index {
        return Err(damaged("its head contradicts itself"));
    }
    Ok(SnapshotMeta { last_log_id, last_membership })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{LeaderId, LogId, StoredMembership};

    #[test]
    fn meta_comes_back_and_must_fit_the_index() {
        let last_log_id = Some(LogId { leader_id: LeaderId { term: 2, node_id: 1 }, index: 77 });
        let meta = SnapshotMeta { last_log_id, last_membership: StoredMembership::default() };
        let head = |index| Head { index, meta: encode_meta(&meta) };
        assert_eq!(decode_meta(head(77)).expect("decodes"), meta);
        assert!(decode_meta(head(78)).is_err());
        assert!(decode_meta(Head { index: 77, meta: Bytes::from_static(b"\x01short") }).is_err());
    }
}
