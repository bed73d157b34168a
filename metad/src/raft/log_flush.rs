//! One flush of the raft log at a time: everything appended while it is under way shares the next. Called by raft/log_store, and back by
//! the WAL's own thread.

use super::log_mark::Reach;
use super::log_store::{Inner, State};
use super::types::TypeConfig;
use holdfast_proto::crash_points::{Point, crash_point};
use openraft::storage::IOFlushed;
use raft_log::api::raft_log_writer::RaftLogWriter;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// As long as an election takes to begin: with such a disk leaders do not last.
const SLOW: Duration = Duration::from_millis(100);

/// Follows each flush of the log, and says when it counts: for tests, which have disks of their own.
pub trait FlushWatch: Send + Sync {
    /// All that is in the log's files is on the disk.
    fn synced(&self);
    /// A flush begins.
    fn started(&self);
    /// The WAL has made it. Those who wait for it are answered by `FlushEnd::complete`. Called on the WAL's own thread.
    fn ended(&self, end: FlushEnd);
}

/// A flush that the WAL has made, and nobody has been told of.
pub struct FlushEnd {
    callback: FlushCallback,
    result: io::Result<()>,
}

impl FlushEnd {
    pub fn complete(self) {
        self.callback.finish(self.result);
    }
}

pub(super) enum Waiter {
    Append(IOFlushed<TypeConfig>),
    Direct(tokio::sync::oneshot::Sender<io::Result<()>>),
}

impl Waiter {
    fn complete(self, result: io::Result<()>) {
        match self {
            Waiter::Append(flushed) => flushed.io_completed(result),
            // Whoever asked may have gone; the flush happened all the same.
            Waiter::Direct(sender) => drop(sender.send(result)),
        }
    }
}

/// The callback of one flush: answers those it covered, and starts the next.
pub struct FlushCallback {
    waiters: Vec<Waiter>,
    inner: Option<Arc<Inner>>,
    started: Instant,
    /// What is durable when it has succeeded, unless there were more cuts since.
    covers: Reach,
    cuts_count: u64,
}

impl Drop for FlushCallback {
    fn drop(&mut self) {
        // Callbacks die on the WAL's worker, which the log joins when it is dropped: the last owner must be another thread.
        if let Some(inner) = self.inner.take().and_then(Arc::into_inner) {
            std::thread::spawn(move || drop(inner));
        }
    }
}

impl raft_log::Callback for FlushCallback {
    fn send(self, result: io::Result<()>) {
        match self.inner.as_ref().and_then(|inner| inner.watch.clone()) {
            Some(watch) => watch.ended(FlushEnd { callback: self, result }),
            None => self.finish(result),
        }
    }
}

impl FlushCallback {
    fn note_durable(&self, state: &mut State, sync: bool) {
        state.synced = state.synced_next;
        if sync && self.cuts_count == state.cuts_count {
            state.durable = self.covers;
        }
    }

    fn finish(mut self, result: io::Result<()>) {
        let took = self.started.elapsed();
        metrics::histogram!(crate::metrics::WAL_FLUSH_SECONDS).record(took.as_secs_f64());
        let waiters = std::mem::take(&mut self.waiters);
        let Some(inner) = &self.inner else { return };
        if took > SLOW && inner.slow.is_due(Instant::now()) {
            tracing::warn!(
                took_ms = took.as_millis() as u64,
                "the disk took long to sync the raft log; changes wait for it"
            );
        }
        crash_point(Point::LogFlushed);
        {
            let mut state = inner.state.lock();
            match &result {
                Ok(()) => self.note_durable(&mut state, inner.sync),
                Err(error) => state.poison("flush raft log", error),
            }
        }
        for waiter in waiters {
            waiter.complete(copy_result(&result));
        }
        crash_point(Point::LogAcknowledged);
        let mut state = inner.state.lock();
        let waiting = std::mem::take(&mut state.waiting);
        state.flushing = false;
        if !waiting.is_empty() {
            inner.start_flush(&mut state, waiting);
        }
    }
}

fn copy_result(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

impl Inner {
    /// Joins the flush that starts when the one in flight ends, or starts one now.
    pub(super) fn flush(self: &Arc<Self>, state: &mut State, waiter: Waiter) {
        if state.flushing {
            state.waiting.push(waiter);
        } else {
            self.start_flush(state, vec![waiter]);
        }
    }

    fn start_flush(self: &Arc<Self>, state: &mut State, waiters: Vec<Waiter>) {
        if let Err(error) = state.healthy() {
            return waiters.into_iter().for_each(|waiter| waiter.complete(Err(copy_error(&error))));
        }
        state.flushing = true;
        let synced = state.synced;
        match state.change("mark a flush of raft log", |log| log.save_user_data(Some(synced))) {
            Ok(mark) => state.synced_next = mark.offset + mark.size,
            Err(error) => return waiters.into_iter().for_each(|waiter| waiter.complete(Err(copy_error(&error)))),
        }
        let (covers, cuts_count) = (state.reach(), state.cuts_count);
        let callback =
            FlushCallback { waiters, inner: Some(self.clone()), started: Instant::now(), covers, cuts_count };
        if let Some(watch) = &self.watch {
            watch.started();
        }
        // On an error the callback is dropped with its waiters: Raft learns it from the poisoned store's next call.
        if let Err(error) = state.log.flush(self.sync, Some(callback)) {
            state.poison("start flush of raft log", &error);
        }
    }
}

fn copy_error(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
