//! Requests of any kind against the state machine: refused or done, and what must hold of every state holds afterwards. And states that
//! are damaged: problems and errors are found, and nobody panics.

use crate::hostile;
use bytes::Bytes;
use holdfast_proto::pb;
use holdfast_proto::pb::mutation::Op;
use holdfast_tests::fuzz;
use metad::apply::{self, Verdict, invariants};
use metad::query;
use metad::store::StoreError;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

const OPS: u64 = 150;
const ROUNDS: u32 = 200;

struct State {
    pairs: BTreeMap<Bytes, Bytes>,
    log_index: u64,
    sessions: Vec<u64>,
    /// The next of each session.
    seqs: BTreeMap<u64, u64>,
}

impl State {
    /// A volume that two clients use.
    fn new(random: &mut StdRng) -> State {
        let mut state = State { pairs: BTreeMap::new(), log_index: 0, sessions: Vec::new(), seqs: BTreeMap::new() };
        let settings = pb::VolumeSettings {
            name: "vol".into(),
            uuid: Bytes::from_static(&[7; 16]),
            storage: Some(pb::Storage::default()),
            block_size: 64 << 10,
            trash_days: random.random_range(0..2),
            ..Default::default()
        };
        let format = Op::FormatVolume(pb::FormatVolumeOp { settings: Some(settings) });
        state.send(0, pb::Creds::default(), format).expect("a sound state");
        for number in 0..2_u8 {
            let uuid = Bytes::from(vec![number; 16]);
            let open = pb::OpenSessionOp { uuid, volume: "vol".into(), ..Default::default() };
            let opened = state.send(0, pb::Creds::default(), Op::OpenSession(open)).expect("a sound state");
            let Verdict::Reply(reply) = opened else { panic!("no session: {opened:?}") };
            state.sessions.push(pb::OpenSessionReply::decode(reply).expect("a reply").session);
        }
        state
    }

    fn send(&mut self, session: u64, creds: pb::Creds, op: Op) -> Result<Verdict, StoreError> {
        self.log_index += 1;
        let seq = self.seqs.entry(session).or_default();
        *seq += 1;
        let mutation = pb::Mutation { session, slot: 0, seq: *seq, creds: Some(creds), op: Some(op) };
        let time = Some(pb::TimeSpec { sec: 1_000 + self.log_index as i64 * 1000, nsec: 0 });
        let entry = pb::LogEntry { time, mutations: vec![mutation], tight: false };
        let mut applied = apply::apply_entry(&self.pairs, self.log_index, &entry)?;
        for (key, value) in applied.batch.0 {
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
        Ok(applied.outcomes.pop().expect("one outcome").verdict)
    }

    /// Whatever a client may think of, or a leader.
    fn anything(&mut self, random: &mut StdRng) -> Result<Option<(Op, Verdict)>, StoreError> {
        let session = self.sessions[random.random_range(0..self.sessions.len())];
        if random.random_range(0..3) == 0 {
            let (creds, ask) = (Some(hostile::creds(random)), Some(hostile::ask(random)));
            return query::answer(&self.pairs, &pb::Query { session, creds, ask }).map(|_| None);
        }
        let op = hostile::op(random, session);
        let alone = matches!(
            op,
            Op::Reclaim(_) | Op::EmptyTrash(_) | Op::ExpireSessions(_) | Op::OpenSession(_) | Op::FormatVolume(_)
        ) || matches!(op, Op::ConfigVolume(_) | Op::AddNode(_) | Op::JoinNode(_));
        let verdict = self.send(if alone { 0 } else { session }, hostile::creds(random), op.clone())?;
        Ok(Some((op, verdict)))
    }
}

#[test]
fn no_request_panics_or_leaves_a_state_that_is_not_sound() {
    let mut done = 0;
    for round in 0..u64::from(fuzz::rounds(ROUNDS)) {
        let seed = fuzz::seed() << 32 | round;
        let random = &mut StdRng::seed_from_u64(seed);
        let mut state = State::new(random);
        for number in 0..OPS {
            let sent = state.anything(random).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let Some((op, Verdict::Reply(_))) = sent else { continue };
            done += 1;
            if number % 8 == 0 || OPS - number < 4 {
                let problems = invariants::check(&state.pairs).expect("a sound state");
                assert!(problems.is_empty(), "seed {seed}, {number} after {op:?}: {problems:?}");
            }
        }
        let problems = invariants::check(&state.pairs).expect("a sound state");
        assert!(problems.is_empty(), "seed {seed}: {problems:?}");
    }
    assert!(done > fuzz::rounds(ROUNDS) * OPS as u32 / 20, "only {done} requests were done: they are too strange");
}

/// Damages one record, or loses it, or puts it elsewhere.
fn damage(pairs: &mut BTreeMap<Bytes, Bytes>, random: &mut StdRng) {
    let at = random.random_range(0..pairs.len());
    let (key, value) = pairs.iter().nth(at).map(|(key, value)| (key.to_vec(), value.to_vec())).expect("it is there");
    let edited = |mut bytes: Vec<u8>, random: &mut StdRng| {
        match random.random_range(0..4) {
            0 => bytes.truncate(random.random_range(0..=bytes.len())),
            1 => bytes.push(random.random()),
            _ if bytes.is_empty() => {}
            2 => {
                let (at, len) = (random.random_range(0..bytes.len()), random.random_range(1..9));
                let fill = if random.random() { 0xff } else { 0 };
                bytes.iter_mut().skip(at).take(len).for_each(|byte| *byte = fill);
            }
            _ => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
        Bytes::from(bytes)
    };
    match random.random_range(0..6) {
        0 => drop(pairs.remove(&key[..])),
        1 => {
            pairs.remove(&key[..]);
            pairs.insert(edited(key, random), value.into());
        }
        _ => drop(pairs.insert(key.into(), edited(value, random))),
    }
}

#[test]
fn no_damage_of_the_state_makes_anybody_panic() {
    let mut noticed = 0;
    for round in 0..u64::from(fuzz::rounds(3 * ROUNDS)) {
        let seed = fuzz::seed() << 32 | round;
        let random = &mut StdRng::seed_from_u64(seed);
        let mut state = State::new(random);
        (0..40).for_each(|_| drop(state.anything(random).expect("a sound state")));
        for _ in 0..random.random_range(1..3) {
            damage(&mut state.pairs, random);
        }
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let reply = query::verify::verify(&state.pairs);
            // A node stops at the first error of its storage.
            for _ in 0..40 {
                if state.anything(random).is_err() {
                    break;
                }
            }
            !reply.problems.is_empty()
        }));
        noticed += u32::from(run.unwrap_or_else(|_| panic!("seed {seed} panics")));
    }
    assert!(noticed > fuzz::rounds(3 * ROUNDS) / 3, "only {noticed} damages were noticed");
}
