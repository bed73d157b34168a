//! The state machine under random logs: both stores give the same replies and the same state, a repetition gets the first answer and
//! changes nothing, a restart replays from the image, and what must hold of every state does.

mod core_generator;

use bytes::Bytes;
use core_generator::{FIRST_HOUR_INO, Generator};
use holdfast_proto::pb::mutation::Op;
use holdfast_proto::{Op as _, pb};
use metad::apply::{Applied, Outcome, Verdict, apply_entry, invariants};
use metad::query;
use metad::store::durable::{DurableOptions, DurableStore};
use metad::store::mem_store::MemStore;
use metad::store::{KvCommit, keys};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

const SEEDS: u64 = 200;
const DURABLE_SEEDS: u64 = 25;
const ENTRIES: u64 = 120;

fn apply(store: &impl KvCommit, log_index: u64, entry: &pb::LogEntry) -> Vec<Outcome> {
    let Applied { mut batch, outcomes } = store.view(|view| apply_entry(view, log_index, entry)).expect("applies");
    batch.0.insert(keys::raft_applied(), Some(Bytes::copy_from_slice(&log_index.to_be_bytes())));
    store.commit(log_index, batch).expect("commits");
    outcomes
}

fn apply_next(store: &impl KvCommit, generator: &mut Generator, log_index: u64) -> (pb::LogEntry, Vec<Outcome>) {
    let entry = generator.entry(log_index);
    let outcomes = apply(store, log_index, &entry);
    entry.mutations.iter().zip(&outcomes).for_each(|(mutation, outcome)| generator.learn(mutation, outcome));
    (entry, outcomes)
}

type Pairs = Vec<(Bytes, Bytes)>;

fn dump(store: &impl KvCommit) -> Pairs {
    let mut pairs = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    };
    store.view(|view| view.scan(&[], &[0xff; 4], &mut visit)).expect("scans");
    pairs
}

fn assert_sound(store: &impl KvCommit, seed: u64) {
    let problems = store.view(|view| invariants::check(view)).expect("reads");
    assert!(problems.is_empty(), "seed {seed}: {problems:#?}");
}

#[test]
fn every_state_is_sound_and_a_repetition_gets_the_first_answer() {
    let (mut replied_count, mut refused_count, mut shared_count, mut kept_count) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut generator = Generator::new(seed);
        let store = MemStore::default();
        let mut newest: BTreeMap<(u64, u32), (pb::Mutation, Verdict)> = BTreeMap::new();
        for log_index in 1..=ENTRIES {
            let (entry, outcomes) = apply_next(&store, &mut generator, log_index);
            for (mutation, outcome) in entry.mutations.iter().zip(&outcomes) {
                newest.retain(|(session, _), _| !outcome.effects.ended.contains(session));
                let slot = (mutation.session, mutation.slot);
                let ended = outcome.effects.ended.contains(&slot.0);
                replied_count += u64::from(matches!(outcome.verdict, Verdict::Reply(_)));
                refused_count += u64::from(matches!(outcome.verdict, Verdict::Refused(_)));
                if mutation.session != 0 && !ended && !matches!(outcome.verdict, Verdict::Failed(_)) {
                    newest.insert(slot, (mutation.clone(), outcome.verdict.clone()));
                }
            }
        }
        assert_sound(&store, seed);
        let (pairs, refs, kept) = (dump(&store), keys::all_slice_refs(1), keys::dentries(1, FIRST_HOUR_INO));
        shared_count += pairs.iter().filter(|(key, _)| key.starts_with(&refs)).count();
        kept_count += pairs.iter().filter(|(key, _)| key.starts_with(&kept)).count();
        for (n, (mutation, verdict)) in newest.into_values().enumerate() {
            let entry = pb::LogEntry { time: None, mutations: vec![mutation], tight: false };
            let applied = store.view(|view| apply_entry(view, ENTRIES + 1 + n as u64, &entry)).expect("applies");
            assert_eq!(applied.outcomes[0].verdict, verdict, "seed {seed}");
            assert!(applied.batch.0.is_empty(), "seed {seed}: a repetition wrote");
        }
    }
    // The logs mean something: neither answer is rare, slices are shared, and things are in the trash.
    assert!(
        replied_count > SEEDS * ENTRIES / 2 && refused_count > SEEDS * ENTRIES / 4,
        "{replied_count} {refused_count}"
    );
    assert!(shared_count > 20 && kept_count > 20, "{shared_count} {kept_count}");
}

fn reopen(dir: &Path, rng: &mut StdRng) -> DurableStore {
    let drain_writes = [8, 60, 300][rng.random_range(0..3)];
    let options = DurableOptions { drain_writes, cache_bytes: 1 << 20, stall_factor: 1, ..DurableOptions::default() };
    DurableStore::open(dir, options).expect("opens")
}

/// Replays the log from where the image is; the answers must be those of the first time.
fn replay(store: &DurableStore, log: &[(pb::LogEntry, Vec<Outcome>)], seed: u64) {
    let from = store.image_index();
    let applied = store.view(|view| view.get(&keys::raft_applied())).expect("reads");
    let stored = applied.map(|bytes| u64::from_be_bytes(bytes[..].try_into().expect("8 bytes")));
    assert_eq!(stored.unwrap_or(0), from, "seed {seed}: the image carries its index");
    for (at, (entry, outcomes)) in log.iter().enumerate().skip(from as usize) {
        assert_eq!(&apply(store, at as u64 + 1, entry), outcomes, "seed {seed}: replay of entry {}", at + 1);
    }
}

#[test]
fn both_stores_give_the_same_replies_and_state_across_restarts() {
    for seed in 1000..1000 + DURABLE_SEEDS {
        let temp = tempfile::tempdir().expect("makes");
        let dir = temp.path().join("image");
        let mut generator = Generator::new(seed);
        let mut restarts = StdRng::seed_from_u64(seed ^ 0x5eed);
        let memory = MemStore::default();
        let mut durable = reopen(&dir, &mut restarts);
        let mut log = Vec::new();
        for log_index in 1..=ENTRIES {
            let (entry, outcomes) = apply_next(&memory, &mut generator, log_index);
            assert_eq!(apply(&durable, log_index, &entry), outcomes, "seed {seed}, entry {log_index}");
            log.push((entry, outcomes));
            if restarts.random_bool(0.02) {
                drop(durable);
                durable = reopen(&dir, &mut restarts);
                replay(&durable, &log, seed);
            }
        }
        assert_eq!(dump(&durable), dump(&memory), "seed {seed}");
        assert_sound(&durable, seed);
        assert!(!temp.path().join("image.damaged-1").exists(), "seed {seed}");
    }
}

#[test]
fn all_orphans_end_once_all_sessions_have() {
    for seed in 0..20 {
        let mut generator = Generator::new(seed);
        let store = MemStore::default();
        for log_index in 1..=ENTRIES {
            apply_next(&store, &mut generator, log_index);
        }
        let send = |log_index, op: Op| {
            let mutations = vec![pb::Mutation { op: Some(op), ..Default::default() }];
            apply(&store, log_index, &pb::LogEntry { time: None, mutations, tight: false });
        };
        let sessions = store.view(|view| query::sessions(view)).expect("reads");
        let ids = sessions.iter().map(|session| session.info.session).collect();
        send(ENTRIES + 1, pb::ExpireSessionsOp { sessions: ids }.into_wire());
        let inos = store.view(|view| query::reclaimable(view, 1, 1000)).expect("reads");
        send(ENTRIES + 2, pb::ReclaimOp { volume: 1, inos }.into_wire());
        let left = store.view(|view| query::reclaimable(view, 1, 1000)).expect("reads");
        assert!(left.is_empty(), "seed {seed}: {left:?}");
        assert_sound(&store, seed);
    }
}
