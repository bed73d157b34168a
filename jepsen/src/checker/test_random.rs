//! Random histories for tests: several clients on one model, which answers each at one moment between invocation and completion, in the
//! order of the log indices that it gives. A mutation of one may or may not be possible.

use crate::history::build::Build;
use crate::history::{Event, History, Kind};
use crate::model::Model;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// A run of several clients on one model, each call done at one moment within its interval; some endings are lost.
struct Run<'a, M: Model> {
    model: &'a M,
    state: M::State,
    build: Build,
    random: StdRng,
    answers_count: u64,
}

impl<M: Model> Run<'_, M> {
    /// The answer that the model gives to a call, of those that can be given.
    fn answer(&mut self, f: &str, input: &Value, answers: &[Value]) -> Value {
        self.answers_count += 1;
        for answer in answers {
            let mut one = Build { now_ns: 0, events: Vec::new() };
            one.run(1, f, input.clone(), answer.clone());
            let mut operation = one.history().operations().expect("well-formed").remove(0);
            operation.start = self.answers_count;
            let call = self.model.call(&operation).expect("reads");
            if let Some(next) = self.model.step(&self.state, &call) {
                self.state = next;
                return answer.clone();
            }
        }
        panic!("no answer to {f} {input}");
    }
}

/// What a client has asked, and once it was done the answer and its index.
type Open = (Asked, Option<(Value, u64)>);

pub type Asked = (String, Value, Vec<Value>);

pub fn random_history<M: Model>(model: &M, seed: u64, ops_count: usize, ask: impl Fn(&mut StdRng) -> Asked) -> History {
    let random = StdRng::seed_from_u64(seed);
    let mut run = Run { model, state: model.init(), build: Build::default(), random, answers_count: 0 };
    let clients_count = 4;
    let mut names: Vec<u32> = (0..clients_count).collect();
    let mut open: Vec<Option<Open>> = vec![None; names.len()];
    let mut asked = 0;
    while asked < ops_count || open.iter().any(Option::is_some) {
        let who = run.random.random_range(0..names.len());
        match open[who].take() {
            None if asked < ops_count => {
                let question = ask(&mut run.random);
                run.build.invoke(names[who], &question.0, question.1.clone());
                asked += 1;
                open[who] = Some((question, None));
            }
            None => {}
            Some((question, None)) => {
                // Lost: before it was done, or after it.
                let lost = run.random.random_bool(0.1);
                if lost && run.random.random() {
                    run.build.info(names[who], "lost");
                    names[who] += clients_count;
                    continue;
                }
                let answer = run.answer(&question.0, &question.1, &question.2);
                open[who] = Some((question, Some((answer, run.answers_count))));
                if lost {
                    run.build.info(names[who], "lost");
                    names[who] += clients_count;
                    open[who] = None;
                }
            }
            Some((_, Some((answer, index)))) => run.build.ok(names[who], answer).log_index = Some(index),
        }
    }
    run.build.history()
}

/// One completion says something else.
pub fn mutated(
    history: &History,
    random: &mut StdRng,
    change: impl Fn(&Event, &mut StdRng) -> Option<Value>,
) -> History {
    let mut other = history.clone();
    let completions: Vec<_> = (0..other.events.len()).filter(|&at| other.events[at].kind == Kind::Ok).collect();
    if let Some(&at) = completions.choose(random)
        && let Some(value) = change(&other.events[at], random)
    {
        other.events[at].value = value;
    }
    other
}

pub fn ask_register(random: &mut StdRng) -> Asked {
    let value = random.random_range(0..3);
    let old = random.random_range(0..3);
    let done = json!({});
    let (f, input, answers) = match random.random_range(0..8) {
        0..3 => {
            let values = (0..3).map(|value| json!({"value": value}));
            ("read", json!({"key": 1}), values.chain([json!({"errno": "ENODATA"})]).collect())
        }
        3 | 4 => ("write", json!({"key": 1, "value": value}), vec![done]),
        5 => ("cas", json!({"key": 1, "old": old, "value": value}), vec![done, json!({"errno": "EAGAIN"})]),
        6 => ("create", json!({"key": 1, "value": value}), vec![done, json!({"errno": "EEXIST"})]),
        _ => ("remove", json!({"key": 1}), vec![done, json!({"errno": "ENODATA"})]),
    };
    (f.into(), input, answers)
}

pub fn ask_tree(random: &mut StdRng) -> Asked {
    let mut path = || ["a", "b", "d", "d/a", "d/b"].choose(random).expect("a path").to_string();
    let (path, to) = (path(), path());
    let f = *["create", "mkdir", "unlink", "rmdir", "rename", "exchange", "link", "has", "stat"]
        .choose(random)
        .expect("a call");
    let refusals = ["ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY", "EINVAL", "EPERM"];
    let mut answers: Vec<_> = match f {
        "has" => vec![json!({"has": true}), json!({"has": false})],
        "stat" => (1..5).map(|nlink| json!({"nlink": nlink})).collect(),
        _ => vec![json!({})],
    };
    answers.extend(refusals.map(|errno| json!({"errno": errno})));
    let input = if ["rename", "exchange", "link"].contains(&f) {
        json!({"key": 1, "path": path, "to": to})
    } else {
        json!({"key": 1, "path": path})
    };
    (f.into(), input, answers)
}
