//! Tests of the search, also against a second implementation that shares nothing with it: it goes through the events in time and
//! keeps every state that is possible after each (just-in-time linearization), without backtracking.

use super::*;
use crate::checker::Outcome;
use crate::checker::test_random::{Asked, ask_register, ask_tree, mutated, random_history};
use crate::history::build::Build;
use crate::history::{Event, Kind, Process};
use crate::model::register::Register;
use crate::model::tree::Tree;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};

fn checker<M: Model>(model: M) -> Linearizable<M> {
    Linearizable { name: "linearizable", model, partition: "key", steps_max: 1_000_000 }
}

/// The second implementation.
fn possible_in_time<M: Model>(model: &M, operations: &[Operation]) -> bool {
    let calls: Vec<_> = operations.iter().map(|operation| model.call(operation).expect("reads")).collect();
    let mut moments: Vec<(u64, usize, bool)> = Vec::new();
    for (at, operation) in operations.iter().enumerate().filter(|(_, operation)| operation.ending != Ending::Fail) {
        moments.push((operation.start, at, false));
        if operation.ending != Ending::Info {
            moments.push((operation.end, at, true));
        }
    }
    moments.sort_unstable();
    let mut open: BTreeSet<usize> = BTreeSet::new();
    let mut configs: HashSet<(BTreeSet<usize>, M::State)> = HashSet::from([(BTreeSet::new(), model.init())]);
    for (_, at, is_end) in moments {
        if !is_end {
            open.insert(at);
            continue;
        }
        // All that can be reached by doing some of what is open.
        let mut todo: Vec<_> = configs.iter().cloned().collect();
        while let Some((done, state)) = todo.pop() {
            for &op in open.difference(&done) {
                if let Some(next) = model.step(&state, &calls[op]) {
                    let mut with = done.clone();
                    with.insert(op);
                    if configs.insert((with.clone(), next.clone())) {
                        todo.push((with, next));
                    }
                }
            }
        }
        open.remove(&at);
        configs.retain(|(done, _)| done.contains(&at));
        configs = configs
            .into_iter()
            .map(|(mut done, state)| {
                done.remove(&at);
                (done, state)
            })
            .collect();
    }
    !configs.is_empty()
}

/// Both implementations on the history and on a mutation of it; how many of each were invalid.
fn agree<M: Model + Copy + Send + Sync>(
    model: M,
    seeds: std::ops::Range<u64>,
    ask: fn(&mut StdRng) -> Asked,
    change: fn(&Event, &mut StdRng) -> Option<Value>,
) -> [usize; 2] {
    let mut invalid = [0; 2];
    for seed in seeds {
        let ops_count = 4 + (seed as usize % 9);
        let good = random_history(&model, seed, ops_count, ask);
        let bad = mutated(&good, &mut StdRng::seed_from_u64(seed), change);
        for (which, history) in [&good, &bad].into_iter().enumerate() {
            let verdict = checker(model).check(history);
            let operations = history.operations().expect("well-formed");
            let expected = possible_in_time(&model, &operations);
            assert_eq!(verdict.is_valid(), expected, "seed {seed}: {verdict:?}\n{operations:#?}");
            invalid[which] += usize::from(!expected);
        }
    }
    invalid
}

#[test]
fn two_implementations_agree_on_thousands_of_registers() {
    let change =
        |event: &Event, random: &mut StdRng| (event.f == "read").then(|| json!({"value": random.random_range(0..3)}));
    let [good, bad] = agree(Register, 0..2_000, ask_register, change);
    assert_eq!(good, 0, "what a model did is linearizable");
    assert!(bad > 200, "{bad}");
}

#[test]
fn two_implementations_agree_on_thousands_of_trees() {
    let change = |event: &Event, random: &mut StdRng| match event.f.as_str() {
        "has" => Some(json!({"has": random.random::<bool>()})),
        "stat" => Some(json!({"nlink": random.random_range(1..4)})),
        _ => Some([json!({}), json!({"errno": "ENOENT"}), json!({"errno": "EEXIST"})].choose(random)?.clone()),
    };
    let [good, bad] = agree(Tree, 0..1_500, ask_tree, change);
    assert_eq!(good, 0, "what a model did is linearizable");
    assert!(bad > 200, "{bad}");
}

#[test]
fn many_operations_with_lost_endings_are_checked() {
    let history = random_history(&Tree, 7, 300, ask_tree);
    let verdict = checker(Tree).check(&history);
    assert!(verdict.is_valid(), "{verdict:?}");
    assert_eq!(verdict.looked_at(), 300);
    let mut bad = history;
    let at = bad.events.iter().rposition(|event| event.f == "has" && event.kind == Kind::Ok).expect("one");
    let has = bad.events[at].value["has"].as_bool().unwrap_or_default();
    bad.events[at].value = json!({"has": !has});
    // Neither of them passes; that this one is found out depends on what else is open.
    let verdict = Linearizable { steps_max: 100_000, ..checker(Tree) }.check(&bad);
    assert!(!matches!(verdict.outcome, Outcome::Valid), "{verdict:?}");
}

#[test]
fn a_stale_read_is_told_with_what_came_before_it() {
    let mut build = Build::default();
    build.run(1, "write", json!({"key": "k", "value": 1}), json!({}));
    build.run(2, "write", json!({"key": "k", "value": 2}), json!({}));
    build.run(3, "read", json!({"key": "k"}), json!({"value": 1}));
    build.run(3, "read", json!({"key": "other"}), json!({"errno": "ENODATA"}));
    let verdict = checker(Register).check(&build.history());
    let [anomaly] = verdict.anomalies() else { panic!("{verdict:?}") };
    assert_eq!((anomaly.kind.as_str(), anomaly.events.as_slice()), ("not-linearizable", &[0, 2, 4][..]));
    assert!(anomaly.text.contains("The state was then Some(\"2\")"), "{}", anomaly.text);
}

#[test]
fn a_failed_write_never_shows_and_an_unknown_one_may_at_any_time() {
    let mut build = Build::default();
    build.invoke(1, "write", json!({"key": "k", "value": 1}));
    build.info(1, "no reply");
    build.run(2, "read", json!({"key": "k"}), json!({"value": null}));
    build.run(2, "read", json!({"key": "k"}), json!({"value": 1}));
    assert!(checker(Register).check(&build.history()).is_valid());
    build.run(2, "read", json!({"key": "k"}), json!({"value": null}));
    assert!(!checker(Register).check(&build.history()).is_valid(), "it does not go away again");
    let mut build = Build::default();
    build.invoke(1, "write", json!({"key": "k", "value": 1}));
    build.fail(1);
    build.run(2, "read", json!({"key": "k"}), json!({"value": 1}));
    assert!(!checker(Register).check(&build.history()).is_valid());
}

#[test]
fn out_of_steps_is_unknown_and_no_operation_too() {
    let mut build = Build::default();
    for client in 0..12 {
        build.invoke(client, "write", json!({"key": "k", "value": client}));
    }
    for client in 0..12 {
        build.ok(client, json!({}));
    }
    build.run(1, "read", json!({"key": "k"}), json!({"value": 99}));
    let small = Linearizable { steps_max: 100, ..checker(Register) };
    assert!(matches!(small.check(&build.history()).outcome, Outcome::Unknown(_)));
    assert!(matches!(checker(Register).check(&History::default()).outcome, Outcome::Unknown(_)));
    let mut other = Build::default();
    other.add(Process::Client(1), Kind::Invoke, "fly", json!({"key": "k"}));
    assert_eq!(checker(Register).check(&other.history()).anomalies()[0].kind, "unreadable");
}
