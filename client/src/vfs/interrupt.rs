//! Interrupt: whether the thread that waits for our reply has a signal to look at. The kernel's own message for it (FUSE_INTERRUPT) does
//! not get through the library below us, so for the few calls that may wait for ever, /proc is looked at. Called by vfs::ops::set_lock.

use std::time::Duration;

/// How often a waiting thread is looked at: what Ctrl-C takes at most.
const LOOK: Duration = Duration::from_millis(100);

/// Ends once the thread has a signal pending that would end its wait. Never for a thread that we cannot see: 0 is one of another
/// pid namespace.
pub async fn interrupted(tid: u32) {
    let path = format!("/proc/{tid}/status");
    loop {
        tokio::time::sleep(LOOK).await;
        let status = if tid == 0 { None } else { std::fs::read_to_string(&path).ok() };
        match status {
            Some(status) if has_signal(&status) => return,
            Some(_) => {}
            // Not to be seen here. It is not gone, since it waits for us.
            None => return std::future::pending().await,
        }
    }
}

/// A signal that is pending for the thread or its process, and neither blocked nor ignored.
fn has_signal(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok()).unwrap_or(0)
    };
    (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") & !mask("SigIgn:") != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(thread: u64, shared: u64, blocked: u64, ignored: u64) -> String {
        format!(
            "Name:\tx\nSigQ:\t0/3\nSigPnd:\t{thread:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\n"
        )
    }

    #[test]
    fn a_signal_counts_unless_it_is_blocked_or_ignored() {
        assert!(!has_signal(&status(0, 0, 0, 0)));
        assert!(has_signal(&status(0x100, 0, 0, 0)));
        assert!(has_signal(&status(0, 2, 1, 1)));
        assert!(!has_signal(&status(2, 0, 2, 0)));
        assert!(!has_signal(&status(0, 2, 0, 2)));
        assert!(!has_signal("Name:\tx\n"));
    }
}
