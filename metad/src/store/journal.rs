//! The redo journal: one whole generation on its way from memory to the image. It is on stable storage before the image is touched, so
//! an image that was left in the middle of a generation is completed from it at the next start. Then it is kept for the next checkpoint,
//! which is made of journals and never of the image. Called by drain, image_dir and checkpoint_dir.
//!
//! ```text
//!   "HFREDO\0\1" | from index u64 | to index u64 | pair count u64 | pairs | crc32c of all before u32        (integers LE)
//!   pair: key len u32 | value len u32 (ffffffff: delete) | key | value
//! ```

use super::StoreError;
use super::memtable::Changes;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use holdfast_proto::crash_points::{Point, crash_point};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"HFREDO\0\x01";
const DELETE: u32 = u32::MAX;
/// No key or value is near this; a longer one is damage.
const PART_BYTES_MAX: u32 = 64 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Which generation a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from_index: u64,
    pub to_index: u64,
}

impl Span {
    /// How a journal that is kept is called: in order of indexes.
    pub fn file_name(&self) -> String {
        format!("{:020}-{:020}.redo", self.from_index, self.to_index)
    }

    pub fn of_file_name(name: &str) -> Option<Span> {
        let (from, to) = name.strip_suffix(".redo")?.split_once('-')?;
        Some(Span { from_index: from.parse().ok()?, to_index: to.parse().ok()? })
    }
}

fn path_of(dir: &Path) -> PathBuf {
    dir.join("journal")
}

/// Writes the journal under a name that nobody reads, syncs it, and gives it its name: it is there whole or not at all.
///
/// # Errors
/// The disk failed.
pub fn write(dir: &Path, span: Span, changes: &Changes) -> Result<(), StoreError> {
    let unnamed = dir.join("journal.tmp");
    crash_point(Point::JournalWrite);
    write_file(&unnamed, span, changes)
        .inspect(|()| crash_point(Point::JournalSynced))
        .and_then(|()| fs::rename(&unnamed, path_of(dir)))
        .inspect(|()| crash_point(Point::JournalNamed))
        .and_then(|()| sync_dir(dir))
        .map_err(|source| StoreError::Io { context: format!("write {}", unnamed.display()), source })
}

fn write_file(path: &Path, span: Span, changes: &Changes) -> io::Result<()> {
    let mut out = Summed { inner: BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?), digest: digest() };
    out.write_all(&MAGIC)?;
    for number in [span.from_index, span.to_index, changes.len() as u64] {
        out.write_all(&number.to_le_bytes())?;
    }
    for (key, value) in changes {
        out.write_all(&(key.len() as u32).to_le_bytes())?;
        out.write_all(&value.as_ref().map_or(DELETE, |value| value.len() as u32).to_le_bytes())?;
        out.write_all(key)?;
        out.write_all(value.as_deref().unwrap_or_default())?;
    }
    let Summed { inner: mut file, digest } = out;
    file.write_all(&(digest.finalize() as u32).to_le_bytes())?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The generation is in the image, on stable storage: its journal goes to `redo_dir`. One that comes back after a crash is not newer
/// than the image, and ends here again.
///
/// # Errors
/// The disk failed.
pub fn keep(dir: &Path, redo_dir: &Path, span: Span) -> Result<(), StoreError> {
    let (path, kept) = (path_of(dir), redo_dir.join(span.file_name()));
    let moved = fs::rename(&path, &kept)
        .inspect(|()| crash_point(Point::JournalMoved))
        .and_then(|()| sync_dir(redo_dir))
        .and_then(|()| sync_dir(dir))
        .inspect(|()| crash_point(Point::JournalKept));
    moved.map_err(|source| StoreError::Io { context: format!("keep {}", path.display()), source })
}

/// Removes a journal that is older than the image.
///
/// # Errors
/// The disk failed.
pub fn remove(dir: &Path) -> Result<(), StoreError> {
    let path = path_of(dir);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::Io { context: format!("remove {}", path.display()), source })
        }
        _ => Ok(()),
    }
}

/// What `visit` is given of each pair.
pub type Pair = (Bytes, Option<Bytes>);

/// A journal whose checksum was found right.
pub struct Journal {
    path: PathBuf,
    pub span: Span,
    pairs_count: u64,
}

impl Journal {
    /// The journal that a crash left, if any.
    ///
    /// # Errors
    /// `Damaged` where it is not whole: it got its name only after it was, so the disk lost it.
    pub fn find(dir: &Path) -> Result<Option<Journal>, StoreError> {
        Self::open(path_of(dir))
    }

    /// The journal of this path, if it is there.
    ///
    /// # Errors
    /// `Damaged` where it is not whole.
    pub fn open(path: PathBuf) -> Result<Option<Journal>, StoreError> {
        match File::open(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { context: format!("open {}", path.display()), source }),
            Ok(file) => Self::verify(path, file).map(Some),
        }
    }

    fn verify(path: PathBuf, file: File) -> Result<Journal, StoreError> {
        let mut input = Summed { inner: BufReader::with_capacity(BUFFER_BYTES, file), digest: digest() };
        let (span, pairs_count) = read_head(&mut input).map_err(|e| damaged(&path, &e))?;
        for _ in 0..pairs_count {
            read_pair(&mut input).map_err(|e| damaged(&path, &e))?;
        }
        let Summed { inner: mut file, digest } = input;
        let mut stored = [0; 4];
        file.read_exact(&mut stored).map_err(|e| damaged(&path, &e))?;
        if u32::from_le_bytes(stored) != digest.finalize() as u32 {
            return Err(damaged(&path, &io::Error::other("checksum differs")));
        }
        if file.read(&mut stored).map_err(|e| damaged(&path, &e))? > 0 {
            return Err(damaged(&path, &io::Error::other("something follows its end")));
        }
        Ok(Journal { path, span, pairs_count })
    }

    /// All pairs, ascending.
    ///
    /// # Errors
    /// The disk failed, or `visit` did.
    pub fn each(&self, mut visit: impl FnMut(Pair) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let pairs = self.pairs().map_err(|e| damaged(&self.path, &e))?;
        for pair in pairs {
            visit(pair.map_err(|e| damaged(&self.path, &e))?)?;
        }
        Ok(())
    }

    /// The same, one at a time.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn pairs(&self) -> io::Result<impl Iterator<Item = io::Result<Pair>> + use<>> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, File::open(&self.path)?);
        read_head(&mut input)?;
        Ok((0..self.pairs_count).map(move |_| read_pair(&mut input)))
    }
}

fn read_head(input: &mut impl Read) -> io::Result<(Span, u64)> {
    if read_array(input)? != MAGIC {
        return Err(io::Error::other("not a journal"));
    }
    let mut number = || read_array(input).map(u64::from_le_bytes);
    Ok((Span { from_index: number()?, to_index: number()? }, number()?))
}

fn read_pair(input: &mut impl Read) -> io::Result<Pair> {
    let key_len = u32::from_le_bytes(read_array(input)?);
    let value_len = u32::from_le_bytes(read_array(input)?);
    let mut part = |len: u32| {
        if len > PART_BYTES_MAX {
            return Err(io::Error::other("a length is out of bounds"));
        }
        // Grows with what is there: the length is only a claim so far.
        let mut bytes = Vec::new();
        input.by_ref().take(len.into()).read_to_end(&mut bytes)?;
        if bytes.len() == len as usize { Ok(Bytes::from(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    };
    Ok((part(key_len)?, if value_len == DELETE { None } else { Some(part(value_len)?) }))
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Damaged { what: "journal", detail: format!("{}: {error}", path.display()) }
}

fn digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc32Iscsi)
}

/// Reads or writes through, and sums up what passes.
struct Summed<T> {
    inner: T,
    digest: Digest,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.digest.update(&bytes[..len]);
        Ok(len)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(bytes)?;
        self.digest.update(&bytes[..len]);
        Ok(len)
    }
}

/// Makes creations, renames and removals in a directory durable.
///
/// # Errors
/// The disk failed.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Changes {
        let pairs = [("a", Some("1")), ("b", None), ("c", Some(""))];
        pairs.into_iter().map(|(k, v)| (Bytes::from(k), v.map(Bytes::from))).collect()
    }

    const SPAN: Span = Span { from_index: 3, to_index: 9 };

    #[test]
    fn a_journal_gives_back_what_was_written() {
        let dir = tempfile::tempdir().expect("makes");
        assert!(Journal::find(dir.path()).expect("looks").is_none());
        write(dir.path(), SPAN, &changes()).expect("writes");
        let journal = Journal::find(dir.path()).expect("reads").expect("is there");
        let mut found = Changes::new();
        let mut keep = |(key, value)| {
            found.insert(key, value);
            Ok(())
        };
        journal.each(&mut keep).expect("reads");
        assert_eq!((journal.span, found), (SPAN, changes()));
        let kept = tempfile::tempdir().expect("makes");
        super::keep(dir.path(), kept.path(), SPAN).expect("keeps");
        assert!(Journal::find(dir.path()).expect("looks").is_none());
        assert_eq!(Span::of_file_name(&SPAN.file_name()), Some(SPAN));
        let journal = Journal::open(kept.path().join(SPAN.file_name())).expect("reads").expect("is kept");
        assert_eq!((journal.span, journal.pairs().expect("reads").count()), (SPAN, 3));
        remove(dir.path()).expect("nothing to remove is no error");
    }

    #[test]
    fn any_damage_is_found() {
        let dir = tempfile::tempdir().expect("makes");
        write(dir.path(), SPAN, &changes()).expect("writes");
        let good = fs::read(path_of(dir.path())).expect("reads");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(path_of(dir.path()), &bad).expect("writes");
            assert!(matches!(Journal::find(dir.path()), Err(StoreError::Damaged { .. })), "byte {at}");
            fs::write(path_of(dir.path()), &good[..at]).expect("writes");
            assert!(matches!(Journal::find(dir.path()), Err(StoreError::Damaged { .. })), "length {at}");
        }
    }
}
