//! fsync and fdatasync: durable and visible while the file stays open.

use holdfast_tests::shared;
use std::io::Write;

#[test]
fn after_fsync_another_mount_reads_the_data() {
    let name = shared::fresh_name();
    let path = shared::mount().path(&name).join("f");
    let other = shared::second_mount().path(&name).join("f");
    let mut file = std::fs::File::create(&path).unwrap();
    for round in 1..=5_u8 {
        file.write_all(&[round; 10_000]).unwrap();
        if round % 2 == 0 {
            file.sync_data().unwrap()
        } else {
            file.sync_all().unwrap()
        }
        let found = std::fs::read(&other).unwrap();
        assert_eq!(found.len(), usize::from(round) * 10_000);
        assert_eq!(found.last(), Some(&round));
    }
}

#[test]
fn a_directory_can_be_synced() {
    let dir = shared::fresh_dir();
    std::fs::write(dir.join("f"), b"x").unwrap();
    std::fs::File::open(&dir).unwrap().sync_all().unwrap();
}

#[test]
fn fsync_of_a_clean_file_is_no_error() {
    let path = shared::fresh_dir().join("f");
    std::fs::write(&path, b"x").unwrap();
    std::fs::File::open(&path).unwrap().sync_all().unwrap();
}
