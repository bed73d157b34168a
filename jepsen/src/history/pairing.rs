//! Pairing: invocations with their completions. What breaks the rules of a history is found here: a process has one operation
//! outstanding, completes what it invoked, and never comes back after an `info`. Called by `History::operations`.

use super::{Event, History, Kind, Process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// How an operation ended, as far as its client knows.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It happened, or was refused, and this was observed.
    Ok(Value),
    /// It did not happen.
    Fail,
    /// Nobody knows: it may take effect at any time after its invocation, or never.
    Info,
}

/// An invocation and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub process: u32,
    pub f: String,
    pub input: Value,
    pub ending: Ending,
    /// Index of the invocation. It names the operation.
    pub start: u64,
    /// Index of the completion; `u64::MAX` where it is not known that it ended. One operation was over before another began
    /// when its `end` is below the other's `start`.
    pub end: u64,
    /// The same, by the clock.
    pub start_ns: u64,
    pub end_ns: u64,
    /// When its client stopped waiting, whatever it knew then: index and clock. `u64::MAX` where it still does.
    pub left: u64,
    pub left_ns: u64,
    pub error: Option<String>,
    pub log_index: Option<u64>,
}

impl Operation {
    /// What was observed.
    pub fn output(&self) -> Option<&Value> {
        match &self.ending {
            Ending::Ok(value) => Some(value),
            Ending::Fail | Ending::Info => None,
        }
    }

    /// The refusal, where one was observed.
    pub fn errno(&self) -> Option<&str> {
        self.output()?.get("errno")?.as_str()
    }

    /// Acknowledged: it happened and was not refused.
    pub fn is_acknowledged(&self) -> bool {
        self.output().is_some() && self.errno().is_none()
    }

    pub fn is_before(&self, other: &Operation) -> bool {
        self.end < other.start
    }

    /// The input's field, or the output's where the input has none.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.input.get(name).or_else(|| self.output()?.get(name))
    }

    /// A field as a key.
    pub fn key(&self, name: &str) -> Option<String> {
        self.field(name).map(label)
    }

    /// `ok`, the errno, `fail` or `info`.
    pub fn result(&self) -> &str {
        match &self.ending {
            Ending::Ok(_) => self.errno().unwrap_or("ok"),
            Ending::Fail => "fail",
            Ending::Info => "info",
        }
    }
}

/// Words as they are, anything else as JSON.
pub fn label(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl fmt::Display for Operation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "#{} client {} {} {} -> ", self.start, self.process, self.f, self.input)?;
        match (self.output(), self.errno()) {
            (Some(Value::Null), _) => write!(to, "ok"),
            (Some(Value::Object(map)), _) if map.is_empty() => write!(to, "ok"),
            (Some(output), None) => write!(to, "{output}"),
            _ => write!(to, "{}", self.result()),
        }
    }
}

/// A rule of histories that was broken, and the event that broke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub index: u64,
    pub what: String,
}

enum Last {
    Outstanding(usize),
    Done,
    Gone,
}

pub(super) fn operations(history: &History) -> Result<Vec<Operation>, Vec<Malformed>> {
    let mut operations: Vec<Operation> = Vec::new();
    let mut processes: BTreeMap<u32, Last> = BTreeMap::new();
    let mut malformed = disorder(&history.events);
    for event in &history.events {
        let Process::Client(process) = event.process else { continue };
        let last = processes.get(&process).unwrap_or(&Last::Done);
        let verdict = match (last, event.kind) {
            (Last::Done, Kind::Invoke) => {
                operations.push(invoked(process, event));
                Ok(Last::Outstanding(operations.len() - 1))
            }
            (Last::Outstanding(at), Kind::Ok | Kind::Fail | Kind::Info) => complete(&mut operations[*at], event),
            (Last::Gone, _) => Err(format!("client {process} came back after an info")),
            (Last::Outstanding(_), Kind::Invoke) => Err(format!("client {process} invoked with one outstanding")),
            (Last::Done, _) => Err(format!("client {process} completed what it had not invoked")),
        };
        match verdict {
            Ok(last) => drop(processes.insert(process, last)),
            Err(what) => malformed.push(Malformed { index: event.index, what }),
        }
    }
    if malformed.is_empty() { Ok(operations) } else { Err(malformed) }
}

fn disorder(events: &[Event]) -> Vec<Malformed> {
    let disordered = |pair: &&[Event]| pair[0].index >= pair[1].index || pair[0].time > pair[1].time;
    let complain = |pair: &[Event]| Malformed {
        index: pair[1].index,
        what: format!("comes after #{} at {} ns, itself at {} ns", pair[0].index, pair[0].time, pair[1].time),
    };
    events.windows(2).filter(disordered).map(complain).collect()
}

fn invoked(process: u32, event: &Event) -> Operation {
    Operation {
        process,
        f: event.f.clone(),
        input: event.value.clone(),
        ending: Ending::Info,
        start: event.index,
        end: u64::MAX,
        start_ns: event.time,
        end_ns: u64::MAX,
        left: u64::MAX,
        left_ns: u64::MAX,
        error: None,
        log_index: None,
    }
}

fn complete(operation: &mut Operation, event: &Event) -> Result<Last, String> {
    if operation.f != event.f {
        return Err(format!("client {} completed {} as {}", operation.process, operation.f, event.f));
    }
    operation.error.clone_from(&event.error);
    operation.log_index = event.log_index;
    (operation.left, operation.left_ns) = (event.index, event.time);
    operation.ending = match event.kind {
        Kind::Ok => Ending::Ok(event.value.clone()),
        Kind::Fail => Ending::Fail,
        Kind::Invoke | Kind::Info => return Ok(Last::Gone),
    };
    (operation.end, operation.end_ns) = (event.index, event.time);
    Ok(Last::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;
    use serde_json::json;

    #[test]
    fn an_invocation_finds_its_completion() {
        let mut build = Build::default();
        build.invoke(1, "create", json!({"path": "a"}));
        build.invoke(2, "stat", json!({"path": "a"}));
        build.ok(2, json!({"errno": "ENOENT"}));
        build.info(1, "timed out");
        build.invoke(2, "stat", json!({"path": "b"}));
        let operations = build.history().operations().expect("well-formed");
        let seen: Vec<_> = operations.iter().map(|op| (op.process, op.result(), op.start, op.end)).collect();
        assert_eq!(seen, [(1, "info", 0, u64::MAX), (2, "ENOENT", 1, 2), (2, "info", 4, u64::MAX)]);
        assert!(operations[1].is_before(&operations[2]) && !operations[0].is_before(&operations[2]));
        assert!(!operations[1].is_acknowledged());
    }

    #[test]
    fn broken_rules_are_found() {
        let complaint = |build: Build| build.history().operations().map_err(|broken| broken[0].index);
        let mut twice = Build::default();
        twice.invoke(1, "a", json!(1));
        twice.invoke(1, "a", json!(1));
        assert_eq!(complaint(twice), Err(1));
        let mut back = Build::default();
        back.invoke(1, "a", json!(1));
        back.info(1, "lost");
        back.invoke(1, "a", json!(1));
        assert_eq!(complaint(back), Err(2));
        let mut unasked = Build::default();
        unasked.complete(1, Kind::Ok, "a", json!(1));
        assert_eq!(complaint(unasked), Err(0));
        let mut other = Build::default();
        other.invoke(1, "a", json!(1));
        other.complete(1, Kind::Ok, "b", json!(1));
        assert_eq!(complaint(other), Err(1));
        let mut backwards = Build::default();
        backwards.invoke(1, "a", json!(1));
        backwards.events[0].time = 100;
        backwards.ok(1, json!(1));
        backwards.events[1].time = 99;
        assert_eq!(complaint(backwards), Err(1));
    }
}
