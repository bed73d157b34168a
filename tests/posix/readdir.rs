//! readdir and readdirplus: complete, without repetition, and stable under concurrent change.

use crate::{names_in, stat};
use holdfast_tests::fs::{Fs, Kind};
use holdfast_tests::shared;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

on_both!(entries_have_their_kinds, a_thousand_entries_come_once_each, only_directories_can_be_listed);

fn entries_have_their_kinds(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    fs.mkdir("d", 0o755).unwrap();
    fs.symlink("x", "l").unwrap();
    fs.mknod("p", Kind::Fifo, 0o644, 0).unwrap();
    let expected = [("d", Kind::Dir), ("f", Kind::File), ("l", Kind::Symlink), ("p", Kind::Fifo)];
    assert_eq!(fs.readdir(""), Ok(expected.map(|(name, kind)| (name.to_string(), kind)).to_vec()));
    assert_eq!(fs.readdir("d"), Ok(vec![]));
}

fn a_thousand_entries_come_once_each(fs: &dyn Fs) {
    let mut expected: Vec<_> = (0..1000).map(|number| format!("a-name-of-some-length-{number}")).collect();
    for name in &expected {
        fs.create(name, 0o644, true).unwrap();
    }
    expected.sort();
    assert_eq!(names_in(fs, ""), expected);
}

fn only_directories_can_be_listed(fs: &dyn Fs) {
    fs.create("f", 0o644, true).unwrap();
    assert_eq!((fs.readdir("f").err(), fs.readdir("none").err()), (Some(libc::ENOTDIR), Some(libc::ENOENT)));
}

#[test]
fn names_that_stay_are_listed_once_while_others_come_and_go() {
    let dir = shared::fresh_dir();
    let stay: BTreeSet<_> = (0..400).map(|number| format!("stay-{number}")).collect();
    for name in &stay {
        std::fs::write(dir.join(name), b"").unwrap();
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (done, dir) = (&stop, &dir);
        scope.spawn(move || {
            for round in 0.. {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let (one, two) = (dir.join(format!("go-{round}")), dir.join(format!("went-{round}")));
                std::fs::write(&one, b"").unwrap();
                std::fs::rename(&one, &two).unwrap();
                std::fs::remove_file(&two).unwrap();
            }
        });
        for _ in 0..10 {
            let mut seen = BTreeSet::new();
            for entry in std::fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(seen.insert(name.clone()), "{name} came twice");
            }
            assert!(stay.is_subset(&seen), "{:?} are missing", stay.difference(&seen).collect::<Vec<_>>());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn removing_while_listing_removes_everything() {
    let dir = shared::fresh_dir().join("d");
    std::fs::create_dir(&dir).unwrap();
    for number in 0..700 {
        std::fs::write(dir.join(format!("file-{number}")), b"").unwrap();
    }
    for entry in std::fs::read_dir(&dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    std::fs::remove_dir(&dir).unwrap();
}

#[test]
fn attributes_that_come_with_names_are_the_true_ones() {
    let fs = shared::fresh_fs();
    for number in 0..50_usize {
        fs.create(&format!("f{number}"), 0o600 + number as u32 % 8, true).unwrap();
        fs.write(&format!("f{number}"), 0, &vec![1; number * 10]).unwrap();
    }
    for entry in std::fs::read_dir(fs.path("")).unwrap() {
        let entry = entry.unwrap();
        let (listed, asked) = (entry.metadata().unwrap(), stat(&fs, entry.file_name().to_str().unwrap()));
        assert_eq!((listed.ino(), listed.len(), listed.mode() & 0o7777), (asked.ino, asked.size, asked.mode));
    }
}

#[test]
fn dot_and_dotdot_are_listed_and_true() {
    let dir = shared::fresh_dir();
    std::fs::create_dir(dir.join("d")).unwrap();
    let output = std::process::Command::new("ls").arg("-aif").arg(dir.join("d")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<_> = text.split_whitespace().collect();
    assert_eq!(found.len(), 4, "{text}");
    if found[1] == ".." {
        found.rotate_left(2);
    }
    let ino = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().ino().to_string();
    assert_eq!(found, [ino(dir.join("d")).as_str(), ".", ino(dir).as_str(), ".."]);
}
