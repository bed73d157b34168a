//! List volumes: the settings of all, without credentials, by name. Called by query::answer.

use super::{View, background};
use crate::apply::context::Ruling;
use holdfast_proto::pb;

pub fn answer(view: &View<'_>, _query: &pb::ListVolumesQuery) -> Ruling<pb::ListVolumesReply> {
    Ok(pb::ListVolumesReply { volumes: background::volumes(view.kv)? })
}
