//! Seldom: keeps a complaint about something that goes on and on (a peer of another cluster, a slow disk) from filling the log. Used by
//! raft/network, raft/log_flush and rpc/raft_service.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// One complaint in this time is enough for a reader, and often enough to be found.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub struct Seldom {
    last: Mutex<Option<Instant>>,
}

impl Seldom {
    /// Whether to complain at `now`: true the first time, and then once in ten seconds.
    pub fn is_due(&self, now: Instant) -> bool {
        let mut last = self.last.lock();
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_heard_and_then_one_in_a_pause() {
        let seldom = Seldom::default();
        let start = Instant::now();
        let heard: Vec<bool> = [0, 1, 9, 10, 11, 20].map(|s| seldom.is_due(start + Duration::from_secs(s))).into();
        assert_eq!(heard, [true, false, false, true, false, true]);
    }
}
