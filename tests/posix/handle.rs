//! Open by handle: name_to_handle_at(2) and open_by_handle_at(2), which an NFS server lives on. A handle is an inode's number and generation,
//! so it works on every mount of the volume, and for as long as the inode lives.

use holdfast_tests::mount::Mount;
use holdfast_tests::shared;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Error, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;

/// struct file_handle of Linux, with room for any filesystem's.
#[repr(C)]
#[derive(Clone)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

fn handle_of(path: &Path) -> Handle {
    let name = CString::new(path.to_str().unwrap()).unwrap();
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let mut mount_id = 0_i32;
    // SAFETY: a valid C string, a handle with the room that it names, and an int; all outlive the call.
    let done = unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, name.as_ptr(), &mut handle, &mut mount_id, 0)
    };
    assert_eq!(done, 0, "{}", Error::last_os_error());
    handle
}

fn open(mount: &Path, handle: &Handle) -> Result<File, i32> {
    let root = File::open(mount).unwrap();
    // SAFETY: a handle as name_to_handle_at made it; the new descriptor is nobody else's.
    unsafe {
        let fd = libc::syscall(libc::SYS_open_by_handle_at, root.as_raw_fd(), handle, libc::O_RDONLY);
        if fd < 0 { Err(Error::last_os_error().raw_os_error().unwrap()) } else { Ok(File::from_raw_fd(fd as i32)) }
    }
}

fn content(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_handle_opens_the_same_file_on_another_mount_whatever_its_name_is_now() {
    let name = shared::fresh_name();
    let (here, there) = (shared::mount(), shared::second_mount());
    fs::create_dir(here.path(&name).join("d")).unwrap();
    fs::write(here.path(&name).join("d/f"), b"by handle").unwrap();
    let handle = handle_of(&here.path(&name).join("d/f"));
    fs::rename(here.path(&name).join("d/f"), here.path(&name).join("g")).unwrap();
    assert_eq!(content(open(&there.dir, &handle).unwrap()), "by handle");
    let dir = handle_of(&here.path(&name).join("d"));
    assert!(open(&there.dir, &dir).unwrap().metadata().unwrap().is_dir());
}

#[test]
fn a_handle_outlives_the_mount_and_ends_with_the_file() {
    let (meta, mount) = shared::own_volume();
    fs::write(mount.path("f"), b"kept").unwrap();
    let handle = handle_of(&mount.path("f"));
    mount.umount_when_idle();
    let again = Mount::start(&meta);
    assert_eq!(content(open(&again.dir, &handle).unwrap()), "kept");
    fs::remove_file(again.path("f")).unwrap();
    fs::write(again.path("f"), b"another").unwrap();
    assert_eq!(open(&again.dir, &handle).map(drop), Err(libc::ESTALE));
}

#[test]
fn inode_numbers_and_generations_stay_for_life() {
    let name = shared::fresh_name();
    let (here, there) = (shared::mount().path(&name), shared::second_mount().path(&name));
    fs::write(here.join("f"), b"x").unwrap();
    let before = handle_of(&here.join("f"));
    fs::hard_link(here.join("f"), here.join("g")).unwrap();
    fs::rename(here.join("f"), here.join("h")).unwrap();
    let after = handle_of(&there.join("g"));
    assert_eq!((before.kind, before.data), (after.kind, after.data));
}
