//! POSIX, one file an operation. Most rules are run twice: on metad's state machine alone, and through a real FUSE mount of three
//! real nodes. What only a kernel can ask (descriptors, mmap) runs on the mount.

use holdfast_tests::fs::{Fs, Stat, User};

/// Runs each function twice, on a tree of its own. What the nodes keep is sound afterwards.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod state_machine {
            $(#[test] fn $name() { super::$name(&holdfast_tests::fs::local::fresh_fs()); })*
        }
        mod mount {
            $(#[test] fn $name() {
                super::$name(&holdfast_tests::shared::fresh_fs());
                holdfast_tests::shared::check_invariants();
            })*
        }
    };
}

mod access;
mod acl;
mod atime;
mod copy_file_range;
mod create;
mod fallocate;
mod fcntl_lock;
mod ficlone;
mod flock;
mod flush;
mod fsync;
mod getattr;
mod groups;
mod handle;
mod large;
mod link;
mod lookup;
mod mkdir;
mod mknod;
mod mmap;
mod open;
mod read;
mod readdir;
mod readlink;
mod rename;
mod rmdir;
mod seek_hole;
mod set_id;
mod setattr;
mod setgid;
mod sparse;
mod statfs;
mod sticky;
mod symlink;
mod tmpfile;
mod trash;
mod truncate;
mod unlink;
mod unlinked_open;
mod write;
mod xattr;

const ALICE: u32 = 1001;
const BOB: u32 = 1002;

fn alice() -> User {
    User::new(ALICE, ALICE)
}

fn bob() -> User {
    User::new(BOB, BOB)
}

fn stat(fs: &dyn Fs, path: &str) -> Stat {
    fs.stat(path).unwrap_or_else(|errno| panic!("stat {path}: errno {errno}"))
}

fn names_in(fs: &dyn Fs, path: &str) -> Vec<String> {
    fs.readdir(path).expect("readdir").into_iter().map(|(name, _)| name).collect()
}

/// Waits for the clock to move on by more than the kernel's granularity of timestamps.
fn next_instant() {
    std::thread::sleep(std::time::Duration::from_millis(15));
}
