//! Occurrences: each time a fault was there, from the nemesis' events. A fault is an invocation with its name as `f` and {"id"}; its completion says
//! {"id", "bit", "evidence"}; `heal` {"id"} ends it, and may say `bit` too, where that shows only afterwards. Called by `faults`,
//! `availability` and the report.

use crate::history::{Event, History, Kind};
use serde_json::Value;

/// The `f` that ends a fault.
pub const HEAL: &str = "heal";

#[derive(Clone, Debug, PartialEq)]
pub struct Occurrence {
    pub id: u64,
    pub fault: String,
    /// Index of its invocation.
    pub event: u64,
    pub start_ns: u64,
    /// When healing was over; None where it never was.
    pub end_ns: Option<u64>,
    /// None where nobody said.
    pub bit: Option<bool>,
    pub evidence: Vec<String>,
    /// Why it could not be brought about, or healed.
    pub error: Option<String>,
}

pub fn occurrences(history: &History) -> Vec<Occurrence> {
    let mut found: Vec<Occurrence> = Vec::new();
    for event in history.nemesis() {
        let id = event.value.get("id").and_then(Value::as_u64);
        if event.f != HEAL && event.kind == Kind::Invoke {
            let (fault, start_ns) = (event.f.clone(), event.time);
            let (end_ns, bit, evidence, error) = (None, None, Vec::new(), None);
            let id = id.unwrap_or(event.index);
            found.push(Occurrence { id, fault, event: event.index, start_ns, end_ns, bit, evidence, error });
            continue;
        }
        let is_same = |one: &&mut Occurrence| match id {
            Some(id) => one.id == id,
            None => one.end_ns.is_none() && (event.f == HEAL || one.fault == event.f),
        };
        if let Some(one) = found.iter_mut().rev().find(is_same) {
            learn(one, event);
        }
    }
    found
}

fn learn(one: &mut Occurrence, event: &Event) {
    if event.kind == Kind::Invoke {
        return;
    }
    if let Some(bit) = event.value.get("bit").and_then(Value::as_bool) {
        one.bit = Some(one.bit.unwrap_or_default() || bit);
    }
    one.evidence.extend(event.value.get("evidence").map(crate::history::label));
    match event.kind {
        Kind::Fail => one.error = Some(event.error.clone().unwrap_or_else(|| event.value.to_string())),
        _ if event.f == HEAL => one.end_ns = Some(event.time),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;

    #[test]
    fn a_fault_lasts_until_it_was_healed() {
        let mut build = Build::default();
        build.fault("kill", 1, true);
        build.fault("partition", 2, false);
        build.heal(1);
        let found = occurrences(&build.history());
        let seen: Vec<_> = found.iter().map(|one| (one.fault.as_str(), one.bit, one.end_ns.is_some())).collect();
        assert_eq!(seen, [("kill", Some(true), true), ("partition", Some(false), false)]);
        assert_eq!(found[0].evidence, ["the process is gone"]);
    }

    #[test]
    fn events_without_an_id_belong_to_the_last_that_is_open() {
        let mut build = Build::default();
        build.add(crate::history::Process::Nemesis, Kind::Invoke, "kill", Value::Null);
        build.add(crate::history::Process::Nemesis, Kind::Info, "kill", serde_json::json!({"bit": true}));
        build.add(crate::history::Process::Nemesis, Kind::Fail, HEAL, Value::Null).error = Some("no such pid".into());
        let found = occurrences(&build.history());
        assert_eq!((found[0].bit, found[0].error.as_deref()), (Some(true), Some("no such pid")));
    }
}
