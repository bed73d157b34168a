//! The torn end of a log after a power loss. The disk may have kept any sectors of what was not synced yet, so that a record is bad and
//! good ones come after it. That is no damage: nobody was told of any of them. But a bad record in what was synced is.
//!
//! To tell them apart, each flush ends with a mark: a checkpoint record of the WAL whose user data is the offset before which all had
//! been synced when the flush began. One flush is under way at a time, so what is not synced is at most one flush; a mark beyond
//! the bad record that vouches for it means damage. In the last flush itself the two cannot be told apart.
//! Called by raft/log_store.

use super::wal_types::WalTypes;
use holdfast_proto::crash_points::{Point, crash_point};
use raft_log::RaftLogRecord;
use raft_log::codeq::Decode;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// How the WAL begins a checkpoint record.
const CHECKPOINT: [u8; 4] = 5_u32.to_be_bytes();

type Record = RaftLogRecord<WalTypes>;

/// The last file of the log, and the offset at which it begins.
fn last_file(dir: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    let mut last = None;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(number) = name.and_then(|name| name.strip_prefix("r-")?.strip_suffix(".wal")) else { continue };
        if let Ok(offset) = number.replace('_', "").parse::<u64>() {
            last = last.max(Some((offset, path)));
        }
    }
    Ok(last)
}

/// A good record at the beginning of some bytes, and its length.
fn record(bytes: &[u8]) -> Option<(Record, usize)> {
    let mut rest = bytes;
    let record = Record::decode(&mut rest).ok()?;
    Some((record, bytes.len() - rest.len()))
}

fn mark(record: &Record) -> Option<u64> {
    match record {
        RaftLogRecord::Checkpoint(state) => state.user_data,
        RaftLogRecord::Action(_) => None,
    }
}

/// Length up to which a file that begins at `offset` is good, where what comes after it may be cut off.
fn torn_at(bytes: &[u8], offset: u64) -> Option<u64> {
    let (mut at, mut marked) = (0, false);
    while let Some((record, len)) = record(&bytes[at..]) {
        marked |= mark(&record).is_some();
        at += len;
    }
    // A log without marks is of an older version, and says nothing of what was synced.
    if at == bytes.len() || !marked {
        return None;
    }
    let rest = &bytes[at..];
    let starts = rest.windows(CHECKPOINT.len()).enumerate().filter(|(_, window)| *window == CHECKPOINT);
    let mut marks = starts.filter_map(|(start, _)| mark(&record(&rest[start..])?.0));
    (!marks.any(|synced| synced > offset + at as u64)).then_some(at as u64)
}

/// Cuts off what a power loss has left of the last flush. False: there is nothing that may be cut off.
///
/// # Errors
/// The disk failed.
pub fn cut(dir: &Path) -> io::Result<bool> {
    let Some((offset, path)) = last_file(dir)? else { return Ok(false) };
    let bytes = fs::read(&path)?;
    let Some(good) = torn_at(&bytes, offset) else { return Ok(false) };
    tracing::warn!(path = %path.display(), good, bytes = bytes.len(), "the end of the raft log is torn: it was never synced, and is cut off");
    let file = OpenOptions::new().write(true).open(&path)?;
    file.set_len(good)?;
    crash_point(Point::TailCut);
    file.sync_all()?;
    Ok(true)
}

/// Syncs all of the log: what a killed process has written is there, but it may not be on the disk yet.
///
/// # Errors
/// The disk failed.
pub fn sync(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(dir)?.sync_all()
}
