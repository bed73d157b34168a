//! Sparse files: holes read as zeros, cost no objects, and are filled piece by piece.

use crate::stat;
use holdfast_tests::fs::Fs;

on_both!(holes_read_as_zeros, holes_are_filled_in_any_order, a_file_of_one_hole_is_all_zeros);

fn holes_read_as_zeros(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let spots = [1_000_000_u64, 70 << 20, 200 << 20];
    for spot in spots {
        fs.write("f", spot, b"island").unwrap();
    }
    for spot in spots {
        assert_eq!(fs.read("f", spot - 4, 14).unwrap()[..10], *b"\0\0\0\0island");
    }
    assert_eq!(fs.read("f", 100 << 20, 100_000), Ok(vec![0; 100_000]));
    assert_eq!(stat(fs, "f").size, (200 << 20) + 6);
}

fn holes_are_filled_in_any_order(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    let mut expected = vec![0_u8; 100 * 1000];
    for step in 0..100_usize {
        let piece = step * 37 % 100;
        expected[piece * 1000..(piece + 1) * 1000].fill(piece as u8 + 1);
        fs.write("f", piece as u64 * 1000, &[piece as u8 + 1; 1000]).unwrap();
    }
    assert!(fs.read("f", 0, 200_000).unwrap() == expected);
}

fn a_file_of_one_hole_is_all_zeros(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.truncate("f", 1 << 40).unwrap();
    assert_eq!(fs.read("f", (1 << 40) - 10, 100), Ok(vec![0; 10]));
    assert_eq!(fs.read("f", 1 << 39, 5000), Ok(vec![0; 5000]));
}
