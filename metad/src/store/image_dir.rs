//! The image's directory: which sled directory is the current one, completing what a crash left, and setting aside what is damaged.
//! Called by durable.
//!
//! ```text
//!   <dir>/CURRENT        number of the current generation directory, decimal; replaced by rename
//!   <dir>/OPENING        how many starts in a row have not got through opening, decimal
//!   <dir>/SUSPECT        the image failed while it was in use: set it aside at the next start
//!   <dir>/<n>/sled/      the image
//!   <dir>/<n>/journal    the redo journal of a drain that is under way
//!   <dir>.damaged-<k>    what was set aside
//!   <dir>/../checkpoint  where journals go that the image has taken in: checkpoint_dir
//! ```

use super::StoreError;
use super::journal::{self, Journal, Span, sync_dir};
use super::sled_image::SledImage;
use holdfast_proto::crash_points::{Point, crash_point};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Starts that may end inside opening before the image is held to be the cause. One may be a kill at a bad moment.
const OPENINGS_MAX: u64 = 2;
/// Pairs in one write to sled: readers go on in between.
pub const SLICE_PAIRS: usize = 1024;

pub struct ImageDir {
    dir: PathBuf,
    cache_bytes: usize,
    number: u64,
    pub image: Arc<SledImage>,
}

impl ImageDir {
    /// Opens the image, or a new empty one where there is none or it had to be set aside.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<ImageDir, StoreError> {
        let checkpoints = checkpoint_dir_of(dir);
        fs::create_dir_all(&checkpoints).map_err(|e| io_error("create", &checkpoints, e))?;
        if let Some(reason) = why_suspect(dir)? {
            set_aside(dir, &reason)?;
        }
        match Self::open_current(dir, cache_bytes) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(error) if is_damage(&error) => set_aside(dir, &describe(&error))?,
            // Another process has it, or we may not read it, or there is no room: nothing is moved for that.
            Err(error) => return Err(error),
        }
        Self::create(dir, cache_bytes)
    }

    fn open_current(dir: &Path, cache_bytes: usize) -> Result<Option<ImageDir>, StoreError> {
        let Some(number) = read_number(&dir.join("CURRENT"))? else { return Ok(None) };
        let opening = dir.join("OPENING");
        let openings_count = read_number(&opening)?.unwrap_or(0) + 1;
        write_durably(dir, "OPENING", &openings_count.to_string())?;
        crash_point(Point::ImageOpening);
        let found = Self::open_numbered(dir, cache_bytes, number);
        // A start that ends with damage, or does not end at all, leaves its count behind.
        if found.as_ref().err().is_none_or(|error| !is_damage(error)) {
            remove_if_there(&opening)?;
        }
        let found = found?;
        found.remove_others()?;
        Ok(Some(found))
    }

    fn open_numbered(dir: &Path, cache_bytes: usize, number: u64) -> Result<ImageDir, StoreError> {
        let sled_dir = dir.join(number.to_string()).join("sled");
        if !sled_dir.is_dir() {
            return Err(StoreError::Damaged { what: "image", detail: format!("no {}", sled_dir.display()) });
        }
        let image = Arc::new(SledImage::open(&sled_dir, cache_bytes)?);
        let found = ImageDir { dir: dir.to_path_buf(), cache_bytes, number, image };
        found.redo()?;
        Ok(found)
    }

    /// Completes a generation that a crash interrupted. Afterwards the image is exactly at the journal's last index.
    fn redo(&self) -> Result<(), StoreError> {
        let Some(journal) = Journal::find(&self.path())? else { return Ok(()) };
        let index = self.image.index()?;
        if index > journal.span.to_index {
            return journal::remove(&self.path());
        }
        if index != journal.span.from_index && index != journal.span.to_index {
            let detail =
                format!("image at {index}, journal from {} to {}", journal.span.from_index, journal.span.to_index);
            return Err(StoreError::Damaged { what: "image", detail });
        }
        crash_point(Point::RedoBegin);
        let mut slice = Vec::with_capacity(SLICE_PAIRS);
        journal.each(|pair| {
            slice.push(pair);
            if slice.len() == SLICE_PAIRS { self.write_slice(&mut slice) } else { Ok(()) }
        })?;
        self.write_slice(&mut slice)?;
        self.image.finish(journal.span.to_index)?;
        crash_point(Point::RedoDone);
        tracing::info!(index = journal.span.to_index, "completed an interrupted drain from its journal");
        self.keep_journal(journal.span)
    }

    /// The image has taken in the journal of this generation: the next checkpoint wants it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn keep_journal(&self, span: Span) -> Result<(), StoreError> {
        journal::keep(&self.path(), &checkpoint_dir_of(&self.dir), span)
    }

    fn write_slice(&self, slice: &mut Vec<journal::Pair>) -> Result<(), StoreError> {
        self.image.write_slice(slice.iter().map(|(key, value)| (&key[..], value.as_deref())))?;
        slice.clear();
        Ok(())
    }

    fn create(dir: &Path, cache_bytes: usize) -> Result<ImageDir, StoreError> {
        fs::create_dir_all(dir).map_err(|e| io_error("create", dir, e))?;
        let new = Self::create_numbered(dir, cache_bytes, 1)?;
        new.make_current()?;
        Ok(new)
    }

    /// An empty image beside the current one: filled, it takes its place by `make_current`.
    ///
    /// # Errors
    /// The disk failed.
    pub fn create_next(&self) -> Result<ImageDir, StoreError> {
        Self::create_numbered(&self.dir, self.cache_bytes, self.number + 1)
    }

    fn create_numbered(dir: &Path, cache_bytes: usize, number: u64) -> Result<ImageDir, StoreError> {
        let path = dir.join(number.to_string());
        // Left by a crash before it was ever current.
        remove_dir_if_there(&path)?;
        let sled_dir = path.join("sled");
        fs::create_dir_all(&sled_dir).map_err(|e| io_error("create", &sled_dir, e))?;
        let image = Arc::new(SledImage::create(&sled_dir, cache_bytes)?);
        sync_dir(&path).map_err(|e| io_error("sync", &path, e))?;
        Ok(ImageDir { dir: dir.to_path_buf(), cache_bytes, number, image })
    }

    /// From here on a start opens this one. All of it must be flushed.
    ///
    /// # Errors
    /// The disk failed.
    pub fn make_current(&self) -> Result<(), StoreError> {
        write_durably(&self.dir, "CURRENT", &self.number.to_string())
    }

    /// Removes what was current before, or never was.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove_others(&self) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(|e| io_error("list", &self.dir, e))?;
        for entry in entries {
            let path = entry.map_err(|e| io_error("list", &self.dir, e))?.path();
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
            if number.is_some_and(|number| number != self.number) {
                remove_dir_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Where the journal is.
    pub fn path(&self) -> PathBuf {
        self.dir.join(self.number.to_string())
    }
}

/// The directory of the checkpoints that belong to the image in `dir`.
pub fn checkpoint_dir_of(dir: &Path) -> PathBuf {
    dir.with_file_name("checkpoint")
}

/// The image failed in use: the next start sets it aside. Best effort, as the store is poisoned anyway.
pub fn mark_suspect(dir: &Path, error: &StoreError) {
    if let Err(failure) = write_durably(dir, "SUSPECT", &describe(error)) {
        tracing::error!(%failure, "cannot mark the image as suspect");
    }
}

fn why_suspect(dir: &Path) -> Result<Option<String>, StoreError> {
    let suspect = dir.join("SUSPECT");
    match fs::read_to_string(&suspect) {
        Ok(reason) => return Ok(Some(reason)),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.kind() == io::ErrorKind::InvalidData => {}
        Err(e) => return Err(io_error("read", &suspect, e)),
    }
    let openings_count = read_number(&dir.join("OPENING"))?.unwrap_or(0);
    let stuck = openings_count >= OPENINGS_MAX;
    Ok(stuck.then(|| format!("{openings_count} starts in a row ended while opening it")))
}

/// Moves the whole directory out of the way; the state is built anew.
fn set_aside(dir: &Path, reason: &str) -> Result<(), StoreError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut number = 1;
    let aside = loop {
        let aside = dir.with_file_name(format!("{name}.damaged-{number}"));
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    tracing::error!(reason, moved_to = %aside.display(), "the image is damaged: it is set aside and built anew from checkpoint and log");
    fs::rename(dir, &aside).map_err(|e| io_error("move aside", dir, e))?;
    crash_point(Point::ImageAside);
    match aside.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent).map_err(|e| io_error("sync", parent, e)),
        None => Ok(()),
    }
}

/// Whether an error says that what is stored is not what was written.
pub fn is_damage(error: &StoreError) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof, Unsupported};
    match error {
        StoreError::Damaged { .. } => true,
        StoreError::Io { source, .. } => {
            matches!(source.kind(), InvalidData | InvalidInput | NotFound | UnexpectedEof | Unsupported)
                || source.raw_os_error() == Some(libc::EIO)
        }
        StoreError::RecordVersion { .. } | StoreError::Poisoned(_) => false,
    }
}

fn describe(error: &StoreError) -> String {
    match error {
        StoreError::Io { context, source } => format!("{context}: {source}"),
        other => other.to_string(),
    }
}

/// A decimal number in a file of its own; None where there is no such file.
fn read_number(path: &Path) -> Result<Option<u64>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => {
            let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok());
            let damaged =
                || StoreError::Damaged { what: "image", detail: format!("{} holds no number", path.display()) };
            number.map(Some).ok_or_else(damaged)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error("read", path, e)),
    }
}

fn write_durably(dir: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    let (path, unnamed) = (dir.join(name), dir.join(format!("{name}.tmp")));
    let write = || {
        fs::write(&unnamed, text)?;
        fs::File::open(&unnamed)?.sync_all()?;
        fs::rename(&unnamed, &path)?;
        sync_dir(dir)
    };
    write().map_err(|e| io_error("write", &path, e))
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, e)),
        _ => Ok(()),
    }
}

fn remove_dir_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path, e)),
        _ => Ok(()),
    }
}

pub fn io_error(action: &str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { context: format!("{action} {}", path.display()), source }
}
