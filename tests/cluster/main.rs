//! Clusters of real processes under faults: kills, restarts, lost replies, two mounts, bad input. Tests that kill nodes run one
//! at a time, since the machine has two cores and elections are about time.

mod bad_input;
mod bad_node;
mod bad_wire;
mod checkpoints;
mod clones;
mod disk;
mod exactly_once;
mod failover;
mod fsck;
mod fstab;
mod gc;
mod healing;
mod large_directory;
mod locks;
mod membership;
mod mount_options;
mod restart;
mod sessions;
mod systemd;
mod tls;
mod trash;
mod turns;
mod two_mounts;
mod unlinked;
mod verify;

use std::sync::{Mutex, MutexGuard};

/// Taken by tests that kill nodes, or that load the machine.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
