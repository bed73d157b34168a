//! (P) Where a byte of a file is: which chunk, and where in it. Called by the rest of data.

use holdfast_proto::limits::CHUNK_BYTES;
use std::ops::Range;

/// A run of bytes inside one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPart {
    pub chunk: u32,
    /// Offset in the chunk, bytes.
    pub offset: u32,
    pub len: u32,
    /// Offset in the request this is a part of, bytes.
    pub at: usize,
}

/// First byte of a chunk in the file.
pub fn chunk_start(chunk: u32) -> u64 {
    u64::from(chunk) * u64::from(CHUNK_BYTES)
}

/// Splits [offset, offset + len) at chunk borders, and so that no part is longer than `part_max`. `offset + len` is at most
/// FILE_BYTES_MAX, so that the chunk fits.
pub fn split(offset: u64, len: usize, part_max: u32) -> impl Iterator<Item = ChunkPart> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = len.checked_sub(at).filter(|left| *left > 0)?;
        let position = offset + at as u64;
        let in_chunk = (position % u64::from(CHUNK_BYTES)) as u32;
        let part_len = (left as u64).min(u64::from(CHUNK_BYTES - in_chunk)).min(u64::from(part_max)) as u32;
        let part = ChunkPart { chunk: chunk_of(position), offset: in_chunk, len: part_len, at };
        at += part_len as usize;
        Some(part)
    })
}

pub fn chunk_of(position: u64) -> u32 {
    (position / u64::from(CHUNK_BYTES)) as u32
}

/// The chunks that a range of bytes, not empty, touches.
pub fn chunks_of(range: &Range<u64>) -> std::ops::RangeInclusive<u32> {
    chunk_of(range.start)..=chunk_of(range.end - 1)
}

/// The part of two ranges that is in both.
pub fn overlap(a: &Range<u64>, b: &Range<u64>) -> Option<Range<u64>> {
    let both = a.start.max(b.start)..a.end.min(b.end);
    (both.start < both.end).then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_over_a_chunk_border_is_split_there() {
        let parts: Vec<ChunkPart> = split(u64::from(CHUNK_BYTES) - 10, 30, u32::MAX).collect();
        assert_eq!(
            parts,
            [
                ChunkPart { chunk: 0, offset: CHUNK_BYTES - 10, len: 10, at: 0 },
                ChunkPart { chunk: 1, offset: 0, len: 20, at: 10 },
            ]
        );
    }

    #[test]
    fn no_part_is_longer_than_asked() {
        let lens: Vec<u32> = split(5, 25, 10).map(|part| part.len).collect();
        assert_eq!(lens, [10, 10, 5]);
        assert_eq!(split(5, 0, 10).count(), 0);
    }
}
