//! Blocks: the framing of files whose every part must be known to be whole. A block carries its length, its place in the file and a
//! checksum over both and its bytes, so that a flipped bit, a torn write, a cut and a block out of place are all found, and a file that
//! was received in part is known to be good up to some block. Called by checkpoint.
//!
//! ```text
//!   block   len u32 LE | crc32c u32 LE, of (ordinal u64 LE, bytes) | bytes
//! ```

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use std::io::{self, Read, Write};

/// No block is longer: a damaged length must not become an allocation.
pub const BLOCK_BYTES_MAX: usize = 160 << 20;
const HEAD_BYTES: usize = 8;

/// # Errors
/// `InvalidData`, with the words.
pub fn damaged(detail: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("damaged: {detail}"))
}

fn checksum(ordinal: u64, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&ordinal.to_le_bytes());
    digest.update(bytes);
    digest.finalize() as u32
}

/// Writes blocks one after the other.
pub struct BlockWriter<W> {
    out: W,
    ordinal: u64,
    /// Written so far, heads included.
    pub bytes: u64,
}

impl<W: Write> BlockWriter<W> {
    pub fn new(out: W) -> BlockWriter<W> {
        BlockWriter { out, ordinal: 0, bytes: 0 }
    }

    /// # Errors
    /// The disk failed, or the block is too long.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "block is too long"));
        }
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&checksum(self.ordinal, bytes).to_le_bytes());
        self.out.write_all(&head)?;
        self.out.write_all(bytes)?;
        self.ordinal += 1;
        self.bytes += (HEAD_BYTES + bytes.len()) as u64;
        Ok(())
    }

    pub fn get_ref(&self) -> &W {
        &self.out
    }
}

/// Reads blocks one after the other.
pub struct BlockReader<R> {
    input: R,
    ordinal: u64,
    /// Up to here all blocks were good.
    pub bytes: u64,
}

impl<R: Read> BlockReader<R> {
    pub fn new(input: R) -> BlockReader<R> {
        BlockReader { input, ordinal: 0, bytes: 0 }
    }

    /// The next block; None where the file ends with a whole one.
    ///
    /// # Errors
    /// `InvalidData` where it is damaged or cut; else the disk failed.
    pub fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        let mut head = [0; HEAD_BYTES];
        match read_up_to(&mut self.input, &mut head)? {
            0 => return Ok(None),
            HEAD_BYTES => {}
            _ => return Err(damaged(format!("block {} is cut", self.ordinal))),
        }
        let [a, b, c, d, crc @ ..] = head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len > BLOCK_BYTES_MAX {
            return Err(damaged(format!("block {} claims {len} bytes", self.ordinal)));
        }
        // Grows with what is there: the length is only a claim so far.
        let mut bytes = Vec::new();
        self.input.by_ref().take(len as u64).read_to_end(&mut bytes)?;
        if bytes.len() != len {
            return Err(damaged(format!("block {} is cut", self.ordinal)));
        }
        if checksum(self.ordinal, &bytes) != u32::from_le_bytes(crc) {
            return Err(damaged(format!("checksum of block {} differs", self.ordinal)));
        }
        self.ordinal += 1;
        self.bytes += (HEAD_BYTES + len) as u64;
        Ok(Some(bytes.into()))
    }
}

fn read_up_to(input: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match input.read(&mut buf[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(blocks: &[&[u8]]) -> Vec<u8> {
        let mut writer = BlockWriter::new(Vec::new());
        blocks.iter().for_each(|block| writer.put(block).expect("writes"));
        assert_eq!(writer.bytes, writer.get_ref().len() as u64);
        writer.out
    }

    /// The blocks, and how far they were good.
    fn read(file: &[u8]) -> (Vec<Bytes>, u64, bool) {
        let mut reader = BlockReader::new(file);
        let mut blocks = Vec::new();
        loop {
            match reader.next_block() {
                Ok(Some(block)) => blocks.push(block),
                end => return (blocks, reader.bytes, end.is_ok()),
            }
        }
    }

    #[test]
    fn blocks_come_back() {
        let whole = file(&[b"one", b"", b"three"]);
        assert_eq!(read(&whole), (vec!["one".into(), "".into(), "three".into()], whole.len() as u64, true));
    }

    #[test]
    fn a_file_that_was_cut_is_good_up_to_its_last_whole_block() {
        let (first, whole) = (file(&[b"one"]), file(&[b"one", b"two"]));
        for len in first.len()..whole.len() {
            let (blocks, good, at_end) = read(&whole[..len]);
            assert_eq!((blocks.len(), good, at_end), (1, first.len() as u64, len == first.len()), "{len} bytes");
        }
    }

    #[test]
    fn a_flipped_byte_and_a_block_out_of_place_are_found() {
        let whole = file(&[b"one", b"two"]);
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x20;
            assert!(!read(&bad).2, "byte {at}");
        }
        let (one, two) = whole.split_at(whole.len() / 2);
        assert!(!read(&[two, one].concat()).2);
        assert!(!read(&[one, one].concat()).2);
    }
}
