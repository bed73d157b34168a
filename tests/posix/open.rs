//! open: O_TRUNC, O_APPEND, O_RDONLY and what may not be opened.

use crate::{alice, stat};
use holdfast_tests::fs::Fs;
use holdfast_tests::shared;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};

on_both!(what_is_not_there_cannot_be_opened, a_file_and_a_directory_can_be_opened);

fn what_is_not_there_cannot_be_opened(fs: &dyn Fs) {
    assert_eq!(fs.open("f"), Err(libc::ENOENT));
    fs.create("f", 0o644, true).unwrap();
    assert_eq!(fs.open("f/g"), Err(libc::ENOTDIR));
    fs.unlink("f").unwrap();
    assert_eq!(fs.open("f"), Err(libc::ENOENT));
}

fn a_file_and_a_directory_can_be_opened(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.mkdir("d", 0o755).unwrap();
    assert_eq!((fs.open("f"), fs.open("d")), (Ok(()), Ok(())));
    let before = stat(fs, "f");
    fs.open("f").unwrap();
    assert_eq!(stat(fs, "f"), before);
}

#[test]
fn o_trunc_empties_the_file_and_old_data_never_returns() {
    let path = shared::fresh_dir().join("f");
    fs::write(&path, vec![7; 100_000]).unwrap();
    drop(File::options().write(true).truncate(true).open(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    assert_eq!(fs::read(&path).unwrap(), vec![0; 1000]);
}

#[test]
fn o_append_writes_at_the_end_whatever_the_position() {
    let path = shared::fresh_dir().join("f");
    fs::write(&path, b"one").unwrap();
    let mut file = File::options().append(true).read(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"two").unwrap();
    file.seek(SeekFrom::Start(1)).unwrap();
    file.write_all(b"three").unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"onetwothree");
}

#[test]
fn two_descriptors_of_one_mount_append_without_losing_anything() {
    let path = shared::fresh_dir().join("log");
    let append = || File::options().create(true).append(true).open(&path).unwrap();
    let (mut one, mut two) = (append(), append());
    for round in 0..200 {
        let file = if round % 2 == 0 { &mut one } else { &mut two };
        writeln!(file, "line {round:04}").unwrap();
    }
    drop((one, two));
    let expected: String = (0..200).map(|round| format!("line {round:04}\n")).collect();
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn a_descriptor_for_reading_sees_what_another_wrote_before() {
    let path = shared::fresh_dir().join("f");
    let mut writer = File::create(&path).unwrap();
    let mut reader = File::open(&path).unwrap();
    writer.write_all(b"unflushed").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "unflushed");
}

#[test]
fn modes_decide_who_may_open() {
    let fs = shared::fresh_fs();
    fs.create("f", 0o600, true).unwrap();
    assert_eq!(fs.by(&alice()).open("f"), Err(libc::EACCES));
    fs.chmod("f", 0o604).unwrap();
    assert_eq!(fs.by(&alice()).open("f"), Ok(()));
    assert_eq!(fs.by(&alice()).write("f", 0, b"x"), Err(libc::EACCES));
}
