//! Deleted slices: ids whose objects may be deleted from the store. Called by query::answer.

use super::View;
use crate::apply::context::Ruling;
use crate::store::codec::Record;
use crate::store::records::Deleted;
use crate::store::{keys, read};
use holdfast_proto::{limits, pb};
use std::ops::ControlFlow;

pub fn answer(view: &View<'_>, query: &pb::DeletedSlicesQuery) -> Ruling<pb::DeletedSlicesReply> {
    let count_max = (query.count_max as usize).min(limits::BACKGROUND_BATCH_MAX);
    let prefix = keys::all_deleted(view.volume);
    let mut slices = Vec::new();
    if count_max == 0 {
        return Ok(pb::DeletedSlicesReply { slices });
    }
    let start = query.after.checked_add(1).map_or_else(|| prefix.end(), |next| keys::deleted(view.volume, next));
    read::scan(view.kv, &start, &prefix.end(), |key, value| {
        let slice_id = keys::tail_u64(key, keys::HEAD_BYTES)?;
        slices.push(pb::DeletedSlice { slice_id, slice_len: Deleted::decode(value)?.slice_len });
        Ok(if slices.len() < count_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(pb::DeletedSlicesReply { slices })
}
