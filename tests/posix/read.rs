//! read: what was written comes back, and nothing beyond the end.

use holdfast_tests::fs::Fs;
use holdfast_tests::shared;
use std::fs::File;
use std::os::unix::fs::FileExt;

on_both!(reads_end_at_the_end_of_the_file, a_directory_cannot_be_read, every_byte_comes_back_at_any_offset);

fn reads_end_at_the_end_of_the_file(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.read("f", 0, 10), Ok(vec![]));
    fs.write("f", 0, b"hello").unwrap();
    assert_eq!(fs.read("f", 0, 10), Ok(b"hello".to_vec()));
    assert_eq!(fs.read("f", 3, 10), Ok(b"lo".to_vec()));
    assert_eq!(fs.read("f", 5, 10), Ok(vec![]));
    assert_eq!(fs.read("f", 1 << 40, 10), Ok(vec![]));
}

fn a_directory_cannot_be_read(fs: &dyn Fs) {
    fs.mkdir("d", 0o755).unwrap();
    assert_eq!(fs.read("d", 0, 1), Err(libc::EISDIR));
}

fn every_byte_comes_back_at_any_offset(fs: &dyn Fs) {
    let data: Vec<u8> = (0..9_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs.create("f", 0o644, true).unwrap();
    fs.write("f", 0, &data).unwrap();
    for (offset, len) in
        [(0, 1), (4095, 2), (131_071, 131_074), ((4 << 20) - 1, 2), ((8 << 20) - 3, 7), (8_999_990, 10)]
    {
        assert!(fs.read("f", offset as u64, len).unwrap() == data[offset..offset + len], "at {offset}");
    }
    assert!(fs.read("f", 0, data.len()).unwrap() == data);
}

#[test]
fn many_readers_of_one_file_all_see_it_whole() {
    let path = shared::fresh_dir().join("f");
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 249) as u8).collect();
    std::fs::write(&path, &data).unwrap();
    std::thread::scope(|scope| {
        for reader in 0..4_u64 {
            let (path, data) = (&path, &data);
            scope.spawn(move || {
                let file = File::open(path).unwrap();
                let mut piece = vec![0; 10_000];
                for round in 0..50_u64 {
                    let offset = (reader * 777_777 + round * 55_555) % (data.len() as u64 - 10_000);
                    file.read_exact_at(&mut piece, offset).unwrap();
                    assert!(piece == data[offset as usize..offset as usize + 10_000]);
                }
            });
        }
    });
}
