//! Checkpoints of a DurableStore, and the state that comes back from them. Part of durable.

use super::{DurableStore, KvRead, StoreError};
use crate::store::checkpoint::{self, Head, Reader};
use crate::store::checkpoint_dir::CheckpointDir;
use crate::store::image_dir::io_error;
use holdfast_proto::crash_points::{Point, crash_point};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a long load says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

impl DurableStore {
    pub fn checkpoints(&self) -> &CheckpointDir {
        &self.shared.checkpoints
    }

    /// Makes a checkpoint of all that was committed before the call, and returns its log index. Commits go on meanwhile, and draining
    /// too, unless it has to be read from the image. `head` says what the state says of itself.
    ///
    /// # Errors
    /// The disk failed or is full. The checkpoints that are there stay.
    pub fn checkpoint(&self, head: impl Fn(&dyn KvRead) -> Result<Head, StoreError>) -> Result<u64, StoreError> {
        let checkpoints = self.checkpoints();
        let mut wanted = self.still(0, Duration::ZERO, &head)??;
        if !checkpoints.merge(&wanted)? {
            wanted = self.still(0, Duration::ZERO, |view| {
                let wanted = head(view)?;
                checkpoints.copy(&wanted, view).map(|()| wanted)
            })??;
        }
        checkpoints.retire()?;
        Ok(wanted.index)
    }

    /// Brings a state that is not as new as it must be (its image was lost, or the log that leads on from it is gone) to the newest
    /// checkpoint that is whole. False: there is none that is new enough.
    ///
    /// # Errors
    /// The disk failed.
    pub fn recover(&self, needed: u64) -> Result<bool, StoreError> {
        let checkpoints = self.checkpoints();
        for stored in checkpoints.stored()?.into_iter().rev() {
            if stored.index <= self.image_index() || stored.index < needed {
                break;
            }
            match File::open(&stored.path).and_then(|file| checkpoint::verify(&file).map(|_| file)) {
                Ok(file) => self.load(&file)?,
                Err(why) if why.kind() == io::ErrorKind::InvalidData => checkpoints.set_aside(&stored, &why)?,
                Err(why) => return Err(io_error("read", &stored.path, why)),
            }
        }
        Ok(self.image_index() >= needed)
    }

    /// Takes a received checkpoint, whose content was verified and synced, in place of the state.
    ///
    /// # Errors
    /// The disk failed; the store is poisoned.
    pub fn install(&self, part: &Path, index: u64) -> Result<(), StoreError> {
        let checkpoints = self.checkpoints();
        // First it becomes one of ours: `recover` mends what a crash leaves in between.
        checkpoints.adopt(part, index).map_err(|e| io_error("take over", part, e))?;
        crash_point(Point::InstallAdopted);
        let path = checkpoints.path_of(index);
        self.load(&File::open(&path).map_err(|e| io_error("open", &path, e))?)?;
        checkpoints.retire()
    }

    /// Replaces the state by that of a checkpoint, pair by pair.
    ///
    /// # Errors
    /// The file is damaged or the disk failed; the store is poisoned.
    pub fn load(&self, file: &File) -> Result<(), StoreError> {
        let result = self.load_unguarded(file);
        self.shared.poisoning(result)
    }

    fn load_unguarded(&self, file: &File) -> Result<(), StoreError> {
        let unreadable = |source| StoreError::Io { context: "read a checkpoint".into(), source };
        let mut reader = Reader::open(file).map_err(unreadable)?;
        let index = reader.head.index;
        let bytes = file.metadata().map_err(unreadable)?.len();
        tracing::info!(index, bytes, "loads the state from a checkpoint");
        let (started, mut told) = (Instant::now(), Instant::now());
        let mut pairs = std::iter::from_fn(|| {
            if told.elapsed() > PROGRESS_INTERVAL {
                told = Instant::now();
                tracing::info!(index, done = reader.bytes(), bytes, "loads the state from a checkpoint");
            }
            reader.next_pair().transpose()
        });
        self.shared.check_poison()?;
        let mut gate = self.shared.gate.lock();
        self.shared.replace(&mut gate, index, &mut pairs)?;
        tracing::info!(index, bytes, seconds = started.elapsed().as_secs_f64(), "loaded the state from a checkpoint");
        Ok(())
    }
}
