//! The locks of one file, as they are stored: who holds which range, and who waits, in order of arrival. One record a file: it is
//! bounded (LOCKS_FILE_MAX, LOCK_WAITS_FILE_MAX), and whoever locks must see all of it. The rules are range_lock's and
//! apply/lock's. Called by read and apply.

use super::StoreError;
use super::codec::{Reader, Record, Writer};
use super::keys::kind;
use holdfast_proto::range_lock::{Held, Mode, Owner, Range, RangeLocks};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockKind {
    /// flock(2).
    Flock,
    /// fcntl(2).
    Range,
}

/// A request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub kind: LockKind,
    /// What it will hold.
    pub wanted: Held,
    /// Its name within the session.
    pub number: u64,
    /// A cycle of waits through this one is no deadlock of processes.
    pub no_deadlock: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileLocks {
    pub flocks: RangeLocks,
    pub ranges: RangeLocks,
    /// In order of arrival.
    pub waits: Vec<Wait>,
}

impl FileLocks {
    pub fn of(&self, kind: LockKind) -> &RangeLocks {
        match kind {
            LockKind::Flock => &self.flocks,
            LockKind::Range => &self.ranges,
        }
    }

    pub fn of_mut(&mut self, kind: LockKind) -> &mut RangeLocks {
        match kind {
            LockKind::Flock => &mut self.flocks,
            LockKind::Range => &mut self.ranges,
        }
    }

    /// All that is held.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.flocks.as_slice().iter().chain(self.ranges.as_slice())
    }

    pub fn is_empty(&self) -> bool {
        self.waits.is_empty() && self.flocks.is_empty() && self.ranges.is_empty()
    }
}

const HELD_BYTES: usize = 37;

fn write_held(out: &mut Writer, held: &Held) {
    out.u64(held.range.first);
    out.u64(held.range.last);
    out.u64(held.owner.session);
    out.u64(held.owner.number);
    out.u8(match held.mode {
        Mode::Shared => 0,
        Mode::Exclusive => 1,
    });
    out.u32(held.pid);
}

fn read_held(input: &mut Reader<'_>) -> Result<Held, StoreError> {
    let range = Range { first: input.u64()?, last: input.u64()? };
    let owner = Owner { session: input.u64()?, number: input.u64()? };
    let mode = match input.u8()? {
        0 => Mode::Shared,
        1 => Mode::Exclusive,
        _ => return Err(input.damaged("unknown mode of a lock")),
    };
    Ok(Held { range, owner, mode, pid: input.u32()? })
}

fn write_all(out: &mut Writer, locks: &RangeLocks) {
    out.u32(locks.as_slice().len() as u32);
    locks.as_slice().iter().for_each(|held| write_held(out, held));
}

fn read_all(input: &mut Reader<'_>) -> Result<RangeLocks, StoreError> {
    let count = input.u32()?;
    let held: Result<Vec<_>, _> = (0..count).map(|_| read_held(input)).collect();
    RangeLocks::from_stored(held?).ok_or_else(|| input.damaged("locks out of order or out of bounds"))
}

impl Record for FileLocks {
    const KIND: u8 = kind::LOCK;
    const SIZE_HINT: usize = 8 + HELD_BYTES;
    fn write(&self, out: &mut Writer) {
        write_all(out, &self.flocks);
        write_all(out, &self.ranges);
        for wait in &self.waits {
            out.u8(match wait.kind {
                LockKind::Flock => 0,
                LockKind::Range => 1,
            });
            write_held(out, &wait.wanted);
            out.u64(wait.number);
            out.u8(u8::from(wait.no_deadlock));
        }
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        let (flocks, ranges) = (read_all(input)?, read_all(input)?);
        let mut waits = Vec::new();
        while !input.is_empty() {
            let kind = match input.u8()? {
                0 => LockKind::Flock,
                1 => LockKind::Range,
                _ => return Err(input.damaged("unknown kind of lock")),
            };
            let (wanted, number) = (read_held(input)?, input.u64()?);
            let no_deadlock = match input.u8()? {
                0 => false,
                1 => true,
                _ => return Err(input.damaged("unknown flag of a wait")),
            };
            waits.push(Wait { kind, wanted, number, no_deadlock });
        }
        Ok(FileLocks { flocks, ranges, waits })
    }
}

/// How many ranges a session has locked or waits for, in all files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockCount(pub u64);

impl Record for LockCount {
    const KIND: u8 = kind::SESSION_LOCK;
    const SIZE_HINT: usize = 8;
    fn write(&self, out: &mut Writer) {
        out.u64(self.0);
    }
    fn read(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(LockCount(input.u64()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(first: u64, mode: Mode) -> Held {
        let owner = Owner { session: 3, number: u64::MAX };
        Held { range: Range { first, last: first + 4 }, owner, mode, pid: 9 }
    }

    #[test]
    fn locks_and_waits_survive_the_store() {
        let mut locks = FileLocks::default();
        locks.flocks.lock(Held { range: Range::ALL, ..held(0, Mode::Shared) });
        locks.ranges.lock(held(10, Mode::Exclusive));
        locks.ranges.lock(held(0, Mode::Shared));
        let wait = Wait { kind: LockKind::Range, wanted: held(7, Mode::Shared), number: 1, no_deadlock: true };
        locks.waits = vec![wait, Wait { kind: LockKind::Flock, number: 2, no_deadlock: false, ..wait }];
        assert_eq!(FileLocks::decode(&locks.encode()).expect("decodes"), locks);
    }

    #[test]
    fn what_no_locks_can_be_is_damage() {
        let mut locks = FileLocks::default();
        locks.ranges.lock(held(10, Mode::Exclusive));
        let good = locks.encode().to_vec();
        // version, two counts, first, last, session, number, mode
        for (at, value) in [(9 + 32, 2), (9 + 8 + 7, 0xff), (5, 2), (1, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(matches!(FileLocks::decode(&bad), Err(StoreError::Damaged { .. })), "byte {at}");
        }
    }
}
