//! Statfs: limits and usage of the volume (what counts is in apply/quota.rs). Called by query::answer.

use super::View;
use crate::apply::context::Ruling;
use crate::store::read;
use holdfast_proto::pb;

pub fn answer(view: &View<'_>, _query: &pb::StatfsQuery) -> Ruling<pb::StatfsReply> {
    let usage = read::usage(view.kv, view.volume)?;
    Ok(pb::StatfsReply {
        capacity_bytes: usage.capacity_bytes,
        used_bytes: usage.used_bytes,
        inodes_max: usage.inodes_max,
        used_inodes: usage.used_inodes,
    })
}
