//! FICLONE, FICLONERANGE and FIDEDUPERANGE: the kernel (6.18) does not pass them to FUSE filesystems and refuses them itself.
//! copy_file_range does what they would.

use holdfast_tests::shared;
use std::fs::File;
use std::os::fd::AsRawFd;

/// linux/fs.h
const FICLONE: u64 = 0x4004_9409;
const FICLONERANGE: u64 = 0x4020_940d;
const FIDEDUPERANGE: u64 = 0xc018_9436;

fn errno(result: i32) -> Option<i32> {
    (result == -1).then(|| std::io::Error::last_os_error().raw_os_error())?
}

#[test]
fn the_kernel_refuses_clones_and_nothing_changes() {
    let dir = shared::fresh_dir();
    std::fs::write(dir.join("a"), [1; 8192]).unwrap();
    std::fs::write(dir.join("b"), [2; 8192]).unwrap();
    let source = File::open(dir.join("a")).unwrap();
    let target = File::options().read(true).write(true).open(dir.join("b")).unwrap();
    let (from, to) = (source.as_raw_fd(), target.as_raw_fd());
    // struct file_clone_range: src_fd, src_offset, src_length, dest_offset.
    let range = [from as u64, 0, 4096, 0];
    // SAFETY: open descriptors; the arguments are as long as the numbers of the ioctls say.
    unsafe {
        assert_eq!(errno(libc::ioctl(to, FICLONE as _, from)), Some(libc::EOPNOTSUPP));
        assert_eq!(errno(libc::ioctl(to, FICLONERANGE as _, range.as_ptr())), Some(libc::EOPNOTSUPP));
        // struct file_dedupe_range with one file_dedupe_range_info: offset, length, count; then fd, offset, bytes, status.
        let mut dedupe = [0, 4096, 1, to as u64, 0, 0, 0];
        assert_eq!(errno(libc::ioctl(from, FIDEDUPERANGE as _, dedupe.as_mut_ptr())), Some(libc::EOPNOTSUPP));
    }
    assert!(std::fs::read(dir.join("b")).unwrap() == [2; 8192]);
}
