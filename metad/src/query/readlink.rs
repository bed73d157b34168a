//! Readlink: the target of a symbolic link. Called by query::answer.

use super::View;
use crate::apply::context::Ruling;
use crate::store::{StoreError, read};
use holdfast_proto::{FsErrno, pb};

pub fn answer(view: &View<'_>, query: &pb::ReadlinkQuery) -> Ruling<pb::ReadlinkReply> {
    let inode = view.inode(query.ino)?;
    if inode.kind != pb::FileKind::Symlink {
        return Err(FsErrno::Inval.into());
    }
    let target = read::symlink(view.kv, view.volume, query.ino)?
        .ok_or_else(|| StoreError::Damaged { what: "symlink", detail: format!("inode {} has no target", query.ino) })?;
    Ok(pb::ReadlinkReply { target: target.0 })
}
