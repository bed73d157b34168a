//! Fuzzing of decoders: valid encodings, damaged ones, and any bytes. For none of them a decoder may panic, or take much more memory than
//! it was given bytes; what it takes it must have read as it is. An input that fails is made small and put into the corpus, which
//! every run replays first. Called by tests/fuzz and jepsen/tests.
//!
//! `HOLDFAST_FUZZ=N` runs N times as many cases, with `HOLDFAST_FUZZ_SEED=S` others.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// What a decoder may take at once whatever it is given: the buffers of files.
const ALLOCATION_MAX: usize = 4 << 20;
/// And for each byte that it is given.
const ALLOCATION_FACTOR: usize = 64;

/// What a decoder promises of what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// A checksum covers everything: what is not as it was written is refused.
    Guarded,
    /// There is one encoding of each value: what is taken encodes to the very bytes.
    Canonical,
    /// There are several (protobuf, JSON, text): what is taken encodes to something that is read as the same.
    Normal,
}

/// Decodes, and encodes what that gave; or what is wrong.
pub type Read<'a> = dyn Fn(&[u8]) -> Result<Vec<u8>, String> + 'a;

/// A decoder, and the encoder that belongs to it.
pub struct Decoder<'a> {
    /// Its folder in the corpus.
    pub name: &'static str,
    pub law: Law,
    /// Of damaged encodings; of arbitrary bytes there are half as many.
    pub cases: u32,
    /// The encoding of a random value.
    pub valid: &'a dyn Fn(&mut StdRng) -> Vec<u8>,
    pub read: &'a Read<'a>,
}

/// One damage to an encoding. Places are taken modulo its length.
#[derive(Clone, Debug)]
enum Edit {
    Flip {
        at: usize,
        bit: u8,
    },
    Set {
        at: usize,
        bytes: Vec<u8>,
    },
    Cut {
        at: usize,
    },
    Remove {
        at: usize,
        len: usize,
    },
    Insert {
        at: usize,
        bytes: Vec<u8>,
    },
    /// A part of it is there again elsewhere.
    Splice {
        from: usize,
        len: usize,
        to: usize,
    },
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let within = |at: usize| if bytes.is_empty() { 0 } else { at % bytes.len() };
        let part = |at: usize, len: usize| within(at)..(within(at) + len).min(bytes.len());
        match self {
            Edit::Flip { at, bit } => {
                let at = within(*at);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (bit % 8));
            }
            Edit::Set { at, bytes: new } => {
                let at = within(*at);
                bytes.iter_mut().skip(at).zip(new).for_each(|(byte, new)| *byte = *new);
            }
            Edit::Cut { at } => bytes.truncate(within(*at)),
            Edit::Remove { at, len } => drop(bytes.drain(part(*at, *len))),
            Edit::Insert { at, bytes: new } => {
                let at = within(*at);
                bytes.splice(at..at, new.iter().copied());
            }
            Edit::Splice { from, len, to } => {
                let (copied, to) = (bytes[part(*from, *len)].to_vec(), within(*to));
                bytes.splice(to..to, copied);
            }
        }
    }
}

fn number() -> impl Strategy<Value = Vec<u8>> {
    let interesting = [0, 1, u64::MAX, u64::MAX - 1, i64::MAX as u64, 1 << 25, 1 << 32, u64::from(u32::MAX), 1 << 63];
    let value = prop_oneof![proptest::sample::select(interesting.to_vec()), any::<u64>()];
    let width = proptest::sample::select(vec![1_usize, 2, 4, 8]);
    (value, width).prop_map(|(value, width)| value.to_le_bytes()[..width].to_vec())
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || 0..1_usize << 20;
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip { at, bit }),
        4 => (at(), number()).prop_map(|(at, bytes)| Edit::Set { at, bytes }),
        1 => at().prop_map(|at| Edit::Cut { at }),
        1 => (at(), 1..32_usize).prop_map(|(at, len)| Edit::Remove { at, len }),
        1 => (at(), vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        1 => (at(), 1..64_usize, at()).prop_map(|(from, len, to)| Edit::Splice { from, len, to }),
    ]
}

/// From the environment; else `default`.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// How often a fuzzer that is no decoder does what it does once.
pub fn rounds(usual: u32) -> u32 {
    usual * setting("HOLDFAST_FUZZ", 1) as u32
}

/// The seed of this run.
pub fn seed() -> u64 {
    setting("HOLDFAST_FUZZ_SEED", 1)
}

/// Runs over cases that a strategy makes; the smallest one that fails, if any does.
fn smallest<T: std::fmt::Debug + Clone>(
    cases: u32,
    strategy: impl Strategy<Value = T>,
    check: impl Fn(&T) -> Result<(), String>,
) -> Option<(T, String)> {
    let config = Config { cases: rounds(cases), failure_persistence: None, ..Config::default() };
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed().to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &key));
    match runner.run(&strategy, |case| check(&case).map_err(TestCaseError::fail)) {
        Ok(()) => None,
        Err(TestError::Fail(why, case)) => Some((case, why.message().to_owned())),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

impl Decoder<'_> {
    /// Panics with the input that it is not right for, after that is in the corpus.
    pub fn run(&self) {
        for (path, bytes) in corpus(self.name) {
            self.take(&bytes).unwrap_or_else(|why| panic!("{}: {}: {why}", self.name, path.display()));
        }
        let damaged = (any::<u64>(), vec(edit(), 0..5));
        if let Some(((value, edits), why)) =
            smallest(self.cases, damaged, |(value, edits)| self.check_damaged(*value, edits))
        {
            self.report(&self.damage(value, &edits), &why);
        }
        let bytes = vec(any::<u8>(), 0..160);
        if let Some((bytes, why)) = smallest(self.cases / 2, bytes, |bytes| self.take(bytes).map(drop)) {
            self.report(&bytes, &why);
        }
    }

    fn report(&self, bytes: &[u8], why: &str) -> ! {
        let path = corpus_dir(self.name).join(format!("{:08x}", crc(bytes)));
        let kept = std::fs::create_dir_all(corpus_dir(self.name)).and_then(|()| std::fs::write(&path, bytes));
        panic!("{}, seed {}: {why}\n{bytes:02x?}\nin the corpus: {} ({kept:?})", self.name, seed(), path.display());
    }

    fn value(&self, value: u64) -> Vec<u8> {
        (self.valid)(&mut StdRng::seed_from_u64(value))
    }

    fn damage(&self, value: u64, edits: &[Edit]) -> Vec<u8> {
        let mut bytes = self.value(value);
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        bytes
    }

    fn check_damaged(&self, value: u64, edits: &[Edit]) -> Result<(), String> {
        let (whole, bytes) = (self.value(value), self.damage(value, edits));
        match self.take(&bytes)? {
            Some(read) if bytes == whole && read == whole => Ok(()),
            Some(_) if bytes == whole => Err("it reads another value than was written".to_owned()),
            None if bytes == whole => Err("it refuses what was written".to_owned()),
            Some(_) if self.law == Law::Guarded => Err("it takes what was damaged".to_owned()),
            _ => Ok(()),
        }
    }

    /// Decodes any bytes: what it read, encoded again; None where it refused.
    fn take(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let read = match self.watched(bytes)? {
            Ok(read) => read,
            Err(why) if why.trim().is_empty() => return Err("it refuses without a word".to_owned()),
            Err(_) => return Ok(None),
        };
        match self.law {
            Law::Normal if self.watched(&read)?.as_ref() != Ok(&read) => {
                Err(format!("what it takes encodes to what is read as something else: {read:02x?}"))
            }
            Law::Canonical if read != bytes => Err(format!("what it takes encodes to {read:02x?}")),
            _ => Ok(Some(read)),
        }
    }

    fn watched(&self, bytes: &[u8]) -> Result<Result<Vec<u8>, String>, String> {
        LARGEST.set(0);
        let read = catch_unwind(AssertUnwindSafe(|| (self.read)(bytes))).map_err(|_| "it panics".to_owned())?;
        let (largest, bound) = (LARGEST.get(), ALLOCATION_MAX + ALLOCATION_FACTOR * bytes.len());
        if largest > bound { Err(format!("it takes {largest} bytes at once for {}", bytes.len())) } else { Ok(read) }
    }
}

fn crc(bytes: &[u8]) -> u32 {
    holdfast::data::blocks::crc32c(bytes)
}

fn corpus_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// Inputs that once failed, or are worth keeping.
pub fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths = crate::files::files_below(&corpus_dir(name));
    paths.sort();
    let read = |path: PathBuf| std::fs::read(&path).map(|bytes| (path, bytes));
    paths.into_iter().map(|path| read(path).expect("the corpus can be read")).collect()
}

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The allocator of a fuzzing test binary: knows the largest piece that a thread has asked for.
pub struct Watching;

// SAFETY: the system's allocator does it all; beside it a number of this thread is written, which allocates nothing.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn note(size: usize) {
    // At the end of a thread the number is gone.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}
