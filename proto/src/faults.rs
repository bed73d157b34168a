//! Faults on purpose, for tests: bugs that the harness in jepsen/ has to catch. Without the feature `faults` nothing here does anything,
//! and the compiler drops what asks. The binaries with it are `metad-faulty` and `holdfast-faulty`; they have `crash_points`, too.
//! Called by metad and the client.

#[cfg(all(feature = "faults", not(debug_assertions)))]
compile_error!("the feature `faults` is for tests: no release build has it");

/// Environment: the name of the one bug of a process.
pub const PLANTED: &str = "HOLDFAST_PLANTED";

/// A bug that filesystems have had. Each has a name, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// metad: the log is not synced before it is acknowledged.
    NoFsync,
    /// metad: every node answers queries from what it has applied, without asking for the leader's commit index.
    StaleReads,
    /// metad: an operation that came before is applied again.
    NoDedup,
    /// metad: what an expired session asks for is done, although its locks are given to others.
    NoFencing,
    /// metad: operations without a result are acknowledged before they are committed.
    EarlyAck,
    /// Mount: a rename is a link and an unlink.
    TwoStepRename,
    /// metad: the data of an unlinked file is freed although somebody has it open.
    OrphanFreed,
    /// Mount: a slice is committed before its objects are uploaded.
    LateUpload,
}

impl Bug {
    pub const ALL: [(&'static str, Bug); 8] = [
        ("no-fsync", Bug::NoFsync),
        ("stale-reads", Bug::StaleReads),
        ("no-dedup", Bug::NoDedup),
        ("no-fencing", Bug::NoFencing),
        ("early-ack", Bug::EarlyAck),
        ("two-step-rename", Bug::TwoStepRename),
        ("orphan-freed", Bug::OrphanFreed),
        ("late-upload", Bug::LateUpload),
    ];

    pub fn name(self) -> &'static str {
        Bug::ALL.iter().find(|(_, bug)| *bug == self).map_or("", |(name, _)| name)
    }

    pub fn named(name: &str) -> Option<Bug> {
        Bug::ALL.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug)
    }
}

/// Whether this process has that bug.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "faults")]
pub use armed::planted;

#[cfg(feature = "faults")]
mod armed {
    use super::{Bug, PLANTED};
    use std::sync::OnceLock;

    /// Whether this process has that bug.
    ///
    /// # Panics
    /// The environment names a bug that there is not: a test with it would show nothing.
    pub fn planted(bug: Bug) -> bool {
        static BUG: OnceLock<Option<Bug>> = OnceLock::new();
        let known = BUG.get_or_init(|| {
            let name = std::env::var(PLANTED).ok()?;
            Some(Bug::named(&name).unwrap_or_else(|| panic!("{PLANTED}={name}: there is no such bug")))
        });
        *known == Some(bug)
    }
}
