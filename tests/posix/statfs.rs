//! statfs: usage and limits, as df(1) shows them.

use holdfast_tests::fs::Fs;
use holdfast_tests::fs::local;
use holdfast_tests::fs::mount_fs::MountFs;
use holdfast_tests::shared;
use std::path::Path;

#[test]
fn the_state_machine_counts_inodes() {
    inodes_are_counted(&local::fresh_fs());
}

#[test]
fn the_mount_counts_inodes() {
    let (_, mount) = shared::own_volume();
    inodes_are_counted(&MountFs::new(&mount.dir));
}

fn inodes_are_counted(fs: &dyn Fs) {
    let before = fs.used_inodes().unwrap();
    fs.mkdir("d", 0o755).unwrap();
    fs.create("d/f", 0o644, true).unwrap();
    fs.link("d/f", "d/g").unwrap();
    assert_eq!(fs.used_inodes().unwrap(), before + 2);
    fs.unlink("d/g").unwrap();
    assert_eq!(fs.used_inodes().unwrap(), before + 2);
}

fn statvfs(path: &Path) -> libc::statvfs {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a valid C string, and a struct of plain integers that the call fills.
    unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        assert_eq!(libc::statvfs(path.as_ptr(), &mut found), 0);
        found
    }
}

#[test]
fn written_bytes_are_used_bytes() {
    let (_, mount) = shared::own_volume();
    let used = || {
        let found = statvfs(&mount.dir);
        (found.f_blocks - found.f_bfree) * found.f_frsize
    };
    let before = used();
    std::fs::write(mount.path("f"), vec![1; 10 << 20]).unwrap();
    let after = used();
    assert!((10 << 20..12 << 20).contains(&(after - before)), "{} bytes more", after - before);
    assert_eq!(statvfs(&mount.dir).f_namemax, 255);
}

#[test]
fn a_full_volume_says_enospc_and_lives() {
    let meta = shared::cluster().meta("small");
    let bucket = shared::cluster().bucket("small");
    std::fs::create_dir_all(&bucket).unwrap();
    let args = ["format", &meta, "--storage", "file", "--bucket", bucket.to_str().unwrap(), "--no-sync"];
    let limits = ["--capacity", "16MiB", "--inodes", "20"];
    shared::cluster().holdfast(&[&args[..], &limits[..]].concat()).ok("format");
    let mount = holdfast_tests::mount::Mount::start(&meta);
    let error = write_and_sync(&mount.path("big"), &vec![1; 40 << 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    std::fs::remove_file(mount.path("big")).unwrap();
    write_and_sync(&mount.path("fits"), &vec![1; 8 << 20]).unwrap();
    let many = (0..40).map(|number| std::fs::write(mount.path(&format!("f{number}")), b"")).find_map(Result::err);
    assert_eq!(many.and_then(|error| error.raw_os_error()), Some(libc::ENOSPC));
    std::fs::remove_file(mount.path("f0")).unwrap();
    assert!(statvfs(&mount.dir).f_files <= 20);
}

#[test]
fn a_volume_is_filled_to_its_last_byte_and_write_says_when() {
    let meta = shared::cluster().meta("brim");
    let bucket = shared::cluster().bucket("brim");
    std::fs::create_dir_all(&bucket).unwrap();
    let args = ["format", &meta, "--storage", "file", "--bucket", bucket.to_str().unwrap(), "--no-sync"];
    shared::cluster().holdfast(&[&args[..], &["--capacity", "3MiB"]].concat()).ok("format");
    let mount = holdfast_tests::mount::Mount::start(&meta);
    std::fs::write(mount.path("first"), vec![7; 1_000_001]).unwrap();
    let mut file = std::fs::File::create(mount.path("second")).unwrap();
    let mut written = 0;
    let full = loop {
        match std::io::Write::write(&mut file, &[8; 100_000]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!((full.raw_os_error(), written), (Some(libc::ENOSPC), (3 << 20) - 1_000_001));
    // What was taken is kept: nothing of it is refused later.
    file.sync_all().unwrap();
    assert_eq!(std::fs::read(mount.path("second")).unwrap(), vec![8; written]);
    assert_eq!(statvfs(&mount.dir).f_bfree, 0);
    // Overwriting takes no room, and what is removed gives room at once.
    std::os::unix::fs::FileExt::write_all_at(&file, &[9; 100], 0).unwrap();
    file.sync_all().unwrap();
    std::fs::remove_file(mount.path("first")).unwrap();
    write_and_sync(&mount.path("third"), &vec![1; 1_000_001]).unwrap();
}

fn write_and_sync(path: &Path, data: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    std::io::Write::write_all(&mut file, data)?;
    file.sync_all()
}
