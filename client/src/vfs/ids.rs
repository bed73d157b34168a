//! Ids: users and groups of this machine as the volume knows them, and back: `-o uidmap`, `-o gidmap`, `-o root_squash`. Pure. The maps are
//! fixed when a mount begins. Called by fuse (callers, attributes, ACLs, chown) and by caller.rs.

/// Who root becomes under root_squash: nobody, nogroup.
pub const ANON_ID: u32 = 65534;

/// `count` ids from `local` on are those from `volume` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub local: u32,
    pub volume: u32,
    pub count: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
    /// Uid and gid of the volume that root of this machine acts as.
    pub squash: Option<(u32, u32)>,
}

/// The map of a mount without options: everybody is who he is.
pub static IDENTITY: IdMap = IdMap { uids: Vec::new(), gids: Vec::new(), squash: None };

impl IdMap {
    /// Nothing to do for ids in attributes.
    pub fn is_plain(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    pub fn uid_to_volume(&self, uid: u32) -> u32 {
        to_volume(&self.uids, uid)
    }

    pub fn gid_to_volume(&self, gid: u32) -> u32 {
        to_volume(&self.gids, gid)
    }

    pub fn uid_to_local(&self, uid: u32) -> u32 {
        to_local(&self.uids, uid)
    }

    pub fn gid_to_local(&self, gid: u32) -> u32 {
        to_local(&self.gids, gid)
    }
}

impl IdRange {
    /// LOCAL:VOLUME or LOCAL:VOLUME:COUNT.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<IdRange, String> {
        let wrong = || format!("\"{text}\" is not LOCAL:VOLUME[:COUNT], e.g. 1000:5000:100");
        let numbers: Vec<u32> =
            text.split(':').map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
        let (local, volume, count) = match numbers[..] {
            [local, volume] => (local, volume, 1),
            [local, volume, count] => (local, volume, count),
            _ => return Err(wrong()),
        };
        // u32::MAX is no id.
        let fits = |first: u32| first.checked_add(count).is_some();
        if count == 0 || !fits(local) || !fits(volume) { Err(wrong()) } else { Ok(IdRange { local, volume, count }) }
    }

    fn overlaps(&self, other: &IdRange) -> bool {
        let meet = |a: u32, b: u32| a < b.saturating_add(other.count) && b < a.saturating_add(self.count);
        meet(self.local, other.local) || meet(self.volume, other.volume)
    }
}

/// Reads the ranges of one option.
///
/// # Errors
/// A range that is none, or two that overlap: then an id would have two names.
pub fn parse_ranges<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<IdRange>, String> {
    let mut ranges: Vec<IdRange> = Vec::new();
    for text in texts {
        let range = IdRange::parse(text)?;
        if ranges.iter().any(|other| other.overlaps(&range)) {
            return Err(format!("\"{text}\" overlaps another range"));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn shifted(ranges: &[IdRange], id: u32, ends: impl Fn(&IdRange) -> (u32, u32)) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let (from, to) = ends(range);
        id.checked_sub(from).filter(|offset| *offset < range.count).map(|offset| to + offset)
    })
}

/// An id without a range is itself, but not where it would be taken for a mapped one: then it is nobody.
fn to_volume(ranges: &[IdRange], id: u32) -> u32 {
    let taken = || shifted(ranges, id, |range| (range.volume, range.local)).is_some();
    shifted(ranges, id, |range| (range.local, range.volume)).unwrap_or_else(|| if taken() { ANON_ID } else { id })
}

fn to_local(ranges: &[IdRange], id: u32) -> u32 {
    let taken = || shifted(ranges, id, |range| (range.local, range.volume)).is_some();
    shifted(ranges, id, |range| (range.volume, range.local)).unwrap_or_else(|| if taken() { ANON_ID } else { id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[&str]) -> IdMap {
        IdMap { uids: parse_ranges(ranges.iter().copied()).expect("parses"), ..IdMap::default() }
    }

    #[test]
    fn ranges_are_mapped_both_ways_and_others_stay() {
        let map = map(&["1000:5000:10", "7:8"]);
        assert_eq!([999, 1000, 1009, 1010, 7].map(|uid| map.uid_to_volume(uid)), [999, 5000, 5009, 1010, 8]);
        assert_eq!([4999, 5000, 5009, 5010, 8].map(|uid| map.uid_to_local(uid)), [4999, 1000, 1009, 5010, 7]);
        assert_eq!((map.gid_to_volume(1000), IDENTITY.uid_to_local(3)), (1000, 3));
    }

    #[test]
    fn nobody_becomes_somebody_else_by_not_being_mapped() {
        let map = map(&["1000:5000"]);
        assert_eq!(map.uid_to_volume(5000), ANON_ID, "5000 of the volume is 1000 of this machine");
        assert_eq!(map.uid_to_local(1000), ANON_ID);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "1", "1:2:3:4", "a:b", "1:2:0", "4294967295:1", "1:4294967290:10", "-1:2"] {
            assert!(IdRange::parse(text).is_err(), "{text}");
        }
        assert!(parse_ranges(["1:10:5", "5:20"].into_iter()).is_err());
        assert!(parse_ranges(["1:10:5", "6:14"].into_iter()).is_err());
        assert!(parse_ranges(["1:10:5", "6:15"].into_iter()).is_ok());
    }
}
