//! The bytes of one reference file: pages that were written, and a size. What was never written is zero.

use std::collections::BTreeMap;

const PAGE_BYTES: u64 = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparseBytes {
    size: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl SparseBytes {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, piece) in pieces(offset, data.len() as u64) {
            let page = self.pages.entry(at / PAGE_BYTES).or_insert_with(|| vec![0; PAGE_BYTES as usize].into());
            let (inside, from) = ((at % PAGE_BYTES) as usize, (at - offset) as usize);
            page[inside..inside + piece].copy_from_slice(&data[from..from + piece]);
        }
        if !data.is_empty() {
            self.size = self.size.max(offset + data.len() as u64);
        }
    }

    /// Shorter than `len` at the end of the file.
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.size.min(offset + len as u64).max(offset);
        let mut data = vec![0; (end - offset) as usize];
        for (at, piece) in pieces(offset, end - offset) {
            if let Some(page) = self.pages.get(&(at / PAGE_BYTES)) {
                let (inside, to) = ((at % PAGE_BYTES) as usize, (at - offset) as usize);
                data[to..to + piece].copy_from_slice(&page[inside..inside + piece]);
            }
        }
        data
    }

    /// Zeros in place of what was there; the size stays.
    pub fn erase(&mut self, offset: u64, len: u64) {
        let end = self.size.min(offset + len).max(offset);
        for (at, piece) in pieces(offset, end - offset) {
            if let Some(page) = self.pages.get_mut(&(at / PAGE_BYTES)) {
                let inside = (at % PAGE_BYTES) as usize;
                page[inside..inside + piece].fill(0);
            }
        }
    }

    pub fn truncate(&mut self, size: u64) {
        self.pages.retain(|&index, _| index * PAGE_BYTES < size);
        if let Some(page) = self.pages.get_mut(&(size / PAGE_BYTES)) {
            page[(size % PAGE_BYTES) as usize..].fill(0);
        }
        self.size = size;
    }
}

/// Cuts a range at the page boundaries: where each piece begins, and its length.
fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + len;
    let pages = offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
    pages.map(move |page| {
        let (start, stop) = ((page * PAGE_BYTES).max(offset), ((page + 1) * PAGE_BYTES).min(end));
        (start, (stop.max(start) - start) as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::SparseBytes;

    #[test]
    fn what_was_cut_off_is_zero_when_the_file_grows_again() {
        let mut bytes = SparseBytes::default();
        bytes.write(4090, b"0123456789");
        bytes.truncate(4093);
        bytes.truncate(4100);
        assert_eq!(bytes.read(4088, 100), b"\0\x00012\0\0\0\0\0\0\0");
        assert_eq!(bytes.size(), 4100);
    }

    #[test]
    fn what_was_erased_is_zero_and_nothing_else_is() {
        let mut bytes = SparseBytes::default();
        bytes.write(4090, b"0123456789");
        bytes.erase(4093, 5);
        bytes.erase(4099, 1000);
        assert_eq!((bytes.read(4090, 100), bytes.size()), (b"012\0\0\0\0\08\0".to_vec(), 4100));
    }

    #[test]
    fn a_gap_reads_as_zeros() {
        let mut bytes = SparseBytes::default();
        bytes.write(10_000, b"x");
        assert_eq!(bytes.read(9_998, 10), b"\0\0x");
        assert_eq!(bytes.read(20_000, 10), b"");
    }
}
