//! mknod: FIFOs, sockets, devices, and plain files.

use crate::stat;
use holdfast_tests::fs::{Fs, Kind};
use holdfast_tests::shared;
use std::io::{Read, Write};

on_both!(each_kind_keeps_its_kind_and_mode, devices_keep_their_number, a_name_is_made_once);

fn each_kind_keeps_its_kind_and_mode(fs: &dyn Fs) {
    for (name, kind) in [("p", Kind::Fifo), ("s", Kind::Socket), ("f", Kind::File)] {
        fs.mknod(name, kind, 0o640, 0).unwrap();
        let found = stat(fs, name);
        assert_eq!((found.kind, found.mode, found.nlink, found.size), (kind, 0o640, 1, 0), "{name}");
    }
    let listed: Vec<_> = fs.readdir("").unwrap();
    assert_eq!(listed, [("f".into(), Kind::File), ("p".into(), Kind::Fifo), ("s".into(), Kind::Socket)]);
}

fn devices_keep_their_number(fs: &dyn Fs) {
    let number = libc::makedev(1, 3) as u32;
    for (name, kind) in [("c", Kind::Char), ("b", Kind::Block)] {
        match fs.mknod(name, kind, 0o600, number) {
            // Some containers keep their root from making devices; that is the kernel's answer, not ours.
            Err(libc::EPERM) => continue,
            other => other.unwrap(),
        }
        assert_eq!((stat(fs, name).kind, stat(fs, name).rdev), (kind, number));
    }
}

fn a_name_is_made_once(fs: &dyn Fs) {
    fs.mknod("p", Kind::Fifo, 0o640, 0).unwrap();
    assert_eq!(fs.mknod("p", Kind::Fifo, 0o640, 0), Err(libc::EEXIST));
    assert_eq!(fs.mknod("none/p", Kind::Fifo, 0o640, 0), Err(libc::ENOENT));
}

#[test]
fn bytes_go_through_a_fifo() {
    let fs = shared::fresh_fs();
    fs.mknod("p", Kind::Fifo, 0o600, 0).unwrap();
    let path = fs.path("p");
    let writer = std::thread::spawn({
        let path = path.clone();
        move || std::fs::File::options().write(true).open(path).unwrap().write_all(b"through").unwrap()
    });
    let mut text = String::new();
    std::fs::File::open(&path).unwrap().read_to_string(&mut text).unwrap();
    writer.join().unwrap();
    assert_eq!(text, "through");
}

#[test]
fn a_unix_socket_listens_on_the_mount() {
    // The path of a socket has at most 107 bytes, so it is reached by a short way.
    let dir = shared::fresh_dir();
    let handle = std::fs::File::open(&dir).unwrap();
    let path = format!("/proc/self/fd/{}/s", std::os::fd::AsRawFd::as_raw_fd(&handle));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    client.write_all(b"hi").unwrap();
    drop(client);
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hi");
}
