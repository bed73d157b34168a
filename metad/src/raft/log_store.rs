//! Raft's log, vote and committed index in one WAL (crate raft-log), with group commit: one flush is in flight, and everything
//! appended meanwhile shares the next fdatasync. Called by openraft only.
//!
//! After a write or flush has failed nobody knows what is on disk: the store is poisoned, every later call fails, Raft stops and
//! with it the process.

use super::log_flush::{FlushWatch, Waiter};
use super::log_mark::{LogMark, Reach};
use super::tail_ring::TailRing;
use super::torn_tail;
use super::types::{Entry, LogId, TypeConfig, Vote};
use super::wal_types::{WalLogId, WalTypes, WalVote, entry_from_wal, entry_to_wal};
use crate::blocking;
use crate::error::Fatal;
use crate::seldom::Seldom;
use holdfast_proto::crash_points::{Point, crash_point};
use holdfast_proto::faults::{self, Bug};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::{Mutex, MutexGuard};
use raft_log::Types as _;
use raft_log::api::raft_log_writer::RaftLogWriter;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often what is durable of the log is noted beside it.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes and records after which the WAL starts a new file. Small, because closing one evicts its part of the WAL's cache at once.
pub const CHUNK_BYTES_MAX: u64 = 64 << 20;
const CHUNK_RECORDS_MAX: usize = 64 * 1024;
/// What the WAL itself caches; our tail ring serves the hot reads.
const CACHE_ITEMS_MAX: usize = 1024;
const CACHE_BYTES_MAX: usize = 16 << 20;
/// Most bytes of payload one read hands to replication.
const READ_BYTES_MAX: usize = 2 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    #[error("open raft log {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What this node acknowledged may be gone: it must neither vote nor lead on the rest.
    #[error("the raft log {path} is damaged")]
    Damaged {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the raft log {path} is gone, but there is a state of index {applied}")]
    Lost { path: PathBuf, applied: u64 },
    #[error("the end of the raft log {path} is gone: it reaches {found}, and once reached {marked} on stable storage")]
    CutOff { path: PathBuf, found: Reach, marked: Reach },
}

impl LogStoreError {
    /// Whether what this node acknowledged or voted may be gone.
    pub fn is_loss(&self) -> bool {
        !matches!(self, LogStoreError::Open { .. })
    }

    fn opening(path: &Path, source: io::Error) -> LogStoreError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => LogStoreError::Damaged { path, source },
            _ => LogStoreError::Open { path, source },
        }
    }
}

#[derive(Clone)]
pub struct LogStoreOptions {
    /// Whether a flush reaches the disk. Off in tests only.
    pub sync: bool,
    /// Bytes after which the WAL starts a new file; the log goes file by file.
    pub chunk_bytes: u64,
    pub watch: Option<Arc<dyn FlushWatch>>,
}

impl Default for LogStoreOptions {
    fn default() -> LogStoreOptions {
        LogStoreOptions { sync: true, chunk_bytes: CHUNK_BYTES_MAX, watch: None }
    }
}

pub(super) type RaftLog = raft_log::RaftLog<WalTypes>;

pub(super) struct State {
    fatal: Fatal,
    pub(super) log: RaftLog,
    ring: TailRing,
    pub(super) flushing: bool,
    /// The log is synced before this offset, and will be before the other one when the flush in flight has ended.
    pub(super) synced: u64,
    pub(super) synced_next: u64,
    /// Appended after the flush in flight began: the next flush is theirs.
    pub(super) waiting: Vec<Waiter>,
    poisoned: Option<String>,
    /// How far the WAL is known to reach on stable storage.
    pub(super) durable: Reach,
    /// How often entries were cut off its end: a flush that began before says nothing of what is there after.
    pub(super) cuts_count: u64,
}

pub(super) struct Inner {
    /// Locked before `state`, by whoever writes it.
    mark: Mutex<LogMark>,
    pub(super) state: Mutex<State>,
    pub(super) sync: bool,
    pub(super) watch: Option<Arc<dyn FlushWatch>>,
    /// For complaints about a slow disk.
    pub(super) slow: Seldom,
    /// Bytes of log there were at start, and all that were appended since.
    grown_bytes: AtomicU64,
}

impl State {
    pub(super) fn poison(&mut self, doing: &str, error: &io::Error) {
        if self.poisoned.is_none() {
            tracing::error!(%error, doing, "raft log failed; this node stops");
            let why = format!("{doing}: {error}");
            self.fatal.raise(why.clone());
            self.poisoned = Some(why);
        }
    }

    pub(super) fn healthy(&self) -> io::Result<()> {
        match &self.poisoned {
            Some(why) => Err(io::Error::other(format!("raft log is poisoned: {why}"))),
            None => Ok(()),
        }
    }

    /// Runs one change of the log; a failure poisons.
    pub(super) fn change<T>(
        &mut self,
        doing: &str,
        change: impl FnOnce(&mut RaftLog) -> io::Result<T>,
    ) -> io::Result<T> {
        self.healthy()?;
        let result = change(&mut self.log);
        if let Err(error) = &result {
            self.poison(doing, error);
        }
        result
    }

    pub(super) fn reach(&self) -> Reach {
        reach_of(&self.log)
    }

    fn next_index(&self) -> u64 {
        self.log.log_state().last().map_or(0, |id| id.index + 1)
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if let Some(entries) = self.ring.read(range.clone(), self.next_index(), bytes_max) {
            return Ok(entries);
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        for pair in self.log.read(range.start, range.end) {
            let (id, payload) = pair?;
            bytes += payload.data.len();
            entries.push(entry_from_wal(&id, payload)?);
            if bytes > bytes_max {
                break;
            }
        }
        Ok(entries)
    }
}

fn reach_of(log: &RaftLog) -> Reach {
    let state = log.log_state();
    Reach { last: state.last().copied(), vote_term: state.vote().map(|vote| vote.term) }
}

/// Opens the WAL, all of it synced: what is left of an earlier process counts from now on. A torn end is cut off.
fn open_whole(dir: &Path, config: raft_log::Config) -> io::Result<RaftLog> {
    let config = Arc::new(config);
    let mut log = match RaftLog::open(config.clone()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData && torn_tail::cut(dir)? => RaftLog::open(config)?,
        opened => opened?,
    };
    if log.log_state().user_data.is_none() {
        log.save_user_data(Some(0))?;
        log.flush(true, None)?;
        log.wait_worker_idle()?;
    }
    torn_tail::sync(dir)?;
    Ok(log)
}

#[derive(Clone)]
pub struct LogStore(Arc<Inner>);

impl LogStore {
    /// Opens the WAL below `dir`, replaying it; a torn last record is cut off.
    ///
    /// # Errors
    /// The directory cannot be used, or the WAL is damaged other than by a torn end.
    pub fn open(dir: &Path, options: LogStoreOptions, fatal: Fatal) -> Result<LogStore, LogStoreError> {
        let fail = |source| LogStoreError::opening(dir, source);
        std::fs::create_dir_all(dir).map_err(fail)?;
        let mut config = raft_log::Config::new(dir.display());
        // The default waits 1 ms for company in every flush; ours gathers by itself.
        config.wal.flush_batch_wait = Some(Duration::ZERO);
        config.wal.chunk_max_size = Some(options.chunk_bytes.min(CHUNK_BYTES_MAX) as usize);
        config.wal.chunk_max_records = Some(CHUNK_RECORDS_MAX);
        config.wal.truncate_incomplete_record = Some(true);
        // The next flush is started from the worker's own callback, which must never wait for the worker.
        config.wal.flush_queue_max_bytes = Some(usize::MAX / 2);
        config.log_cache_max_items = Some(CACHE_ITEMS_MAX);
        config.log_cache_capacity = Some(CACHE_BYTES_MAX);
        let log = open_whole(dir, config).map_err(fail)?;
        if let Some(watch) = &options.watch {
            watch.synced();
        }
        let mark = LogMark::open(dir).map_err(|source| LogStoreError::Open { path: dir.to_owned(), source })?;
        let (found, marked) = (reach_of(&log), mark.written.unwrap_or_default());
        if !marked.is_within(&found) {
            return Err(LogStoreError::CutOff { path: dir.to_owned(), found, marked });
        }
        let grown_bytes = AtomicU64::new(log.on_disk_size());
        let synced = log.log_state().user_data.unwrap_or(0);
        let state = State {
            fatal,
            log,
            ring: TailRing::default(),
            flushing: false,
            synced,
            synced_next: synced,
            waiting: Vec::new(),
            poisoned: None,
            durable: marked,
            cuts_count: 0,
        };
        let (mark, state) = (Mutex::new(mark), Mutex::new(state));
        let sync = options.sync && !faults::planted(Bug::NoFsync);
        let (watch, slow) = (options.watch, Seldom::default());
        Ok(LogStore(Arc::new(Inner { mark, state, sync, watch, slow, grown_bytes })))
    }

    /// Notes beside the log how far it is durable, if that has changed. Waits for the disk.
    ///
    /// # Errors
    /// The disk failed: the store is poisoned.
    pub fn write_mark(&self) -> io::Result<()> {
        let mut mark = self.0.mark.lock();
        let durable = self.state().durable;
        mark.write_if_new(durable).inspect_err(|error| self.state().poison("write the mark of raft log", error))
    }

    /// Does so again and again, until that fails.
    pub async fn keep_mark(&self) {
        let noted = async || {
            tokio::time::sleep(MARK_INTERVAL).await;
            let log = self.clone();
            blocking::spawn(move || log.write_mark()).await
        };
        while matches!(noted().await, Ok(Ok(()))) {}
    }

    /// Whether this node has ever voted, that is, whether others may rely on a lease that it granted.
    pub fn has_vote(&self) -> bool {
        self.vote().is_some()
    }

    pub fn vote(&self) -> Option<Vote> {
        self.state().log.log_state().vote().map(Vote::from)
    }

    pub fn last_log_id(&self) -> Option<LogId> {
        self.state().log.log_state().last().map(LogId::from)
    }

    /// The entries of a range that the log has.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn entries(&self, range: Range<u64>) -> io::Result<Vec<Entry>> {
        self.state().read(range, usize::MAX)
    }

    /// Index up to which entries are gone; 0: none are.
    pub fn purged_index(&self) -> u64 {
        self.state().log.log_state().purged().map_or(0, |id| id.index)
    }

    /// A measure that grows with every byte of log that is written.
    pub fn grown_bytes(&self) -> u64 {
        self.0.grown_bytes.load(Ordering::Relaxed)
    }

    /// What the log takes on disk now.
    pub fn disk_bytes(&self) -> u64 {
        self.state().log.on_disk_size()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Returns when all that was written before is durable.
    ///
    /// # Errors
    /// The log is poisoned, or this flush failed.
    pub async fn flush(&self) -> io::Result<()> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        {
            let mut state = self.state();
            state.healthy()?;
            self.0.flush(&mut state, Waiter::Direct(sender));
        }
        receiver.await.map_err(|_| io::Error::other("the raft log's flush was abandoned"))?
    }

    /// True: there was something to cut off after `last`.
    fn cut(&self, last: Option<LogId>) -> io::Result<bool> {
        let from = last.as_ref().map_or(0, |id| id.index + 1);
        let mut mark = self.0.mark.lock();
        let mut state = self.state();
        if from >= state.next_index() {
            return Ok(false);
        }
        // Before they go, the mark must not speak of them any more. Nothing may be flushed meanwhile: both locks are held.
        crash_point(Point::LogCut);
        let durable = Reach { last: state.durable.last.min(last.as_ref().map(WalLogId::from)), ..state.durable };
        state.change("lower the mark of raft log", |_| mark.write_if_new(durable))?;
        crash_point(Point::LogCutMarked);
        state.durable = durable;
        state.cuts_count += 1;
        state.ring.truncate(from);
        state.change("truncate raft log", |log| log.truncate(from))?;
        Ok(true)
    }
}

fn to_range(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&end) => end.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.entries(to_range(&range))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.vote())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.state().read(start..end, READ_BYTES_MAX)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.state();
        let log = state.log.log_state();
        Ok(LogState { last_purged_log_id: log.purged().map(LogId::from), last_log_id: log.last().map(LogId::from) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        crash_point(Point::VoteSave);
        self.state().change("write vote", |log| log.save_vote(WalVote::from(vote)))?;
        crash_point(Point::VoteWritten);
        self.flush().await?;
        crash_point(Point::VoteSaved);
        Ok(())
    }

    /// Not flushed: it rides on the next flush, and a restart that forgot it learns it again from the leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(committed) = committed else { return Ok(()) };
        self.state().change("write committed index", |log| log.commit((&committed).into()))?;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.state().log.log_state().committed().map(LogId::from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        crash_point(Point::LogAppend);
        let mut guard = self.state();
        let state = &mut *guard;
        state.healthy()?;
        let ring = &mut state.ring;
        let with_ring = entries.into_iter().map(|entry| {
            let pair = entry_to_wal(&entry);
            self.0.grown_bytes.fetch_add(WalTypes::payload_size(&pair.1), Ordering::Relaxed);
            ring.push(entry);
            pair
        });
        if let Err(error) = state.log.append(with_ring) {
            state.poison("append to raft log", &error);
            return Err(error);
        }
        crash_point(Point::LogAppended);
        self.0.flush(state, Waiter::Append(callback));
        Ok(())
    }

    /// Durable when it returns: a checkpoint that makes later entries impossible is installed right after, in other files. After a
    /// power loss the log must not hold what contradicts it.
    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        if self.cut(last)? {
            self.flush().await?;
            crash_point(Point::LogCutDone);
        }
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        crash_point(Point::LogPurge);
        let mut state = self.state();
        state.ring.purge(upto.index);
        state.change("purge raft log", |log| log.purge((&upto).into()))?;
        crash_point(Point::LogPurged);
        Ok(())
    }
}

#[cfg(test)]
#[path = "wal_fuzz_test.rs"]
mod fuzz_tests;
#[cfg(test)]
#[path = "log_store_test.rs"]
mod tests;
