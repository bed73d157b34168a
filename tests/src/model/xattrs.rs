//! Extended attributes of the reference tree, ACLs among them: what one inode has, and how its ACLs go with its mode.

use crate::fs::{Kind, Result};
use std::collections::BTreeMap;

pub const ACCESS: &str = "system.posix_acl_access";
pub const DEFAULT: &str = "system.posix_acl_default";
pub const CAPABILITY: &str = "security.capability";
/// A value that the kernel takes for file capabilities: version 2, cap_net_raw.
pub const CAPS: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const NOBODY: u32 = u32::MAX;

/// An ACL with at most one user named in it, who then comes with a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallAcl {
    pub owner: u16,
    /// Permission of user 7, and the mask.
    pub named: Option<(u16, u16)>,
    pub group: u16,
    pub other: u16,
}

impl SmallAcl {
    pub fn encode(&self) -> Vec<u8> {
        let mut value = 2u32.to_le_bytes().to_vec();
        let mut entry = |tag: u16, perm: u16, id: u32| {
            value.extend([&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat());
        };
        entry(0x01, self.owner, NOBODY);
        if let Some((user, _)) = self.named {
            entry(0x02, user, 7);
        }
        entry(0x04, self.group, NOBODY);
        if let Some((_, mask)) = self.named {
            entry(0x10, mask, NOBODY);
        }
        entry(0x20, self.other, NOBODY);
        value
    }

    /// What `encode` made.
    pub fn decode(value: &[u8]) -> Option<SmallAcl> {
        let perms: Vec<u16> =
            value[4..].chunks_exact(8).map(|entry| u16::from_le_bytes([entry[2], entry[3]])).collect();
        match perms[..] {
            [owner, group, other] => Some(SmallAcl { owner, named: None, group, other }),
            [owner, user, group, mask, other] => Some(SmallAcl { owner, named: Some((user, mask)), group, other }),
            _ => None,
        }
    }

    fn bits(&self) -> u32 {
        let group = self.named.map_or(self.group, |(_, mask)| mask);
        u32::from(self.owner) << 6 | u32::from(group) << 3 | u32::from(self.other)
    }

    fn follow(&mut self, mode: u32) {
        let class = |shift: u32| (mode >> shift & 7) as u16;
        self.owner = class(6);
        match &mut self.named {
            Some((_, mask)) => *mask = class(3),
            None => self.group = class(3),
        }
        self.other = class(0);
    }
}

#[derive(Clone, Debug, Default)]
pub struct Xattrs {
    plain: BTreeMap<String, Vec<u8>>,
    access: Option<SmallAcl>,
    default: Option<SmallAcl>,
}

impl Xattrs {
    fn may_have(kind: Kind, name: &str, missing: i32) -> Result<()> {
        let is_user = name.starts_with("user.");
        if is_user && !matches!(kind, Kind::File | Kind::Dir) { Err(missing) } else { Ok(()) }
    }

    pub fn set(&mut self, kind: Kind, name: &str, value: &[u8], flags: u32) -> Result<()> {
        Xattrs::may_have(kind, name, libc::EPERM)?;
        let exists = self.plain.contains_key(name);
        if flags & libc::XATTR_CREATE as u32 != 0 && exists {
            return Err(libc::EEXIST);
        }
        if flags & libc::XATTR_REPLACE as u32 != 0 && !exists {
            return Err(libc::ENODATA);
        }
        self.plain.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    /// The mode that comes of it.
    pub fn set_acl(&mut self, (kind, mode): (Kind, u32), name: &str, acl: SmallAcl) -> Result<u32> {
        match (kind, name) {
            (Kind::Symlink, _) => Err(libc::EOPNOTSUPP),
            (Kind::Dir, DEFAULT) => {
                self.default = Some(acl);
                Ok(mode)
            }
            (_, DEFAULT) => Err(libc::EACCES),
            _ => {
                self.access = acl.named.map(|_| acl);
                Ok(mode & !0o777 | acl.bits())
            }
        }
    }

    pub fn get(&self, kind: Kind, name: &str) -> Result<Vec<u8>> {
        Xattrs::may_have(kind, name, libc::ENODATA)?;
        let acl = |acl: &Option<SmallAcl>| acl.map(|acl| acl.encode());
        let found = match name {
            ACCESS | DEFAULT if kind == Kind::Symlink => return Err(libc::EOPNOTSUPP),
            ACCESS => acl(&self.access),
            DEFAULT => acl(&self.default),
            _ => self.plain.get(name).cloned(),
        };
        found.ok_or(libc::ENODATA)
    }

    pub fn remove(&mut self, kind: Kind, name: &str) -> Result<()> {
        Xattrs::may_have(kind, name, libc::EPERM)?;
        self.plain.remove(name).map(drop).ok_or(libc::ENODATA)
    }

    pub fn list(&self) -> Vec<String> {
        let acls = [(ACCESS, self.access), (DEFAULT, self.default)];
        let acls = acls.into_iter().filter(|(_, acl)| acl.is_some()).map(|(name, _)| name.to_owned());
        let mut names: Vec<_> = self.plain.keys().cloned().chain(acls).collect();
        names.sort();
        names
    }

    pub fn chmod(&mut self, mode: u32) {
        if let Some(acl) = &mut self.access {
            acl.follow(mode);
        }
    }

    /// Data or owner has changed.
    pub fn drop_capability(&mut self) {
        self.plain.remove(CAPABILITY);
    }

    /// What is made below gets, and with which mode.
    pub fn inherit(&self, kind: Kind, mode: u32) -> (Xattrs, u32) {
        let Some(default) = self.default.filter(|_| kind != Kind::Symlink) else { return (Xattrs::default(), mode) };
        let mut access = default;
        access.follow(default.bits() & mode);
        let own = Xattrs {
            plain: BTreeMap::new(),
            access: access.named.map(|_| access),
            default: (kind == Kind::Dir).then_some(default),
        };
        (own, mode & !0o777 | access.bits())
    }
}
