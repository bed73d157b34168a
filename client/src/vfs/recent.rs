//! Recent: which extended attributes the inodes had whose attributes were seen just now. The kernel asks for an inode's ACL right after
//! its attributes, in the same system call, and for file capabilities before a write; mostly there are none, and the attributes have
//! said so. Called by ops/get_xattr.

use holdfast_proto::pb;
use holdfast_proto::xattr::{ACL_ACCESS, ACL_DEFAULT, CAPABILITY, is_absent};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long attributes speak for the call that asked for them. The kernel's own grace is a tick of its clock, up to 10 ms.
const SAME_CALL: Duration = Duration::from_millis(10);
/// Inodes remembered; beyond it all are forgotten, which costs each a question.
const INODES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Recent(Mutex<HashMap<u64, (Instant, u32)>>);

impl Recent {
    pub fn saw(&self, attr: &pb::Attr, now: Instant) {
        let mut inodes = self.0.lock();
        if inodes.len() >= INODES_MAX {
            inodes.clear();
        }
        inodes.insert(attr.ino, (now, attr.xattrs));
    }

    /// True if it is certain that there is none, for the names that the kernel asks for by itself.
    pub fn is_absent(&self, ino: u64, name: &[u8], now: Instant) -> bool {
        let is_asked_by_kernel = [ACL_ACCESS, ACL_DEFAULT, CAPABILITY].contains(&name);
        let seen = if is_asked_by_kernel { self.0.lock().get(&ino).copied() } else { None };
        seen.is_some_and(|(at, marks)| now.saturating_duration_since(at) < SAME_CALL && is_absent(marks, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::xattr::marks_of;

    #[test]
    fn what_attributes_just_ruled_out_is_absent_for_the_same_call() {
        let (recent, now) = (Recent::default(), Instant::now());
        assert!(!recent.is_absent(7, ACL_ACCESS, now), "nothing is known");
        recent.saw(&pb::Attr { ino: 7, xattrs: marks_of(CAPABILITY), ..pb::Attr::default() }, now);
        assert!(recent.is_absent(7, ACL_ACCESS, now) && recent.is_absent(7, ACL_DEFAULT, now));
        assert!(!recent.is_absent(7, CAPABILITY, now), "it is there");
        assert!(!recent.is_absent(7, b"user.a", now), "only what the kernel asks for by itself");
        assert!(!recent.is_absent(7, ACL_ACCESS, now + SAME_CALL), "a later call");
    }
}
