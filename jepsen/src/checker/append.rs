//! Append: lists that only grow. All reads of a list are beginnings of one order; what was acknowledged is in every later read, once; and that
//! order agrees with time. `txn` with micro-operations `["append", key, value]` and `["r", key, [values]]`, as Elle has them; values are
//! unique within a list. Called by `suite`.

use super::{Checker, Findings, Verdict, judge};
use crate::history::{Ending, History, Operation, label};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub struct Append;

#[derive(Default)]
struct List<'a> {
    appends: BTreeMap<String, &'a Operation>,
    reads: Vec<(&'a Operation, Vec<String>)>,
}

impl Checker for Append {
    fn name(&self) -> &str {
        "append"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            let mut lists: BTreeMap<String, List<'_>> = BTreeMap::new();
            for operation in operations.iter().filter(|op| op.f == crate::history::edn::TXN) {
                findings.look_at(operation);
                gather(operation, &mut lists, findings);
            }
            for (key, list) in &lists {
                for (read, values) in &list.reads {
                    check_values(key, list, read, values, findings);
                }
                let longest = list.reads.iter().max_by_key(|(_, values)| values.len());
                let order = longest.map_or(&[][..], |(_, values)| values);
                check_prefixes(key, list, order, findings);
                check_time(key, list, order, findings);
                check_acknowledged(key, list, findings);
            }
        })
    }
}

fn gather<'a>(operation: &'a Operation, lists: &mut BTreeMap<String, List<'a>>, findings: &mut Findings) {
    let micro = operation.output().filter(|_| operation.is_acknowledged()).unwrap_or(&operation.input).as_array();
    for micro in micro.into_iter().flatten() {
        match micro.as_array().map(Vec::as_slice) {
            Some([Value::String(name), key, value]) if name == "append" => {
                let list = lists.entry(label(key)).or_default();
                if list.appends.insert(label(value), operation).is_some() {
                    findings.anomaly("unreadable", format!("{operation}: a value is appended once"), [operation.start]);
                }
            }
            Some([Value::String(name), key, Value::Array(values)]) if name == "r" && operation.is_acknowledged() => {
                let values = values.iter().map(label).collect();
                lists.entry(label(key)).or_default().reads.push((operation, values));
            }
            Some([Value::String(name), key, Value::Null]) if name == "r" => {
                let list = lists.entry(label(key)).or_default();
                // A list that is not there is empty.
                list.reads.extend(operation.is_acknowledged().then(|| (operation, Vec::new())));
            }
            _ => findings.anomaly("unreadable", format!("{operation}: {micro}"), [operation.start]),
        }
    }
}

fn check_values(key: &str, list: &List<'_>, read: &Operation, values: &[String], findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for value in values {
        if !seen.insert(value) {
            findings.anomaly("duplicated", format!("list {key}: {value} is twice in {read}"), [read.start]);
        }
        match list.appends.get(value) {
            Some(append) if append.ending == Ending::Fail || append.errno().is_some() || read.is_before(append) => {
                let text = format!("list {key}: {read} has {value}, of {append}");
                findings.anomaly("phantom", text, [append.start, read.start]);
            }
            Some(_) => {}
            None => {
                let text = format!("list {key}: {read} has {value}, which nobody appended");
                findings.anomaly("phantom", text, [read.start]);
            }
        }
    }
}

/// Every read is a beginning of the longest one.
fn check_prefixes(key: &str, list: &List<'_>, order: &[String], findings: &mut Findings) {
    for (read, values) in list.reads.iter().filter(|(_, values)| !order.starts_with(values)) {
        let text = format!("list {key}: {read} is no beginning of {}: {}", order.join(" "), values.join(" "));
        findings.anomaly("incompatible-order", text, [read.start]);
    }
}

/// What was appended before another append began stands before it.
fn check_time(key: &str, list: &List<'_>, order: &[String], findings: &mut Findings) {
    let mut latest: Option<&Operation> = None;
    for append in order.iter().filter_map(|value| list.appends.get(value)) {
        if let Some(latest) = latest.filter(|latest| append.is_before(latest)) {
            let text = format!("list {key}: {append} was over before {latest} began, and stands after it");
            findings.anomaly("reordered", text, [append.start, latest.start]);
        }
        if latest.is_none_or(|latest| latest.start < append.start) {
            latest = Some(append);
        }
    }
}

fn check_acknowledged(key: &str, list: &List<'_>, findings: &mut Findings) {
    let mut never_read = 0;
    for (value, append) in list.appends.iter().filter(|(_, append)| append.is_acknowledged()) {
        let later: Vec<_> = list.reads.iter().filter(|(read, _)| append.is_before(read)).collect();
        never_read += usize::from(later.is_empty());
        if let Some((read, _)) = later.iter().rfind(|(_, values)| !values.contains(value)) {
            let is_seen_later = later.iter().any(|(other, values)| read.is_before(other) && values.contains(value));
            let kind = if is_seen_later { "stale" } else { "lost" };
            let text = format!("list {key}: {append} had appended {value}, which is not in {read}");
            findings.anomaly(kind, text, [append.start, read.start]);
        }
    }
    // One read after another never has less.
    let mut by_end: Vec<_> = list.reads.iter().collect();
    by_end.sort_by_key(|(read, _)| read.end);
    let mut over = by_end.into_iter().peekable();
    let mut most: Option<&(&Operation, Vec<String>)> = None;
    for (read, values) in &list.reads {
        while let Some(ended) = over.next_if(|(ended, _)| ended.is_before(read)) {
            if most.is_none_or(|(_, most)| most.len() < ended.1.len()) {
                most = Some(ended);
            }
        }
        if let Some((before, _)) = most.filter(|(_, most)| most.len() > values.len()) {
            let text = format!("list {key}: {read} has less than {before}, which was over before");
            findings.anomaly("went-back", text, [before.start, read.start]);
        }
    }
    if never_read > 0 {
        findings.unknown(format!("list {key}: {never_read} appends were not read afterwards"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;
    use serde_json::json;

    fn append(build: &mut Build, value: u64) {
        let micro = json!([["append", "x", value]]);
        build.run(1, "txn", micro.clone(), micro);
    }

    fn read(build: &mut Build, values: &[u64]) {
        build.run(2, "txn", json!([["r", "x", null]]), json!([["r", "x", values]]));
    }

    fn kinds(build: &Build) -> Vec<String> {
        Append.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    fn good() -> Build {
        let mut build = Build::default();
        read(&mut build, &[]);
        append(&mut build, 1);
        append(&mut build, 2);
        read(&mut build, &[1, 2]);
        build
    }

    #[test]
    fn a_list_that_grows_is_good() {
        let mut build = good();
        build.invoke(3, "txn", json!([["append", "x", 3]]));
        build.info(3, "no reply");
        read(&mut build, &[1, 2]);
        read(&mut build, &[1, 2, 3]);
        let verdict = Append.check(&build.history());
        assert!(verdict.is_valid(), "{verdict:?}");
        assert_eq!(verdict.looked_at(), 7);
    }

    #[test]
    fn lost_stale_and_shrinking_lists_are_found() {
        let mut lost = good();
        append(&mut lost, 3);
        read(&mut lost, &[1, 2]);
        assert_eq!(kinds(&lost), ["lost"]);
        read(&mut lost, &[1, 2, 3]);
        assert_eq!(kinds(&lost), ["stale"]);
        let mut back = good();
        back.invoke(3, "txn", json!([["append", "x", 3]]));
        back.info(3, "no reply");
        read(&mut back, &[1, 2, 3]);
        read(&mut back, &[1, 2]);
        assert_eq!(kinds(&back), ["went-back"]);
    }

    #[test]
    fn orders_that_do_not_agree_are_found() {
        let mut swapped = good();
        read(&mut swapped, &[2, 1]);
        assert!(kinds(&swapped).contains(&"incompatible-order".to_string()));
        let mut late = Build::default();
        append(&mut late, 1);
        append(&mut late, 2);
        read(&mut late, &[2, 1]);
        assert_eq!(kinds(&late), ["reordered"]);
    }

    #[test]
    fn what_nobody_appended_or_twice_is_found() {
        let mut build = good();
        build.invoke(3, "txn", json!([["append", "x", 3]]));
        build.fail(3);
        read(&mut build, &[1, 2, 3]);
        assert_eq!(kinds(&build), ["phantom"]);
        let mut twice = good();
        read(&mut twice, &[1, 2, 2]);
        assert_eq!(kinds(&twice), ["duplicated"]);
        let mut strange = good();
        read(&mut strange, &[1, 2, 9]);
        assert_eq!(kinds(&strange), ["phantom"]);
    }

    #[test]
    fn what_was_not_read_is_unknown() {
        let mut build = good();
        append(&mut build, 3);
        assert!(matches!(Append.check(&build.history()).outcome, Outcome::Unknown(_)));
    }
}
