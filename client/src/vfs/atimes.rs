//! Atimes: when files were read, kept here and told to the server late and together, so that reading costs no commit (as `lazytime`).
//! What was read is shown by this mount at once. Called by ops/read, ops/open, ops/readdir and the size guard; `run` beside the mount.

use crate::meta::{MetaApi, own_creds};
use crate::vfs::Vfs;
use holdfast_proto::limits::BACKGROUND_BATCH_MAX;
use holdfast_proto::pb;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads wait this long to be told, so that many go together.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// Reads that wait; beyond it further ones are not noted, which a crash could do as well.
const WAITING_MAX: usize = 64 * 1024;
/// An atime older than this moves with the next read, whatever else (mount(8), relatime).
const STALE_SECONDS: i64 = 24 * 3600;

/// When a read moves atime; mount(8) says what each means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtimePolicy {
    /// If it is not newer than the last change, or a day old.
    #[default]
    Relatime,
    /// The same, but never of directories.
    Nodiratime,
    Strictatime,
    Noatime,
}

impl AtimePolicy {
    /// Whether a read at `now` (seconds since 1970) of an inode with these attributes counts.
    pub fn is_due(self, attr: &pb::Attr, now: i64) -> bool {
        let key = |time: Option<pb::TimeSpec>| time.map(|time| (time.sec, time.nsec)).unwrap_or_default();
        let atime = key(attr.atime);
        match self {
            AtimePolicy::Noatime => false,
            AtimePolicy::Strictatime => true,
            AtimePolicy::Nodiratime if attr.kind() == pb::FileKind::Directory => false,
            AtimePolicy::Relatime | AtimePolicy::Nodiratime => {
                atime <= key(attr.mtime) || atime <= key(attr.ctime) || now.saturating_sub(atime.0) >= STALE_SECONDS
            }
        }
    }
}

#[derive(Debug)]
struct Read {
    at: Instant,
    shown: pb::TimeSpec,
}

/// Reads that the server does not know of yet.
#[derive(Debug, Default)]
pub struct Atimes {
    waiting: Mutex<HashMap<u64, Read>>,
    /// How many wait: most attributes need no look into the table.
    count: AtomicUsize,
}

impl Atimes {
    pub fn note(&self, ino: u64, at: Instant, shown: pb::TimeSpec) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < WAITING_MAX || waiting.contains_key(&ino) {
            waiting.insert(ino, Read { at, shown });
            self.count.store(waiting.len(), Ordering::Relaxed);
        }
    }

    /// Somebody sets the time himself.
    pub fn forget(&self, ino: u64) {
        let mut waiting = self.waiting.lock();
        waiting.remove(&ino);
        self.count.store(waiting.len(), Ordering::Relaxed);
    }

    /// Puts a read that waits into attributes.
    pub fn show(&self, attr: &mut pb::Attr) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(read) = self.waiting.lock().get(&attr.ino) {
            let known = attr.atime.unwrap_or_default();
            if (known.sec, known.nsec) < (read.shown.sec, read.shown.nsec) {
                attr.atime = Some(read.shown);
            }
        }
    }

    fn batch(&self, now: Instant) -> Vec<(pb::AtimeRead, Instant)> {
        let age_ms = |at: Instant| now.saturating_duration_since(at).as_millis() as u64;
        let waiting = self.waiting.lock();
        let reads = waiting.iter().take(BACKGROUND_BATCH_MAX);
        reads.map(|(ino, read)| (pb::AtimeRead { ino: *ino, age_ms: age_ms(read.at) }, read.at)).collect()
    }

    /// Those that were told are done, unless there was a newer read meanwhile.
    fn told(&self, batch: &[(pb::AtimeRead, Instant)]) {
        let mut waiting = self.waiting.lock();
        for (read, at) in batch {
            if waiting.get(&read.ino).is_some_and(|waits| waits.at == *at) {
                waiting.remove(&read.ino);
            }
        }
        self.count.store(waiting.len(), Ordering::Relaxed);
    }
}

/// Tells the server from time to time, as long as the mount lives.
pub async fn run<M: MetaApi>(vfs: Arc<Vfs<M>>) {
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        tell(&vfs).await;
    }
}

impl<M: MetaApi> Vfs<M> {
    /// A file or directory with these attributes is read now.
    pub(crate) fn note_read(&self, attr: &pb::Attr) {
        if self.config.read_only || self.config.atime == AtimePolicy::Noatime {
            return;
        }
        let now = clock();
        if self.config.atime.is_due(attr, now.sec) {
            self.atimes.note(attr.ino, Instant::now(), now);
        }
    }
}

/// Tells all that waits. What cannot be told is told the next time; nobody waits for it.
pub(crate) async fn tell<M: MetaApi>(vfs: &Vfs<M>) {
    loop {
        let batch = vfs.atimes.batch(Instant::now());
        if batch.is_empty() {
            return;
        }
        let reads = batch.iter().map(|(read, _)| *read).collect();
        if let Err(error) = vfs.meta.mutate(&own_creds(), pb::TouchAtimesOp { reads }).await {
            tracing::debug!(%error, "access times were not told; they will be tried again");
            return;
        }
        vfs.atimes.told(&batch);
    }
}

/// This client's clock.
pub(crate) fn clock() -> pb::TimeSpec {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    pb::TimeSpec { sec: since.as_secs() as i64, nsec: since.subsec_nanos() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: pb::FileKind, atime: i64, mtime: i64) -> pb::Attr {
        let time = |sec| Some(pb::TimeSpec { sec, nsec: 0 });
        let kind = kind as i32;
        pb::Attr { ino: 7, kind, atime: time(atime), mtime: time(mtime), ctime: time(0), ..pb::Attr::default() }
    }

    #[test]
    fn each_policy_counts_the_reads_that_mount_says_it_counts() {
        let file = |atime, mtime| attr(pb::FileKind::Regular, atime, mtime);
        let dir = attr(pb::FileKind::Directory, 10, 20);
        let due = AtimePolicy::is_due;
        assert!(due(AtimePolicy::Relatime, &file(10, 20), 30) && due(AtimePolicy::Relatime, &file(20, 20), 30));
        assert!(!due(AtimePolicy::Relatime, &file(21, 20), 30));
        assert!(due(AtimePolicy::Relatime, &file(21, 20), 21 + STALE_SECONDS));
        assert!(due(AtimePolicy::Relatime, &dir, 30) && !due(AtimePolicy::Nodiratime, &dir, 30));
        assert!(due(AtimePolicy::Strictatime, &file(21, 20), 22) && !due(AtimePolicy::Noatime, &file(10, 20), 30));
    }

    #[test]
    fn a_read_is_shown_until_it_was_told_and_no_newer_one_came() {
        let (atimes, now) = (Atimes::default(), Instant::now());
        let shown = |sec| pb::TimeSpec { sec, nsec: 0 };
        atimes.note(7, now, shown(50));
        let mut seen = attr(pb::FileKind::Regular, 10, 20);
        atimes.show(&mut seen);
        assert_eq!(seen.atime, Some(shown(50)));
        let batch = atimes.batch(now + Duration::from_secs(2));
        assert_eq!(batch[0].0, pb::AtimeRead { ino: 7, age_ms: 2_000 });
        atimes.note(7, now + Duration::from_secs(3), shown(53));
        atimes.told(&batch);
        let newer = atimes.batch(now + Duration::from_secs(3));
        assert_eq!(newer.len(), 1);
        atimes.told(&newer);
        let mut seen = attr(pb::FileKind::Regular, 10, 20);
        atimes.show(&mut seen);
        assert_eq!(seen.atime, Some(shown(10)));
    }

    #[test]
    fn a_time_that_was_set_is_not_hidden_by_an_earlier_read() {
        let atimes = Atimes::default();
        atimes.note(7, Instant::now(), pb::TimeSpec { sec: 50, nsec: 0 });
        atimes.forget(7);
        assert!(atimes.batch(Instant::now()).is_empty());
    }
}
