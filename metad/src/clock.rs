//! Clock: the only source of the time that goes into log entries. Read by rpc/propose; never below the log.

use holdfast_proto::pb::TimeSpec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> TimeSpec;
}

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimeSpec {
        // A clock set before 1970 stamps 1970; apply never lets time run backwards anyway.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimeSpec { sec: since.as_secs() as i64, nsec: since.subsec_nanos() }
    }
}

/// A clock that stands still until it is moved, for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl ManualClock {
    pub fn advance_ms(&self, ms: u64) {
        self.nanos.fetch_add(ms * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> TimeSpec {
        let nanos = self.nanos.load(Ordering::Relaxed);
        TimeSpec { sec: (nanos / 1_000_000_000) as i64, nsec: (nanos % 1_000_000_000) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = ManualClock::default();
        assert_eq!(clock.now(), TimeSpec { sec: 0, nsec: 0 });
        clock.advance_ms(1_500);
        assert_eq!(clock.now(), TimeSpec { sec: 1, nsec: 500_000_000 });
    }
}
