//! Files that are open and have no name any more: they work until the last close, on the mount that unlinked them and on others.

use holdfast_tests::files::object_count;
use holdfast_tests::shared;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn new_file(path: &Path) -> File {
    File::options().create_new(true).read(true).write(true).open(path).unwrap()
}

fn content(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn it_is_read_written_cut_and_synced_after_unlink() {
    let path = shared::fresh_dir().join("f");
    let mut file = new_file(&path);
    file.write_all(b"before").unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!((file.metadata().unwrap().nlink(), content(&mut file)), (0, b"before".to_vec()));
    file.write_all(b" and after").unwrap();
    file.sync_all().unwrap();
    assert_eq!(content(&mut file), b"before and after");
    file.set_len(6).unwrap();
    assert_eq!(content(&mut file), b"before");
}

#[test]
fn the_name_can_be_used_by_another_file_meanwhile() {
    let path = shared::fresh_dir().join("f");
    let mut old = new_file(&path);
    old.write_all(b"old").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"new").unwrap();
    assert_eq!((content(&mut old), std::fs::read(&path).unwrap()), (b"old".to_vec(), b"new".to_vec()));
}

#[test]
fn a_reader_on_another_mount_keeps_the_data() {
    let name = shared::fresh_name();
    let (here, there) = (shared::mount().path(&name).join("f"), shared::second_mount().path(&name).join("f"));
    std::fs::write(&here, vec![4; 3_000_000]).unwrap();
    let mut reader = File::open(&there).unwrap();
    std::fs::remove_file(&here).unwrap();
    // Give reclaim every chance to be wrong: other work, and time for the leader's rounds.
    for round in 0..50 {
        std::fs::write(shared::mount().path(&name).join(format!("other{round}")), b"x").unwrap();
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(content(&mut reader) == vec![4; 3_000_000]);
    assert_eq!(File::open(&there).unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

#[test]
fn its_objects_go_after_the_last_close() {
    let (meta, mount) = shared::own_volume();
    std::fs::write(mount.path("f"), vec![5; 9 << 20]).unwrap();
    let ours = shared::cluster().bucket(meta.rsplit('/').next().unwrap());
    let stored = |path: &Path| object_count(path);
    assert!(stored(&ours) >= 3);
    let reader = File::open(mount.path("f")).unwrap();
    std::fs::remove_file(mount.path("f")).unwrap();
    assert!(stored(&ours) > 0);
    drop(reader);
    holdfast_tests::process::wait_for("the objects of a closed orphan to go", || (stored(&ours) == 0).then_some(()));
}
