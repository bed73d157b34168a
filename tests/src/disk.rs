//! A disk of its own for a node: an ext4 filesystem in a file, mounted through a loop device, that can be filled and that can lose power.
//! Needs root. Called by tests of disk trouble.

use crate::process::{self, Leftover};
use crate::torn_disk::TornDisk;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// ioctl(2) number of EXT4_IOC_SHUTDOWN, and the flag that throws away what was not synced (linux/fs/ext4/ext4.h).
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
const NO_LOG_FLUSH: u32 = 2;

#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    pub dir: PathBuf,
    /// Holds the image, where it is to tear.
    torn: Option<TornDisk>,
}

fn run(program: &str, args: &[&str]) {
    let mut command = Command::new(program);
    command.args(args);
    process::run(command).ok(program);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

impl Disk {
    /// An empty one, mounted on `dir`.
    pub fn new(dir: &Path, mib: u64) -> Disk {
        let image = dir.with_extension("img");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("image");
        Disk::on(Disk { image, dir: dir.to_owned(), torn: None })
    }

    /// The same, which keeps of what was not flushed any sectors when it loses power.
    pub fn that_tears(dir: &Path, mib: u64) -> Disk {
        let torn = TornDisk::new(&dir.with_extension("torn"), mib << 20);
        Disk::on(Disk { image: torn.image(), dir: dir.to_owned(), torn: Some(torn) })
    }

    fn on(disk: Disk) -> Disk {
        fs::create_dir_all(&disk.dir).expect("mount point");
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(&disk.image)]);
        disk.mount();
        disk
    }

    fn mount(&self) {
        run("mount", &["-o", "loop,noauto_da_alloc", text(&self.image), text(&self.dir)]);
        process::register(Leftover::Mount(self.dir.clone()));
    }

    fn unmount(&self) {
        run("umount", &["-l", text(&self.dir)]);
        process::unregister(&Leftover::Mount(self.dir.clone()));
    }

    /// All that was written so far is on the disk.
    pub fn sync(&self) {
        let dir = File::open(&self.dir).expect("opens");
        nix::unistd::syncfs(dir).expect("syncfs");
    }

    /// From now on nothing reaches the disk, and what was not synced is lost: every call fails with EIO until `power_on`.
    pub fn power_off(&self) {
        if let Some(torn) = &self.torn {
            torn.cut();
        }
        let dir = File::open(&self.dir).expect("opens");
        let flags = NO_LOG_FLUSH;
        // SAFETY: the request reads a u32 through the pointer, which lives as long as the call.
        let done = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN, &raw const flags) };
        assert_eq!(done, 0, "EXT4_IOC_SHUTDOWN: {}", std::io::Error::last_os_error());
    }

    /// Mounts it again, as after a reboot. Nobody may have files of it open. `seed` is of the dice by which it tears, if it does.
    pub fn power_on(&self, seed: u64) {
        self.unmount();
        if let Some(torn) = &self.torn {
            // The loop device goes by itself, a moment later.
            process::wait_for("the image to be closed", || (!self.has_loop_device()).then_some(()));
            torn.tear(seed);
        }
        self.mount();
    }

    fn has_loop_device(&self) -> bool {
        let mut command = Command::new("losetup");
        command.args(["-j", text(&self.image)]);
        !process::run(command).ok("losetup").stdout.trim().is_empty()
    }

    /// Sectors that were lost so far, where it tears.
    pub fn torn_count(&self) -> u64 {
        self.torn.as_ref().map_or(0, TornDisk::torn_count)
    }

    /// Fills it until `left` bytes are free; 0 takes the last one.
    pub fn fill(&self, left: u64) {
        let free = self.free_bytes();
        let ballast = File::create(self.dir.join("ballast")).expect("ballast");
        let len = if left == 0 { free } else { free.saturating_sub(left) };
        // What does not fit any more is what was asked for.
        let _ = nix::fcntl::fallocate(&ballast, nix::fcntl::FallocateFlags::empty(), 0, len as i64);
        if left == 0 {
            while (&ballast).write(&[0; 4096]).is_ok() {}
        }
    }

    /// Bytes that are free.
    pub fn free_bytes(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.dir).expect("statvfs");
        stat.blocks_available() * stat.fragment_size()
    }

    /// Removes all that is on it.
    pub fn wipe(&self) {
        for entry in fs::read_dir(&self.dir).expect("lists").flatten() {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("removes");
        }
    }

    /// Removes what `fill` took.
    pub fn empty(&self) {
        fs::remove_file(self.dir.join("ballast")).expect("removes");
        // Its blocks are free once the journal says so.
        self.sync();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if fs::read_to_string("/proc/self/mounts")
            .unwrap_or_default()
            .contains(&format!(" {} ext4", self.dir.display()))
        {
            self.unmount();
        }
    }
}
