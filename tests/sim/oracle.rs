//! The judge of what clients saw: the committed log is replayed on a state in memory, and each answer must be the one that this replay
//! gives. So what was acknowledged is there, once, and in an order that agrees with real time.

use crate::client::{Answer, Answered, History, Key, Mutated, ReadBack};
use bytes::Bytes;
use holdfast_proto::pb;
use metad::apply::{Verdict, apply_entry};
use metad::query;
use metad::store::mem_store::MemStore;
use metad::store::{KvCommit, StoreError};
use prost::Message;
use std::collections::BTreeMap;

pub fn answer_of(verdict: &Verdict) -> Option<Answer> {
    match verdict {
        Verdict::Reply(reply) => Some(Answer::Reply(reply.clone())),
        Verdict::Refused(errno) => Some(Answer::Errno(errno.number())),
        Verdict::Failed(_) => None,
    }
}

/// What the log did with one (session, slot, seq), when it came first.
struct Done {
    index: u64,
    answer: Option<Answer>,
}

struct Replay<'a> {
    store: MemStore,
    done: BTreeMap<Key, Done>,
    reads: Vec<&'a ReadBack>,
    wrong: Vec<String>,
}

/// `log`: the committed commands by index. Returns what is wrong, and the state at the end.
pub fn judge(history: &History, log: &BTreeMap<u64, Bytes>) -> Result<(Vec<String>, MemStore), StoreError> {
    let mut reads: Vec<&ReadBack> = history.reads.iter().collect();
    reads.sort_by_key(|read| std::cmp::Reverse(read.answered.index));
    let mut replay = Replay { store: MemStore::default(), done: BTreeMap::new(), reads, wrong: history.wrong.clone() };
    for (index, command) in log {
        replay.read_before(*index)?;
        replay.entry(*index, command)?;
    }
    replay.read_before(u64::MAX)?;
    for mutated in &history.mutated {
        replay.check(mutated);
    }
    let Replay { store, mut wrong, .. } = replay;
    wrong.extend(real_time(history));
    Ok((wrong, store))
}

impl Replay<'_> {
    fn entry(&mut self, index: u64, command: &Bytes) -> Result<(), StoreError> {
        let Ok(entry) = pb::LogEntry::decode(command.clone()) else {
            self.wrong.push(format!("log entry {index} does not decode"));
            return Ok(());
        };
        let applied = self.store.view(|view| apply_entry(view, index, &entry))?;
        for (mutation, outcome) in entry.mutations.iter().zip(&applied.outcomes) {
            let (key, answer) = ((mutation.session, mutation.slot, mutation.seq), answer_of(&outcome.verdict));
            if mutation.session != 0 && answer.is_some() {
                self.done.entry(key).or_insert(Done { index, answer });
            }
        }
        self.store.commit(index, applied.batch)
    }

    /// The reads that were answered from a state before that entry.
    fn read_before(&mut self, index: u64) -> Result<(), StoreError> {
        while self.reads.last().is_some_and(|read| read.answered.index < index) {
            let Some(read) = self.reads.pop() else { break };
            let verdict = self.store.view(|view| query::answer(view, &read.query))?;
            if answer_of(&verdict).as_ref() != Some(&read.answered.answer) {
                self.wrong.push(format!(
                    "client {} read at {}: {:?}, not {verdict:?}",
                    read.client, read.answered.index, read.answered.answer
                ));
            }
        }
        Ok(())
    }

    /// Exactly once, and as acknowledged (Raft, section 8; RFC 8881, section 2.10.6).
    fn check(&mut self, Mutated { meant, keys, answered }: &Mutated) {
        let done: Vec<&Done> = keys.iter().filter_map(|key| self.done.get(key)).collect();
        if done.len() > 1 {
            self.wrong.push(format!("operation {meant:?} took effect {} times", done.len()));
        }
        let Some(Answered { index, answer, .. }) = answered else { return };
        match done.last() {
            None => self.wrong.push(format!("operation {meant:?} was acknowledged at {index}, and is not in the log")),
            Some(done) if done.answer.as_ref() != Some(answer) => {
                self.wrong
                    .push(format!("operation {meant:?}: acknowledged {answer:?}, the log says {:?}", done.answer));
            }
            Some(done) if done.index > *index => {
                self.wrong.push(format!("operation {meant:?}: acknowledged at {index}, done at {}", done.index));
            }
            Some(_) => {}
        }
    }
}

/// What was asked after something had been answered must see it: its index is not smaller (linearizability, Raft section 8).
fn real_time(history: &History) -> Vec<String> {
    let mut acknowledged: Vec<(u64, u64)> =
        history.mutated.iter().filter_map(|m| m.answered.as_ref().map(|a| (a.at, a.index))).collect();
    acknowledged.extend(history.reads.iter().map(|read| (read.answered.at, read.answered.index)));
    acknowledged.sort_unstable();
    let mut newest = 0;
    for (_, index) in &mut acknowledged {
        newest = newest.max(*index);
        *index = newest;
    }
    let known_before = |at: u64| {
        let count = acknowledged.partition_point(|(answered, _)| *answered < at);
        count.checked_sub(1).map_or(0, |last| acknowledged[last].1)
    };
    let stale = history.reads.iter().filter(|read| read.answered.index < known_before(read.asked));
    stale
        .map(|read| {
            let known = known_before(read.asked);
            format!(
                "client {} asked at {} and read the state of {}, after {known} had been seen",
                read.client, read.asked, read.answered.index
            )
        })
        .collect()
}
