//! Snapshots: the whole state at one log index in one checksummed file. Built on demand only (the log is kept whole, so no
//! follower needs one to catch up); called by raft/state_machine, raft/network and rpc/raft_service.
//!
//! ```text
//! "HFSNAP01" | head len u32 LE | head: option(log id), membership JSON
//! pairs      key len u32 LE | value len u32 LE | key | value          ascending
//! end        0xffff_ffff u32 | pairs u64 LE | CRC32C of all before u32 LE
//! ```

use super::convert;
use super::types::SnapshotMeta;
use crate::store::KvRead;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"HFSNAP01";
const END: u32 = u32::MAX;
/// Largest key or value accepted from a file: a damaged length must not become an allocation.
const FIELD_BYTES_MAX: u32 = 64 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// An open snapshot. `scratch` is removed when this is dropped: a received file that was not taken over.
#[derive(Debug)]
pub struct SnapshotFile {
    pub file: File,
    pub bytes: u64,
    pub scratch: Option<PathBuf>,
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        if let Some(path) = &self.scratch {
            // Nothing depends on it; the directory is emptied at start as well.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl SnapshotFile {
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<SnapshotFile> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        Ok(SnapshotFile { file, bytes, scratch: None })
    }
}

fn damaged(detail: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged snapshot: {}", detail.into()))
}

struct Checked<T> {
    inner: T,
    digest: Digest,
}

impl<T> Checked<T> {
    fn new(inner: T) -> Checked<T> {
        Checked { inner, digest: Digest::new(CrcAlgorithm::Crc32Iscsi) }
    }
}

impl<W: Write> Checked<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Checked<R> {
    fn take(&mut self, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        self.inner.read_exact(&mut bytes)?;
        self.digest.update(&bytes);
        Ok(bytes.into())
    }
}

/// Writes all of `view` to `path`, durably.
///
/// # Errors
/// The file cannot be written, or the view cannot be read.
pub fn write(path: &Path, meta: &SnapshotMeta, view: &dyn KvRead) -> io::Result<()> {
    let mut out = Checked::new(BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?));
    let mut head = BytesMut::new();
    convert::put_option(&mut head, &meta.last_log_id);
    head.put_slice(&convert::encode_stored_membership(&meta.last_membership));
    out.put(MAGIC)?;
    out.put(&(head.len() as u32).to_le_bytes())?;
    out.put(&head)?;
    let mut pairs = 0u64;
    let mut failed = None;
    let scanned = view.scan(&[], &[0xff; 64], &mut |key, value| match put_pair(&mut out, key, value) {
        Ok(()) => {
            pairs += 1;
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    });
    scanned.map_err(io::Error::other)?;
    if let Some(error) = failed {
        return Err(error);
    }
    out.put(&END.to_le_bytes())?;
    out.put(&pairs.to_le_bytes())?;
    let crc = out.digest.finalize() as u32;
    out.inner.write_all(&crc.to_le_bytes())?;
    out.inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn put_pair(out: &mut Checked<BufWriter<File>>, key: &[u8], value: &[u8]) -> io::Result<()> {
    out.put(&(key.len() as u32).to_le_bytes())?;
    out.put(&(value.len() as u32).to_le_bytes())?;
    out.put(key)?;
    out.put(value)
}

/// Reads pairs one by one. Whoever uses them before the end must have verified the file.
pub struct Reader {
    input: Checked<BufReader<File>>,
    pub meta: SnapshotMeta,
    pairs: u64,
}

impl Reader {
    /// # Errors
    /// Not a snapshot, or damaged.
    pub fn open(file: &File) -> io::Result<Reader> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let mut input = Checked::new(BufReader::with_capacity(BUFFER_BYTES, file));
        if input.take(MAGIC.len())?[..] != MAGIC[..] {
            return Err(damaged("not a snapshot of this version"));
        }
        let head_len = input.take(4)?.get_u32_le();
        if head_len > FIELD_BYTES_MAX {
            return Err(damaged("head too long"));
        }
        let mut head = input.take(head_len as usize)?;
        let last_log_id = convert::get_option(&mut head).map_err(|error| damaged(error.to_string()))?;
        let last_membership = convert::decode_stored_membership(&head).map_err(|error| damaged(error.to_string()))?;
        Ok(Reader { input, meta: SnapshotMeta { last_log_id, last_membership }, pairs: 0 })
    }

    /// The next pair; None at the end, whose count and checksum are then proven.
    ///
    /// # Errors
    /// Damaged.
    pub fn next_pair(&mut self) -> io::Result<Option<(Bytes, Bytes)>> {
        let key_len = self.input.take(4)?.get_u32_le();
        if key_len == END {
            return self.check_end().map(|()| None);
        }
        let value_len = self.input.take(4)?.get_u32_le();
        if key_len > FIELD_BYTES_MAX || value_len > FIELD_BYTES_MAX {
            return Err(damaged("field too long"));
        }
        self.pairs += 1;
        Ok(Some((self.input.take(key_len as usize)?, self.input.take(value_len as usize)?)))
    }

    fn check_end(&mut self) -> io::Result<()> {
        let pairs = self.input.take(8)?.get_u64_le();
        let computed = self.input.digest.clone().finalize() as u32;
        let mut stored = [0u8; 4];
        self.input.inner.read_exact(&mut stored)?;
        if pairs != self.pairs || u32::from_le_bytes(stored) != computed {
            return Err(damaged("checksum or count differs"));
        }
        Ok(())
    }
}

/// Reads the whole file once.
///
/// # Errors
/// Damaged.
pub fn verify(file: &File) -> io::Result<SnapshotMeta> {
    let mut reader = Reader::open(file)?;
    while reader.next_pair()?.is_some() {}
    Ok(reader.meta)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{LeaderId, LogId, StoredMembership};
    use std::collections::BTreeMap;

    fn meta() -> SnapshotMeta {
        let last_log_id = Some(LogId { leader_id: LeaderId { term: 2, node_id: 1 }, index: 77 });
        SnapshotMeta { last_log_id, last_membership: StoredMembership::default() }
    }

    fn pairs() -> BTreeMap<Bytes, Bytes> {
        (0u32..300).map(|n| (Bytes::from(n.to_be_bytes().to_vec()), Bytes::from(vec![n as u8; n as usize]))).collect()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("s");
        write(&path, &meta(), &pairs()).expect("write");
        let file = File::open(&path).expect("open");
        assert_eq!(verify(&file).expect("intact"), meta());
        let mut reader = Reader::open(&file).expect("open");
        let mut read = BTreeMap::new();
        while let Some((key, value)) = reader.next_pair().expect("intact") {
            read.insert(key, value);
        }
        assert_eq!(read, pairs());
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("s");
        let small: BTreeMap<Bytes, Bytes> = pairs().into_iter().take(5).collect();
        write(&path, &meta(), &small).expect("write");
        let whole = std::fs::read(&path).expect("read");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, &damaged).expect("write");
            assert!(verify(&File::open(&path).expect("open")).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("write");
            assert!(verify(&File::open(&path).expect("open")).is_err(), "cut at {at}");
        }
    }
}
