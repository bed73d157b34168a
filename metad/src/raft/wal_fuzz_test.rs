//! Fuzzing of what a start reads of the log: its files and its mark, with bits flipped, parts lost, doubled and put elsewhere. Logs that once
//! failed are in tests/fuzz/corpus/wal. `HOLDFAST_FUZZ` and `HOLDFAST_FUZZ_SEED` as in tests/src/fuzz.rs.

use super::*;
use crate::raft::types::{Command, LeaderId, Payload};
use openraft::storage::RaftLogStorageExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fs;

const CASES: u64 = 150;

/// A log as it was written: its file, its mark, and what is in it.
struct Written {
    wal: Vec<u8>,
    mark: Vec<u8>,
    entries: Vec<Entry>,
    votes: Vec<Option<Vote>>,
    /// Entries that are marked.
    marked: usize,
}

fn only_file(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).expect("lists").flatten().map(|entry| entry.path());
    files.max_by_key(|path| path.metadata().map_or(0, |meta| meta.len())).expect("a WAL file")
}

async fn write(random: &mut StdRng) -> Written {
    let dir = tempfile::tempdir().expect("temp dir");
    let (wal, mark) = (dir.path().join("wal"), dir.path().join("wal.mark"));
    let mut store = LogStore::open(&wal, LogStoreOptions::default(), Fatal::default()).expect("a new log");
    let (mut entries, mut votes, mut marked) = (Vec::new(), vec![None], 0);
    for term in 1..random.random_range(3..6_u64) {
        let vote = Vote { leader_id: LeaderId { term, node_id: 1 }, committed: random.random() };
        store.save_vote(&vote).await.expect("saves");
        votes.push(Some(vote));
        let new = (0..random.random_range(1..12)).map(|n| {
            let body: Vec<u8> = (0..random.random_range(0..60)).map(|_| random.random()).collect();
            let log_id = LogId { leader_id: vote.leader_id, index: entries.len() as u64 + n };
            Entry { log_id, payload: Payload::Normal(Command(body.into())) }
        });
        let new: Vec<Entry> = new.collect();
        store.blocking_append(new.clone()).await.expect("appends");
        entries.extend(new);
        if random.random() {
            store.write_mark().expect("marks");
            marked = entries.len();
        }
    }
    let wal = fs::read(only_file(&wal)).expect("reads");
    Written { wal, mark: fs::read(mark).expect("reads"), entries, votes, marked }
}

fn damage(bytes: &mut Vec<u8>, random: &mut StdRng) {
    let at = random.random_range(0..=bytes.len());
    let len = random.random_range(1..80).min(bytes.len() - at);
    match random.random_range(0..6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..at + len)),
        2 => {
            let (part, to) = (bytes[at..at + len].to_vec(), random.random_range(0..=bytes.len()));
            bytes.splice(to..to, part);
        }
        3 => bytes[at..at + len].fill(if random.random() { 0xff } else { 0 }),
        4 => bytes.extend((0..len).map(|_| random.random::<u8>())),
        _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
    }
}

/// The log of these files.
fn start(wal: &[u8], mark: &[u8]) -> Result<(LogStore, tempfile::TempDir), LogStoreError> {
    let dir = tempfile::tempdir().expect("temp dir");
    fs::create_dir(dir.path().join("wal")).expect("makes");
    fs::write(dir.path().join("wal/r-00_000_000_000_000_000_000.wal"), wal).expect("writes");
    fs::write(dir.path().join("wal.mark"), mark).expect("writes");
    LogStore::open(&dir.path().join("wal"), LogStoreOptions::default(), Fatal::default()).map(|store| (store, dir))
}

fn setting(name: &str) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[tokio::test]
async fn whatever_happens_to_a_log_it_is_refused_or_what_is_read_was_written() {
    let (seed, mut refused, mut taken) = (setting("HOLDFAST_FUZZ_SEED"), 0, 0);
    for case in 0..CASES * setting("HOLDFAST_FUZZ") {
        // Shown where the test fails.
        println!("seed {seed}, case {case}");
        let random = &mut StdRng::seed_from_u64(seed << 32 | case);
        let written = write(random).await;
        let (mut wal, mut mark) = (written.wal.clone(), written.mark.clone());
        (0..random.random_range(0..3)).for_each(|_| damage(&mut wal, random));
        let mark_is_whole = random.random_range(0..4) > 0;
        if !mark_is_whole {
            damage(&mut mark, random);
        }
        match start(&wal, &mark) {
            Err(error) => {
                refused += 1;
                assert!(wal != written.wal || !mark_is_whole, "a whole log is refused: {error}");
                assert!(!error.to_string().is_empty());
            }
            Ok((store, _dir)) => {
                taken += 1;
                let entries = store.entries(0..u64::MAX).expect("it was opened");
                assert!(entries.len() <= written.entries.len() && entries == written.entries[..entries.len()]);
                assert!(written.votes.contains(&store.vote()), "{:?}", store.vote());
                assert!(!mark_is_whole || entries.len() >= written.marked, "what was marked is missing unnoticed");
                assert!(wal != written.wal || entries.len() == written.entries.len());
            }
        }
    }
    assert!(refused > 10 && taken > 10, "{refused} refused, {taken} taken");
}

#[test]
fn logs_of_the_corpus_are_refused_or_read() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/wal");
    for file in fs::read_dir(corpus).expect("the corpus").flatten() {
        let bytes = fs::read(file.path()).expect("reads");
        match start(&bytes, &[]) {
            Ok((store, _dir)) => drop(store.entries(0..u64::MAX)),
            Err(error) => assert!(!error.to_string().is_empty(), "{}", file.path().display()),
        }
    }
}
