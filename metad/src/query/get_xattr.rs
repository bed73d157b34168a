//! Get xattr: one extended attribute's value. Called by query::answer.

use super::View;
use crate::apply::context::Ruling;
use crate::apply::xattr;
use holdfast_proto::{FsErrno, pb};

/// ENODATA also where the caller may not know of it.
pub fn answer(view: &View<'_>, creds: &pb::Creds, query: &pb::GetXattrQuery) -> Ruling<pb::XattrReply> {
    xattr::check_name(&query.name)?;
    let inode = view.inode(query.ino)?;
    let found = xattr::get(view.kv, view.volume, inode.ino, &query.name)?;
    let visible = found.filter(|_| xattr::is_visible(creds, &query.name));
    Ok(pb::XattrReply { value: visible.ok_or(FsErrno::NoData)?.0 })
}
