//! convert: writes a history in the other form; with a key, only what Knossos needs of one register. Called by `cli`.

use super::check::load;
use crate::history::{History, Kind, Process, edn, jsonl, label};
use clap::Args;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Convert {
    pub from: PathBuf,
    /// .edn or .jsonl
    pub to: PathBuf,
    /// Only this register's writes, reads and compare-and-sets, with bare values, as Knossos' cas-register has them
    #[arg(long)]
    pub key: Option<String>,
}

impl Convert {
    /// # Errors
    /// A file cannot be read or written, or is not a history.
    pub fn run(&self) -> Result<u8, String> {
        let history = load(&self.from)?;
        let history = match &self.key {
            Some(key) => register(&history, key),
            None => history,
        };
        let text = match self.to.extension().and_then(|extension| extension.to_str()) {
            Some("edn") => edn::write(&transactions(history)),
            Some("jsonl") => jsonl::write(&history),
            _ => return Err(format!("{} ends neither in .edn nor in .jsonl", self.to.display())),
        };
        std::fs::write(&self.to, text).map_err(|error| format!("write {}: {error}", self.to.display()))?;
        Ok(0)
    }
}

/// What was not done says again what was asked, and what was refused has failed: Elle reads a transaction in every event.
pub fn transactions(mut history: History) -> History {
    let mut asked: BTreeMap<Process, Value> = BTreeMap::new();
    for event in history.events.iter_mut().filter(|event| event.f == edn::TXN) {
        if event.kind == Kind::Invoke {
            asked.insert(event.process, event.value.clone());
        } else if event.kind != Kind::Ok || !event.value.is_array() {
            event.kind = if event.kind == Kind::Ok { Kind::Fail } else { event.kind };
            event.value = asked.get(&event.process).cloned().unwrap_or_default();
        }
    }
    history
}

/// One register's events. A refused compare-and-set did not happen, and so failed, as Jepsen has it.
pub fn register(history: &History, key: &str) -> History {
    let mut events = Vec::new();
    let mut asked: BTreeMap<Process, Value> = BTreeMap::new();
    let known: BTreeSet<&str> = ["read", "write", "cas"].into();
    for event in history.events.iter().filter(|event| known.contains(event.f.as_str())) {
        let mut event = event.clone();
        if event.kind == Kind::Invoke {
            if event.value.get("key").map(label).as_deref() != Some(key) {
                asked.remove(&event.process);
                continue;
            }
            asked.insert(event.process, event.value.clone());
        }
        let Some(asked) = asked.get(&event.process) else { continue };
        let found = event.value.get("value").cloned().unwrap_or_default();
        let errno = event.value.get("errno").and_then(Value::as_str).map(str::to_owned);
        event.value = match event.f.as_str() {
            "cas" => json!([asked.get("old"), asked.get("value")]),
            "write" => asked.get("value").cloned().unwrap_or_default(),
            _ => found,
        };
        if event.f != "read" && errno.is_some() {
            event.kind = Kind::Fail;
        }
        events.push(event);
    }
    History { meta: history.meta.clone(), events }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;

    #[test]
    fn every_event_of_a_transaction_says_what_it_is() {
        let mut build = Build::default();
        let micro = json!([["append", 1, 2]]);
        build.run(1, "txn", micro.clone(), micro.clone());
        build.run(1, "txn", micro.clone(), json!({"errno": "ENOENT"}));
        build.invoke(2, "txn", micro.clone());
        build.info(2, "no reply");
        let events = transactions(build.history()).events;
        assert!(events.iter().all(|event| event.value == micro), "{events:?}");
        let kinds: Vec<_> = events.iter().map(|event| event.kind.name()).collect();
        assert_eq!(kinds, ["invoke", "ok", "invoke", "fail", "invoke", "info"]);
    }

    #[test]
    fn one_register_is_written_as_knossos_reads_it() {
        let mut build = Build::default();
        build.run(1, "write", json!({"key": "a", "value": 1}), json!({}));
        build.run(2, "write", json!({"key": "b", "value": 9}), json!({}));
        build.run(1, "cas", json!({"key": "a", "old": 2, "value": 3}), json!({"errno": "EAGAIN"}));
        build.run(1, "read", json!({"key": "a"}), json!({"value": 1}));
        let events = register(&build.history(), "a").events;
        let seen: Vec<_> = events.iter().map(|e| (e.kind.name(), e.f.as_str(), e.value.clone())).collect();
        assert_eq!(
            seen,
            [
                ("invoke", "write", json!(1)),
                ("ok", "write", json!(1)),
                ("invoke", "cas", json!([2, 3])),
                ("fail", "cas", json!([2, 3])),
                ("invoke", "read", json!(null)),
                ("ok", "read", json!(1)),
            ]
        );
    }
}
