//! ACLs in the state machine: kept as the extended attributes that Linux knows them by, in step with the mode. What an ACL is and allows
//! is in proto/src/acl.rs. Called by the operations.

use super::context::{Context, Ruling};
use super::inode::{self, S_ISGID};
use super::xattr;
use crate::store::StoreError;
use crate::store::inode_record::Inode;
use crate::store::{KvRead, txn::Txn};
use bytes::Bytes;
use holdfast_proto::FsErrno;
use holdfast_proto::acl::{self, Acl};
use holdfast_proto::pb::FileKind;
use holdfast_proto::xattr::{ACL_ACCESS, ACL_DEFAULT, mark};

/// What setting an ACL comes to.
pub struct Change {
    /// None: the mode says it all, or there is to be none.
    pub value: Option<Bytes>,
    pub mode: u32,
}

/// # Errors
/// EPERM for others than the owner, EOPNOTSUPP for symbolic links, EACCES for a default ACL on what is no directory, and those of
/// Acl::parse. (setfacl(1), Linux's set_posix_acl.)
pub fn check_set(cx: &Context<'_>, inode: &Inode, name: &[u8], value: &[u8]) -> Ruling<Change> {
    if inode.kind == FileKind::Symlink {
        return Err(FsErrno::OpNotSupp.into());
    }
    if !inode::is_owner(cx, inode) {
        return Err(FsErrno::Perm.into());
    }
    let acl = Acl::parse(value)?;
    if name == ACL_DEFAULT {
        return match acl {
            Some(_) if !inode.is_dir() => Err(FsErrno::Access.into()),
            acl => Ok(Change { value: acl.map(|acl| acl.encode().into()), mode: inode.mode }),
        };
    }
    let Some(acl) = acl else { return Ok(Change { value: None, mode: inode.mode }) };
    let mut mode = inode.mode & !0o777 | acl.mode_bits();
    // As with chmod: who is not in the group cannot make the file run as it.
    if !cx.is_root() && !cx.in_group(inode.gid) {
        mode &= !S_ISGID;
    }
    Ok(Change { value: (!acl.is_mode()).then(|| acl.encode().into()), mode })
}

fn load(view: &dyn KvRead, volume: u32, ino: u64, name: &[u8]) -> Result<Option<Acl>, StoreError> {
    let Some(stored) = xattr::get(view, volume, ino, name)? else { return Ok(None) };
    let damaged = |errno: FsErrno| StoreError::Damaged { what: "ACL", detail: format!("of inode {ino}: {errno}") };
    Acl::parse(&stored.0).map_err(damaged)
}

/// The check of access(2) for writing, ACL and all. The client's kernel makes it for every other operation.
pub fn may_write(view: &dyn KvRead, cx: &Context<'_>, inode: &Inode) -> Result<bool, StoreError> {
    let acl = if acl::is_asked(cx.creds.uid, inode.mode, inode.xattrs) {
        load(view, cx.volume, inode.ino, ACL_ACCESS)?
    } else {
        None
    };
    Ok(match acl {
        Some(acl) => acl.allows((inode.uid, inode.gid), cx.creds, 2),
        None => inode::may_write(cx, inode),
    })
}

/// The ACL that goes with a new mode; None where there is none.
pub fn after_chmod(view: &dyn KvRead, cx: &Context<'_>, inode: &Inode, mode: u32) -> Result<Option<Bytes>, StoreError> {
    if inode.xattrs & mark::ACL_ACCESS == 0 {
        return Ok(None);
    }
    let acl = load(view, cx.volume, inode.ino, ACL_ACCESS)?;
    Ok(acl.map(|mut acl| {
        acl.chmod(mode);
        acl.encode().into()
    }))
}

/// What a directory gives to what is made in it.
#[derive(Default)]
pub struct Inherited {
    pub mode: u32,
    access: Option<Bytes>,
    default: Option<Bytes>,
}

/// Mode and ACLs of a new inode: by the directory's default ACL, or else by the caller's umask (umask(2)).
pub fn inherited(
    view: &dyn KvRead,
    cx: &Context<'_>,
    dir: &Inode,
    kind: FileKind,
    (mode, umask): (u32, u32),
) -> Result<Inherited, StoreError> {
    if kind == FileKind::Symlink {
        return Ok(Inherited { mode, ..Inherited::default() });
    }
    let found = if dir.xattrs & mark::ACL_DEFAULT != 0 { load(view, cx.volume, dir.ino, ACL_DEFAULT)? } else { None };
    let Some(acl) = found else { return Ok(Inherited { mode: mode & !(umask & 0o777), ..Inherited::default() }) };
    let (access, mode) = acl.inherit(mode);
    let default = (kind == FileKind::Directory).then(|| acl.encode().into());
    Ok(Inherited { mode, access: (!access.is_mode()).then(|| access.encode().into()), default })
}

impl Inherited {
    /// Writes the ACLs of a new inode, and marks it; the caller saves it.
    pub fn put(self, txn: &mut Txn<'_>, cx: &Context<'_>, child: &mut Inode) {
        for (name, value) in [(ACL_ACCESS, self.access), (ACL_DEFAULT, self.default)] {
            if let Some(value) = value {
                xattr::put(txn, cx.volume, child, name, value);
            }
        }
    }
}

#[cfg(test)]
#[path = "acl_test.rs"]
mod tests;
