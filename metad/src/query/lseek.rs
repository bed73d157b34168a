//! Lseek: where data or a hole begins, from an offset on (lseek(2), SEEK_DATA and SEEK_HOLE). The end of the file is a hole. Answers
//! after a bounded look at slices, if need be with "not before here". Called by query::answer.

use super::View;
use crate::apply::context::Ruling;
use crate::apply::slices;
use crate::store::read;
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::{FsErrno, pb};

/// A look ends with the chunk in which it has seen so many slices.
const LOOKED_MAX: usize = 16_384;

pub fn answer(view: &View<'_>, query: &pb::LseekQuery) -> Ruling<pb::LseekReply> {
    let inode = view.inode(query.ino)?;
    if !inode.is_regular() {
        return Err(FsErrno::Inval.into());
    }
    if query.offset >= inode.size {
        return Err(FsErrno::NxIo.into());
    }
    let (last, _) = slices::locate(inode.size - 1);
    let mut looked = 0;
    let mut at = query.offset;
    while at < inode.size {
        let (here, _) = slices::locate(at);
        let next = slices::next_chunk(view.kv, view.volume, query.ino, here, last)?;
        let Some(chunk) = next else { break };
        if query.hole && chunk > here {
            return Ok(found(at));
        }
        let start = u64::from(chunk) * u64::from(CHUNK_BYTES);
        let list = read::chunk_slices(view.kv, view.volume, query.ino, chunk)?;
        looked += list.len();
        at = at.max(start);
        for run in slices::visible(&list) {
            let run = start + run.range.start..start + run.range.end;
            if run.end <= at {
                continue;
            }
            if !query.hole {
                return Ok(found(at.max(run.start)));
            }
            if run.start > at {
                return Ok(found(at));
            }
            at = run.end;
        }
        let end = start + u64::from(CHUNK_BYTES);
        if query.hole && at < end {
            return Ok(found(at.min(inode.size)));
        }
        at = end;
        if looked >= LOOKED_MAX && at < inode.size {
            return Ok(pb::LseekReply { offset: at, found: false });
        }
    }
    if query.hole { Ok(found(at.min(inode.size))) } else { Err(FsErrno::NxIo.into()) }
}

fn found(offset: u64) -> pb::LseekReply {
    pb::LseekReply { offset, found: true }
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::limits::CHUNK_BYTES;
    use holdfast_proto::{FsErrno, pb};

    const CHUNK: u64 = CHUNK_BYTES as u64;

    /// As the client asks: until it is found.
    fn seek(fs: &TestFs, ino: u64, mut offset: u64, hole: bool) -> Result<u64, FsErrno> {
        loop {
            let reply = fs.ask(pb::LseekQuery { ino, offset, hole })?;
            if reply.found {
                return Ok(reply.offset);
            }
            assert!(reply.offset > offset);
            offset = reply.offset;
        }
    }

    #[test]
    fn data_and_holes_alternate_over_chunks_and_the_end_is_a_hole() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        for (offset, len) in [(100, 50), (CHUNK - 10, 10), (CHUNK, 10), (5 * CHUNK + 7, 3)] {
            fs.write(ino, offset, len).expect("writes");
        }
        fs.truncate(ino, 6 * CHUNK).expect("grows");
        let data = |offset| seek(&fs, ino, offset, false);
        let hole = |offset| seek(&fs, ino, offset, true);
        assert_eq!((data(0), data(100), data(149), data(150)), (Ok(100), Ok(100), Ok(149), Ok(CHUNK - 10)));
        assert_eq!((data(CHUNK + 10), data(5 * CHUNK + 10)), (Ok(5 * CHUNK + 7), Err(FsErrno::NxIo)));
        assert_eq!((hole(0), hole(100), hole(CHUNK - 3)), (Ok(0), Ok(150), Ok(CHUNK + 10)));
        assert_eq!((hole(2 * CHUNK), hole(5 * CHUNK + 8)), (Ok(2 * CHUNK), Ok(5 * CHUNK + 10)));
        assert_eq!((data(6 * CHUNK), hole(6 * CHUNK)), (Err(FsErrno::NxIo), Err(FsErrno::NxIo)));
    }

    #[test]
    fn data_to_the_end_has_its_hole_there_also_at_the_end_of_a_chunk() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        fs.write(ino, 0, CHUNK_BYTES).expect("writes");
        assert_eq!(seek(&fs, ino, 5, true), Ok(CHUNK));
        fs.write(ino, CHUNK, 9).expect("writes");
        assert_eq!(seek(&fs, ino, 5, true), Ok(CHUNK + 9));
    }

    #[test]
    fn a_punched_hole_is_found_and_a_list_without_end_is_looked_at_in_steps() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        for chunk in 0..17 {
            let slices = (0..1024).map(|n| fs.slice(chunk * CHUNK + n, 1)).collect();
            fs.commit(ino, slices).expect("commits");
            fs.mutate(pb::FallocateOp { ino, offset: chunk * CHUNK, len: 1024, mode: 3 }).expect("punches");
            let slices = (0..1024).map(|n| fs.slice(chunk * CHUNK + n, 1)).collect();
            fs.commit(ino, slices).expect("commits");
        }
        fs.mutate(pb::FallocateOp { ino, offset: 500, len: 2, mode: 3 }).expect("punches");
        assert_eq!((seek(&fs, ino, 0, true), seek(&fs, ino, 501, false)), (Ok(500), Ok(502)));
        assert_eq!(seek(&fs, ino, 16 * CHUNK + 5, true), Ok(16 * CHUNK + 1024));
        assert_eq!(seek(&fs, ino, 16 * CHUNK + 1024, false), Err(FsErrno::NxIo));
    }
}
