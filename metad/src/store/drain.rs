//! The drain: one generation of changes moves from memory into the image. Called by durable, in its background thread or to hold a state still.
//!
//! Whatever the moment of a kill, the next start finds the image exactly at the generation's first or last index, never between:
//! 1. all changes go into the journal, which is synced (journal.rs)                   kill before this: the image is untouched
//! 2. they are written to sled, in slices, so that reads go on in between            \
//! 3. the index is written and sled is flushed                                         kill within: the journal is done again
//! 4. the journal is kept for the next checkpoint                                     /

use super::StoreError;
use super::image_dir::{ImageDir, SLICE_PAIRS};
use super::journal::{self, Span};
use super::memtable::Memtable;
use holdfast_proto::crash_points::{Point, crash_point};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Slices between two flushes of sled, so that a big generation does not pile up as one long flush.
pub const FLUSH_SLICES: usize = 64;

/// Where a test stops a drain for good, as a kill would.
pub struct Failpoint(AtomicUsize);

impl Failpoint {
    /// Stops after so many steps; None never does.
    pub fn after(steps: Option<usize>) -> Failpoint {
        Failpoint(AtomicUsize::new(steps.unwrap_or(usize::MAX)))
    }

    fn step(&self, name: &'static str) -> Result<(), StoreError> {
        let left = self.0.load(Ordering::Relaxed);
        if left == 0 {
            return Err(StoreError::Poisoned(format!("stopped before: {name}")));
        }
        if left != usize::MAX {
            self.0.store(left - 1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Writes a generation that ends at log index `to_index`.
///
/// # Errors
/// The disk failed; the image may be in between, and the store must stop.
pub fn run(dir: &ImageDir, to_index: u64, generation: &Memtable, failpoint: &Failpoint) -> Result<(), StoreError> {
    failpoint.step("write the journal")?;
    let span = Span { from_index: dir.image.index()?, to_index };
    journal::write(&dir.path(), span, generation.changes())?;
    let mut pairs = generation.changes().iter().map(|(key, value)| (&key[..], value.as_deref())).peekable();
    let mut slices_count = 0;
    while pairs.peek().is_some() {
        failpoint.step("write a slice")?;
        dir.image.write_slice(pairs.by_ref().take(SLICE_PAIRS))?;
        slices_count += 1;
        crash_point(Point::ImageSlice);
        if slices_count % FLUSH_SLICES == 0 {
            dir.image.flush()?;
        }
    }
    failpoint.step("write the index")?;
    crash_point(Point::ImageWritten);
    dir.image.finish(to_index)?;
    crash_point(Point::ImageFlushed);
    failpoint.step("keep the journal")?;
    dir.keep_journal(span)
}
