//! The image: the state at one log index, at rest in sled. The only file that names sled. Called by image_dir, drain and durable.
//!
//! sled is an alpha, so nothing here is ever the only copy (design: architecture.md, section 3): what fails a check is set aside by
//! image_dir and built anew. Two keys above all keys of the state are the image's own:
//!
//! ```text
//!   ffffffff 01   FORMAT  u32 LE, 1: written before anything else
//!   ffffffff 02   INDEX   u64 LE, the log index the image is at; written with the last slice of a generation
//! ```

use super::keys::STATE_END;
use super::{KvRead, StoreError, Visit};
use bytes::Bytes;
use holdfast_proto::crash_points::{Point, crash_point};
use parking_lot::Mutex;
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const FORMAT_KEY: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 1];
const INDEX_KEY: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 2];
const FORMAT: u32 = 1;

/// Pairs in one leaf. A range scan copies what is left of a leaf, and a point write encodes one, so it is kept small.
const LEAF_PAIRS_MAX: usize = 256;
/// A drain flushes itself; this only bounds how long sled keeps what a drain that failed has left.
const FLUSH_EVERY_MS: usize = 10_000;

/// Handles kept for the next caller.
const HANDLES_MAX: usize = 32;

type Db = sled::Db<LEAF_PAIRS_MAX>;

/// A handle of sled serves one thread at a time, so each call borrows one.
pub struct SledImage {
    handles: Mutex<Vec<Db>>,
    origin: Mutex<Db>,
}

impl SledImage {
    fn with_handles(db: Db) -> SledImage {
        SledImage { handles: Mutex::default(), origin: Mutex::new(db) }
    }

    fn run<T>(&self, context: &str, run: impl FnOnce(&Db) -> std::io::Result<T>) -> Result<T, StoreError> {
        let idle = self.handles.lock().pop();
        let db = idle.unwrap_or_else(|| self.origin.lock().clone());
        let result = guarded(context, || run(&db));
        let mut handles = self.handles.lock();
        if handles.len() < HANDLES_MAX {
            handles.push(db);
        }
        result
    }

    /// A new image at index 0 in an empty directory, on stable storage.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(dir: &Path, cache_bytes: usize) -> Result<SledImage, StoreError> {
        let image = SledImage::with_handles(open_db(dir, cache_bytes)?);
        let mut batch = sled::Batch::default();
        batch.insert(FORMAT_KEY, FORMAT.to_le_bytes());
        batch.insert(INDEX_KEY, 0_u64.to_le_bytes());
        image.run("write the image's format", |db| db.apply_batch(batch))?;
        image.flush()?;
        Ok(image)
    }

    /// An image that was created before.
    ///
    /// # Errors
    /// `Damaged` where it is not one; `Io` where it cannot be read.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<SledImage, StoreError> {
        // The kernel says once that it lost what was written: EIO here counts as damage (`image_dir::is_damage`), and the image is built anew.
        sync_all(dir).map_err(|source| io("sync the image", source))?;
        let image = SledImage::with_handles(open_db(dir, cache_bytes)?);
        let format = image.own_record(&FORMAT_KEY)?;
        if *format != FORMAT.to_le_bytes() {
            return Err(StoreError::Damaged { what: "image", detail: format!("format record is {format:02x?}") });
        }
        image.index()?;
        Ok(image)
    }

    /// The log index it is at.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn index(&self) -> Result<u64, StoreError> {
        let bytes = self.own_record(&INDEX_KEY)?;
        let damaged = || StoreError::Damaged { what: "image", detail: format!("index record is {bytes:02x?}") };
        bytes[..].try_into().map(u64::from_le_bytes).map_err(|_| damaged())
    }

    fn own_record(&self, key: &[u8]) -> Result<Bytes, StoreError> {
        self.get(key)?.ok_or_else(|| StoreError::Damaged { what: "image", detail: format!("no record {key:02x?}") })
    }

    /// Writes some pairs; None deletes. Not yet on stable storage, and not as one step: whoever writes has a journal.
    ///
    /// # Errors
    /// sled failed.
    pub fn write_slice<'a>(&self, pairs: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        let mut deleted = Vec::new();
        for (key, value) in pairs {
            match value {
                Some(value) => batch.insert(key, value),
                None => deleted.push(key),
            }
        }
        self.run("write to the image", |db| {
            db.apply_batch(batch)?;
            // One by one: a batch leaves emptied leaves standing for ever (sled 1.0.0-alpha.124), and each scan that comes by walks
            // over all of them.
            deleted.into_iter().try_for_each(|key| db.remove(key).map(drop))
        })
    }

    /// Everything up to `index` has been written: says so, and puts all of it on stable storage.
    ///
    /// # Errors
    /// sled failed.
    pub fn finish(&self, index: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        batch.insert(INDEX_KEY, index.to_le_bytes());
        self.run("write the image's index", |db| db.apply_batch(batch))?;
        crash_point(Point::ImageIndexed);
        self.flush()
    }

    /// # Errors
    /// sled failed.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.run("flush the image", |db| db.flush().map(drop))
    }
}

impl KvRead for SledImage {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.run("read from the image", |db| Ok(db.get(key)?.map(|value| Bytes::copy_from_slice(&value))))
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        let end = end.min(&STATE_END);
        if start >= end {
            return Ok(());
        }
        // Not bounded above: sled 1.0.0-alpha.124 looks for the end of a bounded range through all leaves that come after it.
        let bounds = (Bound::Included(start), Bound::Unbounded);
        let mut pairs = self.run("scan the image", |db| Ok(db.range::<&[u8], _>(bounds)))?;
        while let Some((key, value)) = guarded("scan the image", || pairs.next().transpose())? {
            if &key[..] >= end {
                break;
            }
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// When sled opens, it starts sync(1), twice, which waits for every filesystem of the machine: for gigabytes that others wrote, for one that
/// hangs, for disks that our own log needs just then. From now on this process finds no programs, and sled goes on without; what it
/// wants of it, `sync_all` does for the image alone. To be called before there are threads. Called by main.
pub fn find_no_programs() {
    // SAFETY: there are no other threads that could read the environment.
    unsafe { std::env::set_var("PATH", "/nonexistent") };
}

/// All files below a directory. What a killed process wrote is read as if it were on the disk: so it has to be.
fn sync_all(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { sync_all(&path)? } else { File::open(&path)?.sync_all()? }
    }
    File::open(dir)?.sync_all()
}

/// The lock on an image outlives its owner for a moment: a process that another thread starts has a copy until it has become another
/// program. So one that is locked is tried again, so often and after such a pause.
const LOCKED_TRIES: u32 = 100;
const LOCKED_PAUSE: Duration = Duration::from_millis(10);

fn open_db(dir: &Path, cache_bytes: usize) -> Result<Db, StoreError> {
    let config = sled::Config::new().path(dir).cache_capacity_bytes(cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
    let open = || guarded("open the image", || config.open::<LEAF_PAIRS_MAX>());
    for _ in 1..LOCKED_TRIES {
        match open() {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock => sleep(LOCKED_PAUSE),
            opened => return opened,
        }
    }
    open()
}

/// sled panics on some damage where it should fail. Where panics unwind it is an error; where they abort, image_dir notices at the
/// next start.
fn guarded<T>(context: &str, run: impl FnOnce() -> std::io::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|source| io(context, source)),
        Err(_) => Err(StoreError::Damaged { what: "image", detail: format!("sled gave up: {context}") }),
    }
}

fn io(context: &str, source: std::io::Error) -> StoreError {
    StoreError::Io { context: context.to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    /// Leaves that a scan from the beginning looks at before it finds something, at most.
    fn leaves_walked(image: &SledImage) -> u64 {
        let looks = |image: &SledImage| {
            let stats = image.run("stats", |db| Ok(db.stats().cache)).expect("reads");
            stats.cache_hits + stats.cache_misses
        };
        let before = looks(image);
        image.scan(&[0], &[9], &mut |_, _| ControlFlow::Break(())).expect("scans");
        looks(image) - before
    }

    #[test]
    fn what_was_deleted_is_not_walked_over() {
        let dir = tempfile::tempdir().expect("temp dir");
        let image = SledImage::create(dir.path(), 16 << 20).expect("creates");
        let keys: Vec<[u8; 5]> = (0..20_000_u32).map(|n| [1, 0, (n >> 16) as u8, (n >> 8) as u8, n as u8]).collect();
        let write = |value: Option<&[u8]>| {
            for slice in keys.chunks(1000) {
                image.write_slice(slice.iter().map(|key| (&key[..], value))).expect("writes");
            }
            image.flush().expect("flushes");
        };
        write(Some(b"value"));
        let full = image.run("count", |db| db.iter().try_fold(0, |count, pair| pair.map(|_| count + 1)));
        assert!(full.expect("counts") > keys.len());
        image.write_slice([(&[8_u8][..], Some(&b"the last"[..]))].into_iter()).expect("writes");
        write(None);
        assert!(leaves_walked(&image) < 10, "walked over {} leaves", leaves_walked(&image));
    }
}
