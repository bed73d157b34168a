//! Read slices: where the bytes of some chunks of a file are, oldest slice first. Called by query::answer.

use super::View;
use crate::apply::context::{Ruling, Stop};
use crate::store::{keys, read};
use holdfast_proto::{FsErrno, limits, pb};
use std::ops::ControlFlow;

pub fn answer(view: &View<'_>, query: &pb::ReadSlicesQuery) -> Ruling<pb::ReadSlicesReply> {
    if query.chunk_count > limits::READ_CHUNKS_MAX {
        return Err(Stop::Failed(pb::FailureCode::TooLarge));
    }
    let inode = view.inode(query.ino)?;
    if inode.is_dir() {
        return Err(FsErrno::IsDir.into());
    }
    let start = keys::chunk_slices(view.volume, query.ino, query.first_chunk);
    let end = match query.first_chunk.checked_add(query.chunk_count) {
        Some(past) => keys::chunk_slices(view.volume, query.ino, past),
        None => keys::slices(view.volume, query.ino).end(),
    };
    let mut slices = Vec::new();
    read::slices(view.kv, &start, &end, |slice| {
        slices.push(slice.piece.into_wire(slice.chunk));
        ControlFlow::Continue(())
    })?;
    Ok(pb::ReadSlicesReply { attr: Some(inode.to_attr()), slices })
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::limits::CHUNK_BYTES;
    use holdfast_proto::pb;

    #[test]
    fn only_the_chunks_asked_for_come_oldest_first() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        for (chunk, offset) in [(2, 0), (0, 5), (1, 0), (0, 0), (1, 10)] {
            fs.write(ino, chunk * u64::from(CHUNK_BYTES) + offset, 10).expect("writes");
        }
        let ask = |first_chunk, chunk_count| {
            let reply = fs.ask(pb::ReadSlicesQuery { ino, first_chunk, chunk_count }).expect("reads");
            reply.slices.iter().map(|slice| (slice.chunk, slice.chunk_offset)).collect::<Vec<_>>()
        };
        assert_eq!(ask(0, 2), [(0, 5), (0, 0), (1, 0), (1, 10)]);
        assert_eq!(ask(1, 1), [(1, 0), (1, 10)]);
        assert_eq!(ask(2, 64), [(2, 0)]);
        assert_eq!(ask(u32::MAX, 64), []);
        assert_eq!(ask(0, 0), []);
    }
}
