//! History: what clients and nemeses did, in the order in which one recorder took it down. `pairing` makes operations of it,
//! `jsonl` and `edn` are its two forms on disk, `build` writes one down in a line for tests. Pure: text in, values out.
//! Called by everything that records or judges.

use serde_json::{Map, Value};
use std::fmt;

pub mod build;
pub mod edn;
mod edn_syntax;
pub mod jsonl;
pub mod pairing;

pub use pairing::{Ending, Malformed, Operation, label};

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Process {
    /// One thread of a client. After an `Info` it never comes back; whoever goes on takes a new number.
    Client(u32),
    Nemesis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Invoke,
    /// It happened, or it was refused for certain: then the value has `errno`.
    Ok,
    /// It certainly did not happen.
    Fail,
    /// It may have happened, may still happen, or never will.
    Info,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Info];

    pub const fn name(self) -> &'static str {
        match self {
            Kind::Invoke => "invoke",
            Kind::Ok => "ok",
            Kind::Fail => "fail",
            Kind::Info => "info",
        }
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place in the order in which the recorder took the events down; what is before in it was before in time.
    pub index: u64,
    /// Nanoseconds of the recorder's monotonic clock.
    pub time: u64,
    pub process: Process,
    pub kind: Kind,
    /// The operation's name.
    pub f: String,
    /// Invocation: what was asked for. Completion: what came of it, or `{"errno": "ENOENT"}`.
    pub value: Value,
    /// Why it failed, or why nobody knows; for readers only.
    pub error: Option<String>,
    /// Where the reply says that the operation was applied or read.
    pub log_index: Option<u64>,
}

impl fmt::Display for Event {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "#{} {} {} {} {}", self.index, self.process, self.kind.name(), self.f, self.value)?;
        match &self.error {
            Some(error) => write!(to, " ({error})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Process::Client(number) => write!(to, "client {number}"),
            Process::Nemesis => write!(to, "nemesis"),
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What the run was: `workload`, `nemesis`, `seed`, `command`, and whatever else belongs to it.
    pub meta: Map<String, Value>,
    pub events: Vec<Event>,
}

/// A file that is not a history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Damaged {
    /// From 1.
    pub line: usize,
    pub what: String,
}

impl Damaged {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Damaged {
        Damaged { line, what: what.into() }
    }
}

impl History {
    /// Either form: a history as JSON begins each line with a quoted key or the `meta` line, one as EDN with a keyword.
    ///
    /// # Errors
    /// The first line that is not of a history.
    pub fn parse(text: &str) -> Result<History, Damaged> {
        let first = text.lines().map(str::trim_start).find(|line| !line.is_empty()).unwrap_or_default();
        let inside = first.strip_prefix('{').map(str::trim_start);
        match inside {
            Some(inside) if inside.starts_with('"') => jsonl::read(text),
            _ => edn::read(text),
        }
    }

    /// Clients' operations, each an invocation with what came of it, in the order of the invocations.
    ///
    /// # Errors
    /// Every way in which the history is not one.
    pub fn operations(&self) -> Result<Vec<Operation>, Vec<Malformed>> {
        pairing::operations(self)
    }

    pub fn nemesis(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(|event| event.process == Process::Nemesis)
    }

    /// A word of the run's meta data.
    pub fn about(&self, key: &str) -> Option<&str> {
        self.meta.get(key).and_then(Value::as_str)
    }
}

/// Only what is known goes into a line; `index` is given anew by a reader that finds none.
pub(crate) fn to_map(event: &Event) -> Vec<(&'static str, Value)> {
    let process = match event.process {
        Process::Client(number) => Value::from(number),
        Process::Nemesis => Value::from("nemesis"),
    };
    let mut map = vec![
        ("index", Value::from(event.index)),
        ("time", Value::from(event.time)),
        ("process", process),
        ("type", Value::from(event.kind.name())),
        ("f", Value::from(event.f.as_str())),
        ("value", event.value.clone()),
    ];
    map.extend(event.error.as_ref().map(|error| ("error", Value::from(error.as_str()))));
    map.extend(event.log_index.map(|index| ("log_index", Value::from(index))));
    map
}

/// One line's map as an event. `count` is how many events came before it.
pub(crate) fn from_map(mut map: Map<String, Value>, count: u64) -> Result<Event, String> {
    let mut take = |key: &str| map.remove(key).filter(|value| !value.is_null());
    let number = |key: &str, value: Option<Value>| match value {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("{key} is not a whole number: {value}")),
    };
    let word = |key: &str, value: Option<Value>| match value {
        None => Err(format!("{key} is missing")),
        Some(Value::String(word)) => Ok(word),
        Some(other) => Err(format!("{key} is not a word: {other}")),
    };
    let process = match take("process") {
        Some(Value::String(word)) if word == "nemesis" => Process::Nemesis,
        Some(Value::Number(n)) => {
            let number = n.as_u64().and_then(|n| u32::try_from(n).ok());
            Process::Client(number.ok_or_else(|| format!("process {n} is not a client's number"))?)
        }
        Some(other) => return Err(format!("process is neither a number nor nemesis: {other}")),
        None => return Err("process is missing".into()),
    };
    let kind = word("type", take("type"))?;
    Ok(Event {
        index: number("index", take("index"))?.unwrap_or(count),
        time: number("time", take("time"))?.ok_or("time is missing")?,
        process,
        kind: Kind::from_name(&kind).ok_or_else(|| format!("type {kind} is none of invoke, ok, fail, info"))?,
        f: word("f", take("f"))?,
        value: take("value").unwrap_or_default(),
        // Other recorders put whole values here.
        error: take("error").map(|error| error.as_str().map_or_else(|| error.to_string(), str::to_owned)),
        log_index: number("log_index", take("log_index"))?,
    })
}
