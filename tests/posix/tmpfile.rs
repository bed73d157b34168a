//! O_TMPFILE: the FUSE library has no such call, so it is refused, at once and with the number that programs fall back at.

use holdfast_tests::shared;
use std::os::unix::fs::OpenOptionsExt;

#[test]
fn o_tmpfile_is_not_supported_and_says_so() {
    let dir = shared::fresh_dir();
    let opened = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(&dir);
    assert_eq!(opened.map(drop).map_err(|error| error.raw_os_error()), Err(Some(libc::EOPNOTSUPP)));
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}
