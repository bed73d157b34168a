//! POSIX ACLs (acl(5), POSIX.1e draft 17): what is in one, what it allows, and how it goes with the mode. Pure. The encoding is that of
//! Linux's extended attributes (linux/posix_acl_xattr.h). Called by metad's rules and by the client's permission check.

use crate::FsErrno;
use crate::pb::Creds;
use crate::xattr::mark;

/// Linux's one version of the encoding.
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 4;
const ENTRY_BYTES: usize = 8;
/// What no entry without a user or group names.
const NO_ID: u32 = u32::MAX;
/// Longest encoding, bytes: the kernel reads no more than a page of an ACL through FUSE.
pub const ACL_BYTES_MAX: usize = 4096;

/// Whether the check of a permission looks at the ACL of an inode with this mode and these marks. As Linux has it, not where
/// the mask allows nothing; and root is not checked.
pub fn is_asked(uid: u32, mode: u32, marks: u32) -> bool {
    uid != 0 && mode & 0o070 != 0 && marks & mark::ACL_ACCESS != 0
}

/// Whom an entry is about, in the order in which an ACL has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tag {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    /// The most that users, groups and the owning group get.
    Mask,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub tag: Tag,
    /// rwx: 4, 2, 1.
    pub perm: u32,
}

/// A valid ACL: owner, owning group and other once each; a mask if a user or a group is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

impl Acl {
    /// Reads the value of an attribute. None: no entries, which means that there is to be none.
    ///
    /// # Errors
    /// EOPNOTSUPP for another version, EINVAL for what is no valid ACL, ENOSPC for one with too many entries.
    pub fn parse(value: &[u8]) -> Result<Option<Acl>, FsErrno> {
        let (version, entries) = value.split_at_checked(HEADER_BYTES).ok_or(FsErrno::Inval)?;
        if version != VERSION.to_le_bytes() {
            return Err(FsErrno::OpNotSupp);
        }
        if entries.len() % ENTRY_BYTES != 0 {
            return Err(FsErrno::Inval);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        if value.len() > ACL_BYTES_MAX {
            return Err(FsErrno::NoSpc);
        }
        let acl = Acl(entries.chunks_exact(ENTRY_BYTES).map(parse_entry).collect::<Result<_, _>>()?);
        if acl.is_valid() { Ok(Some(acl)) } else { Err(FsErrno::Inval) }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            let (tag, id) = encode_tag(entry.tag);
            value.extend(tag.to_le_bytes());
            value.extend((entry.perm as u16).to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    /// The same with other users and groups.
    pub fn map_tags(&self, map: impl Fn(Tag) -> Tag) -> Acl {
        Acl(self.0.iter().map(|entry| Entry { tag: map(entry.tag), ..*entry }).collect())
    }

    /// Classes in order, as Linux wants them (posix_acl_valid); within a class ids may come in any order.
    fn is_valid(&self) -> bool {
        let in_order = self.0.windows(2).all(|pair| rank(pair[0].tag) <= rank(pair[1].tag));
        let count = |wanted: Tag| self.0.iter().filter(|entry| rank(entry.tag) == rank(wanted)).count();
        let names_somebody = count(Tag::User(0)) + count(Tag::Group(0)) > 0;
        in_order
            && [Tag::Owner, Tag::OwningGroup, Tag::Other].into_iter().all(|tag| count(tag) == 1)
            && count(Tag::Mask) <= 1
            && (!names_somebody || count(Tag::Mask) == 1)
    }

    fn perm(&self, tag: Tag) -> Option<u32> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| entry.perm)
    }

    fn set(&mut self, tag: Tag, perm: u32) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.tag == tag) {
            entry.perm = perm;
        }
    }

    /// What stands for the group in a mode: the mask, where there is one.
    fn group_class(&self) -> Tag {
        if self.perm(Tag::Mask).is_some() { Tag::Mask } else { Tag::OwningGroup }
    }

    /// Permission bits of a mode, 0o777.
    pub fn mode_bits(&self) -> u32 {
        let bits = |tag| self.perm(tag).unwrap_or(0);
        bits(Tag::Owner) << 6 | bits(self.group_class()) << 3 | bits(Tag::Other)
    }

    /// Whether a mode says all of it.
    pub fn is_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// chmod(2): the three classes follow the mode, named users and groups stay behind the mask.
    pub fn chmod(&mut self, mode: u32) {
        self.set(Tag::Owner, mode >> 6 & 7);
        self.set(self.group_class(), mode >> 3 & 7);
        self.set(Tag::Other, mode & 7);
    }

    /// What a new inode gets that was asked for with `mode` in a directory with this default ACL: the ACL cut down to the mode, and
    /// the bits that are left of the mode.
    pub fn inherit(&self, mode: u32) -> (Acl, u32) {
        let mut acl = self.clone();
        acl.chmod(self.mode_bits() & mode);
        let bits = acl.mode_bits();
        (acl, mode & !0o777 | bits)
    }

    /// The check of access(2), for others than root. `owner` and `group` are the inode's, `wanted` is rwx.
    pub fn allows(&self, (owner, group): (u32, u32), creds: &Creds, wanted: u32) -> bool {
        let grants = |perm: u32| wanted & !perm & 7 == 0;
        let mask = self.perm(Tag::Mask).unwrap_or(7);
        if creds.uid == owner {
            return self.perm(Tag::Owner).is_some_and(grants);
        }
        if let Some(perm) = self.perm(Tag::User(creds.uid)) {
            return grants(perm & mask);
        }
        let belongs = |gid: u32| creds.gid == gid || creds.groups.contains(&gid);
        let of_groups = self.0.iter().filter(|entry| match entry.tag {
            Tag::OwningGroup => belongs(group),
            Tag::Group(gid) => belongs(gid),
            _ => false,
        });
        let mut is_member = false;
        for entry in of_groups {
            is_member = true;
            if grants(entry.perm & mask) {
                return true;
            }
        }
        !is_member && self.perm(Tag::Other).is_some_and(grants)
    }
}

fn rank(tag: Tag) -> u32 {
    match tag {
        Tag::Owner => 0,
        Tag::User(_) => 1,
        Tag::OwningGroup => 2,
        Tag::Group(_) => 3,
        Tag::Mask => 4,
        Tag::Other => 5,
    }
}

fn parse_entry(bytes: &[u8]) -> Result<Entry, FsErrno> {
    let [t0, t1, p0, p1, i0, i1, i2, i3] = *bytes else { return Err(FsErrno::Inval) };
    let id = u32::from_le_bytes([i0, i1, i2, i3]);
    let tag = match u16::from_le_bytes([t0, t1]) {
        0x01 => Tag::Owner,
        0x02 if id != NO_ID => Tag::User(id),
        0x04 => Tag::OwningGroup,
        0x08 if id != NO_ID => Tag::Group(id),
        0x10 => Tag::Mask,
        0x20 => Tag::Other,
        _ => return Err(FsErrno::Inval),
    };
    let perm = u32::from(u16::from_le_bytes([p0, p1]));
    if perm > 7 { Err(FsErrno::Inval) } else { Ok(Entry { tag, perm }) }
}

fn encode_tag(tag: Tag) -> (u16, u32) {
    match tag {
        Tag::Owner => (0x01, NO_ID),
        Tag::User(id) => (0x02, id),
        Tag::OwningGroup => (0x04, NO_ID),
        Tag::Group(id) => (0x08, id),
        Tag::Mask => (0x10, NO_ID),
        Tag::Other => (0x20, NO_ID),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(Tag, u32)]) -> Acl {
        let acl = Acl(entries.iter().map(|&(tag, perm)| Entry { tag, perm }).collect());
        assert!(acl.is_valid());
        acl
    }

    fn shared() -> Acl {
        let named = [(Tag::User(7), 7), (Tag::OwningGroup, 5), (Tag::Group(50), 6), (Tag::Mask, 6), (Tag::Other, 1)];
        acl(&[&[(Tag::Owner, 6)], &named[..]].concat())
    }

    fn may(acl: &Acl, uid: u32, gids: &[u32], wanted: u32) -> bool {
        acl.allows((1, 10), &Creds { uid, gid: gids[0], groups: gids[1..].to_vec() }, wanted)
    }

    #[test]
    fn an_acl_survives_its_encoding() {
        let acl = shared();
        assert_eq!(Acl::parse(&acl.encode()), Ok(Some(acl)));
        assert_eq!(Acl::parse(&VERSION.to_le_bytes()), Ok(None));
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        let good = shared().encode();
        assert_eq!(Acl::parse(&good[..3]), Err(FsErrno::Inval));
        assert_eq!(Acl::parse(&good[..good.len() - 1]), Err(FsErrno::Inval));
        assert_eq!(Acl::parse(&good[..good.len() - ENTRY_BYTES]), Err(FsErrno::Inval), "without other");
        assert_eq!(Acl::parse(&[1, 0, 0, 0]), Err(FsErrno::OpNotSupp));
        let mut permission = good.clone();
        permission[HEADER_BYTES + 2] = 8;
        assert_eq!(Acl::parse(&permission), Err(FsErrno::Inval));
        let mut swapped = shared();
        swapped.0.swap(0, 1);
        assert_eq!(Acl::parse(&swapped.encode()), Err(FsErrno::Inval));
        let no_mask = Acl([(Tag::Owner, 6), (Tag::User(7), 7), (Tag::OwningGroup, 5), (Tag::Other, 0)]
            .map(|(tag, perm)| Entry { tag, perm })
            .to_vec());
        assert_eq!(Acl::parse(&no_mask.encode()), Err(FsErrno::Inval));
        let many = (0..600).map(|id| (Tag::User(id), 7));
        let all: Vec<_> = [(Tag::Owner, 6)]
            .into_iter()
            .chain(many)
            .chain([(Tag::OwningGroup, 5), (Tag::Mask, 7), (Tag::Other, 0)])
            .collect();
        assert_eq!(Acl::parse(&acl(&all).encode()), Err(FsErrno::NoSpc));
    }

    #[test]
    fn the_first_class_that_fits_decides_behind_the_mask() {
        let acl = shared();
        assert!(may(&acl, 1, &[10], 6) && !may(&acl, 1, &[10], 1), "the owner, whatever the mask");
        assert!(may(&acl, 7, &[10], 6) && !may(&acl, 7, &[10], 1), "a named user, masked");
        assert!(may(&acl, 9, &[10], 4) && !may(&acl, 9, &[10], 2), "the owning group, masked");
        assert!(may(&acl, 9, &[10, 50], 2), "any group that allows it");
        assert!(!may(&acl, 9, &[10, 50], 1), "a member does not fall through to other");
        assert!(may(&acl, 9, &[11], 1) && !may(&acl, 9, &[11], 4), "other");
    }

    #[test]
    fn the_mask_stands_for_the_group_in_a_mode() {
        let mut acl = shared();
        assert_eq!((acl.mode_bits(), acl.is_mode()), (0o661, false));
        acl.chmod(0o700);
        assert_eq!((acl.perm(Tag::Mask), acl.perm(Tag::OwningGroup), acl.mode_bits()), (Some(0), Some(5), 0o700));
    }

    #[test]
    fn what_is_inherited_allows_no_more_than_was_asked_for() {
        let (child, mode) = shared().inherit(0o4755);
        assert_eq!((mode, child.mode_bits()), (0o4641, 0o641));
        assert_eq!(child.perm(Tag::User(7)), Some(7), "behind the mask");
        let plain = acl(&[(Tag::Owner, 7), (Tag::OwningGroup, 5), (Tag::Other, 5)]);
        let (child, mode) = plain.inherit(0o660);
        assert_eq!((mode, child.is_mode()), (0o640, true));
    }
}
