//! Bugs that the simulation plants in itself, to show that it would find them.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    #[default]
    Nothing,
    /// The disk acknowledges flushes, and keeps nothing of them through a power loss.
    LyingFsync,
    /// Nodes grant every vote that they are asked for.
    ForgottenVotes,
    /// Any node answers queries, without asking who leads.
    StaleReads,
    /// What is sent again is taken for something new.
    NoDedup,
    /// What a killed process has written counts at the next start, without having been synced.
    UnsyncedStart,
    /// A checkpoint that a follower takes lacks what sessions have had answered.
    ForgottenAnswers,
    /// A node that has lost its log goes on as the one that it was.
    ForgottenDisk,
}
