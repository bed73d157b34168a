//! Has a process with faults on purpose die at a crash point (`holdfast_proto::crash_points`). Called by tests/crash.

use holdfast_proto::crash_points::Point;
use std::fs;
use std::path::Path;

/// The process whose trap this is dies when it comes to `point` the `nth` time from now on.
pub fn set(trap: &Path, point: Point, nth: u64) {
    let part = trap.with_extension("part");
    fs::write(&part, format!("{}:{nth}", point.name())).and_then(|()| fs::rename(&part, trap)).expect("sets a trap");
}

/// Takes it away; whether it had caught nobody yet.
pub fn clear(trap: &Path) -> bool {
    fs::remove_file(trap).is_ok()
}

pub fn has_caught(trap: &Path) -> bool {
    !trap.exists()
}
