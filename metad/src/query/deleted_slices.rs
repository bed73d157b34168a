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
    let start = match query.after {
        0 => prefix.clone(),
        after => keys::deleted(view.volume, after).end(),
    };
    read::scan(view.kv, &start, &prefix.end(), |key, value| {
        let slice_id = keys::tail_u64(key, keys::HEAD_BYTES)?;
        slices.push(pb::DeletedSlice { slice_id, slice_len: Deleted::decode(value)?.slice_len });
        Ok(if slices.len() < count_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(pb::DeletedSlicesReply { slices })
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::pb;

    #[test]
    fn a_page_goes_on_behind_the_last_one() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        for offset in [0, 100, 200] {
            fs.write(ino, offset, 10).expect("writes");
        }
        fs.truncate(ino, 0).expect("truncates");
        let page = |after, count_max| {
            let reply = fs.ask(pb::DeletedSlicesQuery { count_max, after }).expect("asks");
            reply.slices.iter().map(|slice| slice.slice_id).collect::<Vec<_>>()
        };
        let all = page(0, 9);
        assert_eq!((all.len(), page(0, 2), page(all[1], 9)), (3, all[..2].to_vec(), all[2..].to_vec()));
        assert!(page(all[2], 9).is_empty());
    }
}
