//! DurableStore: the state machine's storage in a node. Reads look at the newest changes, then at those being drained, then at the
//! image. Nothing here is waited for by an acknowledgement: the log is what is durable, and it is replayed from `image_index` on.
//! Checkpoints are in durable_checkpoint.
//! Called by raft/state_machine and server.
//!
//! Raft's applied log id and membership are put into each batch by the caller (keys::raft_applied, keys::raft_membership), so that
//! the image always carries those of the index it is at.
//!
//! A frozen generation is there only while somebody holds the gate: a drain under way, or `still`, for which a commit freezes at the
//! very index that is asked for.

use super::checkpoint::Pair;
use super::checkpoint_dir::CheckpointDir;
use super::drain::{self, Failpoint};
use super::image_dir::{ImageDir, SLICE_PAIRS, checkpoint_dir_of, is_damage, mark_suspect};
use super::memtable::{Layered, Memtable};
use super::sled_image::SledImage;
use super::{Batch, KvCommit, KvRead, StoreError, Visit};
use bytes::Bytes;
use holdfast_proto::crash_points::{Point, crash_point};
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct DurableOptions {
    /// A generation is drained from so many bytes of memory on: large, so that a hot key is written once for many changes.
    pub drain_bytes: usize,
    /// Or after so many writes, be they all of one key: a restart applies again what was not drained.
    pub drain_writes: usize,
    /// Memory for sled's cache.
    pub cache_bytes: usize,
    /// Commits wait while more than this many times `drain_bytes` have gathered behind a drain.
    pub stall_factor: usize,
    /// Tests only: the first drain stops before this step for good, as if killed.
    #[doc(hidden)]
    pub stop_after: Option<usize>,
}

impl Default for DurableOptions {
    fn default() -> DurableOptions {
        DurableOptions {
            drain_bytes: 64 << 20,
            drain_writes: 250_000,
            cache_bytes: 256 << 20,
            stall_factor: 8,
            stop_after: None,
        }
    }
}

pub struct DurableStore {
    shared: Arc<Shared>,
    drainer: Option<JoinHandle<()>>,
}

struct Shared {
    dir: PathBuf,
    checkpoints: CheckpointDir,
    options: DurableOptions,
    layers: RwLock<Layers>,
    /// Held by whoever writes to the image, or needs it to stand still. Taken before `layers`, never after.
    gate: Mutex<ImageDir>,
    image_index: AtomicU64,
    signal: Mutex<Signal>,
    wake_drainer: Condvar,
    drained: Condvar,
    froze: Condvar,
    poison: OnceLock<String>,
    failpoint: Failpoint,
}

#[derive(Default)]
struct Signal {
    wanted: bool,
    stopping: bool,
}

struct Layers {
    active: Memtable,
    frozen: Option<Arc<Generation>>,
    image: Arc<SledImage>,
    /// Log index of the newest batch.
    index: u64,
    /// The commit of this index, or of a later one, ends the active generation: somebody holds the gate and waits for it.
    freeze_at: Option<u64>,
}

/// Changes on their way into the image, which is at `index` with them.
struct Generation {
    table: Memtable,
    index: u64,
}

impl Layers {
    fn at(index: u64, image: Arc<SledImage>) -> Layers {
        Layers { active: Memtable::default(), frozen: None, image, index, freeze_at: None }
    }

    /// Ends the active generation.
    fn freeze(&mut self) -> Arc<Generation> {
        self.freeze_at = None;
        let generation = Arc::new(Generation { table: std::mem::take(&mut self.active), index: self.index });
        self.frozen.insert(generation).clone()
    }

    /// A key's value below the active changes.
    fn below(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.frozen.as_ref().and_then(|frozen| frozen.table.changes().get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.image.get(key),
        }
    }
}

impl DurableStore {
    /// Opens the image in `dir`; a damaged one is moved aside to `<dir>.damaged-<n>`, and the store starts empty, at index 0.
    ///
    /// # Errors
    /// The directory cannot be read or written, or another process has it open.
    pub fn open(dir: &Path, options: DurableOptions) -> Result<DurableStore, StoreError> {
        let image_dir = ImageDir::open(dir, options.cache_bytes)?;
        let image = image_dir.image.clone();
        let index = image.index()?;
        let layers = Layers::at(index, image);
        let shared = Arc::new(Shared {
            dir: dir.to_path_buf(),
            checkpoints: CheckpointDir::open(&checkpoint_dir_of(dir), index)?,
            failpoint: Failpoint::after(options.stop_after),
            options,
            layers: RwLock::new(layers),
            gate: Mutex::new(image_dir),
            image_index: AtomicU64::new(index),
            signal: Mutex::default(),
            wake_drainer: Condvar::new(),
            drained: Condvar::new(),
            froze: Condvar::new(),
            poison: OnceLock::new(),
        });
        let background = shared.clone();
        let drainer = std::thread::Builder::new()
            .name("drain".into())
            .spawn(move || background.drain_loop())
            .map_err(|source| StoreError::Io { context: "start the drain thread".into(), source })?;
        Ok(DurableStore { shared, drainer: Some(drainer) })
    }

    /// Log index up to which everything is in the image, on stable storage. The log is needed from the next one on.
    pub fn image_index(&self) -> u64 {
        self.shared.image_index.load(Ordering::Acquire)
    }

    /// Drains all that was committed before the call. For an orderly stop: it makes the next start short.
    ///
    /// # Errors
    /// The disk failed; the store is poisoned.
    pub fn drain_now(&self) -> Result<(), StoreError> {
        let gate = self.shared.gate.lock();
        self.shared.check_poison()?;
        self.shared.drain_all(&gate)
    }

    /// Shows `read` the whole state as it is at log index `at`; where that is past or does not come within `wait`, as it is then. The
    /// state that is shown is the image, drained to that index for this: commits go on in memory, only draining stands still
    /// until `read` returns.
    ///
    /// # Errors
    /// The disk failed; the store is poisoned.
    pub fn still<R>(&self, at: u64, wait: Duration, read: impl FnOnce(&dyn KvRead) -> R) -> Result<R, StoreError> {
        let gate = self.shared.gate.lock();
        self.shared.check_poison()?;
        self.shared.freeze_at(at, wait);
        self.shared.drain_all(&gate)?;
        Ok(read(&StillView { shared: &self.shared, image: &gate.image }))
    }
}

impl Drop for DurableStore {
    fn drop(&mut self) {
        self.shared.signal.lock().stopping = true;
        self.shared.wake_drainer.notify_all();
        if let Some(drainer) = self.drainer.take()
            && drainer.join().is_err()
        {
            tracing::error!("the drain thread panicked");
        }
    }
}

impl KvCommit for DurableStore {
    fn view<R>(&self, read: impl FnOnce(&dyn KvRead) -> R) -> R {
        let layers = self.shared.layers.read();
        read(&DurableView { shared: &self.shared, layers: &layers })
    }

    fn commit(&self, index: u64, batch: Batch) -> Result<(), StoreError> {
        self.shared.check_poison()?;
        let mut layers = self.shared.layers.write();
        for (key, value) in batch.0 {
            // A tombstone only where it hides something: what is short-lived leaves no trace that every scan would walk over again.
            if value.is_none() && self.shared.poisoning(layers.below(&key))?.is_none() {
                layers.active.forget(&key);
            } else {
                layers.active.put(key, value);
            }
        }
        layers.index = index;
        let froze = layers.freeze_at.is_some_and(|at| at <= index);
        if froze {
            layers.freeze();
        }
        let active_bytes = layers.active.bytes();
        let full = self.shared.is_full(&layers.active);
        drop(layers);
        if froze {
            let _signal = self.shared.signal.lock();
            self.shared.froze.notify_all();
        }
        if full {
            self.shared.want_drain(active_bytes)?;
        }
        Ok(())
    }
}

impl Shared {
    fn check_poison(&self) -> Result<(), StoreError> {
        self.poison.get().map_or(Ok(()), |reason| Err(StoreError::Poisoned(reason.clone())))
    }

    /// After a failure nobody knows what is where: every later call is refused, and the next start looks afresh.
    fn poisoning<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            let mut first = false;
            self.poison.get_or_init(|| {
                first = true;
                error.to_string()
            });
            if first && is_damage(error) {
                mark_suspect(&self.dir, error);
            }
            let _signal = self.signal.lock();
            self.drained.notify_all();
        }
        result
    }

    fn is_full(&self, active: &Memtable) -> bool {
        active.bytes() >= self.options.drain_bytes || active.writes_count() >= self.options.drain_writes
    }

    /// Wakes the drain, and waits for it only where far too much has gathered behind it. While the image is held still, nothing can be
    /// drained and memory is what gives.
    fn want_drain(&self, active_bytes: usize) -> Result<(), StoreError> {
        let mut signal = self.signal.lock();
        if !signal.wanted {
            signal.wanted = true;
            self.wake_drainer.notify_one();
        }
        let stall_bytes = self.options.drain_bytes.saturating_mul(self.options.stall_factor.max(1));
        if active_bytes >= stall_bytes && self.layers.read().frozen.is_some() && self.poison.get().is_none() {
            self.drained.wait(&mut signal);
        }
        drop(signal);
        self.check_poison()
    }

    fn drain_loop(&self) {
        loop {
            let mut signal = self.signal.lock();
            while !signal.wanted && !signal.stopping {
                self.wake_drainer.wait(&mut signal);
            }
            if signal.stopping {
                return;
            }
            signal.wanted = false;
            drop(signal);
            let gate = self.gate.lock();
            // `still` may have drained meanwhile what this was asked for.
            if self.poison.get().is_none()
                && self.is_full(&self.layers.read().active)
                && let Err(error) = self.drain_generation(&gate)
            {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "drain failed: the store stops");
            }
        }
    }

    /// Has the commit of index `at` end the active generation, and waits for it. In vain is no error.
    fn freeze_at(&self, at: u64, wait: Duration) {
        {
            let mut layers = self.layers.write();
            if layers.index >= at {
                return;
            }
            layers.freeze_at = Some(at);
        }
        let deadline = Instant::now() + wait;
        let mut signal = self.signal.lock();
        while self.layers.read().frozen.is_none() {
            if self.froze.wait_until(&mut signal, deadline).timed_out() {
                break;
            }
        }
        drop(signal);
        self.layers.write().freeze_at = None;
    }

    fn drain_all(&self, gate: &MutexGuard<'_, ImageDir>) -> Result<(), StoreError> {
        let idle = {
            let layers = self.layers.read();
            // The very first entry has the index of an empty image.
            layers.index == self.image_index.load(Ordering::Acquire) && layers.active.is_empty()
        };
        if idle { Ok(()) } else { self.drain_generation(gate) }
    }

    fn drain_generation(&self, gate: &MutexGuard<'_, ImageDir>) -> Result<(), StoreError> {
        let generation = {
            let mut layers = self.layers.write();
            match &layers.frozen {
                Some(frozen) => frozen.clone(),
                None => layers.freeze(),
            }
        };
        let index = generation.index;
        self.poisoning(drain::run(gate, index, &generation.table, &self.failpoint))?;
        // Dropped after the lock: a generation is a large tree to free.
        let released = self.layers.write().frozen.take();
        self.image_index.store(index, Ordering::Release);
        {
            // The lock orders this after a commit that has just found the drain under way and is about to wait.
            let _signal = self.signal.lock();
            self.drained.notify_all();
        }
        drop(released);
        Ok(())
    }

    /// Replaces everything by `pairs` (ascending), the state at `index`. Until it is whole the old state stays.
    fn replace(
        &self,
        gate: &mut ImageDir,
        index: u64,
        pairs: &mut dyn Iterator<Item = std::io::Result<Pair>>,
    ) -> Result<(), StoreError> {
        let next = gate.create_next()?;
        crash_point(Point::ImageCreated);
        for slices_count in 1.. {
            let slice = pairs.take(SLICE_PAIRS).collect::<Result<Vec<Pair>, _>>();
            let slice = slice.map_err(|source| StoreError::Io { context: "read a checkpoint".into(), source })?;
            if slice.is_empty() {
                break;
            }
            next.image.write_slice(slice.iter().map(|(key, value)| (&key[..], Some(&value[..]))))?;
            if slices_count % drain::FLUSH_SLICES == 0 {
                next.image.flush()?;
            }
        }
        next.image.finish(index)?;
        crash_point(Point::ImageFilled);
        next.make_current()?;
        crash_point(Point::ImageCurrent);
        let image = next.image.clone();
        let old = std::mem::replace(&mut *self.layers.write(), Layers::at(index, image));
        self.image_index.store(index, Ordering::Release);
        drop(old);
        *gate = next;
        gate.remove_others()?;
        crash_point(Point::ImageReplaced);
        Ok(())
    }
}

struct DurableView<'a> {
    shared: &'a Shared,
    layers: &'a Layers,
}

impl DurableView<'_> {
    fn with_layers<T>(&self, read: impl FnOnce(&dyn KvRead) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.shared.check_poison()?;
        let image: &dyn KvRead = &*self.layers.image;
        let result = match &self.layers.frozen {
            Some(frozen) => {
                let lower = Layered { upper: frozen.table.changes(), lower: image };
                read(&Layered { upper: self.layers.active.changes(), lower: &lower })
            }
            None => read(&Layered { upper: self.layers.active.changes(), lower: image }),
        };
        self.shared.poisoning(result)
    }
}

impl KvRead for DurableView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.with_layers(|layers| layers.get(key))
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.with_layers(|layers| layers.scan(start, end, visit))
    }
}

/// The image while the gate is held: exactly the state at its index.
struct StillView<'a> {
    shared: &'a Shared,
    image: &'a SledImage,
}

impl KvRead for StillView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.shared.poisoning(self.image.get(key))
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.shared.poisoning(self.image.scan(start, end, visit))
    }
}

#[path = "durable_checkpoint.rs"]
mod durable_checkpoint;

#[cfg(test)]
#[path = "durable_checkpoint_test.rs"]
mod checkpoint_tests;
#[cfg(test)]
#[path = "durable_test.rs"]
mod tests;
