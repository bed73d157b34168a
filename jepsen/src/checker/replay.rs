//! Replay: the long run in the order of the replicated log. A reply says at which index it was applied or read, so most of the order is
//! known and checking takes linear time. Called by `suite`.
//!
//! What an index says: all mutations of one log entry share it, in an order that replies do not tell. A read saw everything through its
//! index. A mutation that was sent again after a lost reply carries the index of its repetition, although it took effect at the first:
//! only when nothing else explains the history, indices of mutations are taken as "at this or before".

use super::linearizable::{calls, explain, partitions};
use super::search::{Found, Interval, search};
use super::{Checker, Findings, Verdict, judge};
use crate::history::{Ending, History, Operation};
use crate::model::Model;
use std::collections::BTreeMap;

pub struct Replay<M> {
    pub name: &'static str,
    pub model: M,
    /// The field that says which partition an operation belongs to.
    pub partition: &'static str,
    /// Names of operations that change nothing.
    pub reads: &'static [&'static str],
    /// For each partition.
    pub steps_max: u64,
}

/// Room on the axis between two indices: a mutation, what comes between, a read, what comes between.
const ROOM: u64 = 8;

impl<M: Model + Send + Sync> Checker for Replay<M> {
    fn name(&self) -> &str {
        self.name
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name, history, |operations, findings| {
            let indexed = operations.iter().filter(|op| op.log_index.is_some()).count();
            if indexed == 0 {
                findings.unknown("no reply carries a log index");
            }
            self.check_order(operations, findings);
            let (exact, retried) = (self.places(operations, false), self.places(operations, true));
            for (partition, operations) in partitions(operations, self.partition) {
                operations.iter().for_each(|operation| findings.look_at(operation));
                let name = format!("{} {partition}", self.partition);
                self.check_one(&name, &operations, [&exact, &retried], findings);
            }
            findings.note(format!("{indexed} of {} replies carry a log index", operations.len()));
        })
    }
}

type Places = BTreeMap<u64, Interval>;

impl<M: Model> Replay<M> {
    fn is_read(&self, operation: &Operation) -> bool {
        self.reads.contains(&operation.f.as_str())
    }

    /// One that began after another was over must not have been earlier in the log.
    fn check_order(&self, operations: &[Operation], findings: &mut Findings) {
        let mut by_end: Vec<_> = operations.iter().filter(|op| op.log_index.is_some() && op.end != u64::MAX).collect();
        by_end.sort_by_key(|op| op.end);
        let mut over = by_end.iter().peekable();
        let mut last: Option<&Operation> = None;
        for operation in operations.iter().filter(|op| op.log_index.is_some()) {
            while let Some(ended) = over.next_if(|ended| ended.end < operation.start) {
                if last.is_none_or(|last| last.log_index < ended.log_index) {
                    last = Some(ended);
                }
            }
            let Some(last) = last else { continue };
            // A mutation makes an index of its own.
            let went_back = if self.is_read(operation) {
                operation.log_index < last.log_index
            } else {
                operation.log_index <= last.log_index
            };
            if went_back {
                let [then, now] = [last, operation].map(|op| op.log_index.unwrap_or_default());
                let text = format!("{operation} was at index {now}, after {last} had been over at index {then}");
                findings.anomaly("index-went-back", text, [last.start, operation.start]);
            }
        }
    }

    /// Each operation's interval on the axis of the log, by the index of its invocation.
    fn places(&self, operations: &[Operation], retried: bool) -> Places {
        let own = |op: &Operation| {
            let at = op.log_index? * ROOM + if self.is_read(op) { ROOM / 2 } else { 0 };
            Some((at, at + 1))
        };
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (at, op) in operations.iter().enumerate() {
            moments.extend([(op.start, false, at), (op.end, true, at)]);
        }
        moments.sort_unstable();
        let mut places = Places::new();
        // After all that was over when it began.
        let mut through = 0;
        for &(_, is_end, at) in &moments {
            let op = &operations[at];
            let known = own(op);
            if is_end {
                through = through.max(known.map_or(0, |(_, end)| end));
                continue;
            }
            let loose = known.is_none() || (retried && !self.is_read(op));
            let start = if loose { through + 1 } else { known.map_or(0, |(start, _)| start) };
            let end = known.map_or(u64::MAX, |(_, end)| end);
            let (end, optional) = (end.max(start), op.ending == Ending::Info);
            places.insert(op.start, Interval { start, end, began: op.start, over: op.end, optional });
        }
        // Before all that began when it was over. What was retried has a known end, and what is unknown has none.
        let mut from = u64::MAX;
        for &(_, is_end, at) in moments.iter().rev() {
            let op = &operations[at];
            match places.get_mut(&op.start) {
                Some(place) if is_end && own(op).is_none() && !place.optional => place.end = from.max(place.start),
                _ if !is_end => from = from.min(own(op).map_or(u64::MAX, |(start, _)| start.saturating_sub(1))),
                _ => {}
            }
        }
        places
    }

    fn check_one(&self, partition: &str, all: &[&Operation], places: [&Places; 2], findings: &mut Findings) {
        let Some((operations, calls)) = calls(&self.model, all, findings) else { return };
        let mut steps_left = self.steps_max;
        let mut tries = places.map(|places| {
            let intervals: Vec<_> = operations.iter().map(|op| places[&op.start]).collect();
            (steps_left > 0).then(|| search(&self.model, &calls, &intervals, &mut steps_left))
        });
        match (tries[0].take(), tries[1].take()) {
            (Some(Found::Possible), _) => {}
            (_, Some(Found::Possible)) => {
                findings.note(format!("{partition}: mutations were repeated after lost replies"))
            }
            (Some(Found::Stuck(_)), Some(Found::Stuck(stuck))) => {
                explain(&self.model, partition, &operations, &stuck, findings);
            }
            _ => findings.unknown(format!("{partition}: no answer within {} steps", self.steps_max)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::checker::linearizable::Linearizable;
    use crate::checker::test_random::{ask_tree, mutated, random_history};
    use crate::history::Event;
    use crate::history::build::Build;
    use crate::model::tree::Tree;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use serde_json::{Value, json};

    const REPLAY: Replay<Tree> =
        Replay { name: "replay", model: Tree, partition: "tree", reads: &["stat", "has"], steps_max: 100_000 };

    fn path(path: &str) -> Value {
        json!({"tree": 1, "path": path})
    }

    fn run(build: &mut Build, f: &str, name: &str, output: Value, index: u64) {
        build.run(1, f, path(name), output).log_index = Some(index);
    }

    fn kinds(build: &Build) -> Vec<String> {
        REPLAY.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    #[test]
    fn replies_are_compared_in_the_order_of_the_log() {
        let mut build = Build::default();
        // Two entries, answered in the other order; the index says which came first.
        build.invoke(1, "create", path("a"));
        build.invoke(2, "unlink", path("a"));
        build.ok(2, json!({})).log_index = Some(6);
        build.ok(1, json!({})).log_index = Some(5);
        run(&mut build, "stat", "a", json!({"errno": "ENOENT"}), 6);
        assert!(REPLAY.check(&build.history()).is_valid());
        let mut bad = build.clone();
        bad.events[2].log_index = Some(4);
        assert!(REPLAY.check(&bad.history()).notes[0].contains("repeated"), "only a repetition explains it");
        run(&mut build, "stat", "a", json!({"nlink": 1}), 6);
        assert_eq!(kinds(&build), ["not-linearizable"]);
    }

    #[test]
    fn mutations_of_one_entry_come_in_any_order_and_before_reads_at_it() {
        let mut build = Build::default();
        build.invoke(1, "create", json!({"tree": 1, "path": "d/a"}));
        build.invoke(2, "mkdir", path("d"));
        build.invoke(3, "has", path("d"));
        build.ok(1, json!({})).log_index = Some(5);
        build.ok(2, json!({})).log_index = Some(5);
        let mut bad = build.clone();
        build.ok(3, json!({"has": true})).log_index = Some(5);
        assert!(REPLAY.check(&build.history()).is_valid());
        bad.ok(3, json!({"has": false})).log_index = Some(5);
        assert_eq!(kinds(&bad), ["not-linearizable"]);
    }

    #[test]
    fn an_index_that_goes_back_is_an_anomaly() {
        let mut build = Build::default();
        run(&mut build, "create", "a", json!({}), 5);
        run(&mut build, "create", "b", json!({}), 7);
        run(&mut build, "stat", "b", json!({}), 7);
        assert!(REPLAY.check(&build.history()).is_valid());
        // A stale read is right about the state that it saw.
        run(&mut build, "has", "b", json!({"has": false}), 5);
        assert_eq!(kinds(&build), ["index-went-back"]);
        let mut again = Build::default();
        run(&mut again, "create", "a", json!({}), 5);
        run(&mut again, "create", "b", json!({}), 5);
        assert_eq!(kinds(&again), ["index-went-back"]);
    }

    #[test]
    fn what_nobody_knows_took_effect_where_it_is_needed_or_never() {
        let mut build = Build::default();
        build.invoke(2, "create", path("a"));
        build.info(2, "lost");
        run(&mut build, "has", "a", json!({"has": false}), 5);
        run(&mut build, "create", "b", json!({}), 6);
        let mut never = build.clone();
        run(&mut build, "has", "a", json!({"has": true}), 6);
        assert!(REPLAY.check(&build.history()).is_valid());
        run(&mut build, "has", "a", json!({"has": false}), 7);
        assert_eq!(kinds(&build), ["not-linearizable"]);
        run(&mut never, "has", "a", json!({"has": false}), 7);
        assert!(REPLAY.check(&never.history()).is_valid());
    }

    #[test]
    fn a_repetition_has_the_index_of_its_repetition() {
        let mut build = Build::default();
        build.invoke(2, "create", path("a"));
        run(&mut build, "has", "a", json!({"has": true}), 5);
        build.ok(2, json!({})).log_index = Some(9);
        let verdict = REPLAY.check(&build.history());
        assert!(verdict.is_valid() && verdict.notes[0].contains("repeated"), "{verdict:?}");
        let mut bad = Build::default();
        run(&mut bad, "has", "a", json!({"has": true}), 5);
        run(&mut bad, "create", "a", json!({}), 9);
        assert_eq!(kinds(&bad), ["not-linearizable"]);
    }

    #[test]
    fn a_refusal_without_an_index_is_placed_by_time() {
        let mut build = Build::default();
        run(&mut build, "create", "a", json!({}), 5);
        build.run(1, "create", path("a"), json!({"errno": "EEXIST"}));
        run(&mut build, "unlink", "a", json!({}), 6);
        assert!(REPLAY.check(&build.history()).is_valid());
        build.run(1, "create", path("a"), json!({"errno": "EEXIST"}));
        run(&mut build, "create", "a", json!({}), 7);
        assert_eq!(kinds(&build), ["not-linearizable"]);
    }

    #[test]
    fn what_a_model_did_is_found_possible_and_nothing_that_no_order_explains() {
        let replay = Replay { partition: "key", ..REPLAY };
        let by_time = Linearizable { name: "by-time", model: Tree, partition: "key", steps_max: 1_000_000 };
        let mut invalid = 0;
        for seed in 0..300 {
            let good = random_history(&Tree, seed, 40, ask_tree);
            let verdict = replay.check(&good);
            assert!(verdict.is_valid() && verdict.notes.len() == 1, "seed {seed}: {verdict:?}");
            let change = |event: &Event, random: &mut StdRng| {
                (event.f == "has").then(|| json!({"has": random.random::<bool>()}))
            };
            let bad = mutated(&good, &mut StdRng::seed_from_u64(seed), change);
            let (by_log, by_time) = (replay.check(&bad).is_valid(), by_time.check(&bad).is_valid());
            // The log's order is narrower than that of time.
            assert!(by_time || !by_log, "seed {seed}");
            invalid += usize::from(!by_log);
        }
        assert!(invalid > 5, "{invalid}");
    }

    #[test]
    fn a_long_run_takes_few_steps_and_one_without_indices_is_unknown() {
        let mut build = Build::default();
        for index in 0..5_000u64 {
            let (f, output) =
                if index % 2 == 0 { ("create", json!({"ino": index + 2})) } else { ("unlink", json!({})) };
            run(&mut build, f, "a", output, 10 + index);
        }
        let few = Replay { steps_max: 30_000, ..REPLAY };
        assert!(few.check(&build.history()).is_valid());
        build.events.iter_mut().for_each(|event| event.log_index = None);
        assert!(matches!(REPLAY.check(&build.history()).outcome, Outcome::Unknown(_)));
    }
}
