//! Set: every element that was added and acknowledged is in every later read. Over FUSE a read of a directory is many calls, so it counts as one
//! read of each name at some time between its beginning and its end. `add` {"set", "element"}, `read` {"set"} to {"elements": [...]}.
//! Called by `suite`.

use super::linearizable::partitions;
use super::{Checker, Findings, Verdict, judge};
use crate::history::{Ending, History, Operation, label};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub struct SetFull;

/// What is known about one element.
struct Element<'a> {
    add: &'a Operation,
    /// The first event after which it must be seen, and when.
    known: Option<(u64, u64)>,
}

struct Read<'a> {
    operation: &'a Operation,
    elements: BTreeSet<String>,
}

impl Checker for SetFull {
    fn name(&self) -> &str {
        "set-full"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            let wanted = |op: &&&Operation| matches!(op.f.as_str(), "add" | "read");
            let mut stale_ms = Vec::new();
            for (set, operations) in partitions(operations, "set") {
                let operations: Vec<_> = operations.iter().filter(wanted).copied().collect();
                operations.iter().for_each(|operation| findings.look_at(operation));
                check_one(&set, &operations, &mut stale_ms, findings);
            }
            findings.figures = json!({"stale_ms_max": stale_ms.iter().max()});
        })
    }
}

fn check_one(set: &str, operations: &[&Operation], stale_ms: &mut Vec<u64>, findings: &mut Findings) {
    let mut elements: BTreeMap<String, Element<'_>> = BTreeMap::new();
    for add in operations.iter().copied().filter(|op| op.f == "add") {
        let Some(element) = add.key("element") else {
            findings.anomaly("unreadable", format!("{add} names no element"), [add.start]);
            continue;
        };
        let known = add.is_acknowledged().then_some((add.end, add.end_ns));
        if elements.insert(element, Element { add, known }).is_some() {
            findings.anomaly("unreadable", format!("{add}: an element is added once"), [add.start]);
        }
    }
    let reads = reads(set, operations, &mut elements, findings);
    let mut never_read = 0;
    for (element, state) in &elements {
        let Some((known, known_ns)) = state.known else { continue };
        let later: Vec<_> = reads.iter().filter(|read| read.operation.start > known).collect();
        never_read += usize::from(later.is_empty() && state.add.is_acknowledged());
        let Some(missed) = later.iter().rfind(|read| !read.elements.contains(element)) else { continue };
        let (add, read) = (state.add, missed.operation);
        let is_seen_later = later.iter().any(|later| missed.operation.is_before(later.operation));
        let text = format!("set {set}: {element} was added by {add}, and was not in the read #{}", read.start);
        if is_seen_later {
            stale_ms.push(read.start_ns.saturating_sub(known_ns) / 1_000_000);
            findings.anomaly("stale", format!("{text}; a later one has it"), [add.start, read.start]);
        } else {
            findings.anomaly("lost", format!("{text}, nor in a later one"), [add.start, read.start]);
        }
    }
    if never_read > 0 {
        findings.unknown(format!("set {set}: {never_read} elements were not read after they were there"));
    }
}

/// Completed reads. What they hold must have been added, and be there once; and from the end of a read on, what it holds is known.
fn reads<'a>(
    set: &str,
    operations: &[&'a Operation],
    elements: &mut BTreeMap<String, Element<'a>>,
    findings: &mut Findings,
) -> Vec<Read<'a>> {
    let mut reads = Vec::new();
    for read in operations.iter().copied().filter(|op| op.f == "read" && op.is_acknowledged()) {
        let Some(list) = read.output().and_then(|output| output.get("elements")).and_then(Value::as_array) else {
            findings.anomaly("unreadable", format!("{read} has no elements"), [read.start]);
            continue;
        };
        let mut held = BTreeSet::new();
        for element in list.iter().map(label) {
            if !held.insert(element.clone()) {
                findings.anomaly(
                    "duplicated",
                    format!("set {set}: {element} is twice in {}", read.start),
                    [read.start],
                );
            }
            match elements.get_mut(&element) {
                Some(Element { add, .. }) if read.is_before(add) || add.ending == Ending::Fail => {
                    let text = format!("set {set}: the read #{} has {element}, of {add}", read.start);
                    findings.anomaly("phantom", text, [add.start, read.start]);
                }
                Some(Element { known, .. }) => {
                    *known = Some(known.map_or((read.end, read.end_ns), |known| known.min((read.end, read.end_ns))));
                }
                None => {
                    let text = format!("set {set}: the read #{} has {element}, which nobody added", read.start);
                    findings.anomaly("phantom", text, [read.start]);
                }
            }
        }
        reads.push(Read { operation: read, elements: held });
    }
    reads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;

    fn add(build: &mut Build, element: u64) {
        build.run(1, "add", json!({"set": "d", "element": element}), json!({}));
    }

    fn read(build: &mut Build, elements: &[u64]) {
        build.run(2, "read", json!({"set": "d"}), json!({"elements": elements}));
    }

    fn kinds(build: &Build) -> Vec<String> {
        SetFull.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    #[test]
    fn what_is_acknowledged_is_in_every_later_read() {
        let mut build = Build::default();
        add(&mut build, 1);
        read(&mut build, &[1]);
        add(&mut build, 2);
        // Begun before 2 was there: it may or may not see it.
        build.invoke(3, "read", json!({"set": "d"}));
        add(&mut build, 3);
        build.ok(3, json!({"elements": [2, 1]}));
        read(&mut build, &[1, 2, 3]);
        assert!(SetFull.check(&build.history()).is_valid());
        let mut lost = build.clone();
        read(&mut lost, &[1, 3]);
        assert_eq!(kinds(&lost), ["lost"]);
        read(&mut build, &[1, 3]);
        read(&mut build, &[1, 2, 3]);
        assert_eq!(kinds(&build), ["stale"]);
    }

    #[test]
    fn a_read_holds_what_was_added_once() {
        let mut build = Build::default();
        add(&mut build, 1);
        read(&mut build, &[1, 1]);
        assert_eq!(kinds(&build), ["duplicated"]);
        let mut phantom = Build::default();
        read(&mut phantom, &[1]);
        add(&mut phantom, 1);
        phantom.invoke(1, "add", json!({"set": "d", "element": 2}));
        phantom.fail(1);
        read(&mut phantom, &[1, 2, 3]);
        assert_eq!(kinds(&phantom), ["phantom", "phantom", "phantom"]);
    }

    #[test]
    fn an_unknown_add_that_was_seen_stays() {
        let mut build = Build::default();
        build.invoke(1, "add", json!({"set": "d", "element": 1}));
        build.info(1, "no reply");
        read(&mut build, &[]);
        read(&mut build, &[1]);
        assert!(SetFull.check(&build.history()).is_valid());
        read(&mut build, &[]);
        assert_eq!(kinds(&build), ["lost"]);
    }

    #[test]
    fn what_was_never_read_is_unknown() {
        let mut build = Build::default();
        read(&mut build, &[]);
        add(&mut build, 1);
        assert!(matches!(SetFull.check(&build.history()).outcome, Outcome::Unknown(_)));
        assert!(matches!(SetFull.check(&History::default()).outcome, Outcome::Unknown(_)));
    }
}
