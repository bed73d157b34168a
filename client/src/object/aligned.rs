//! (P) Buffers that start at a page border, so that a directory store can write and read them past the page cache (O_DIRECT). Called by
//! object/local and by data/chunk_writer, whose blocks go to the store as they were gathered.

use bytes::Bytes;

/// What direct IO asks of address, offset and length, bytes: the largest logical block of disks in use.
pub const ALIGN: usize = 4096;
/// Smaller buffers are not worth the padding.
const ALIGNED_MIN: usize = 64 << 10;

/// Bytes that begin `pad` bytes into an allocation, which never moves: room is asked for once.
#[derive(Debug)]
pub struct AlignedBuf {
    room: Vec<u8>,
    pad: usize,
    capacity: usize,
}

impl AlignedBuf {
    pub fn with_capacity(capacity: usize) -> Self {
        if capacity < ALIGNED_MIN {
            return AlignedBuf { room: Vec::with_capacity(capacity), pad: 0, capacity };
        }
        let mut room: Vec<u8> = Vec::with_capacity(capacity + ALIGN);
        // Of a type without alignment of its own the answer is always exact; were it not, the buffer would only be unaligned.
        let pad = room.as_ptr().align_offset(ALIGN).min(ALIGN);
        room.resize(pad, 0);
        AlignedBuf { room, pad, capacity }
    }

    /// `len` zeros, to be read into.
    pub fn zeroed(len: usize) -> Self {
        let room = vec![0_u8; len + ALIGN];
        let pad = room.as_ptr().align_offset(ALIGN).min(ALIGN);
        let mut buffer = AlignedBuf { room, pad, capacity: len };
        buffer.room.truncate(pad + len);
        buffer
    }

    pub fn len(&self) -> usize {
        self.room.len() - self.pad
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends; moves everything to a buffer of `grown` bytes if this one is too small.
    pub fn extend(&mut self, bytes: &[u8], grown: usize) {
        if self.len() + bytes.len() > self.capacity {
            let mut larger = AlignedBuf::with_capacity(grown.max(self.len() + bytes.len()));
            larger.room.extend_from_slice(self.as_slice());
            *self = larger;
        }
        self.room.extend_from_slice(bytes);
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.room[self.pad..]
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.room[self.pad..]
    }

    /// Without the slack of a buffer that did not fill, which would be kept as long as the bytes.
    pub fn freeze(self) -> Bytes {
        if self.len() * 2 > self.capacity {
            return Bytes::from(self.room).slice(self.pad..);
        }
        let mut exact = AlignedBuf::with_capacity(self.len());
        exact.room.extend_from_slice(self.as_slice());
        Bytes::from(exact.room).slice(exact.pad..)
    }
}

pub fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(ALIGN) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_start_at_a_page_border_and_stay_there() {
        let mut buffer = AlignedBuf::with_capacity(100);
        for n in 0..200_u8 {
            buffer.extend(&[n; 1000], 200_000);
        }
        assert_eq!((buffer.len(), buffer.capacity()), (200_000, 200_000));
        let bytes = buffer.freeze();
        assert!(is_aligned(&bytes));
        assert!((0..200).all(|n| bytes[n * 1000..][..1000] == [n as u8; 1000]));
        assert!(is_aligned(AlignedBuf::zeroed(123_456).as_slice()));
    }

    #[test]
    fn slack_is_not_kept() {
        let mut buffer = AlignedBuf::with_capacity(1 << 20);
        buffer.extend(&[7; 100_000], 0);
        let bytes = buffer.freeze();
        assert!(is_aligned(&bytes) && bytes[..] == [7; 100_000]);
    }
}
