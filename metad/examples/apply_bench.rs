//! Prints how many operations a second the state machine applies on each store: `cargo run --release --example apply_bench [count]`.
//! One mutation an entry is the worst case; 64 an entry is what a busy leader makes.

use bytes::Bytes;
use holdfast_proto::{Op as _, ROOT_INO, pb};
use metad::apply::{Verdict, apply_entry};
use metad::query;
use metad::store::KvCommit;
use metad::store::durable::{DurableOptions, DurableStore};
use metad::store::mem_store::MemStore;
use std::error::Error;
use std::time::Instant;

const DIRS: u64 = 100;
const SLOTS: u64 = 256;

struct Load<'a, S> {
    store: &'a S,
    log_index: u64,
    sent: u64,
}

impl<S: KvCommit> Load<'_, S> {
    fn apply(&mut self, mutations: Vec<pb::Mutation>) -> Result<Vec<Verdict>, Box<dyn Error>> {
        self.log_index += 1;
        let time = Some(pb::TimeSpec { sec: 1_000 + self.log_index as i64, nsec: 0 });
        let entry = pb::LogEntry { time, mutations, tight: false };
        let applied = self.store.view(|view| apply_entry(view, self.log_index, &entry))?;
        self.store.commit(self.log_index, applied.batch)?;
        Ok(applied.outcomes.into_iter().map(|outcome| outcome.verdict).collect())
    }

    fn mutation(&mut self, op: pb::mutation::Op) -> pb::Mutation {
        let (slot, seq) = ((self.sent % SLOTS) as u32, self.sent / SLOTS + 1);
        self.sent += 1;
        pb::Mutation { session: 1, slot, seq, creds: Some(pb::Creds::default()), op: Some(op) }
    }

    fn prepare(&mut self) -> Result<(), Box<dyn Error>> {
        let settings = pb::VolumeSettings {
            name: "bench".into(),
            uuid: Bytes::from_static(&[1; 16]),
            storage: Some(pb::Storage::default()),
            block_size: 4 << 20,
            ..Default::default()
        };
        let format = pb::FormatVolumeOp { settings: Some(settings) }.into_wire();
        let open =
            pb::OpenSessionOp { uuid: Bytes::from_static(&[2; 16]), volume: "bench".into(), ..Default::default() };
        for op in [format, open.into_wire()] {
            self.apply(vec![pb::Mutation { op: Some(op), ..Default::default() }])?;
        }
        for n in 0..DIRS {
            let op = pb::MkdirOp { parent: ROOT_INO, name: Bytes::from(format!("dir{n}")), mode: 0o755, umask: 0 };
            let mutation = self.mutation(op.into_wire());
            self.apply(vec![mutation])?;
        }
        Ok(())
    }

    /// Directories are inodes 2 to DIRS + 1; files follow in the order of their numbers.
    fn run(
        &mut self,
        what: &str,
        count: u64,
        per_entry: u64,
        op: impl Fn(u64) -> pb::mutation::Op,
    ) -> Result<(), Box<dyn Error>> {
        let started = Started::now();
        let mut n = 0;
        while n < count {
            let mutations = (n..count.min(n + per_entry)).map(&op).collect::<Vec<_>>();
            let mutations = mutations.into_iter().map(|op| self.mutation(op)).collect::<Vec<_>>();
            let verdicts = self.apply(mutations)?;
            if let Some(bad) = verdicts.iter().find(|verdict| !matches!(verdict, Verdict::Reply(_))) {
                return Err(format!("{what}: {bad:?}").into());
            }
            n += per_entry;
        }
        report(what, count, started);
        Ok(())
    }

    fn ask(&self, what: &str, count: u64, ask: impl Fn(u64) -> pb::query::Ask) -> Result<(), Box<dyn Error>> {
        let started = Started::now();
        for n in 0..count {
            let query = pb::Query { session: 1, creds: None, ask: Some(ask(n)) };
            if !matches!(self.store.view(|view| query::answer(view, &query))?, Verdict::Reply(_)) {
                return Err(what.into());
            }
        }
        report(what, count, started);
        Ok(())
    }
}

/// Real time, and time on a CPU: on a busy machine only the second says much.
struct Started {
    at: Instant,
    cpu_ns: u64,
}

impl Started {
    fn now() -> Started {
        Started { at: Instant::now(), cpu_ns: cpu_ns() }
    }
}

/// What this thread has run so far, by the kernel's account; 0 where it keeps none.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn report(what: &str, count: u64, started: Started) {
    let seconds = started.at.elapsed().as_secs_f64();
    let cpu_us = (cpu_ns() - started.cpu_ns) as f64 / 1e3 / count as f64;
    println!(
        "  {what:<32} {:>9.0} /s {:>9.2} us {cpu_us:>9.2} us of CPU",
        count as f64 / seconds,
        seconds * 1e6 / count as f64
    );
}

fn bench(name: &str, store: &impl KvCommit, count: u64) -> Result<(), Box<dyn Error>> {
    println!("{name}, {count} files in {DIRS} directories:");
    let mut load = Load { store, log_index: 0, sent: 0 };
    load.prepare()?;
    let half = count / 2;
    let file = |n: u64| (2 + n % DIRS, Bytes::from(format!("file-{n}")));
    let create = |n: u64| {
        let (parent, name) = file(n);
        pb::CreateOp { parent, name, mode: 0o644, exclusive: true, umask: 0 }.into_wire()
    };
    let ino = |n: u64| 2 + DIRS + n;
    load.run("create, 1 an entry", half, 1, create)?;
    load.run("create, 64 an entry", half, 64, |n| create(n + half))?;
    load.run("commit_write, 64 an entry", half, 64, |n| {
        let slice = pb::Slice {
            len: 4096,
            slice_id: 1 << 32 | (n + 1),
            slice_len: 4096,
            block_crc32c: vec![7],
            ..Default::default()
        };
        pb::CommitWriteOp { ino: ino(n), slices: vec![slice], kill_priv: false }.into_wire()
    })?;
    load.ask("lookup", half, |n| {
        let (parent, name) = file(n * 7919 % count);
        pb::query::Ask::Lookup(pb::LookupQuery { parent, name })
    })?;
    load.ask("getattr", half, |n| pb::query::Ask::Getattr(pb::GetattrQuery { ino: ino(n * 7919 % count) }))?;
    load.ask("read_slices", half, |n| {
        pb::query::Ask::ReadSlices(pb::ReadSlicesQuery { ino: ino(n * 7919 % half), first_chunk: 0, chunk_count: 1 })
    })?;
    load.ask("readdir of 1 MiB with attributes", DIRS, |n| {
        pb::query::Ask::Readdir(pb::ReaddirQuery { ino: 2 + n, after: 0, bytes_max: 1 << 20, with_attrs: true })
    })?;
    load.run("unlink, 64 an entry", half, 64, |n| {
        let (parent, name) = file(n);
        pb::UnlinkOp { parent, name }.into_wire()
    })?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map(|text| text.parse()).transpose()?.unwrap_or(400_000);
    bench("MemStore", &MemStore::default(), count)?;
    let dir = tempfile::tempdir()?;
    let store = DurableStore::open(&dir.path().join("image"), DurableOptions::default())?;
    bench("DurableStore", &store, count)?;
    let started = Instant::now();
    store.drain_now()?;
    println!("  last drain took {:.2} s", started.elapsed().as_secs_f64());
    bench_drained(&store, count)
}

/// The same reads with nothing in memory.
fn bench_drained(store: &DurableStore, count: u64) -> Result<(), Box<dyn Error>> {
    println!("DurableStore, all drained:");
    let load = Load { store, log_index: 0, sent: 0 };
    let half = count / 2;
    load.ask("getattr", half, |n| {
        pb::query::Ask::Getattr(pb::GetattrQuery { ino: 2 + DIRS + half + n * 7919 % half })
    })?;
    load.ask("read_slices", half, |n| {
        let ino = 2 + DIRS + half + n * 7919 % half;
        pb::query::Ask::ReadSlices(pb::ReadSlicesQuery { ino, first_chunk: 0, chunk_count: 1 })
    })?;
    load.ask("readdir of 1 MiB with attributes", DIRS, |n| {
        pb::query::Ask::Readdir(pb::ReaddirQuery { ino: 2 + n, after: 0, bytes_max: 1 << 20, with_attrs: true })
    })
}
