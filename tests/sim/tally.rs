//! What has happened in a run, counted by name: a batch in which something never happened has not tested it.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const CHECKPOINT: &str = "checkpoints made";
pub const FED: &str = "checkpoints installed by a follower";
pub const RESUMED: &str = "transfers taken up where they broke off";
pub const RECEIVER_CRASHED: &str = "receivers crashed within a transfer";
pub const SENDER_CRASHED: &str = "senders crashed within a transfer";
pub const ADDED: &str = "members added";
pub const REMOVED: &str = "members removed";
pub const LEADER_REMOVED: &str = "leaders removed";
pub const REPLACED: &str = "lost disks replaced";
pub const LEADER_REPLACED: &str = "leaders' lost disks replaced";

/// Each must have happened in a batch of the usual size.
pub const ALL: [&str; 10] = [
    CHECKPOINT,
    FED,
    RESUMED,
    RECEIVER_CRASHED,
    SENDER_CRASHED,
    ADDED,
    REMOVED,
    LEADER_REMOVED,
    REPLACED,
    LEADER_REPLACED,
];

#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tally {
    pub fn count(&self, what: &str) {
        *self.0.lock().entry(what.to_owned()).or_default() += 1;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.lock().get(what).copied().unwrap_or(0)
    }

    /// A line each.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().iter().map(|(what, count)| format!("{count} {what}")).collect()
    }

    /// Adds what `lines` said.
    pub fn add(&self, lines: &[String]) {
        for (count, what) in lines.iter().filter_map(|line| line.split_once(' ')) {
            *self.0.lock().entry(what.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
        }
    }
}
