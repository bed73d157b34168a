//! Xattr: how values and lists of extended attributes are replied: getxattr(2) and listxattr(2) may ask for the size alone. ACLs name users
//! as this machine knows them.
//! Called by the callbacks.

use crate::vfs::ids::IdMap;
use bytes::Bytes;
use fuser::{Errno, ReplyXattr};
use holdfast_proto::acl::{Acl, Tag};
use holdfast_proto::xattr::{ACL_ACCESS, ACL_DEFAULT};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// `size` is the caller's buffer, bytes; 0 asks how large it must be. ERANGE where it is too small.
pub fn reply(reply: ReplyXattr, size: u32, value: &[u8]) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

/// A value as the volume keeps it: ACLs name users and groups.
pub fn to_volume(ids: &IdMap, name: &OsStr, value: &[u8]) -> Bytes {
    let mapped = rewrite(ids, name.as_bytes(), value, |tag| match tag {
        Tag::User(uid) => Tag::User(ids.uid_to_volume(uid)),
        Tag::Group(gid) => Tag::Group(ids.gid_to_volume(gid)),
        other => other,
    });
    mapped.unwrap_or_else(|| Bytes::copy_from_slice(value))
}

/// A value as this machine is to see it.
pub fn to_local(ids: &IdMap, name: &[u8], value: Bytes) -> Bytes {
    let mapped = rewrite(ids, name, &value, |tag| match tag {
        Tag::User(uid) => Tag::User(ids.uid_to_local(uid)),
        Tag::Group(gid) => Tag::Group(ids.gid_to_local(gid)),
        other => other,
    });
    mapped.unwrap_or(value)
}

/// None: nothing to map. What is no ACL is left for the server to refuse.
fn rewrite(ids: &IdMap, name: &[u8], value: &[u8], map: impl Fn(Tag) -> Tag) -> Option<Bytes> {
    if ids.is_plain() || ![ACL_ACCESS, ACL_DEFAULT].contains(&name) {
        return None;
    }
    let acl = Acl::parse(value).ok().flatten()?;
    Some(acl.map_tags(map).encode().into())
}
