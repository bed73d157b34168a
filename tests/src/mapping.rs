//! A file mapped into memory, for reading and writing. Called by the tests of mmap.

use std::fs::File;
use std::os::fd::AsRawFd;

/// A shared mapping of a whole file. Nobody may truncate the file while it lives.
#[derive(Debug)]
pub struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    /// Of a file that is open for reading and writing, and not empty.
    pub fn of(file: &File) -> Mapping {
        let len = file.metadata().unwrap().len() as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Mapping { start: start.cast(), len }
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped for as long as self lives, and nobody truncates the file meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    pub fn sync(&self) {
        // SAFETY: our own mapping.
        assert_eq!(unsafe { libc::msync(self.start.cast(), self.len, libc::MS_SYNC) }, 0);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, used by nobody any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
