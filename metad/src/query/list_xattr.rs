//! List xattr: the names of an inode's extended attributes, all in one reply (they are bounded when they are set). Called by query::answer.

use super::View;
use crate::apply::context::Ruling;
use crate::apply::xattr;
use holdfast_proto::pb;

pub fn answer(view: &View<'_>, creds: &pb::Creds, query: &pb::ListXattrQuery) -> Ruling<pb::ListXattrReply> {
    let inode = view.inode(query.ino)?;
    let mut names = xattr::names(view.kv, view.volume, inode.ino)?;
    names.retain(|name| xattr::is_visible(creds, name));
    Ok(pb::ListXattrReply { names })
}
