//! Inode: what the data path knows of one open file: size, committed slices, dirty data, and what was lost. Handles share it.
//! Called by all of data; holds no file of the store and asks nobody.

use super::chunk_writer::Dirty;
use super::read_plan::ChunkMap;
use crate::error::ClientError;
use holdfast_proto::pb;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Notify;

/// Chunk lists kept of one inode; past that they are fetched again.
const CHUNKS_KEPT_MAX: usize = 1024;

pub struct Inode {
    pub ino: u64,
    pub state: Mutex<State>,
    /// An upload ended, or dirty data was dropped.
    pub settled: Notify,
    /// Commits of one inode go one after the other, in the order of its slices.
    pub commits: tokio::sync::Mutex<()>,
}

pub struct State {
    pub opens: usize,
    /// Size as committed.
    pub size: u64,
    /// The data version that `size` and `lists` belong to.
    pub version: u64,
    pub lists: HashMap<u32, Arc<ChunkMap>>,
    pub dirty: Dirty,
    /// Since when something has been dirty.
    pub dirty_since: Option<Instant>,
    /// Some of what is dirty was written without CAP_FSETID: the commit takes set-ID bits away.
    pub kill_priv: bool,
    pub loss: Loss,
    /// Flushes under way: they commit by themselves.
    pub flushes: usize,
    /// A background commit is under way.
    pub committing: bool,
}

/// Data that was dropped without having been committed, told once to each handle: Linux's errseq_t.
#[derive(Debug)]
pub struct Loss {
    pub seq: u64,
    last: ClientError,
    told: bool,
}

impl Default for Loss {
    fn default() -> Self {
        Loss { seq: 0, last: ClientError::SessionLost, told: true }
    }
}

impl Loss {
    pub fn record(&mut self, error: ClientError) {
        self.seq += 1;
        self.last = error;
        self.told = false;
    }

    /// What a new handle starts from: a loss that nobody was told yet is told to it as well.
    pub fn sample(&self) -> u64 {
        self.seq - u64::from(!self.told)
    }

    /// The loss since `seen`, if any.
    pub fn since(&mut self, seen: u64) -> Option<ClientError> {
        (self.seq != seen).then(|| {
            self.told = true;
            self.last.clone()
        })
    }
}

impl State {
    pub fn new(block_bytes: u32) -> Self {
        State {
            opens: 0,
            size: 0,
            version: 0,
            lists: HashMap::new(),
            dirty: Dirty::new(block_bytes),
            dirty_since: None,
            kill_priv: false,
            loss: Loss::default(),
            flushes: 0,
            committing: false,
        }
    }

    /// Size with what is not committed yet.
    pub fn size_now(&self) -> u64 {
        self.size.max(self.dirty.end().unwrap_or(0))
    }

    /// Newer attributes win; lists of another version are dropped.
    pub fn observe(&mut self, attr: &pb::Attr) {
        if attr.data_version > self.version {
            self.version = attr.data_version;
            self.lists.clear();
            self.size = attr.size;
        }
    }

    /// Takes the lists of the asked chunks, if they are not older than what is known. A chunk without slices is a hole.
    ///
    /// # Errors
    /// The server's list contradicts itself.
    pub fn absorb(
        &mut self,
        reply: pb::ReadSlicesReply,
        asked: std::ops::Range<u32>,
        block_bytes: u32,
    ) -> Result<(), String> {
        let attr = reply.attr.ok_or("a list of slices came without attributes")?;
        self.observe(&attr);
        if attr.data_version < self.version {
            return Ok(());
        }
        if self.lists.len() >= CHUNKS_KEPT_MAX {
            self.lists.clear();
        }
        let mut by_chunk: HashMap<u32, Vec<pb::Slice>> = asked.map(|chunk| (chunk, Vec::new())).collect();
        for slice in reply.slices {
            if let Some(list) = by_chunk.get_mut(&slice.chunk) {
                list.push(slice);
            }
        }
        for (chunk, slices) in by_chunk {
            self.lists.insert(chunk, Arc::new(ChunkMap::new(slices, block_bytes)?));
        }
        Ok(())
    }

    /// Drops all that is dirty, for `error`. What `Dirty::drop_all` says of it; nothing happens if nothing is dirty.
    pub fn lose_all(&mut self, error: ClientError) -> (u64, Vec<(u64, u32)>) {
        if self.dirty.is_empty() {
            return (0, Vec::new());
        }
        self.loss.record(error);
        self.dirty_since = None;
        self.dirty.drop_all()
    }
}

impl Inode {
    pub fn new(ino: u64, block_bytes: u32) -> Self {
        Inode {
            ino,
            state: Mutex::new(State::new(block_bytes)),
            settled: Notify::new(),
            commits: tokio::sync::Mutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_told_once_to_each_handle_and_to_the_first_that_opens_later() {
        let mut loss = Loss::default();
        let early = loss.sample();
        assert_eq!(loss.since(early), None);
        loss.record(ClientError::SessionLost);
        let late = loss.sample();
        assert_eq!(loss.since(late), Some(ClientError::SessionLost));
        assert_eq!(loss.since(early), Some(ClientError::SessionLost));
        assert_eq!(loss.since(loss.seq), None);
        assert_eq!(loss.since(loss.sample()), None);
    }
}
