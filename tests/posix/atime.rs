//! Access times: relatime by default, as mount(8) has it; told to the server late, and shown by the mount that read at once.

use crate::next_instant;
use holdfast_tests::mount::Mount;
use holdfast_tests::shared;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn atime(path: &Path) -> (i64, i64) {
    let found = fs::metadata(path).unwrap();
    (found.atime(), found.atime_nsec())
}

fn ctime(path: &Path) -> (i64, i64) {
    let found = fs::metadata(path).unwrap();
    (found.ctime(), found.ctime_nsec())
}

/// Whether each of three reads moved atime: after the creation, again, and after a write.
fn moves(file: &Path) -> [bool; 3] {
    fs::write(file, b"data").unwrap();
    let read = || {
        let before = (atime(file), ctime(file));
        next_instant();
        fs::read(file).unwrap();
        assert_eq!(ctime(file), before.1, "a read is no change");
        atime(file) > before.0
    };
    let first = [read(), read()];
    next_instant();
    fs::write(file, b"more").unwrap();
    [first[0], first[1], read()]
}

#[test]
fn a_read_moves_atime_if_it_is_not_newer_than_the_last_change() {
    assert_eq!(moves(&shared::fresh_dir().join("f")), [true, false, true]);
}

#[test]
fn a_listing_is_a_read_of_the_directory() {
    let dir = shared::fresh_dir();
    fs::write(dir.join("f"), b"").unwrap();
    let before = atime(&dir);
    next_instant();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    let after = atime(&dir);
    assert!(after > before);
    next_instant();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    assert_eq!(atime(&dir), after);
}

#[test]
fn noatime_and_strictatime_are_obeyed() {
    let (meta, mount) = shared::own_volume();
    mount.umount_when_idle();
    for (option, expected) in [("noatime", [false; 3]), ("strictatime", [true; 3])] {
        let mount = Mount::start_with(&meta, &["-o", option]);
        assert_eq!(moves(&mount.path(option)), expected, "{option}");
        mount.umount_when_idle();
    }
}

#[test]
fn reads_are_told_to_the_cluster_at_the_latest_by_the_unmount() {
    let (meta, mount) = shared::own_volume();
    fs::write(mount.path("f"), b"data").unwrap();
    let before = atime(&mount.path("f"));
    next_instant();
    fs::read(mount.path("f")).unwrap();
    let shown = atime(&mount.path("f"));
    mount.umount_when_idle();
    let again = Mount::start(&meta);
    let kept = atime(&again.path("f"));
    // The server counts back from its own clock, in milliseconds.
    assert!(before < kept, "{before:?} {kept:?} {shown:?}");
}

#[test]
fn a_time_that_was_set_is_not_overtaken_by_an_earlier_read() {
    let (meta, mount) = shared::own_volume();
    let file = mount.path("f");
    fs::write(&file, b"data").unwrap();
    fs::read(&file).unwrap();
    let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(&file).unwrap().set_times(fs::FileTimes::new().set_accessed(past)).unwrap();
    assert_eq!(atime(&file), (1_000_000, 0));
    mount.umount_when_idle();
    let again = Mount::start(&meta);
    assert_eq!(atime(&again.path("f")), (1_000_000, 0));
}
