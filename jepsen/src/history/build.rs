//! Build: a history written down event by event. Called by tests of the checkers, and by whoever records in one thread.

use super::{Event, History, Kind, Process};
use serde_json::{Value, json};

/// Time goes on by a millisecond an event.
const STEP_NS: u64 = 1_000_000;

#[derive(Clone, Debug, Default)]
pub struct Build {
    pub events: Vec<Event>,
    /// When the next event is.
    pub now_ns: u64,
}

impl Build {
    pub fn add(&mut self, process: Process, kind: Kind, f: &str, value: Value) -> &mut Event {
        let index = self.events.len() as u64;
        let time = self.now_ns;
        self.now_ns += STEP_NS;
        self.events.push(Event { index, time, process, kind, f: f.into(), value, error: None, log_index: None });
        let last = self.events.len() - 1;
        &mut self.events[last]
    }

    /// Nothing happens for so long.
    pub fn pause_ms(&mut self, pause_ms: u64) {
        self.now_ns += pause_ms * 1_000_000;
    }

    pub fn invoke(&mut self, client: u32, f: &str, value: Value) {
        self.add(Process::Client(client), Kind::Invoke, f, value);
    }

    pub fn complete(&mut self, client: u32, kind: Kind, f: &str, value: Value) -> &mut Event {
        self.add(Process::Client(client), kind, f, value)
    }

    /// What the client invoked last is done.
    pub fn ok(&mut self, client: u32, value: Value) -> &mut Event {
        let f = self.outstanding(client);
        self.complete(client, Kind::Ok, &f, value)
    }

    pub fn fail(&mut self, client: u32) {
        let f = self.outstanding(client);
        self.complete(client, Kind::Fail, &f, Value::Null);
    }

    pub fn info(&mut self, client: u32, error: &str) {
        let f = self.outstanding(client);
        self.complete(client, Kind::Info, &f, Value::Null).error = Some(error.into());
    }

    /// Invoked and done with nothing between.
    pub fn run(&mut self, client: u32, f: &str, input: Value, output: Value) -> &mut Event {
        self.invoke(client, f, input);
        self.ok(client, output)
    }

    /// A fault that begins, and says whether it bit.
    pub fn fault(&mut self, fault: &str, id: u64, bit: bool) {
        self.add(Process::Nemesis, Kind::Invoke, fault, json!({"id": id}));
        self.add(Process::Nemesis, Kind::Ok, fault, json!({"id": id, "bit": bit, "evidence": "the process is gone"}));
    }

    pub fn heal(&mut self, id: u64) {
        self.add(Process::Nemesis, Kind::Invoke, "heal", json!({"id": id}));
        self.add(Process::Nemesis, Kind::Ok, "heal", json!({"id": id}));
    }

    pub fn history(&self) -> History {
        History { events: self.events.clone(), ..History::default() }
    }

    fn outstanding(&self, client: u32) -> String {
        let mut of_client = self.events.iter().rev().filter(|event| event.process == Process::Client(client));
        of_client.next().map(|event| event.f.clone()).unwrap_or_default()
    }
}

/// A bit of everything, for the tests of the two forms on disk.
#[cfg(test)]
pub(super) fn sample() -> History {
    let mut build = Build::default();
    build.invoke(
        0,
        "create",
        json!({"tree": 3, "path": "a/\"b\"\\\n\u{1}é", "deep": [1, -2, 2.5, null, true, {"x": []}]}),
    );
    build.fault("kill-leader", 1, true);
    build.ok(0, json!({"errno": "EEXIST"})).log_index = Some(17);
    build.invoke(7, "txn", json!([["append", 1, 2], ["r", "k", [1, 2]]]));
    build.info(7, "no reply: \"reset\"");
    build.heal(1);
    build.invoke(8, "two words", json!({"odd key": 1, "": 2, ":k": ":v"}));
    build.fail(8);
    let meta = [("workload", json!("tree")), ("seed", json!(42)), ("command", json!("jepsen run --seed 42"))];
    let meta = meta.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
    History { meta, ..build.history() }
}
