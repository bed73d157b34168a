//! Context: what a rule may know beside the state: time, who asks, the log index. Filled from the log entry alone, so that every
//! node knows the same. Also how a rule ends other than well.

use super::Effects;
use crate::store::records::Stamp;
use crate::store::{StoreError, keys, read, txn::Txn};
use holdfast_proto::{FsErrno, Name, pb};

/// Why a mutation was not done.
#[derive(Debug)]
pub enum Stop {
    /// A POSIX answer; it is kept for a repetition.
    Refused(FsErrno),
    /// The request breaks the protocol; nothing is kept.
    Failed(pb::FailureCode),
    /// The node must stop.
    Store(StoreError),
}

impl From<FsErrno> for Stop {
    fn from(errno: FsErrno) -> Stop {
        Stop::Refused(errno)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Store(error)
    }
}

pub type Ruling<T> = Result<T, Stop>;

pub struct Context<'a> {
    pub log_index: u64,
    /// Never runs backwards from one entry to the next.
    pub now: Stamp,
    /// Nothing may grow: the leader's disk is nearly full.
    pub tight: bool,
    /// 0 for operations outside of a volume.
    pub volume: u32,
    /// 0 for operations without a session.
    pub session: u64,
    pub creds: &'a pb::Creds,
    pub orders: &'a mut SliceOrders,
    pub effects: Effects,
}

impl Context<'_> {
    pub fn is_root(&self) -> bool {
        self.creds.uid == 0
    }

    pub fn in_group(&self, gid: u32) -> bool {
        self.creds.gid == gid || self.creds.groups.contains(&gid)
    }

    pub fn changed_inode(&mut self, ino: u64) {
        if !self.effects.inos.contains(&ino) {
            self.effects.inos.push(ino);
        }
    }

    pub fn changed_name(&mut self, parent: u64, name: &Name) {
        self.effects.dentries.push(pb::DentryRef { parent, name: name.clone().into_bytes() });
    }
}

/// Numbers the slices of one log entry: order = log index << 16 | n.
pub struct SliceOrders {
    next: u64,
    end: u64,
}

impl SliceOrders {
    pub fn new(log_index: u64) -> SliceOrders {
        SliceOrders { next: log_index << 16, end: (log_index + 1) << 16 }
    }

    /// An entry whose numbers are used up does not do the rest: the client sends it again, in a later entry.
    pub fn require(&self, count: usize) -> Ruling<()> {
        if self.end - self.next < count as u64 { Err(Stop::Failed(pb::FailureCode::Unavailable)) } else { Ok(()) }
    }

    pub fn take(&mut self) -> u64 {
        let order = self.next;
        debug_assert!(order < self.end, "`require` comes first");
        self.next += 1;
        order
    }
}

/// The state's clock moved on to the time of an entry.
pub fn advance_clock(txn: &mut Txn<'_>, entry_time: Option<pb::TimeSpec>) -> Result<Stamp, StoreError> {
    let last = read::clock(txn)?;
    let now = entry_time.map(Stamp::from).filter(|time| time.nsec < 1_000_000_000).unwrap_or_default().max(last);
    if now > last {
        txn.put(&keys::clock(), &now);
    }
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::KvCommit;
    use crate::store::mem_store::MemStore;

    #[test]
    fn time_never_runs_backwards() {
        MemStore::default().view(|view| {
            let mut txn = Txn::new(view);
            let at = |sec| Some(pb::TimeSpec { sec, nsec: 1 });
            assert_eq!(advance_clock(&mut txn, at(10)).expect("reads").sec, 10);
            assert_eq!(advance_clock(&mut txn, at(9)).expect("reads").sec, 10);
            assert_eq!(advance_clock(&mut txn, None).expect("reads").sec, 10);
            assert_eq!(advance_clock(&mut txn, at(11)).expect("reads").sec, 11);
        });
    }

    #[test]
    fn an_entry_numbers_at_most_65536_slices() {
        let mut orders = SliceOrders::new(3);
        assert_eq!(orders.take(), 3 << 16);
        assert!(orders.require(65_535).is_ok());
        assert!(matches!(orders.require(65_536), Err(Stop::Failed(pb::FailureCode::Unavailable))));
    }
}
