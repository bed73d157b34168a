//! What brings a process to each crash point. A new point has to be given its way here. Called by nodes and mounts.

use holdfast_proto::crash_points::Point;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A node under load comes by on its own.
    Load,
    /// It votes.
    Election,
    /// It is told to make checkpoints, and drains for them.
    Checkpoint,
    /// It starts.
    Start,
    /// It starts after a drain that did not end.
    Redo,
    /// It led alone, and the others have a new leader.
    Cut,
    /// It was away for longer than the log of the others reaches back.
    Transfer,
    /// Its image has failed in use.
    SuspectImage,
    /// Its log is gone.
    LostLog,
    /// The end of its log is torn.
    TornLog,
    /// Its disk is empty: it writes its identity when it begins, joins and has learnt.
    Wiped,
    /// A mount writes and syncs.
    Write,
    /// A mount deletes the objects of files that were removed.
    Reclaim,
    /// `holdfast gc --delete`.
    Gc,
}

impl Way {
    pub fn to(point: Point) -> Way {
        use Point::*;
        match point {
            LogAppend | LogAppended | LogFlushed | LogAcknowledged => Way::Load,
            MarkWrite | MarkWritten | MarkSynced => Way::Load,
            VoteSave | VoteWritten | VoteSaved => Way::Election,
            LogCut | LogCutMarked | LogCutDone => Way::Cut,
            LogPurge | LogPurged => Way::Checkpoint,
            TailCut => Way::TornLog,
            JournalWrite | JournalSynced | JournalNamed | JournalMoved | JournalKept => Way::Checkpoint,
            ImageSlice | ImageWritten | ImageIndexed | ImageFlushed => Way::Checkpoint,
            RedoBegin | RedoDone => Way::Redo,
            CheckpointWrite | CheckpointWritten | CheckpointSynced | CheckpointVerified => Way::Checkpoint,
            CheckpointNamed | CheckpointAdopted | CheckpointRemoved | CheckpointRetired => Way::Checkpoint,
            InboxWritten | InboxSynced | InboxVerified | InstallAdopted => Way::Transfer,
            ImageCreated | ImageFilled | ImageCurrent | ImageReplaced => Way::Transfer,
            ImageOpening => Way::Start,
            ImageAside => Way::SuspectImage,
            StateAside => Way::LostLog,
            IdentitySynced | IdentityNamed | IdentityWritten => Way::Wiped,
            UploadBegin | ObjectCreated | ObjectFilled | UploadDone => Way::Write,
            CommitBegin | CommitDone | FlushDone => Way::Write,
            ReclaimBegin | ReclaimDeleted | ReclaimDone => Way::Reclaim,
            GcDelete | GcDeleted => Way::Gc,
        }
    }

    /// Whether it is a node that comes there.
    pub fn is_of_nodes(self) -> bool {
        !matches!(self, Way::Write | Way::Reclaim | Way::Gc)
    }

    /// At which crossings it dies; each is tried.
    pub fn times(point: Point) -> std::ops::RangeInclusive<u64> {
        match point {
            // What is there afterwards is what was written the time before, or what this one writes.
            Point::IdentitySynced => 1..=3,
            Point::IdentityNamed => 2..=2,
            Point::IdentityWritten => 3..=3,
            _ => 1..=1,
        }
    }
}
