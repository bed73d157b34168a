//! Extended attributes: which names there are, and who may see and change them (xattr(7)). The client's kernel has checked classes of
//! permission and capabilities; what is asked here is what would be wrong whoever the client is. Called by the operations and queries.

use super::context::{Context, Ruling};
use super::{inode, trash};
use crate::store::inode_record::Inode;
use crate::store::records::Xattr;
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use bytes::Bytes;
use holdfast_proto::limits::XATTR_NAME_BYTES_MAX;
use holdfast_proto::xattr::{ACL_ACCESS, ACL_DEFAULT, CAPABILITY, mark, marks_of};
use holdfast_proto::{FsErrno, pb};
use std::ops::ControlFlow;

/// What root alone may see and change.
const TRUSTED: &[u8] = b"trusted.";
const USER: &[u8] = b"user.";
const NAMESPACES: [&[u8]; 3] = [USER, TRUSTED, b"security."];

/// ERANGE for a name that is too short or too long, EOPNOTSUPP for one of no namespace, or with nothing behind it.
pub fn check_name(name: &[u8]) -> Ruling<()> {
    if name.is_empty() || name.len() > XATTR_NAME_BYTES_MAX {
        return Err(FsErrno::Range.into());
    }
    let known =
        is_acl(name) || NAMESPACES.iter().any(|namespace| name.len() > namespace.len() && name.starts_with(namespace));
    if known && !name.contains(&0) { Ok(()) } else { Err(FsErrno::OpNotSupp.into()) }
}

/// The two of the system namespace.
pub fn is_acl(name: &[u8]) -> bool {
    name == ACL_ACCESS || name == ACL_DEFAULT
}

/// Whether the caller may know that there is such a name.
pub fn is_visible(creds: &pb::Creds, name: &[u8]) -> bool {
    creds.uid == 0 || !name.starts_with(TRUSTED)
}

/// EPERM: trusted attributes are root's, and user attributes are for files and directories; in a sticky directory for its owner.
pub fn check_change(cx: &Context<'_>, inode: &Inode, name: &[u8]) -> Ruling<()> {
    trash::check_changes(inode.ino)?;
    let user = name.starts_with(USER);
    let has_user = inode.is_regular() || inode.is_dir();
    let sticky = inode.is_dir() && inode.mode & libc::S_ISVTX != 0;
    let allowed = is_visible(cx.creds, name) && (!user || (has_user && (!sticky || inode::is_owner(cx, inode))));
    if allowed { Ok(()) } else { Err(FsErrno::Perm.into()) }
}

pub fn get(view: &dyn KvRead, volume: u32, ino: u64, name: &[u8]) -> Result<Option<Xattr>, StoreError> {
    read::xattr(view, volume, ino, name)
}

/// Names of all attributes of an inode, in order of bytes.
pub fn names(view: &dyn KvRead, volume: u32, ino: u64) -> Result<Vec<Bytes>, StoreError> {
    let prefix = keys::xattrs(volume, ino);
    let mut names = Vec::new();
    read::scan(view, &prefix, &prefix.end(), |key, _| {
        names.push(Bytes::copy_from_slice(key.get(prefix.len()..).unwrap_or_default()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(names)
}

/// Writes an attribute and marks the inode; the caller saves it.
pub fn put(txn: &mut Txn<'_>, volume: u32, inode: &mut Inode, name: &[u8], value: Bytes) {
    txn.put(&keys::xattr(volume, inode.ino, name), &Xattr(value));
    inode.xattrs |= marks_of(name);
}

/// Takes one away, and its marks; the caller saves the inode.
pub fn remove(txn: &mut Txn<'_>, volume: u32, inode: &mut Inode, name: &[u8]) -> Result<(), StoreError> {
    txn.delete(&keys::xattr(volume, inode.ino, name));
    inode.xattrs = names(txn, volume, inode.ino)?.iter().fold(0, |marks, name| marks | marks_of(name));
    Ok(())
}

/// A change of data or owner takes file capabilities away, also root's (capabilities(7)); the caller saves the inode.
pub fn drop_capability(txn: &mut Txn<'_>, volume: u32, inode: &mut Inode) -> Result<(), StoreError> {
    if inode.xattrs & mark::CAPABILITY == 0 { Ok(()) } else { remove(txn, volume, inode, CAPABILITY) }
}

/// Goes with its inode.
pub fn delete_all(txn: &mut Txn<'_>, volume: u32, ino: u64) -> Result<(), StoreError> {
    for name in names(txn, volume, ino)? {
        txn.delete(&keys::xattr(volume, ino, &name));
    }
    Ok(())
}
