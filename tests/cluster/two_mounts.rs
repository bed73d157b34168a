//! Two mounts of one volume: close-to-open for data; names and attributes are seen at once.

use holdfast_tests::shared;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

#[test]
fn what_was_closed_here_is_read_by_an_open_there() {
    let (here, there) = shared::fresh_dir_on_both();
    for round in 0..40_usize {
        let content = vec![round as u8; 1 + round * 10_007];
        let (writer, reader) = if round % 2 == 0 { (&here, &there) } else { (&there, &here) };
        fs::write(writer.join("f"), &content).unwrap();
        assert!(fs::read(reader.join("f")).unwrap() == content, "round {round}");
    }
}

#[test]
fn an_overwrite_in_place_is_read_by_the_next_open_there() {
    let (here, there) = shared::fresh_dir_on_both();
    fs::write(here.join("f"), vec![0; 300_000]).unwrap();
    for round in 1..=20_u8 {
        assert_eq!(fs::read(there.join("f")).unwrap()[150_000], round - 1);
        let file = File::options().write(true).open(here.join("f")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[round; 1000], 150_000).unwrap();
        drop(file);
        let found = fs::read(there.join("f")).unwrap();
        assert_eq!((found[149_999], found[150_000], found[150_999], found[151_000]), (0, round, round, 0));
    }
}

#[test]
fn names_come_and_go_at_once() {
    let (here, there) = shared::fresh_dir_on_both();
    for round in 0..60 {
        let name = format!("f{round}");
        assert!(!there.join(&name).exists());
        File::create(here.join(&name)).unwrap();
        assert!(there.join(&name).exists(), "created here, not there");
        fs::rename(here.join(&name), here.join("moved")).unwrap();
        assert!(there.join("moved").exists() && !there.join(&name).exists(), "renamed here, not there");
        fs::remove_file(there.join("moved")).unwrap();
        assert!(!here.join("moved").exists(), "removed there, still here");
    }
}

#[test]
fn directories_and_listings_agree_at_once() {
    let (here, there) = shared::fresh_dir_on_both();
    for round in 0..20 {
        fs::create_dir(here.join(format!("d{round}"))).unwrap();
        fs::write(there.join(format!("d{round}/f")), b"x").unwrap();
        assert_eq!(fs::remove_dir(here.join(format!("d{round}"))).unwrap_err().raw_os_error(), Some(libc::ENOTEMPTY));
        assert_eq!(fs::read_dir(&there).unwrap().count(), round + 1);
        assert_eq!(fs::read_dir(&here).unwrap().count(), round + 1);
    }
}

#[test]
fn attributes_agree_at_once() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (here, there) = shared::fresh_dir_on_both();
    fs::write(here.join("f"), b"12345").unwrap();
    for mode in [0o600, 0o644, 0o755, 0o4711] {
        fs::set_permissions(here.join("f"), PermissionsExt::from_mode(mode)).unwrap();
        assert_eq!(fs::metadata(there.join("f")).unwrap().mode() & 0o7777, mode);
    }
    for size in [0, 100, 3, 1 << 33] {
        File::options().write(true).open(there.join("f")).unwrap().set_len(size).unwrap();
        assert_eq!(fs::metadata(here.join("f")).unwrap().len(), size);
    }
}

#[test]
fn exclusive_creation_has_one_winner() {
    let (here, there) = shared::fresh_dir_on_both();
    for round in 0..30 {
        let attempt =
            |dir: PathBuf| move || File::options().write(true).create_new(true).open(dir.join(format!("x{round}")));
        let (one, two) = (std::thread::spawn(attempt(here.clone())), std::thread::spawn(attempt(there.clone())));
        let results = [one.join().unwrap(), two.join().unwrap()];
        let losers: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(losers.len(), 1, "{results:?}");
        assert_eq!(losers[0].raw_os_error(), Some(libc::EEXIST));
    }
}

#[test]
fn truncation_there_is_seen_by_a_new_open_here() {
    let (here, there) = shared::fresh_dir_on_both();
    fs::write(here.join("f"), vec![1; 100_000]).unwrap();
    assert_eq!(fs::read(here.join("f")).unwrap().len(), 100_000);
    File::options().write(true).truncate(true).open(there.join("f")).unwrap().write_all(b"short").unwrap();
    assert_eq!(fs::read(here.join("f")).unwrap(), b"short");
}

#[test]
fn a_file_replaced_there_is_the_new_one_here() {
    let (here, there) = shared::fresh_dir_on_both();
    for round in 0..30 {
        fs::write(there.join("new"), format!("version {round}")).unwrap();
        fs::rename(there.join("new"), there.join("f")).unwrap();
        assert_eq!(fs::read_to_string(here.join("f")).unwrap(), format!("version {round}"));
    }
}
