//! The data path against a plain array of bytes: random writes, truncations, reads, flushes and reopens, with and without a store that
//! fails. Every seed is its own case and is named when it fails.

use super::memory_meta::MemoryMeta;
use super::{Data, DataConfig, OpenFile, Tuning};
use crate::object::fault::FaultStore;
use crate::object::{LocalStore, ObjectStore};
use holdfast_proto::limits::{BLOCK_BYTES_MIN, CHUNK_BYTES};
use holdfast_proto::pb;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

const INO: u64 = 7;
/// Writes go near the start and around the first chunk border.
const NEAR: u64 = 300 << 10;
const BORDER: u64 = CHUNK_BYTES as u64;
const BEFORE_BORDER: u64 = BORDER - (128 << 10);
/// Length of either window that the model keeps; between them is nothing but zeros.
const WINDOW: usize = 1 << 20;

pub struct Fixture {
    pub meta: Arc<MemoryMeta>,
    pub fault: Arc<FaultStore>,
    pub data: Arc<Data<MemoryMeta>>,
    _dir: tempfile::TempDir,
}

pub fn small() -> DataConfig {
    DataConfig { block_bytes: BLOCK_BYTES_MIN, buffer_bytes_max: 1 << 20, cache_bytes_max: 1 << 20, uploads_max: 4 }
}

/// A volume in memory over a store in a temporary directory.
pub async fn fixture(config: DataConfig, tuning: Tuning) -> Fixture {
    let dir = tempfile::tempdir().expect("tempdir");
    let local = LocalStore::new(dir.path().to_path_buf(), false);
    local.prepare().await.expect("prepare");
    let meta = Arc::new(MemoryMeta::new());
    let fault = Arc::new(FaultStore::new(Arc::new(local)));
    let data = Data::with_tuning(meta.clone(), fault.clone(), config, tuning);
    Fixture { meta, fault, data, _dir: dir }
}

pub async fn read_all(fixture: &Fixture, file: &OpenFile, offset: u64, len: u32) -> Vec<u8> {
    fixture.data.read(file, offset, len).await.expect("read").concat()
}

/// A file as an array of bytes, of which only two windows can be other than zero.
struct Model {
    size: u64,
    near: Vec<u8>,
    border: Vec<u8>,
}

impl Model {
    fn window(&mut self, offset: u64) -> (&mut Vec<u8>, u64) {
        if offset < BEFORE_BORDER { (&mut self.near, 0) } else { (&mut self.border, BEFORE_BORDER) }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.size = self.size.max(offset + bytes.len() as u64);
        let (window, start) = self.window(offset);
        let at = (offset - start) as usize;
        window[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn read(&mut self, offset: u64, len: usize) -> Vec<u8> {
        let len = (offset + len as u64).min(self.size).saturating_sub(offset) as usize;
        let (window, start) = self.window(offset);
        let at = (offset - start) as usize;
        window[at..at + len].to_vec()
    }

    fn truncate(&mut self, size: u64) {
        self.size = size;
        for (window, start) in [(&mut self.near, 0), (&mut self.border, BEFORE_BORDER)] {
            let keep = size.saturating_sub(start).min(WINDOW as u64) as usize;
            window[keep..].fill(0);
        }
    }
}

struct Case {
    seed: u64,
    rng: StdRng,
    model: Model,
    file: Arc<OpenFile>,
    faulty: bool,
}

impl Case {
    fn place(&mut self) -> (u64, usize) {
        let len = match self.rng.random_range(0..4) {
            0 => self.rng.random_range(1..100),
            1 => 4096,
            2 => self.rng.random_range(1..30_000),
            _ => self.rng.random_range(1..200_000),
        };
        let offset = match self.rng.random_range(0..5) {
            0 => BORDER - self.rng.random_range(0..BORDER - BEFORE_BORDER),
            1 if self.model.size <= NEAR || self.model.size >= BEFORE_BORDER => self.model.size,
            2 => self.rng.random_range(0..NEAR / 4096) * 4096,
            _ => self.rng.random_range(0..NEAR),
        };
        (offset.min(BORDER + NEAR), len)
    }

    async fn step(&mut self, fixture: &Fixture) {
        match self.rng.random_range(0..100) {
            0..55 => self.write(fixture).await,
            55..85 => self.read(fixture).await,
            85..92 => self.flush(fixture).await,
            92..96 => self.truncate(fixture).await,
            _ => self.reopen(fixture).await,
        }
        assert_eq!(
            fixture.data.dirty_size(INO).unwrap_or_else(|| fixture.meta.attr(INO).expect("attr").size),
            self.model.size,
            "size, seed {}",
            self.seed
        );
    }

    async fn write(&mut self, fixture: &Fixture) {
        let (offset, len) = self.place();
        let mut bytes = vec![0; len];
        self.rng.fill_bytes(&mut bytes);
        self.model.write(offset, &bytes);
        // With a store that fails a write may be refused after it was taken, for too many slices: the data stays.
        let result = fixture.data.write(&self.file, offset, bytes.into()).await;
        assert!(self.faulty || result.is_ok(), "write: {result:?}, seed {}", self.seed);
        assert!(fixture.data.buffered_bytes() <= 1 << 20, "memory bound");
    }

    async fn read(&mut self, fixture: &Fixture) {
        let (offset, len) = self.place();
        let got = loop {
            match fixture.data.read(&self.file, offset, len as u32).await {
                Ok(pieces) => break pieces.concat(),
                Err(error) => assert!(self.faulty, "read: {error}, seed {}", self.seed),
            }
        };
        assert!(got == self.model.read(offset, len), "read of {len} at {offset} differs, seed {}", self.seed);
    }

    async fn flush(&mut self, fixture: &Fixture) {
        while let Err(error) = fixture.data.flush(&self.file).await {
            assert!(self.faulty, "flush: {error}, seed {}", self.seed);
        }
        assert_eq!(fixture.data.dirty_size(INO), None);
    }

    /// As vfs does it.
    async fn truncate(&mut self, fixture: &Fixture) {
        self.flush(fixture).await;
        let (size, _) = self.place();
        self.model.truncate(size);
        let attr = fixture.meta.truncate(INO, size).expect("file");
        fixture.data.observe(&attr);
    }

    async fn reopen(&mut self, fixture: &Fixture) {
        self.flush(fixture).await;
        let file = fixture.data.open(&fixture.meta.attr(INO).expect("attr"));
        let old = std::mem::replace(&mut self.file, file);
        fixture.data.release(old).await;
    }
}

async fn run(seed: u64, steps: u32, faulty: bool) {
    let tuning = Tuning { slices_max: 40, memory_wait_max: Duration::from_secs(600), ..Tuning::default() };
    let fixture = fixture(small(), tuning).await;
    if faulty {
        fixture.fault.set(|faults| {
            faults.put_fail_percent = 10;
            faults.get_fail_percent = 5;
        });
    }
    let file = fixture.data.open(&fixture.meta.create(INO));
    let model = Model { size: 0, near: vec![0; WINDOW], border: vec![0; WINDOW] };
    let mut case = Case { seed, rng: StdRng::seed_from_u64(seed), model, file, faulty };
    for _ in 0..steps {
        case.step(&fixture).await;
    }
    case.flush(&fixture).await;
    fixture.fault.set(|faults| *faults = Default::default());

    // What another mount, with nothing cached, makes of it.
    let other = Data::new(fixture.meta.clone(), fixture.fault.clone(), small());
    let file = other.open(&fixture.meta.attr(INO).expect("attr"));
    for from in [0, BEFORE_BORDER] {
        let got = other.read(&file, from, WINDOW as u32).await.expect("read").concat();
        assert!(got == case.model.read(from, WINDOW), "{from} on differs on another mount, seed {seed}");
    }
    assert_eq!(fixture.data.buffered_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_work_reads_as_an_array_of_bytes_would() {
    for seed in 0..30 {
        run(seed, 120, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_now_and_then_changes_nothing_but_the_answers() {
    for seed in 1000..1020 {
        run(seed, 120, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_readers_of_one_file_at_once_see_whole_writes() {
    const STRIDE: u64 = 100_000;
    let fixture = Arc::new(fixture(small(), Tuning { slices_max: 32, ..Tuning::default() }).await);
    let attr: pb::Attr = fixture.meta.create(INO);
    let mut tasks = Vec::new();
    for n in 0..6_u64 {
        let fixture = fixture.clone();
        let file = fixture.data.open(&attr);
        tasks.push(tokio::spawn(async move {
            for round in 0..60_u64 {
                let fill = vec![(n * 60 + round) as u8; 9_000];
                let offset = n * STRIDE + round % 7 * 9_000;
                fixture.data.write(&file, offset, fill.clone().into()).await.expect("write");
                assert!(read_all(&fixture, &file, offset, 9_000).await == fill, "writer {n}, round {round}");
                if round % 10 == n {
                    fixture.data.flush(&file).await.expect("flush");
                }
            }
            fixture.data.flush(&file).await.expect("flush");
            fixture.data.release(file).await;
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!(!fixture.data.is_open(INO));
    assert_eq!(fixture.data.buffered_bytes(), 0);
}
