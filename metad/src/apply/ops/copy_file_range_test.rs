//! Tests of copies: the rules one by one, and random operations against files of bytes.

use crate::apply::test_fs::{TestFs, VOLUME};
use crate::store::{KvCommit, keys, read};
use holdfast_proto::limits::{CHUNK_BYTES, FILE_BYTES_MAX};
use holdfast_proto::{FsErrno, ROOT_INO, pb};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

const PUNCH: u32 = 3;
const CHUNK: u64 = CHUNK_BYTES as u64;

fn file(fs: &mut TestFs, name: &str) -> u64 {
    fs.create(name, 0o600).expect("creates").ino
}

fn forget(fs: &mut TestFs, name: &str) {
    let ino = fs.unlink(name).expect("removes").ino;
    fs.hold(fs.log_index(), &[]);
    fs.reclaim(&[ino]);
    assert_eq!(fs.getattr(ino), Err(FsErrno::Stale));
}

fn refs(fs: &TestFs, slice_id: u64) -> u64 {
    fs.store().view(|view| read::slice_refs(view, VOLUME, slice_id)).expect("reads")
}

fn counted_slices(fs: &TestFs) -> usize {
    let prefix = keys::all_slice_refs(VOLUME);
    let mut count = 0;
    let visit = |_: &[u8], _: &[u8]| {
        count += 1;
        Ok(std::ops::ControlFlow::Continue(()))
    };
    fs.store().view(|view| read::scan(view, &prefix, &prefix.end(), visit)).expect("scans");
    count
}

#[test]
fn a_slice_goes_with_the_last_file_that_names_it() {
    let mut fs = TestFs::new();
    let (a, b) = (file(&mut fs, "a"), file(&mut fs, "b"));
    fs.write(a, 0, 1000).expect("writes");
    let id = fs.slices(a)[0].slice_id;
    assert_eq!(counted_slices(&fs), 0);
    let reply = fs.copy((a, 0), (b, 0), 5000).expect("copies");
    assert_eq!((reply.done, reply.attr.expect("attr").size), (1000, 1000));
    assert_eq!((fs.slices(b), refs(&fs, id), fs.usage().used_bytes), (fs.slices(a), 2, 2000));
    fs.check();
    forget(&mut fs, "a");
    assert_eq!((fs.deleted_slices(), counted_slices(&fs)), (vec![], 0));
    fs.check();
    forget(&mut fs, "b");
    assert_eq!(fs.deleted_slices(), [id]);
    fs.check();
}

#[test]
fn truncation_overwriting_and_punching_drop_names_too() {
    let mut fs = TestFs::new();
    let inos: Vec<u64> = ["a", "b", "c", "d"].iter().map(|name| file(&mut fs, name)).collect();
    fs.write(inos[0], 0, 1000).expect("writes");
    let id = fs.slices(inos[0])[0].slice_id;
    for &ino in &inos[1..] {
        fs.copy((inos[0], 0), (ino, 0), 1000).expect("copies");
    }
    assert_eq!(refs(&fs, id), 4);
    fs.truncate(inos[0], 0).expect("truncates");
    fs.write(inos[1], 0, 1000).expect("overwrites");
    assert_eq!((refs(&fs, id), fs.deleted_slices()), (2, vec![]));
    fs.fallocate(inos[2], 0, 1000, PUNCH).expect("punches");
    assert_eq!((counted_slices(&fs), fs.deleted_slices()), (0, vec![]));
    fs.copy((inos[1], 0), (inos[3], 0), 1000).expect("copies over it");
    assert_eq!(fs.deleted_slices(), [id]);
    fs.check();
}

#[test]
fn a_copy_takes_what_is_seen_and_leaves_holes() {
    let mut fs = TestFs::new();
    let (a, b) = (file(&mut fs, "a"), file(&mut fs, "b"));
    fs.write(a, 0, 1000).expect("writes");
    fs.write(a, 300, 100).expect("writes");
    fs.fallocate(a, 500, 100, PUNCH).expect("punches");
    fs.write(b, 0, 2000).expect("writes");
    fs.copy((a, 250), (b, 1250), 400).expect("copies");
    let pieces: Vec<_> = fs.slices(b).iter().map(|s| (s.chunk_offset, s.len, s.slice_offset)).collect();
    // All of the old slice, a hole over it, and the copy: 50 of the first, 100 of the second, 100 and 50 of the first.
    assert_eq!(
        pieces,
        [(0, 2000, 0), (1250, 400, 0), (1250, 50, 250), (1300, 100, 0), (1400, 100, 400), (1600, 50, 600)]
    );
    assert_eq!((fs.attr(b).size, refs(&fs, fs.slices(a)[0].slice_id)), (2000, 4));
    fs.check();
}

#[test]
fn chunks_need_not_be_aligned_and_bits_become_one_piece() {
    let mut fs = TestFs::new();
    let (a, b) = (file(&mut fs, "a"), file(&mut fs, "b"));
    for chunk in 0..3 {
        fs.write(a, chunk * CHUNK, CHUNK_BYTES).expect("writes");
    }
    assert_eq!(fs.copy((a, 10), (b, 0), 3 * CHUNK).map(|r| r.done), Ok(3 * CHUNK - 10));
    let pieces: Vec<_> = fs.slices(b).iter().map(|s| (s.chunk, s.chunk_offset, s.slice_offset)).collect();
    let tail = CHUNK_BYTES - 10;
    assert_eq!(pieces, [(0, 0, 10), (0, tail, 0), (1, 0, 10), (1, tail, 0), (2, 0, 10)]);
    let c = file(&mut fs, "c");
    for at in (0..1000).step_by(50) {
        fs.copy((a, at), (c, at), 50).expect("copies");
    }
    let pieces: Vec<_> = fs.slices(c).iter().map(|s| (s.chunk_offset, s.len)).collect();
    assert_eq!((pieces, refs(&fs, fs.slices(a)[0].slice_id)), (vec![(0, 1000)], 3));
    fs.check();
}

#[test]
fn within_one_file_ranges_may_touch_and_not_overlap() {
    let mut fs = TestFs::new();
    let a = file(&mut fs, "a");
    fs.write(a, 0, 1000).expect("writes");
    assert_eq!(fs.copy((a, 0), (a, 500), 1000).map(|r| r.done), Err(FsErrno::Inval));
    assert_eq!(fs.copy((a, 500), (a, 1), 500).map(|r| r.done), Err(FsErrno::Inval));
    fs.copy((a, 0), (a, 500), 500).expect("copies");
    fs.copy((a, 0), (a, 1000), 1000).expect("copies");
    assert_eq!(fs.attr(a).size, 2000);
    fs.check();
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_done() {
    let mut fs = TestFs::new();
    let (a, b) = (file(&mut fs, "a"), file(&mut fs, "b"));
    fs.write(a, 0, 1000).expect("writes");
    fs.config(Some(1999), None);
    let before = fs.attr(b);
    let mut refused = |from, to, len| fs.copy(from, to, len).map(|reply| reply.done).err();
    assert_eq!(refused((a, 0), (b, 0), 1000), Some(FsErrno::NoSpc));
    assert_eq!(refused((a, 0), (b, 999), 1), Some(FsErrno::NoSpc));
    assert_eq!(refused((a, 0), (b, FILE_BYTES_MAX), 1), Some(FsErrno::FBig));
    assert_eq!(refused((a, 0), (b, u64::MAX), 10), Some(FsErrno::FBig));
    assert_eq!(refused((ROOT_INO, 0), (b, 0), 10), Some(FsErrno::IsDir));
    assert_eq!(refused((a, 0), (ROOT_INO, 0), 10), Some(FsErrno::IsDir));
    assert_eq!(refused((a, 0), (999, 0), 10), Some(FsErrno::Stale));
    assert_eq!(fs.copy((a, 1000), (b, 0), 10).map(|r| r.done), Ok(0));
    assert_eq!(fs.copy((a, u64::MAX), (b, 0), 10).map(|r| r.done), Ok(0));
    assert_eq!(fs.attr(b), before);
    assert_eq!(fs.copy((a, 0), (b, 0), 999).map(|r| r.done), Ok(999));
    fs.check();
}

#[test]
fn it_counts_as_a_write_and_an_orphan_is_not_charged() {
    let mut fs = TestFs::new();
    let (a, b) = (file(&mut fs, "a"), file(&mut fs, "b"));
    fs.write(a, 0, 1000).expect("writes");
    fs.chmod(b, 0o6777).expect("chmods");
    fs.become_user(9, 9);
    let before = fs.attr(b);
    fs.copy((a, 0), (b, 0), 10).expect("copies");
    let after = fs.attr(b);
    assert!(after.mtime > before.mtime && after.ctime == after.mtime);
    assert_eq!((after.mode, after.data_version), (0o777, fs.log_index()));
    fs.unlink("b").expect("removes");
    fs.hold(fs.log_index(), &[b]);
    fs.copy((a, 0), (b, 0), 1000).expect("copies into an orphan");
    assert_eq!(fs.usage().used_bytes, 1000);
    fs.check();
}

#[test]
fn a_copy_of_very_many_slices_stops_between_two() {
    let mut fs = TestFs::new();
    let (a, b) = (file(&mut fs, "a"), file(&mut fs, "b"));
    for n in 0..3 {
        let slices = (0..1024).map(|at| fs.slice(n * 10_240 + at * 10, 7)).collect();
        fs.commit(a, slices).expect("commits");
    }
    let all = fs.attr(a).size;
    let mut done = 0;
    let mut steps = 0;
    while done < all {
        done += fs.copy((a, done), (b, done), all - done).expect("copies").done;
        steps += 1;
        fs.check();
    }
    assert_eq!((steps, fs.slices(b).len(), fs.attr(b).size), (3, 3 * 1024, all));
}

/// A file as bytes: which byte of which slice stands where. What is not in it is zero.
#[derive(Clone, Default)]
struct Model {
    size: u64,
    bytes: BTreeMap<u64, (u64, u32)>,
}

impl Model {
    fn erase(&mut self, offset: u64, len: u64) {
        self.bytes.retain(|at, _| !(offset..offset + len).contains(at));
    }

    fn of(fs: &TestFs, ino: u64) -> Model {
        let mut model = Model { size: fs.attr(ino).size, bytes: BTreeMap::new() };
        for slice in fs.slices(ino) {
            let start = u64::from(slice.chunk) * CHUNK + u64::from(slice.chunk_offset);
            model.erase(start, slice.len.into());
            if slice.slice_id != 0 {
                let byte = |n: u32| (start + u64::from(n), (slice.slice_id, slice.slice_offset + n));
                model.bytes.extend((0..slice.len).map(byte));
            }
        }
        model
    }

    fn seek(&self, offset: u64, hole: bool) -> Option<u64> {
        let end = u64::from(hole) + self.size;
        (offset < self.size).then(|| (offset..end).find(|at| self.bytes.contains_key(at) != hole))?
    }
}

struct Run {
    fs: TestFs,
    rng: StdRng,
    inos: Vec<u64>,
    models: Vec<Model>,
}

/// Around the border of two chunks, so that pieces are cut there.
const BASE: u64 = CHUNK - 150;

impl Run {
    fn offset(&mut self) -> u64 {
        BASE + self.rng.random_range(0..300)
    }

    fn write(&mut self, at: usize) {
        let offset = self.offset();
        let room = if offset < CHUNK { CHUNK - offset } else { 100 };
        let len = self.rng.random_range(1..=room.min(100)) as u32;
        let slice = self.fs.slice(offset, len);
        let model = &mut self.models[at];
        model.size = model.size.max(offset + u64::from(len));
        model.bytes.extend((0..len).map(|n| (offset + u64::from(n), (slice.slice_id, n))));
        self.fs.commit(self.inos[at], vec![slice]).expect("commits");
    }

    fn fallocate(&mut self, at: usize) {
        let (offset, len) = (self.offset(), self.rng.random_range(1..150));
        let mode = [0, 1, 3, 3, 16, 17][self.rng.random_range(0..6)];
        let model = &mut self.models[at];
        if mode & 0x12 != 0 {
            model.erase(offset, len);
        }
        if mode & 1 == 0 {
            model.size = model.size.max(offset + len);
        }
        assert_eq!(self.fs.fallocate(self.inos[at], offset, len, mode).map(|r| r.done), Ok(len));
    }

    fn truncate(&mut self, at: usize) {
        let size = self.offset();
        self.models[at].erase(size, u64::MAX - size);
        self.models[at].size = size;
        self.fs.truncate(self.inos[at], size).expect("truncates");
    }

    fn copy(&mut self, from: usize, to: usize) {
        let (offset_in, offset_out, len) = (self.offset(), self.offset(), self.rng.random_range(1..200));
        let found = self.fs.copy((self.inos[from], offset_in), (self.inos[to], offset_out), len);
        let len = len.min(self.models[from].size.saturating_sub(offset_in));
        if from == to && offset_in.abs_diff(offset_out) < len {
            assert_eq!(found.map(|r| r.done), Err(FsErrno::Inval));
            return;
        }
        assert_eq!(found.map(|r| r.done), Ok(len));
        let seen = self.models[from].bytes.clone();
        let model = &mut self.models[to];
        model.erase(offset_out, len);
        model.bytes.extend(seen.range(offset_in..offset_in + len).map(|(at, b)| (at - offset_in + offset_out, *b)));
        model.size = if len > 0 { model.size.max(offset_out + len) } else { model.size };
    }

    fn compare(&mut self, step: &str) {
        self.fs.check();
        for at in 0..self.inos.len() {
            let found = Model::of(&self.fs, self.inos[at]);
            assert!(found.size == self.models[at].size && found.bytes == self.models[at].bytes, "{step}, file {at}");
            let offset = self.offset();
            for hole in [false, true] {
                let found = self.fs.ask(pb::LseekQuery { ino: self.inos[at], offset, hole }).map(|r| r.offset);
                assert_eq!(found.ok(), self.models[at].seek(offset, hole), "{step}, file {at}, {offset}, hole {hole}");
            }
        }
    }
}

#[test]
fn random_operations_do_to_slices_what_they_would_do_to_bytes() {
    for seed in 0..20 {
        let mut fs = TestFs::new();
        let names = ["a", "b", "c"];
        let inos: Vec<u64> = names.iter().map(|name| file(&mut fs, name)).collect();
        let models = vec![Model::default(); inos.len()];
        let mut run = Run { fs, rng: StdRng::seed_from_u64(seed), inos, models };
        let mut written = 0;
        for step in 0..150 {
            let (one, two) = (run.rng.random_range(0..3), run.rng.random_range(0..3));
            match run.rng.random_range(0..10) {
                0..4 => {
                    run.write(one);
                    written += 1;
                }
                4..6 => run.fallocate(one),
                6 => run.truncate(one),
                _ => run.copy(one, two),
            }
            run.compare(&format!("seed {seed}, step {step}"));
        }
        for name in names {
            forget(&mut run.fs, name);
            run.fs.check();
        }
        assert_eq!((run.fs.deleted_slices().len(), counted_slices(&run.fs)), (written, 0), "seed {seed}");
    }
}
