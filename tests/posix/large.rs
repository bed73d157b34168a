//! Files over 4 GiB: offsets and sizes are 64 bits wide everywhere.

use crate::stat;
use holdfast_tests::fs::Fs;

on_both!(
    bytes_beyond_4_gib_come_back,
    truncation_works_on_both_sides_of_4_gib,
    the_largest_offset_is_refused_with_efbig
);

const GIB: u64 = 1 << 30;

fn bytes_beyond_4_gib_come_back(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 5 * GIB, b"far out").unwrap();
    fs.write("f", 4 * GIB - 2, b"across").unwrap();
    assert_eq!(stat(fs, "f").size, 5 * GIB + 7);
    assert_eq!(fs.read("f", 5 * GIB - 3, 20), Ok(b"\0\0\0far out".to_vec()));
    assert_eq!(fs.read("f", 4 * GIB - 4, 10), Ok(b"\0\0across\0\0".to_vec()));
    assert_eq!(fs.read("f", 0, 5), Ok(vec![0; 5]));
}

fn truncation_works_on_both_sides_of_4_gib(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.truncate("f", 6 * GIB).unwrap();
    fs.write("f", 5 * GIB, b"gone").unwrap();
    fs.write("f", 3 * GIB, b"kept").unwrap();
    fs.truncate("f", 4 * GIB + 1).unwrap();
    assert_eq!(stat(fs, "f").size, 4 * GIB + 1);
    fs.truncate("f", 6 * GIB).unwrap();
    assert_eq!((fs.read("f", 5 * GIB, 4), fs.read("f", 3 * GIB, 4)), (Ok(vec![0; 4]), Ok(b"kept".to_vec())));
}

fn the_largest_offset_is_refused_with_efbig(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let max = holdfast_proto::limits::FILE_BYTES_MAX;
    assert_eq!(fs.truncate("f", max), Ok(()));
    assert_eq!(fs.truncate("f", max + 1), Err(libc::EFBIG));
    assert_eq!(fs.write("f", max, b"x"), Err(libc::EFBIG));
    assert_eq!(stat(fs, "f").size, max);
}
