//! The checkpoints of a node, and what the next one is made of. Called by durable and raft/state_machine.
//!
//! A checkpoint is merged from the one before and the journals of all drains since: the image is not read for it, draining goes on, and
//! no fault of the image (sled is an alpha) gets into it. Only where that chain is broken (the first one of an old directory, a
//! damaged file) is it read from the image instead.
//!
//! ```text
//!   <index>.ckpt         checkpoint.rs; verified before it got its name; the newest two are kept
//!   <from>-<to>.redo     journal.rs: a generation that the image has taken in, kept until a checkpoint holds it
//!   *.part               being written or received
//!   *.damaged            set aside
//! ```

use super::checkpoint::{self, Head, Pair, Reader};
use super::image_dir::io_error;
use super::journal::{Journal, Span, sync_dir};
use super::merge::{Merge, Source};
use super::{KvRead, StoreError};
use holdfast_proto::crash_points::{Point, crash_point};
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The last but one is there for the day on which the last one turns out to be damaged; the log is kept for it.
const KEPT: usize = 2;
/// What a checkpoint may take of the disk: the log shares it.
const WRITE_BYTES_A_SECOND: u64 = 64 << 20;

/// A checkpoint that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub index: u64,
    pub bytes: u64,
    pub path: PathBuf,
}

pub struct CheckpointDir {
    dir: PathBuf,
}

impl CheckpointDir {
    /// Takes over what an earlier run left. Journals beyond the image are of an image that was lost.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(dir: &Path, image_index: u64) -> Result<CheckpointDir, StoreError> {
        let this = CheckpointDir { dir: dir.to_path_buf() };
        for path in this.files()? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let stale_journal = Span::of_file_name(&name).is_some_and(|span| span.to_index > image_index);
            if stale_journal || (name.ends_with(".part") && !name.starts_with("receive-")) {
                remove(&path)?;
            }
        }
        Ok(this)
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    pub fn path_of(&self, index: u64) -> PathBuf {
        self.dir.join(format!("{index:020}.ckpt"))
    }

    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(|e| io_error("list", &self.dir, e))?;
        entries.map(|entry| entry.map(|e| e.path()).map_err(|e| io_error("list", &self.dir, e))).collect()
    }

    /// All checkpoints, oldest first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn stored(&self) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::new();
        for path in self.files()? {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(index) = name.and_then(|name| name.strip_suffix(".ckpt")?.parse().ok()) else { continue };
            let bytes = fs::metadata(&path).map_err(|e| io_error("look at", &path, e))?.len();
            found.push(Stored { index, bytes, path });
        }
        found.sort_by_key(|stored| stored.index);
        Ok(found)
    }

    /// Moves a damaged checkpoint out of the way.
    ///
    /// # Errors
    /// The disk failed.
    pub fn set_aside(&self, stored: &Stored, why: &io::Error) -> Result<(), StoreError> {
        let aside = stored.path.with_extension("damaged");
        tracing::error!(%why, moved_to = %aside.display(), "a checkpoint is damaged: it is set aside");
        fs::rename(&stored.path, &aside).and_then(|()| sync_dir(&self.dir)).map_err(|e| io_error("move", &aside, e))
    }

    /// The journals that lead from the state at `from` to the one at `to`; None where one is missing.
    fn chain(&self, from: u64, to: u64) -> Result<Option<Vec<PathBuf>>, StoreError> {
        let files = self.files()?;
        let mut spans: Vec<(Span, PathBuf)> =
            files.into_iter().filter_map(|path| Some((span_of(&path)?, path))).collect();
        spans.sort_by_key(|(span, _)| (span.from_index, span.to_index));
        let (mut at, mut chain) = (from, Vec::new());
        for (span, path) in spans {
            if span.from_index == at && span.to_index <= to {
                at = span.to_index;
                chain.push(path);
            }
        }
        Ok((at == to).then_some(chain))
    }

    /// Makes the checkpoint of `head` from the one before and the journals since. False: they do not lead there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn merge(&self, head: &Head) -> Result<bool, StoreError> {
        let base = self.stored()?.pop();
        if base.as_ref().is_some_and(|stored| stored.index >= head.index) {
            return Ok(true);
        }
        let base_index = base.as_ref().map_or(0, |stored| stored.index);
        if base_index == head.index {
            // Of the very first entry nobody can tell whether it is in the image.
            return Ok(false);
        }
        let Some(chain) = self.chain(base_index, head.index)? else { return Ok(false) };
        let merged = open_sources(base.as_ref(), &chain).and_then(Merge::new);
        match merged.and_then(|pairs| self.write(head, pairs)) {
            Ok(()) => Ok(true),
            Err(error) => self.give_up_base(base, error).map(|()| false),
        }
    }

    /// What a merge read may be damaged. The checkpoint in that case is set aside; any other failure is the disk's.
    fn give_up_base(&self, base: Option<Stored>, error: io::Error) -> Result<(), StoreError> {
        if error.kind() != io::ErrorKind::InvalidData {
            return Err(io_error("write a checkpoint in", &self.dir, error));
        }
        tracing::warn!(%error, "the last checkpoint or a journal since cannot be read: the next one is made from the image");
        match base {
            Some(base) => match File::open(&base.path).and_then(|file| checkpoint::verify(&file)) {
                Ok(_) => Ok(()),
                Err(why) => self.set_aside(&base, &why),
            },
            None => Ok(()),
        }
    }

    /// Makes the checkpoint of `head` from the state itself.
    ///
    /// # Errors
    /// The disk failed, or the state cannot be read.
    pub fn copy(&self, head: &Head, view: &dyn KvRead) -> Result<(), StoreError> {
        // A scan calls for each pair and a checkpoint asks for them, so they are handed over through a short queue.
        let (send, receive) = std::sync::mpsc::sync_channel::<io::Result<Pair>>(4096);
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || self.write(head, receive.into_iter()));
            let scanned = view.scan(&[], &super::keys::STATE_END, &mut |key, value| {
                let pair = (bytes::Bytes::copy_from_slice(key), bytes::Bytes::copy_from_slice(value));
                if send.send(Ok(pair)).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            if scanned.is_err() {
                // The writer must not take the end of the stream for the end of the state. Gone is gone.
                drop(send.send(Err(io::Error::other("the state cannot be read"))));
            }
            drop(send);
            let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
            scanned?;
            written.map_err(|e| io_error("write a checkpoint in", &self.dir, e))
        })
    }

    /// Writes, verifies what has reached the disk, and only then gives it its name.
    fn write(&self, head: &Head, pairs: impl Iterator<Item = io::Result<Pair>>) -> io::Result<()> {
        let part = self.dir.join(format!("{:020}.part", head.index));
        let written = self.write_part(&part, head, pairs);
        if written.is_err() {
            // It may be what has filled the disk. What cannot be removed now goes at the next start.
            drop(fs::remove_file(&part));
        }
        written
    }

    fn write_part(&self, part: &Path, head: &Head, pairs: impl Iterator<Item = io::Result<Pair>>) -> io::Result<()> {
        let started = Instant::now();
        let pace = |bytes: u64| {
            let due = Duration::from_secs_f64(bytes as f64 / WRITE_BYTES_A_SECOND as f64);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        };
        checkpoint::write(part, head, pairs, pace)?;
        let found = checkpoint::verify(&File::open(part)?).map_err(io::Error::other)?;
        if found != *head {
            return Err(io::Error::other("the checkpoint that was written is another one"));
        }
        crash_point(Point::CheckpointVerified);
        self.adopt(part, head.index)
    }

    /// Takes a whole, verified and synced file as the checkpoint of `index`.
    ///
    /// # Errors
    /// The disk failed.
    pub fn adopt(&self, part: &Path, index: u64) -> io::Result<()> {
        fs::rename(part, self.path_of(index))?;
        crash_point(Point::CheckpointNamed);
        sync_dir(&self.dir)?;
        crash_point(Point::CheckpointAdopted);
        Ok(())
    }

    /// Removes the checkpoints before the newest two, and the journals that the newest one holds.
    ///
    /// # Errors
    /// The disk failed.
    pub fn retire(&self) -> Result<(), StoreError> {
        let stored = self.stored()?;
        let Some(newest) = stored.last() else { return Ok(()) };
        for old in &stored[..stored.len().saturating_sub(KEPT)] {
            remove(&old.path)?;
            crash_point(Point::CheckpointRemoved);
        }
        for path in self.files()? {
            if span_of(&path).is_some_and(|span| span.to_index <= newest.index) {
                remove(&path)?;
            }
        }
        crash_point(Point::CheckpointRetired);
        Ok(())
    }
}

fn span_of(path: &Path) -> Option<Span> {
    Span::of_file_name(path.file_name()?.to_str()?)
}

fn open_sources(base: Option<&Stored>, chain: &[PathBuf]) -> io::Result<Vec<Source<'static>>> {
    let mut sources: Vec<Source<'static>> = Vec::with_capacity(chain.len() + 1);
    if let Some(base) = base {
        let mut reader = Reader::open(&File::open(&base.path)?)?;
        let next = move || reader.next_pair().map(|pair| pair.map(|(key, value)| (key, Some(value)))).transpose();
        sources.push(Box::new(std::iter::from_fn(next)));
    }
    for path in chain {
        let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
        let journal = Journal::open(path.clone()).map_err(|error| damaged(error.to_string()))?;
        sources.push(Box::new(journal.ok_or_else(|| damaged("is gone".to_owned()))?.pairs()?));
    }
    Ok(sources)
}

fn remove(path: &Path) -> Result<(), StoreError> {
    fs::remove_file(path).map_err(|e| io_error("remove", path, e))
}
