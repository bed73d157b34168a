//! Recorder: takes down what clients and nemeses do, in one order and by one monotonic clock. A run has one history for each workload; what
//! nemeses do is in all of them. Called by `run`, workloads and nemeses.

use crate::history::{Event, History, Kind, Process};
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One history that grows.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    events: Mutex<Vec<Event>>,
    processes: AtomicU32,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    Ok(Value),
    /// The filesystem refused it, by this errno: an observation like any other.
    Refused(String),
    /// It certainly did not happen.
    Fail(String),
    /// Nobody knows.
    Info(String),
}

impl Recorder {
    pub fn new(start: Instant) -> Arc<Recorder> {
        Arc::new(Recorder { start, events: Mutex::default(), processes: AtomicU32::new(0) })
    }

    /// For one thread of a client.
    pub fn voice(self: &Arc<Self>) -> Voice {
        Voice { process: self.next_process(), recorder: self.clone(), f: String::new() }
    }

    pub fn nemesis(&self, kind: Kind, f: &str, value: Value) {
        self.add(Process::Nemesis, kind, f, value, None, None);
    }

    /// How many operations were acknowledged so far.
    pub fn acknowledged_count(&self) -> usize {
        let is_acknowledged = |event: &&Event| event.kind == Kind::Ok && event.process != Process::Nemesis;
        self.events().iter().filter(is_acknowledged).count()
    }

    /// Whether an operation was acknowledged that was begun at least so long after the start.
    pub fn has_served_since(&self, since: Duration) -> bool {
        let events = self.events();
        let recent = &events[events.partition_point(|event| event.time < since.as_nanos() as u64)..];
        let is_begun = |event: &Event| event.kind == Kind::Invoke && event.process != Process::Nemesis;
        let is_answer = |to: &Event, event: &Event| event.kind == Kind::Ok && event.process == to.process;
        (0..recent.len())
            .any(|at| is_begun(&recent[at]) && recent[at..].iter().any(|event| is_answer(&recent[at], event)))
    }

    /// All that was taken down.
    pub fn history(&self, meta: Map<String, Value>) -> History {
        History { meta, events: self.events().clone() }
    }

    fn next_process(&self) -> u32 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn add(&self, process: Process, kind: Kind, f: &str, value: Value, error: Option<String>, log_index: Option<u64>) {
        // The clock is read under the lock: the order of the events is that of their times.
        let mut events = self.events();
        let time = self.start.elapsed().as_nanos() as u64;
        let index = events.len() as u64;
        events.push(Event { index, time, process, kind, f: f.to_owned(), value, error, log_index });
    }
}

/// One process of a history: one operation at a time.
#[derive(Debug)]
pub struct Voice {
    recorder: Arc<Recorder>,
    process: u32,
    f: String,
}

impl Voice {
    pub fn invoke(&mut self, f: &str, value: Value) {
        f.clone_into(&mut self.f);
        self.recorder.add(Process::Client(self.process), Kind::Invoke, f, value, None, None);
    }

    /// The end of what was invoked. After one that nobody knows the end of, whoever goes on is another process.
    pub fn end(&mut self, done: Done, log_index: Option<u64>) {
        let (kind, value, error) = match done {
            Done::Ok(value) => (Kind::Ok, value, None),
            Done::Refused(errno) => (Kind::Ok, json!({ "errno": errno }), None),
            Done::Fail(why) => (Kind::Fail, Value::Null, Some(why)),
            Done::Info(why) => (Kind::Info, Value::Null, Some(why)),
        };
        self.recorder.add(Process::Client(self.process), kind, &self.f, value, error, log_index);
        if kind == Kind::Info {
            self.process = self.recorder.next_process();
        }
    }

    /// Both, round what a thread does.
    pub fn act(&mut self, f: &str, value: Value, act: impl FnOnce() -> Done) {
        self.invoke(f, value);
        self.end(act(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_as_service_where_it_was_asked_for_since() {
        let recorder = Recorder::new(Instant::now());
        let mut voice = recorder.voice();
        voice.invoke("stat", json!({}));
        recorder.nemesis(Kind::Invoke, "heal", json!({}));
        let since = recorder.start.elapsed();
        recorder.nemesis(Kind::Ok, "heal", json!({}));
        voice.end(Done::Ok(json!({})), None);
        assert!(!recorder.has_served_since(since));
        voice.act("stat", json!({}), || Done::Info("no reply".into()));
        assert!(!recorder.has_served_since(since));
        voice.act("stat", json!({}), || Done::Refused("ENOENT".into()));
        assert!(recorder.has_served_since(since));
    }

    #[test]
    fn a_process_that_does_not_know_its_end_never_comes_back() {
        let recorder = Recorder::new(Instant::now());
        let (mut one, mut two) = (recorder.voice(), recorder.voice());
        one.act("create", json!({"path": "a"}), || Done::Info("no reply".into()));
        two.act("create", json!({"path": "a"}), || Done::Refused("EEXIST".into()));
        one.invoke("stat", json!({"path": "a"}));
        one.end(Done::Ok(json!({"ino": 7})), Some(12));
        let history = recorder.history(Map::new());
        let operations = history.operations().expect("a history");
        let processes: Vec<_> = operations.iter().map(|operation| operation.process).collect();
        assert_eq!(processes, [0, 1, 2]);
        assert_eq!(operations[1].errno(), Some("EEXIST"));
        assert_eq!(operations[2].log_index, Some(12));
        assert_eq!(recorder.acknowledged_count(), 2);
    }
}
