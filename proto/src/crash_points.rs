//! Crash points: places before, within and after each durable step, at which a test has a process die as by kill -9. Nothing of it is in
//! a build without the feature `faults`. Called by metad and the client; tests/crash crosses each of them.

/// Environment: path of a file. While it holds `POINT` or `POINT:N`, the process dies when it comes there the Nth time, and removes the file.
pub const CRASH: &str = "HOLDFAST_CRASH";

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident,)*) => {
        /// A step ends where the next one begins: what is called `..ed` has just happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point { $($(#[$doc])* $point,)* }

        impl Point {
            pub const ALL: &[Point] = &[$(Point::$point),*];

            pub const fn name(self) -> &'static str {
                match self { $(Point::$point => stringify!($point)),* }
            }
        }
    };
}

points! {
    /// metad, log: entries came.
    LogAppend,
    LogAppended,
    /// Nobody was told yet.
    LogFlushed,
    LogAcknowledged,
    VoteSave,
    VoteWritten,
    VoteSaved,
    /// The mark beside the log.
    MarkWrite,
    MarkWritten,
    MarkSynced,
    LogCut,
    /// The mark does not speak any more of what is about to be cut off.
    LogCutMarked,
    LogCutDone,
    LogPurge,
    LogPurged,
    /// At the start: a torn end was cut off.
    TailCut,

    /// metad, drain.
    JournalWrite,
    JournalSynced,
    JournalNamed,
    ImageSlice,
    ImageWritten,
    ImageIndexed,
    ImageFlushed,
    JournalMoved,
    JournalKept,
    /// At the start: what a crash interrupted is done again.
    RedoBegin,
    RedoDone,

    /// metad, checkpoint.
    CheckpointWrite,
    CheckpointWritten,
    CheckpointSynced,
    CheckpointVerified,
    CheckpointNamed,
    CheckpointAdopted,
    /// The next one replaces it.
    CheckpointRemoved,
    CheckpointRetired,

    /// metad: a checkpoint of the leader comes, and takes the state's place.
    InboxWritten,
    InboxSynced,
    InboxVerified,
    InstallAdopted,
    ImageCreated,
    ImageFilled,
    ImageCurrent,
    ImageReplaced,

    /// metad: at the start.
    ImageOpening,
    ImageAside,
    StateAside,
    IdentitySynced,
    IdentityNamed,
    IdentityWritten,

    /// Client: an object.
    UploadBegin,
    ObjectCreated,
    ObjectFilled,
    UploadDone,
    /// Client: slices become part of a file.
    CommitBegin,
    CommitDone,
    FlushDone,
    /// Client: objects of slices that no file names any more.
    ReclaimBegin,
    ReclaimDeleted,
    ReclaimDone,
    /// Client: `holdfast gc --delete`.
    GcDelete,
    GcDeleted,
}

/// Dies here, if this is the point and the time.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn crash_point(_point: Point) {}

#[cfg(feature = "faults")]
pub use armed::crash_point;

#[cfg(feature = "faults")]
mod armed {
    use super::{CRASH, Point};
    use std::fs;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock};

    /// Dies here, if this is the point and the time.
    pub fn crash_point(point: Point) {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        static TURN: Mutex<()> = Mutex::new(());
        let Some(path) = FILE.get_or_init(|| std::env::var_os(CRASH).map(PathBuf::from)) else { return };
        let _turn = TURN.lock();
        let Ok(text) = fs::read_to_string(path) else { return };
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        if name != point.name() {
            return;
        }
        let left = count.parse::<u64>().expect("POINT:N").saturating_sub(1);
        if left > 0 {
            fs::write(path, format!("{name}:{left}")).expect("the file of the crash point");
            return;
        }
        fs::remove_file(path).expect("the file of the crash point");
        // SAFETY: plain system calls. As a power switch: nothing is flushed, nobody is told.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        std::thread::park();
    }
}
