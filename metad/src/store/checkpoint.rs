//! A checkpoint: the whole state at one log index, in one file of checksummed blocks. Called by checkpoint_dir and raft/snapshot.
//!
//! ```text
//!   block 0    "HFCKPT01" | index u64 LE | meta: opaque, raft's
//!   blocks     01 | pairs: key len u32 LE | value len u32 LE | key | value         ascending, over the whole file
//!   last block 02 | pairs u64 LE
//! ```

use super::blocks::{BlockReader, BlockWriter, damaged};
use bytes::{Buf, BufMut, Bytes};
use holdfast_proto::crash_points::{Point, crash_point};
use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::Path;

const MAGIC: &[u8; 8] = b"HFCKPT01";
const PAIRS: u8 = 1;
const END: u8 = 2;
/// A block is closed when it holds so much.
const BLOCK_BYTES: usize = 1 << 20;
/// Written back so often: a sync of the log, which shares the disk and its filesystem's journal, has no more than this of ours before it.
const WRITE_BACK_BYTES: u64 = 1 << 20;
const READ_BUFFER_BYTES: usize = 1 << 20;

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Log index of the state.
    pub index: u64,
    /// What raft wants to know of it.
    pub meta: Bytes,
}

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// Writes a checkpoint and syncs it. `pace` is called with the bytes written so far, now and then, and may take its time. Returns its length.
///
/// # Errors
/// The disk failed, or `pairs` did.
pub fn write(
    path: &Path,
    head: &Head,
    pairs: impl Iterator<Item = io::Result<Pair>>,
    mut pace: impl FnMut(u64),
) -> io::Result<u64> {
    crash_point(Point::CheckpointWrite);
    let mut out = BlockWriter::new(File::create(path)?);
    out.put(&[&MAGIC[..], &head.index.to_le_bytes(), &head.meta].concat())?;
    let (mut block, mut pair_count, mut written_back) = (vec![PAIRS], 0_u64, 0);
    for pair in pairs {
        let (key, value) = pair?;
        block.put_u32_le(key.len() as u32);
        block.put_u32_le(value.len() as u32);
        block.put_slice(&key);
        block.put_slice(&value);
        pair_count += 1;
        if block.len() >= BLOCK_BYTES {
            out.put(&block)?;
            block.truncate(1);
            if out.bytes - written_back >= WRITE_BACK_BYTES {
                write_back(out.get_ref(), written_back, out.bytes)?;
                written_back = out.bytes;
                pace(written_back);
            }
        }
    }
    if block.len() > 1 {
        out.put(&block)?;
    }
    out.put(&[&[END][..], &pair_count.to_le_bytes()].concat())?;
    crash_point(Point::CheckpointWritten);
    out.get_ref().sync_all()?;
    crash_point(Point::CheckpointSynced);
    Ok(out.bytes)
}

/// Sends these bytes of the file to the disk and waits until they are there: sync_file_range(2). Nothing of it is durable by that; but no
/// commit of the filesystem's journal is asked for, which every writer of the disk would have to wait for.
pub fn write_back(file: &File, from: u64, to: u64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: takes no pointers.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), from as i64, (to - from) as i64, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads pairs one by one. Each comes from a block whose checksum was right; that the file is whole is proven by its end.
pub struct Reader {
    blocks: BlockReader<BufReader<File>>,
    pub head: Head,
    block: Bytes,
    pair_count: u64,
    last_key: Option<Bytes>,
    ended: bool,
}

impl Reader {
    /// From the file's beginning, wherever it stands.
    ///
    /// # Errors
    /// `InvalidData` where it is no checkpoint, or its head is damaged.
    pub fn open(file: &File) -> io::Result<Reader> {
        let mut file = file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let mut blocks = BlockReader::new(BufReader::with_capacity(READ_BUFFER_BYTES, file));
        let mut first = blocks.next_block()?.ok_or_else(|| damaged("the file is empty"))?;
        if first.len() < MAGIC.len() + 8 || first.split_to(MAGIC.len())[..] != MAGIC[..] {
            return Err(damaged("not a checkpoint of this version"));
        }
        let head = Head { index: first.get_u64_le(), meta: first };
        Ok(Reader { blocks, head, block: Bytes::new(), pair_count: 0, last_key: None, ended: false })
    }

    /// How far it has read.
    pub fn bytes(&self) -> u64 {
        self.blocks.bytes
    }

    /// The next pair; None at the end.
    ///
    /// # Errors
    /// `InvalidData` where it is damaged.
    pub fn next_pair(&mut self) -> io::Result<Option<Pair>> {
        while self.block.is_empty() {
            if self.ended {
                return Ok(None);
            }
            let mut block = self.blocks.next_block()?.ok_or_else(|| damaged("the file ends early"))?;
            match if block.is_empty() { 0 } else { block.get_u8() } {
                PAIRS => self.block = block,
                END => return self.check_end(block).map(|()| None),
                kind => return Err(damaged(format!("a block of kind {kind}"))),
            }
        }
        let pair = take_pair(&mut self.block)?;
        if self.last_key.as_ref().is_some_and(|last| *last >= pair.0) {
            return Err(damaged("keys do not ascend"));
        }
        self.last_key = Some(pair.0.clone());
        self.pair_count += 1;
        Ok(Some(pair))
    }

    fn check_end(&mut self, mut block: Bytes) -> io::Result<()> {
        let whole = block.len() == 8 && block.get_u64_le() == self.pair_count;
        if !whole || self.blocks.next_block()?.is_some() {
            return Err(damaged("the end does not fit the file"));
        }
        self.ended = true;
        Ok(())
    }
}

fn take_pair(block: &mut Bytes) -> io::Result<Pair> {
    let short = || damaged("a pair is cut");
    if block.len() < 8 {
        return Err(short());
    }
    let (key_len, value_len) = (block.get_u32_le() as usize, block.get_u32_le() as usize);
    if block.len() < key_len.saturating_add(value_len) {
        return Err(short());
    }
    Ok((block.split_to(key_len), block.split_to(value_len)))
}

/// Reads the whole file, from the disk where the kernel lets us.
///
/// # Errors
/// `InvalidData` where it is damaged.
pub fn verify(file: &File) -> io::Result<Head> {
    // SAFETY: an advice about a descriptor that is open; it changes no memory. What is cached says nothing about the disk.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    let mut reader = Reader::open(file)?;
    while reader.next_pair()?.is_some() {}
    Ok(reader.head)
}

/// How many bytes from the beginning are whole good blocks: where a transfer may be taken up again.
///
/// # Errors
/// The disk failed.
pub fn good_bytes(file: &File) -> io::Result<u64> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(0))?;
    let mut blocks = BlockReader::new(BufReader::with_capacity(READ_BUFFER_BYTES, file));
    loop {
        match blocks.next_block() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(blocks.bytes),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(blocks.bytes),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    fn head() -> Head {
        Head { index: 77, meta: Bytes::from_static(b"meta") }
    }

    fn pairs(count: u32) -> BTreeMap<Bytes, Bytes> {
        (0..count).map(|n| (Bytes::from(n.to_be_bytes().to_vec()), Bytes::from(vec![n as u8; n as usize]))).collect()
    }

    fn written(dir: &Path, pairs: &BTreeMap<Bytes, Bytes>) -> PathBuf {
        let path = dir.join("c");
        let len = write(&path, &head(), pairs.clone().into_iter().map(Ok), |_| {}).expect("writes");
        assert_eq!(std::fs::metadata(&path).expect("is there").len(), len);
        path
    }

    #[test]
    fn what_is_written_is_read_back_over_many_blocks() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pairs = pairs(3000);
        let file = File::open(written(dir.path(), &pairs)).expect("opens");
        assert_eq!(verify(&file).expect("whole"), head());
        assert_eq!(good_bytes(&file).expect("reads"), file.metadata().expect("len").len());
        let mut reader = Reader::open(&file).expect("opens");
        let mut read = BTreeMap::new();
        while let Some((key, value)) = reader.next_pair().expect("whole") {
            read.insert(key, value);
        }
        assert_eq!(read, pairs);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_found() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = written(dir.path(), &pairs(6));
        let whole = std::fs::read(&path).expect("reads");
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).expect("writes");
            assert!(verify(&File::open(&path).expect("opens")).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).expect("writes");
            assert!(verify(&File::open(&path).expect("opens")).is_err(), "cut at {at}");
        }
        std::fs::write(&path, [&whole[..], b"more"].concat()).expect("writes");
        assert!(verify(&File::open(&path).expect("opens")).is_err(), "something behind the end");
    }

    #[test]
    fn keys_that_do_not_ascend_are_damage() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c");
        let twice = [("b", "1"), ("b", "2")].map(|(key, value)| Ok((Bytes::from(key), Bytes::from(value))));
        write(&path, &head(), twice.into_iter(), |_| {}).expect("writes");
        assert!(verify(&File::open(&path).expect("opens")).is_err());
    }

    #[test]
    fn a_checkpoint_that_cannot_be_had_is_not_finished() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("c");
        let failing = std::iter::once(Err(damaged("the source")));
        assert!(write(&path, &head(), failing, |_| {}).is_err());
        assert!(verify(&File::open(&path).expect("opens")).is_err());
    }
}
