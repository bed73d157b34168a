//! flush: what close(2) promises. After it returned 0, the data is committed: every later open reads it.

use holdfast_tests::shared;
use std::io::Write;

#[test]
fn after_close_the_size_and_data_are_committed() {
    let name = shared::fresh_name();
    let path = shared::mount().path(&name).join("f");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&[3; 777_777]).unwrap();
    drop(file);
    let other = shared::second_mount().path(&name).join("f");
    assert_eq!(std::fs::metadata(&other).unwrap().len(), 777_777);
    assert!(std::fs::read(&other).unwrap() == vec![3; 777_777]);
}

#[test]
fn closing_one_of_two_descriptors_commits_what_was_written() {
    let name = shared::fresh_name();
    let path = shared::mount().path(&name).join("f");
    let mut file = std::fs::File::create(&path).unwrap();
    let twin = file.try_clone().unwrap();
    file.write_all(b"first half").unwrap();
    drop(twin);
    assert_eq!(std::fs::read(shared::second_mount().path(&name).join("f")).unwrap(), b"first half");
    file.write_all(b" second half").unwrap();
    drop(file);
    assert_eq!(std::fs::read(shared::second_mount().path(&name).join("f")).unwrap(), b"first half second half");
}
