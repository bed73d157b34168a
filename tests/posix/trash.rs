//! The trash of a volume that keeps removed files: what root finds in it and brings back, what others see of it, and that a removal in it is
//! for good. The rules one by one are tested beside them (apply/trash); emptying by the leader in cluster/trash.

use super::{alice, names_in};
use holdfast_tests::fs::Fs;
use holdfast_tests::fs::mount_fs::MountFs;
use holdfast_tests::mount::Mount;
use holdfast_tests::shared;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A volume that keeps what is removed for three days, and its mount.
fn keeper() -> Mount {
    let (meta, mount) = shared::own_volume();
    shared::cluster().holdfast(&["config", &meta, "--trash-days", "3"]).ok("holdfast config");
    mount
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Everything in the trash. The hour may change while a test runs.
fn kept(mount: &Mount) -> Vec<PathBuf> {
    entries(&mount.path(".trash")).iter().flat_map(|hour| entries(hour)).collect()
}

/// The only thing in the trash that was called this.
fn find(mount: &Mount, name: &str) -> PathBuf {
    let mut found = kept(mount);
    found.retain(|path| path.to_str().unwrap().ends_with(&format!("-{name}")));
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found.remove(0)
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn what_was_removed_is_found_and_brought_back_and_what_is_removed_there_is_gone() {
    let mount = keeper();
    let fs = MountFs::new(&mount.dir);
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/f"), vec![7; 3_000_000]).unwrap();
    fs::set_permissions(mount.path("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
    fs.set_xattr("d/f", "user.mark", b"x", 0).unwrap();
    let (dir, file) = (fs::metadata(mount.path("d")).unwrap().ino(), fs::metadata(mount.path("d/f")).unwrap().ino());
    let used = fs.used_inodes().unwrap();
    fs::remove_file(mount.path("d/f")).unwrap();
    assert_eq!(errno(File::open(mount.path("d/f"))), Some(libc::ENOENT));
    let lies = find(&mount, "f");
    assert!(lies.ends_with(format!("{dir}-{file}-f")), "{}", lies.display());
    assert!(fs::read(&lies).unwrap() == vec![7; 3_000_000]);
    assert_eq!(fs.used_inodes(), Ok(used));

    fs::rename(&lies, mount.path("d/f")).unwrap();
    assert!(fs::read(mount.path("d/f")).unwrap() == vec![7; 3_000_000]);
    assert_eq!(
        (fs.stat("d/f").map(|stat| stat.mode), fs.get_xattr("d/f", "user.mark")),
        (Ok(0o640), Ok(b"x".to_vec()))
    );
    assert!(kept(&mount).is_empty());
    fs::remove_file(mount.path("d/f")).unwrap();
    fs::remove_file(find(&mount, "f")).unwrap();
    assert!(kept(&mount).is_empty());
    assert_eq!(fs.used_inodes(), Ok(used - 1));
    shared::check_invariants();
}

#[test]
fn a_file_that_was_saved_over_is_found_as_it_was() {
    let mount = keeper();
    fs::write(mount.path("f"), b"old").unwrap();
    fs::write(mount.path("f.new"), b"new").unwrap();
    fs::rename(mount.path("f.new"), mount.path("f")).unwrap();
    let lies = find(&mount, "f");
    assert_eq!((fs::read(&lies).unwrap(), fs::read(mount.path("f")).unwrap()), (b"old".to_vec(), b"new".to_vec()));
    // Swapped back, the new one is kept.
    fs::rename(&lies, mount.path("f")).unwrap();
    assert_eq!(
        (fs::read(find(&mount, "f")).unwrap(), fs::read(mount.path("f")).unwrap()),
        (b"new".to_vec(), b"old".to_vec())
    );
}

#[test]
fn a_file_that_is_open_goes_on_and_has_the_trashs_name() {
    let mount = keeper();
    let mut file = File::options().create_new(true).read(true).write(true).open(mount.path("f")).unwrap();
    file.write_all(b"before").unwrap();
    fs::remove_file(mount.path("f")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 1);
    file.write_all(b" and after").unwrap();
    file.sync_all().unwrap();
    assert_eq!(fs::read(find(&mount, "f")).unwrap(), b"before and after");
    // And when it is removed for good.
    fs::remove_file(find(&mount, "f")).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let mut content = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut content).unwrap();
    assert_eq!(content, "before and after");
}

#[test]
fn it_is_roots_alone_and_nobody_puts_anything_into_it() {
    let mount = keeper();
    fs::set_permissions(&mount.dir, fs::Permissions::from_mode(0o777)).unwrap();
    let root = MountFs::new(&mount.dir);
    let user = alice();
    let alice = root.by(&user);
    alice.create("f", 0o666, true).unwrap();
    alice.unlink("f").unwrap();
    let lies = find(&mount, "f").strip_prefix(&mount.dir).unwrap().to_str().unwrap().to_owned();
    let hour = lies.rsplit_once('/').unwrap().0;
    assert!(names_in(&root, "").is_empty());
    assert_eq!(alice.readdir(".trash"), Err(libc::EACCES));
    assert_eq!(alice.stat(&lies), Err(libc::EACCES));
    assert_eq!(alice.rename(&lies, "f", 0), Err(libc::EACCES));
    assert_eq!(alice.unlink(&lies), Err(libc::EACCES));
    assert_eq!(alice.create(".trash/x", 0o600, true), Err(libc::EACCES));
    root.create("g", 0o600, true).unwrap();
    for dir in [".trash", hour] {
        let path = format!("{dir}/x");
        assert_eq!(root.create(&path, 0o600, true), Err(libc::EPERM));
        assert_eq!(root.mkdir(&path, 0o700), Err(libc::EPERM));
        assert_eq!(root.symlink("to", &path), Err(libc::EPERM));
        assert_eq!(root.link("g", &path), Err(libc::EPERM));
        assert_eq!(root.rename("g", &path, 0), Err(libc::EPERM));
        assert_eq!(root.chmod(dir, 0o777), Err(libc::EPERM));
        assert_eq!(root.chown(dir, Some(user.uid), None), Err(libc::EPERM));
    }
    assert_eq!(root.rmdir(".trash"), Err(libc::EPERM));
    assert_eq!(root.rename(".trash", "t", 0), Err(libc::EPERM));
    assert_eq!(root.mkdir(".trash", 0o700), Err(libc::EEXIST));
    root.rename(&lies, "f", 0).unwrap();
    assert_eq!(root.stat("f").map(|stat| stat.uid), Ok(user.uid));
}

#[test]
fn a_removed_tree_is_put_together_again_and_removed_for_good() {
    let mount = keeper();
    let fs = MountFs::new(&mount.dir);
    let before = fs.used_inodes().unwrap();
    fs::create_dir_all(mount.path("tree/a/b")).unwrap();
    fs::create_dir_all(mount.path("tree/empty")).unwrap();
    for n in 0..20 {
        fs::write(mount.path(&format!("tree/a/b/f{n}")), format!("content {n}")).unwrap();
    }
    std::os::unix::fs::symlink("f3", mount.path("tree/a/b/l")).unwrap();
    fs::remove_dir_all(mount.path("tree")).unwrap();
    assert!(entries(&mount.dir).is_empty());
    assert_eq!(kept(&mount).len(), 4 + 20 + 1);

    // From the top down, as the numbers in the names say.
    for (name, path) in [("tree", "tree"), ("a", "tree/a"), ("b", "tree/a/b"), ("l", "tree/a/b/l")] {
        fs::rename(find(&mount, name), mount.path(path)).unwrap();
    }
    for n in 0..20 {
        fs::rename(find(&mount, &format!("f{n}")), mount.path(&format!("tree/a/b/f{n}"))).unwrap();
    }
    assert_eq!(fs::read(mount.path("tree/a/b/l")).unwrap(), b"content 3");
    fs::write(mount.path("tree/a/b/more"), b"x").unwrap();

    fs::remove_dir_all(mount.path("tree")).unwrap();
    entries(&mount.path(".trash")).iter().for_each(|hour| fs::remove_dir_all(hour).unwrap());
    assert!(entries(&mount.path(".trash")).is_empty());
    assert_eq!(fs.used_inodes(), Ok(before));
    shared::check_invariants();
}
