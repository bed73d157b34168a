//! The log's high-water mark: what of the log, and which vote, are known to be on stable storage. Beside the WAL, because the WAL alone
//! cannot tell a torn end, which a power loss may leave and which nobody was promised, from an end that was cut off later: a node that
//! came back without what it had acknowledged would help to elect a leader that lacks it. Called by raft/log_store.
//!
//! One record, written over in place and synced, at most once a second and never before the WAL itself was synced: so it is never
//! beyond the log, and what was cut off within the last second may go unnoticed. A torn or damaged record says nothing.
//!
//! ```text
//! magic 8 bytes | term u64 LE | node u64 LE | index + 1 u64 LE, 0: no entry | term of the vote + 1 u64 LE, 0: none | crc32c u32 LE
//! ```

use super::wal_types::WalLogId;
use crc_fast::CrcAlgorithm;
use holdfast_proto::crash_points::{Point, crash_point};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: &[u8; 8] = b"hfmark01";
const RECORD_BYTES: usize = 44;

/// How far a log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub last: Option<WalLogId>,
    pub vote_term: Option<u64>,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(id) => write!(f, "entry {} of term {}", id.index, id.term)?,
            None => f.write_str("no entry")?,
        }
        match self.vote_term {
            Some(term) => write!(f, " with a vote of term {term}"),
            None => f.write_str(" without a vote"),
        }
    }
}

impl Reach {
    /// Whether a log that reaches as far as `log` has all of this. A shorter log of a later term has: its end was replaced by a leader.
    pub fn is_within(&self, log: &Reach) -> bool {
        let order = |id: Option<WalLogId>| id.map(|id| (id.term, id.index));
        order(self.last) <= order(log.last) && self.vote_term <= log.vote_term
    }

    fn encode(&self) -> [u8; RECORD_BYTES] {
        let (term, node, end) = self.last.map_or((0, 0, 0), |id| (id.term, id.node, id.index + 1));
        let vote = self.vote_term.map_or(0, |term| term + 1);
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        for (slot, number) in bytes[8..40].chunks_exact_mut(8).zip([term, node, end, vote]) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(&bytes[..40]);
        bytes[40..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Reach> {
        let (body, sum) = bytes.get(..RECORD_BYTES)?.split_at(40);
        if &body[..8] != MAGIC || sum != checksum(body).to_le_bytes() {
            return None;
        }
        let number = |at: usize| body[at..at + 8].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let last = number(24).checked_sub(1).map(|index| WalLogId { term: number(8), node: number(16), index });
        Some(Reach { last, vote_term: number(32).checked_sub(1) })
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

pub struct LogMark {
    file: File,
    /// What the file says; None: nothing that can be read.
    pub written: Option<Reach>,
}

impl LogMark {
    /// The mark of the WAL in `wal_dir`, beside it. Directories from before there were marks have none.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn open(wal_dir: &Path) -> io::Result<LogMark> {
        let path = wal_dir.with_extension("mark");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = Vec::new();
        file.by_ref().take(RECORD_BYTES as u64).read_to_end(&mut bytes)?;
        let written = Reach::decode(&bytes);
        if written.is_none() && !bytes.is_empty() {
            tracing::warn!(path = %path.display(), "the mark of what the raft log must hold cannot be read: it is made anew");
        }
        Ok(LogMark { file, written })
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write_if_new(&mut self, reach: Reach) -> io::Result<()> {
        if self.written == Some(reach) {
            return Ok(());
        }
        crash_point(Point::MarkWrite);
        self.file.write_all_at(&reach.encode(), 0)?;
        crash_point(Point::MarkWritten);
        self.file.sync_data()?;
        crash_point(Point::MarkSynced);
        self.written = Some(reach);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(term: u64, index: u64, vote: u64) -> Reach {
        Reach { last: Some(WalLogId { term, node: 2, index }), vote_term: Some(vote) }
    }

    #[test]
    fn what_is_written_is_read_again_and_damage_says_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let wal = dir.path().join("wal");
        assert_eq!(LogMark::open(&wal).expect("opens").written, None);
        LogMark::open(&wal).expect("opens").write_if_new(reach(3, 7, 4)).expect("writes");
        assert_eq!(LogMark::open(&wal).expect("opens").written, Some(reach(3, 7, 4)));
        for at in 0..RECORD_BYTES {
            let mut bytes = reach(3, 7, 4).encode();
            bytes[at] ^= 1;
            assert_eq!(Reach::decode(&bytes), None, "byte {at}");
            assert_eq!(Reach::decode(&bytes[..at]), None, "{at} bytes");
        }
        assert_eq!(Reach::decode(&Reach::default().encode()), Some(Reach::default()));
    }

    #[test]
    fn a_log_holds_what_is_older() {
        let mark = reach(3, 7, 4);
        assert!(mark.is_within(&mark) && mark.is_within(&reach(3, 8, 4)) && Reach::default().is_within(&mark));
        assert!(mark.is_within(&reach(4, 6, 4)), "a later leader replaced its end");
        assert!(!mark.is_within(&reach(3, 6, 4)), "an entry is gone");
        assert!(!mark.is_within(&reach(3, 7, 3)), "a vote is gone");
        assert!(!mark.is_within(&Reach::default()));
    }
}
