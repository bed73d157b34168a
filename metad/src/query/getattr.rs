//! Getattr: what stat(2) shows. Works on an orphan that is still open. Called by query::answer.

use super::{View, entry_reply};
use crate::apply::context::Ruling;
use holdfast_proto::pb;

pub fn answer(view: &View<'_>, query: &pb::GetattrQuery) -> Ruling<pb::EntryReply> {
    Ok(entry_reply(&view.inode(query.ino)?))
}
