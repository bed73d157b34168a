//! mmap: reading and writing through shared mappings.

use holdfast_tests::mapping::Mapping;
use holdfast_tests::shared;
use std::fs::File;
use std::path::Path;

fn map(path: &Path) -> Mapping {
    Mapping::of(&File::options().read(true).write(true).open(path).unwrap())
}

#[test]
fn a_mapping_shows_what_was_written() {
    let path = shared::fresh_dir().join("f");
    let data: Vec<u8> = (0..100_000_u32).map(|at| (at % 241) as u8).collect();
    std::fs::write(&path, &data).unwrap();
    assert!(map(&path).bytes() == &data[..]);
}

#[test]
fn stores_through_a_mapping_reach_the_file() {
    let name = shared::fresh_name();
    let path = shared::mount().path(&name).join("f");
    std::fs::write(&path, vec![0; 50_000]).unwrap();
    let mut mapping = map(&path);
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
