//! Open: the read that open(2) needs. An orphan cannot be opened again: every session has been asked or will be, once.
//! Called by query::answer.

use super::{View, entry_reply};
use crate::apply::context::Ruling;
use holdfast_proto::{FsErrno, pb};

pub fn answer(view: &View<'_>, query: &pb::OpenQuery) -> Ruling<pb::EntryReply> {
    let inode = view.inode(query.ino)?;
    if inode.is_orphan() { Err(FsErrno::Stale.into()) } else { Ok(entry_reply(&inode)) }
}
