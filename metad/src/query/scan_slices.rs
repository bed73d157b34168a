//! Scan slices: all slices of a volume in key order, a page at a time, each with the file it is in. Called by query::answer.
//!
//! Pages are of different states: what is made, moved or dropped in between may be told of or not. Who concludes anything from a slice that
//! is not there asks again at one state (query/upkeep).

use super::View;
use crate::apply::context::Ruling;
use crate::store::codec::Record;
use crate::store::inode_record::SlicePiece;
use crate::store::{keys, read};
use holdfast_proto::limits::SCAN_BYTES_MAX;
use holdfast_proto::pb;
use prost::Message;
use std::ops::ControlFlow;

pub fn answer(view: &View<'_>, query: &pb::ScanSlicesQuery) -> Ruling<pb::ScanSlicesReply> {
    let prefix = keys::all_slices(view.volume);
    let start = match query.after {
        Some(after) => keys::slice(view.volume, after.ino, after.chunk, after.order).end(),
        None => prefix.clone(),
    };
    let mut reply = pb::ScanSlicesReply { slices: Vec::new(), is_end: true };
    let mut bytes = 0;
    read::scan(view.kv, &start, &prefix.end(), |key, value| {
        if reply.slices.len() >= query.count_max as usize || bytes >= SCAN_BYTES_MAX {
            reply.is_end = false;
            return Ok(ControlFlow::Break(()));
        }
        let at = pb::SliceKey {
            ino: keys::tail_u64(key, keys::HEAD_BYTES)?,
            chunk: keys::tail_u32(key, keys::HEAD_BYTES + 8)?,
            order: keys::tail_u64(key, keys::HEAD_BYTES + 12)?,
        };
        let slice = SlicePiece::decode(value)?.into_wire(at.chunk);
        bytes += slice.encoded_len();
        reply.slices.push(pb::FileSlice { key: Some(at), slice: Some(slice) });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::pb;

    #[test]
    fn pages_follow_each_other_through_all_files_and_end() {
        let mut fs = TestFs::new();
        let inos = ["a", "b"].map(|name| fs.create(name, 0o600).expect("creates").ino);
        for offset in [0, 100, 200] {
            for ino in inos {
                fs.write(ino, offset, 10).expect("writes");
            }
        }
        let (mut after, mut found, mut pages_count) = (None, Vec::new(), 0);
        loop {
            let reply = fs.ask(pb::ScanSlicesQuery { after, count_max: 4 }).expect("scans");
            assert!(reply.slices.len() <= 4);
            after = reply.slices.last().and_then(|slice| slice.key);
            found.extend(reply.slices.iter().map(|slice| {
                let (key, slice) = (slice.key.expect("key"), slice.slice.as_ref().expect("slice"));
                (key.ino, slice.chunk_offset)
            }));
            pages_count += 1;
            if reply.is_end {
                break;
            }
        }
        let offsets = [0, 100, 200];
        assert_eq!(found, inos.map(|ino| offsets.map(|offset| (ino, offset))).concat());
        assert_eq!(pages_count, 2);
        assert!(fs.ask(pb::ScanSlicesQuery { after, count_max: 4 }).expect("scans").slices.is_empty());
    }
}
