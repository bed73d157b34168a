//! Range locks: what taking, changing and giving up byte ranges does to the locks of one file, and who stands in whose way. (P) The
//! rules of fcntl(2): the ranges of one owner never overlap, neighbours of one mode are one range, and a new lock replaces
//! what its owner had there. flock(2) is the same with one range for the whole file. Called by metad's apply and query.

use crate::limits::LOCK_LAST_BYTE;

/// Bytes `first` to `last`, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    pub first: u64,
    pub last: u64,
}

impl Range {
    pub const ALL: Range = Range { first: 0, last: LOCK_LAST_BYTE };

    /// None where it is empty, or beyond the end of all files.
    pub fn new(first: u64, last: u64) -> Option<Range> {
        (first <= last && last <= LOCK_LAST_BYTE).then_some(Range { first, last })
    }

    pub fn overlaps(&self, other: &Range) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether the two together are one range.
    fn touches(&self, other: &Range) -> bool {
        // Never beyond LOCK_LAST_BYTE, so that 1 can be added.
        self.first <= other.last + 1 && other.first <= self.last + 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Shared,
    Exclusive,
}

/// Who locks: a number that its session chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub session: u64,
    pub number: u64,
}

/// One locked range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    pub range: Range,
    pub owner: Owner,
    pub mode: Mode,
    /// Process that took it, as its session numbers processes.
    pub pid: u32,
}

impl Held {
    /// Whether the two cannot be held at once.
    pub fn excludes(&self, other: &Held) -> bool {
        self.owner != other.owner
            && self.range.overlaps(&other.range)
            && (self.mode == Mode::Exclusive || other.mode == Mode::Exclusive)
    }
}

/// The locks of one kind in one file, in order of their ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeLocks(Vec<Held>);

impl RangeLocks {
    /// From what `as_slice` gave; None if no locks can be like that.
    pub fn from_stored(held: Vec<Held>) -> Option<RangeLocks> {
        let fits = |held: &Held| Range::new(held.range.first, held.range.last).is_some();
        (held.iter().all(fits) && held.is_sorted()).then_some(RangeLocks(held))
    }

    pub fn as_slice(&self) -> &[Held] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that keep `wanted` from being taken.
    pub fn in_the_way<'a>(&'a self, wanted: &'a Held) -> impl Iterator<Item = &'a Held> {
        self.0.iter().take_while(|held| held.range.first <= wanted.range.last).filter(|held| held.excludes(wanted))
    }

    /// Takes a lock that nothing is in the way of, in place of what its owner had there.
    pub fn lock(&mut self, mut wanted: Held) {
        self.unlock(wanted.owner, wanted.range);
        self.0.retain(|held| {
            let joins = held.owner == wanted.owner && held.mode == wanted.mode && held.range.touches(&wanted.range);
            if joins {
                wanted.range.first = wanted.range.first.min(held.range.first);
                wanted.range.last = wanted.range.last.max(held.range.last);
            }
            !joins
        });
        self.insert(wanted);
    }

    /// Gives a range up, whatever of it the owner holds.
    pub fn unlock(&mut self, owner: Owner, range: Range) {
        let mut rests = Vec::new();
        self.0.retain(|held| {
            let cut = held.owner == owner && held.range.overlaps(&range);
            if cut && held.range.first < range.first {
                rests.push(Held { range: Range { last: range.first - 1, ..held.range }, ..*held });
            }
            if cut && held.range.last > range.last {
                rests.push(Held { range: Range { first: range.last + 1, ..held.range }, ..*held });
            }
            !cut
        });
        rests.into_iter().for_each(|rest| self.insert(rest));
    }

    /// Gives up all that is held by whom `gone` names.
    pub fn drop_owners(&mut self, gone: impl Fn(Owner) -> bool) {
        self.0.retain(|held| !gone(held.owner));
    }

    /// The mode in which an owner holds a byte.
    pub fn mode_at(&self, owner: Owner, byte: u64) -> Option<Mode> {
        let covers = |held: &&Held| held.owner == owner && held.range.first <= byte && byte <= held.range.last;
        self.0.iter().find(covers).map(|held| held.mode)
    }

    fn insert(&mut self, held: Held) {
        let at = self.0.partition_point(|other| *other < held);
        self.0.insert(at, held);
    }
}

#[cfg(test)]
#[path = "range_lock_test.rs"]
mod tests;
