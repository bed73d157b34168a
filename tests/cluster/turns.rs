//! Two mounts take turns at one file, as fsx does on one mount: random writes, mapped writes, truncations and appends; each turn
//! begins by comparing what is there with what must be there. HOLDFAST_SEED=N runs one seed alone.

use holdfast_tests::mapping::Mapping;
use holdfast_tests::{process, shared};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Where the file's content begins, after a hole: at its start, before the end of a block, and before the end of a chunk.
const BASES: [u64; 3] = [0, (4 << 20) - 70_000, (64 << 20) - 70_000];
const CONTENT_BYTES_MAX: usize = 400_000;
const TURNS_COUNT: usize = 60;
const STEPS_MAX: usize = 12;

struct Turns {
    rng: StdRng,
    paths: [PathBuf; 2],
    base: u64,
    content: Vec<u8>,
    done: Vec<String>,
}

impl Turns {
    fn new(seed: u64, base: u64) -> Turns {
        let name = shared::fresh_name();
        let paths = [shared::mount().path(&name).join("f"), shared::second_mount().path(&name).join("f")];
        File::create(&paths[0]).unwrap().set_len(base).unwrap();
        Turns { rng: StdRng::seed_from_u64(seed), paths, base, content: Vec::new(), done: Vec::new() }
    }

    fn note(&mut self, what: String) {
        self.done.push(what);
    }

    /// One open, some steps, one close. Half of the turns change the mount.
    fn turn(&mut self) {
        let at = self.rng.random_range(0..2);
        self.note(format!("turn on mount {at}"));
        let file = File::options().read(true).write(true).open(&self.paths[at]).unwrap();
        self.compare(&file);
        for _ in 0..self.rng.random_range(0..STEPS_MAX) {
            self.step(&file, at);
        }
        self.compare(&file);
    }

    fn step(&mut self, file: &File, at: usize) {
        match self.rng.random_range(0..10) {
            0..4 => {
                let (offset, bytes) = self.piece(CONTENT_BYTES_MAX);
                self.note(format!("write {} at {offset}", bytes.len()));
                file.write_all_at(&bytes, self.base + offset as u64).unwrap();
                self.lay(offset, &bytes);
            }
            4..6 if !self.content.is_empty() => {
                let (offset, mut bytes) = self.piece(self.content.len());
                bytes.truncate(self.content.len() - offset);
                self.note(format!("mapped write {} at {offset}", bytes.len()));
                let start = self.base as usize + offset;
                let mut mapping = Mapping::of(file);
                mapping.bytes()[start..start + bytes.len()].copy_from_slice(&bytes);
                drop(mapping);
                self.lay(offset, &bytes);
            }
            6..8 => {
                let len = self.rng.random_range(0..CONTENT_BYTES_MAX);
                self.note(format!("truncate to {len}"));
                file.set_len(self.base + len as u64).unwrap();
                self.content.resize(len, 0);
            }
            8 => {
                let bytes = self.bytes(5000);
                self.note(format!("append {}", bytes.len()));
                File::options().append(true).open(&self.paths[at]).unwrap().write_all(&bytes).unwrap();
                self.content.extend(bytes);
            }
            _ => {
                self.note("fsync".into());
                file.sync_all().unwrap();
            }
        }
    }

    fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        let len = self.rng.random_range(1..=len_max);
        let mut bytes = vec![0; len];
        self.rng.fill(&mut bytes[..]);
        bytes
    }

    fn piece(&mut self, end: usize) -> (usize, Vec<u8>) {
        (self.rng.random_range(0..end), self.bytes(60_000))
    }

    fn lay(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[offset..end].copy_from_slice(bytes);
    }

    /// The size, the end of the hole, and every byte of the content.
    fn compare(&self, file: &File) {
        let size = file.metadata().unwrap().len();
        assert_eq!(size, self.base + self.content.len() as u64, "size (left: found)");
        let hole = self.base.min(10_000);
        let mut found = vec![1; hole as usize + self.content.len()];
        file.read_exact_at(&mut found, self.base - hole).unwrap();
        let expected = std::iter::repeat_n(&0, hole as usize).chain(&self.content);
        if let Some((at, (found, expected))) = found.iter().zip(expected).enumerate().find(|(_, (a, b))| a != b) {
            panic!("byte {} is {found}, and must be {expected}", self.base - hole + at as u64);
        }
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("HOLDFAST_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => vec![seed],
        None => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            (0..2).map(|nth| now.as_secs() * 10 + nth).collect()
        }
    }
}

#[test]
fn two_mounts_take_turns_at_one_file() {
    for seed in seeds() {
        process::report(&format!("turns: seed {seed}"));
        for base in BASES {
            let mut turns = Turns::new(seed, base);
            for _ in 0..TURNS_COUNT {
                let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| turns.turn()));
                if held.is_err() {
                    let last: Vec<_> = turns.done.iter().rev().take(40).rev().cloned().collect();
                    panic!("HOLDFAST_SEED={seed}, base {base}; the last steps:\n{}", last.join("\n"));
                }
            }
            fs::remove_file(&turns.paths[0]).unwrap();
        }
    }
}
