//! Caller: who asks, as the kernel says, and when their supplementary groups are worth a look into /proc.
//! Called by fuse/adapter (which makes them) and by the operations.

use crate::vfs::ids::{IDENTITY, IdMap};
use holdfast_proto::pb;

/// Set-group-ID, the one mode bit whose rule asks for supplementary groups (chmod(2)).
const S_ISGID: u32 = libc::S_ISGID;

/// Filesystem uid and gid, as the volume knows them, and the thread, of the process that made the system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
    /// Root of this machine that acts as nobody: the kernel allowed everything, so nothing has been checked.
    pub squashed: bool,
    pub ids: &'static IdMap,
}

/// Permission bits of what is to be made, and the bits that the caller's umask takes away where no default ACL says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedMode {
    pub mode: u32,
    pub umask: u32,
}

impl AskedMode {
    /// Only what is stored and what counts.
    pub fn clean(self) -> AskedMode {
        AskedMode { mode: self.mode & 0o7777, umask: self.umask & 0o777 }
    }
}

impl From<u32> for AskedMode {
    fn from(mode: u32) -> AskedMode {
        AskedMode { mode, umask: 0 }
    }
}

impl Caller {
    /// The mount itself: used for what the kernel has already allowed.
    pub const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 0, squashed: false, ids: &IDENTITY };

    /// The process that has these ids on this machine.
    pub fn local(uid: u32, gid: u32, pid: u32, ids: &'static IdMap) -> Caller {
        match ids.squash.filter(|_| uid == 0) {
            Some((uid, gid)) => Caller { uid, gid, pid, squashed: true, ids },
            None => {
                let (uid, gid) = (ids.uid_to_volume(uid), ids.gid_to_volume(gid));
                Caller { uid, gid, pid, squashed: false, ids }
            }
        }
    }

    pub fn creds(&self) -> pb::Creds {
        pb::Creds { uid: self.uid, gid: self.gid, groups: Vec::new() }
    }

    /// Credentials for giving an inode `mode`. Only a set-group-ID bit asks whether the caller belongs to a group, and root is
    /// not asked: a look into /proc costs as much as the rest of a create on the client.
    pub fn creds_for_mode(&self, mode: u32) -> pb::Creds {
        self.creds_with_groups_if(mode & S_ISGID != 0)
    }

    /// Credentials for what asks for write permission or for membership: setattr, and checks that the kernel did not make.
    pub fn creds_with_groups(&self) -> pb::Creds {
        self.creds_with_groups_if(true)
    }

    /// Whether the thread, which waits for us, is in F_OFD_SETLKW. The kernel does not say so; /proc does, to root.
    pub fn locks_by_description(&self) -> bool {
        self.pid != 0
            && std::fs::read_to_string(format!("/proc/{}/syscall", self.pid)).is_ok_and(|call| parse_ofd(&call))
    }

    fn creds_with_groups_if(&self, needed: bool) -> pb::Creds {
        let asks = needed && self.uid != 0 && self.pid != 0 && !self.squashed;
        let mut groups = if asks { groups_of(self.pid) } else { Vec::new() };
        groups.iter_mut().for_each(|gid| *gid = self.ids.gid_to_volume(*gid));
        pb::Creds { uid: self.uid, gid: self.gid, groups }
    }
}

/// fcntl(2)'s F_OFD_SETLKW.
const F_OFD_SETLKW: u64 = 38;

/// Whether a system call, as /proc shows it, is fcntl(2) with F_OFD_SETLKW.
fn parse_ofd(syscall: &str) -> bool {
    let mut words = syscall.split_ascii_whitespace();
    let number = words.next().and_then(|number| number.parse().ok());
    let command = words.nth(1).and_then(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    number == Some(libc::SYS_fcntl) && command == Some(F_OFD_SETLKW)
}

/// Supplementary groups of a thread; none where it is gone or hidden, which can only refuse more.
fn groups_of(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/status")).map(|status| parse_groups(&status)).unwrap_or_default()
}

fn parse_groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.map(|line| line.split_ascii_whitespace().filter_map(|gid| gid.parse().ok()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_the_status_file() {
        assert_eq!(parse_groups("Name:\tx\nGroups:\t4 24 1000 \nVmPeak:\t1 kB\n"), [4, 24, 1000]);
        assert_eq!(parse_groups("Name:\tx\nGroups:\t\n"), [0u32; 0]);
        assert_eq!(parse_groups(""), [0u32; 0]);
    }

    #[test]
    fn a_lock_by_description_is_told_from_one_by_process() {
        assert!(parse_ofd(&format!("{} 0x3 0x26 0x7ffd 0x0 0x0 0x0 0x7ffe 0x7f35", libc::SYS_fcntl)));
        assert!(!parse_ofd(&format!("{} 0x3 0x7 0x7ffd 0x0 0x0 0x0 0x7ffe 0x7f35", libc::SYS_fcntl)));
        assert!(!parse_ofd("73 0x3 0x26"));
        assert!(!parse_ofd("running"));
    }

    #[test]
    fn root_is_never_asked_for_groups() {
        let own = Caller { pid: std::process::id(), ..Caller::ROOT };
        assert!(own.creds_with_groups().groups.is_empty());
    }
}
