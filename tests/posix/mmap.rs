//! mmap: reading and writing through shared mappings.

use holdfast_tests::shared;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A shared mapping of a whole file, for reading and writing.
struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    fn of(path: &Path) -> Mapping {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len() as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Mapping { start: start.cast(), len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped for as long as self lives, and nobody truncates the file meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    fn sync(&self) {
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

#[test]
fn a_mapping_shows_what_was_written() {
    let path = shared::fresh_dir().join("f");
    let data: Vec<u8> = (0..100_000_u32).map(|at| (at % 241) as u8).collect();
    std::fs::write(&path, &data).unwrap();
    assert!(Mapping::of(&path).bytes() == &data[..]);
}

#[test]
fn stores_through_a_mapping_reach_the_file() {
    let name = shared::fresh_name();
    let path = shared::mount().path(&name).join("f");
    std::fs::write(&path, vec![0; 50_000]).unwrap();
    let mut mapping = Mapping::of(&path);
    mapping.bytes()[12_345..12_350].copy_from_slice(b"store");
    mapping.sync();
    assert_eq!(&std::fs::read(&path).unwrap()[12_344..12_351], b"\0store\0");
    drop(mapping);
    let other = shared::second_mount().path(&name).join("f");
    assert_eq!(&std::fs::read(other).unwrap()[12_344..12_351], b"\0store\0");
}

#[test]
fn a_program_on_the_mount_can_be_run() {
    let path = shared::fresh_dir().join("program");
    std::fs::copy("/bin/echo", &path).unwrap();
    let output = std::process::Command::new(&path).arg("from the mount").output().unwrap();
    assert_eq!(output.stdout, b"from the mount\n");
}
