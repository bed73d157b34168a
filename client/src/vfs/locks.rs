//! Locks: what this mount may hold and waits for, so that a file without locks costs nothing at its close, a lost session is told to
//! whom it concerns, and a grant finds who waits. Pure bookkeeping: what is held is metad's to say. Called by vfs's lock operations,
//! flush, release and pushes.

use crate::vfs::Fh;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

/// The two kinds, which do not see each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    Flock,
    Range,
}

/// How a request for a lock ended, as far as the close of its file is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    Yes,
    /// It changed nothing.
    No,
    /// Nobody knows.
    Perhaps,
}

/// Locks of one kind of one owner of one file.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Requests on their way, or waiting.
    under_way: u32,
    /// The newest request, by a number that is not used again.
    newest: u64,
    may_hold: bool,
    holds: bool,
}

#[derive(Debug, Default)]
struct OwnerLocks {
    marks: [Mark; 2],
    /// Descriptors it locked by.
    fhs: BTreeSet<Fh>,
    /// Waits that may stand in the queue, or come to, although nobody waits any more: who asked was told that nobody answers.
    abandoned: BTreeSet<u64>,
}

impl OwnerLocks {
    fn is_idle(&self) -> bool {
        self.marks.iter().all(|mark| mark.under_way == 0 && !mark.may_hold) && self.abandoned.is_empty()
    }
}

#[derive(Debug, Default)]
struct FileLocks {
    owners: HashMap<u64, OwnerLocks>,
    /// Closes that are giving up locks of this file just now, and how many ever began.
    drops: u32,
    drops_begun: u64,
}

/// What a wait has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitState {
    Waits,
    /// Something may have been missed, so many times: ask.
    Unsure(u64),
    Granted,
    /// The session was lost, and the wait with it.
    Lost,
}

#[derive(Debug, Default)]
pub struct Locks {
    files: Mutex<HashMap<u64, FileLocks>>,
    dropped: Notify,
    waits: Mutex<HashMap<u64, Arc<watch::Sender<WaitState>>>>,
    next_wait: AtomicU64,
    next_request: AtomicU64,
}

/// Owners whose locks of a file are being given up. While it lives, new requests for the file wait.
#[derive(Debug)]
pub struct Dropping {
    locks: Arc<Locks>,
    pub ino: u64,
    pub owners: Vec<u64>,
    /// Of theirs, to be cancelled before: one that is granted later would stay for as long as the session.
    pub waits: Vec<u64>,
}

impl Drop for Dropping {
    fn drop(&mut self) {
        let mut files = self.locks.files.lock();
        if let Some(file) = files.get_mut(&self.ino) {
            file.drops -= 1;
            if file.drops == 0 && file.owners.is_empty() {
                files.remove(&self.ino);
            }
        }
        drop(files);
        self.locks.dropped.notify_waiters();
    }
}

/// One request's place among those that wait.
#[derive(Debug)]
pub struct Waiting<'a> {
    locks: &'a Locks,
    pub number: u64,
    pub state: watch::Receiver<WaitState>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.locks.waits.lock().remove(&self.number);
    }
}

impl Locks {
    /// A request for a lock is about to be sent.
    pub fn begin(&self, ino: u64, owner: u64, kind: LockKind, fh: Fh) {
        let mut files = self.files.lock();
        let owner = files.entry(ino).or_default().owners.entry(owner).or_default();
        owner.fhs.insert(fh);
        let mark = &mut owner.marks[kind as usize];
        mark.under_way += 1;
        mark.newest = self.next_request.fetch_add(1, Ordering::Relaxed) + 1;
    }

    /// It has ended.
    pub fn end(&self, ino: u64, owner: u64, kind: LockKind, fh: Fh, took: Took) {
        let mut files = self.files.lock();
        let file = files.entry(ino).or_default();
        // A close may have taken the owner away meanwhile.
        let locks = file.owners.entry(owner).or_default();
        locks.fhs.insert(fh);
        let mark = &mut locks.marks[kind as usize];
        mark.under_way = mark.under_way.saturating_sub(1);
        mark.may_hold |= took != Took::No;
        mark.holds |= took == Took::Yes;
        if locks.is_idle() {
            file.owners.remove(&owner);
        }
        if file.owners.is_empty() && file.drops == 0 {
            files.remove(&ino);
        }
    }

    /// Whether an owner may hold a lock of this kind, and the newest request for one.
    pub fn may_hold(&self, ino: u64, owner: u64, kind: LockKind) -> Option<u64> {
        let files = self.files.lock();
        let mark = files.get(&ino)?.owners.get(&owner)?.marks[kind as usize];
        (mark.may_hold || mark.under_way > 0).then_some(mark.newest)
    }

    /// All of it was unlocked; it counts if no request was made after `newest`.
    pub fn unlocked(&self, ino: u64, owner: u64, kind: LockKind, newest: u64) {
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&ino) else { return };
        let Some(locks) = file.owners.get_mut(&owner) else { return };
        let mark = &mut locks.marks[kind as usize];
        if mark.newest == newest && mark.under_way == 0 {
            *mark = Mark::default();
        }
        if locks.is_idle() {
            file.owners.remove(&owner);
        }
        if file.owners.is_empty() && file.drops == 0 {
            files.remove(&ino);
        }
    }

    /// A wait has ended without anybody knowing whether it stands in the queue.
    pub fn abandon(&self, ino: u64, owner: u64, wait: u64) {
        let mut files = self.files.lock();
        files.entry(ino).or_default().owners.entry(owner).or_default().abandoned.insert(wait);
    }

    /// The waits of an owner that are to be cancelled.
    pub fn abandoned(&self, ino: u64, owner: u64) -> BTreeSet<u64> {
        let files = self.files.lock();
        let owner = files.get(&ino).and_then(|file| file.owners.get(&owner));
        owner.map(|owner| owner.abandoned.clone()).unwrap_or_default()
    }

    pub fn cancelled(&self, ino: u64, owner: u64, wait: u64) {
        let mut files = self.files.lock();
        if let Some(owner) = files.get_mut(&ino).and_then(|file| file.owners.get_mut(&owner)) {
            owner.abandoned.remove(&wait);
        }
    }

    /// A process closes one of its descriptors of the file: all its ranges go. None where it has none.
    pub fn close_of(self: &Arc<Self>, ino: u64, owner: u64) -> Option<Dropping> {
        self.begin_drop(ino, |number, _| number == owner)
    }

    /// The last descriptor of an open is gone: what was locked by it goes.
    pub fn release_of(self: &Arc<Self>, ino: u64, fh: Fh) -> Option<Dropping> {
        self.begin_drop(ino, |_, locks| locks.fhs.contains(&fh))
    }

    fn begin_drop(self: &Arc<Self>, ino: u64, goes: impl Fn(u64, &OwnerLocks) -> bool) -> Option<Dropping> {
        let mut files = self.files.lock();
        let file = files.get_mut(&ino)?;
        let owners: Vec<u64> =
            file.owners.iter().filter(|(owner, locks)| goes(**owner, locks)).map(|(owner, _)| *owner).collect();
        if owners.is_empty() {
            return None;
        }
        let gone = owners.iter().filter_map(|owner| file.owners.remove(owner));
        let waits = gone.flat_map(|owner| owner.abandoned).collect();
        file.drops += 1;
        file.drops_begun += 1;
        Some(Dropping { locks: self.clone(), ino, owners, waits })
    }

    /// Waits until no close is giving up locks of the file. How many ever did, so that a refusal can be told from one that a close
    /// has overtaken.
    pub async fn settled(&self, ino: u64) -> u64 {
        loop {
            let mut changed = std::pin::pin!(self.dropped.notified());
            changed.as_mut().enable();
            match self.files.lock().get(&ino) {
                Some(file) if file.drops > 0 => {}
                Some(file) => return file.drops_begun,
                None => return 0,
            }
            changed.await;
        }
    }

    /// Whether a close has given up locks of the file since there were `begun`, or does so now. The count begins anew where nothing
    /// is known of the file, which is a change as well.
    pub fn dropped_since(&self, ino: u64, begun: u64) -> bool {
        self.files.lock().get(&ino).map_or(begun != 0, |file| file.drops > 0 || file.drops_begun != begun)
    }

    /// A number to wait under.
    pub fn wait(&self) -> Waiting<'_> {
        let number = self.next_wait.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, state) = watch::channel(WaitState::Waits);
        self.waits.lock().insert(number, Arc::new(sender));
        Waiting { locks: self, number, state }
    }

    /// The server says that these waits are over; none: that it may have said so unheard.
    pub fn granted(&self, numbers: &[u64]) {
        let waits = self.waits.lock();
        if numbers.is_empty() {
            waits.values().for_each(|wait| unsure(wait));
        }
        for wait in numbers.iter().filter_map(|number| waits.get(number)) {
            wait.send_replace(WaitState::Granted);
        }
    }

    /// The session has ended, and with it all locks and waits. The descriptors by which something was held.
    pub fn forget_session(&self) -> BTreeSet<Fh> {
        self.waits.lock().values().for_each(|wait| {
            wait.send_replace(WaitState::Lost);
        });
        let mut lost = BTreeSet::new();
        let mut files = self.files.lock();
        for owner in files.values_mut().flat_map(|file| file.owners.drain().map(|(_, owner)| owner)) {
            if owner.marks.iter().any(|mark| mark.holds) {
                lost.extend(owner.fhs);
            }
        }
        files.retain(|_, file| file.drops > 0);
        lost
    }
}

fn unsure(wait: &watch::Sender<WaitState>) {
    wait.send_if_modified(|state| {
        let next = match *state {
            WaitState::Waits => WaitState::Unsure(1),
            WaitState::Unsure(count) => WaitState::Unsure(count + 1),
            WaitState::Granted | WaitState::Lost => return false,
        };
        *state = next;
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 5;
    const OWNER: u64 = 77;

    fn take(locks: &Locks, owner: u64, kind: LockKind, fh: u64, took: Took) {
        locks.begin(FILE, owner, kind, Fh(fh));
        locks.end(FILE, owner, kind, Fh(fh), took);
    }

    #[test]
    fn a_close_drops_only_what_may_be_held() {
        let locks = Arc::new(Locks::default());
        assert!(locks.close_of(FILE, OWNER).is_none());
        take(&locks, OWNER, LockKind::Range, 1, Took::No);
        assert!(locks.close_of(FILE, OWNER).is_none());
        take(&locks, OWNER, LockKind::Range, 1, Took::Perhaps);
        assert!(locks.close_of(FILE, 78).is_none());
        assert_eq!(locks.close_of(FILE, OWNER).map(|drops| drops.owners.clone()), Some(vec![OWNER]));
        assert!(locks.close_of(FILE, OWNER).is_none());
        assert!(locks.files.lock().is_empty());
    }

    #[test]
    fn a_release_drops_what_was_locked_by_that_descriptor() {
        let locks = Arc::new(Locks::default());
        take(&locks, OWNER, LockKind::Flock, 1, Took::Yes);
        take(&locks, 78, LockKind::Flock, 2, Took::Yes);
        assert_eq!(locks.release_of(FILE, Fh(2)).map(|drops| drops.owners.clone()), Some(vec![78]));
        assert!(locks.release_of(FILE, Fh(2)).is_none());
    }

    #[test]
    fn a_wait_that_nobody_knows_the_end_of_goes_with_the_close() {
        let locks = Arc::new(Locks::default());
        locks.begin(FILE, OWNER, LockKind::Flock, Fh(1));
        locks.abandon(FILE, OWNER, 5);
        locks.abandon(FILE, OWNER, 6);
        locks.end(FILE, OWNER, LockKind::Flock, Fh(1), Took::Perhaps);
        locks.cancelled(FILE, OWNER, 5);
        assert_eq!(locks.abandoned(FILE, OWNER), BTreeSet::from([6]));
        let dropping = locks.release_of(FILE, Fh(1)).expect("it may be held");
        assert_eq!((&dropping.owners[..], &dropping.waits[..]), (&[OWNER][..], &[6][..]));
        assert!(locks.abandoned(FILE, OWNER).is_empty());
    }

    #[test]
    fn what_was_unlocked_as_a_whole_costs_nothing_at_the_close() {
        let locks = Arc::new(Locks::default());
        take(&locks, OWNER, LockKind::Flock, 1, Took::Yes);
        let newest = locks.may_hold(FILE, OWNER, LockKind::Flock).expect("held");
        locks.unlocked(FILE, OWNER, LockKind::Flock, newest);
        assert_eq!(locks.may_hold(FILE, OWNER, LockKind::Flock), None);
        take(&locks, OWNER, LockKind::Flock, 1, Took::Yes);
        // Another thread has locked while this one's unlock was on its way: nobody knows which came first.
        locks.unlocked(FILE, OWNER, LockKind::Flock, newest);
        assert!(locks.release_of(FILE, Fh(1)).is_some());
    }

    #[test]
    fn a_lost_session_names_the_descriptors_that_held_something() {
        let locks = Arc::new(Locks::default());
        take(&locks, OWNER, LockKind::Range, 1, Took::Yes);
        take(&locks, 78, LockKind::Range, 2, Took::Perhaps);
        let wait = locks.wait();
        assert_eq!(locks.forget_session(), BTreeSet::from([Fh(1)]));
        assert_eq!(*wait.state.borrow(), WaitState::Lost);
        assert!(locks.close_of(FILE, OWNER).is_none());
    }

    #[test]
    fn a_grant_finds_its_wait_and_an_empty_one_makes_all_ask() {
        let locks = Arc::new(Locks::default());
        let (one, two) = (locks.wait(), locks.wait());
        locks.granted(&[one.number]);
        locks.granted(&[]);
        assert_eq!((*one.state.borrow(), *two.state.borrow()), (WaitState::Granted, WaitState::Unsure(1)));
        drop((one, two));
        assert!(locks.waits.lock().is_empty());
    }

    #[tokio::test]
    async fn a_request_waits_for_a_close_that_is_giving_up() {
        let locks = Arc::new(Locks::default());
        take(&locks, OWNER, LockKind::Flock, 1, Took::Yes);
        take(&locks, 78, LockKind::Flock, 2, Took::Yes);
        let begun = locks.settled(FILE).await;
        let drops = locks.release_of(FILE, Fh(1)).expect("held");
        assert!(locks.dropped_since(FILE, begun));
        let mut settled = std::pin::pin!(locks.settled(FILE));
        assert!(futures::poll!(settled.as_mut()).is_pending());
        drop(drops);
        assert_eq!(settled.await, begun + 1);
    }
}
