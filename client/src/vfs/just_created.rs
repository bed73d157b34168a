//! Just created: after a create the kernel asks for the new inode's attributes once more within the same open(2), to check permission
//! (fuser's reply to a create has one time-out for name and attributes, and a name must not be believed). That question, the next
//! one of the same thread, is answered with what the create said: it is the same system call, so nothing older is shown than the call
//! itself may see. Called by ops/create and ops/getattr.

use crate::vfs::Caller;
use holdfast_proto::pb;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A question that comes later than this is not from the same call; where the kernel caches attributes it never comes.
const SAME_CALL: Duration = Duration::from_millis(20);
/// Threads remembered; beyond it all are forgotten, which costs each a question.
const THREADS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct JustCreated(Mutex<HashMap<u32, (Instant, pb::Attr)>>);

impl JustCreated {
    pub fn remember(&self, caller: Caller, attr: pb::Attr, now: Instant) {
        // 0: a thread of a namespace that we do not see, or nobody.
        if caller.pid == 0 {
            return;
        }
        let mut threads = self.0.lock();
        if threads.len() >= THREADS_MAX {
            threads.clear();
        }
        threads.insert(caller.pid, (now, attr));
    }

    /// Whatever the thread asks next, its create is over.
    pub fn take(&self, caller: Caller, ino: u64, now: Instant) -> Option<pb::Attr> {
        let (created_at, attr) = self.0.lock().remove(&caller.pid)?;
        (attr.ino == ino && now.saturating_duration_since(created_at) < SAME_CALL).then_some(attr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_of_the_same_thread_about_the_same_inode_is_answered() {
        let (created, now) = (JustCreated::default(), Instant::now());
        let thread = |pid| Caller { pid, ..Caller::ROOT };
        let attr = pb::Attr { ino: 7, ..pb::Attr::default() };
        created.remember(thread(3), attr, now);
        assert_eq!(created.take(thread(4), 7, now), None);
        assert_eq!(created.take(thread(3), 7, now), Some(attr));
        assert_eq!(created.take(thread(3), 7, now), None);

        created.remember(thread(3), attr, now);
        assert_eq!(created.take(thread(3), 8, now), None);
        assert_eq!(created.take(thread(3), 7, now), None, "something else was asked meanwhile");
        created.remember(thread(3), attr, now);
        assert_eq!(created.take(thread(3), 7, now + SAME_CALL), None);
        created.remember(thread(0), attr, now);
        assert_eq!(created.take(thread(0), 7, now), None);
    }
}
