//! Close-to-open: a read after open sees at least what was closed last before that, and nothing that was not begun when it ended. Files of
//! stamped blocks: `write` {"file", "version", "mount"} is from open to the end of close, `read` {"file", "mount"} to {"versions": [...]} too, one a
//! block, or a list of those that one block had parts of; null is a block that nobody wrote. Called by `suite`.
//!
//! A read with a write under way beside it may see some blocks of both, since nothing says that a close is one step for those who have the
//! file open; each block by itself is still held to the rule. Without one, all blocks are of one version. Within a block it may see parts of both
//! only where the write was on its own mount: a kernel copies from a page and into it at the same time, on any filesystem.

use super::linearizable::partitions;
use super::{Checker, Findings, Verdict, judge};
use crate::history::{Ending, History, Operation, label};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub struct CloseToOpen;

/// A write, and from when on it is known to be there: it was acknowledged, or seen.
struct Write<'a> {
    operation: &'a Operation,
    known: u64,
}

type Writes<'a> = BTreeMap<String, Write<'a>>;

impl Checker for CloseToOpen {
    fn name(&self) -> &str {
        "close-to-open"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            let mut mixed = 0;
            for (file, operations) in partitions(operations, "file") {
                operations.iter().for_each(|operation| findings.look_at(operation));
                mixed += check_file(&file, &operations, findings);
            }
            findings.note(format!("{mixed} reads saw two versions, with a write beside them"));
            findings.figures = json!({"mixed": mixed});
        })
    }
}

fn check_file(file: &str, operations: &[&Operation], findings: &mut Findings) -> u64 {
    let mut writes = Writes::new();
    for operation in operations.iter().copied().filter(|op| op.f == "write") {
        let Some(version) = operation.key("version") else {
            findings.anomaly("unreadable", format!("{operation} has no version"), [operation.start]);
            continue;
        };
        let known = if operation.is_acknowledged() { operation.end } else { u64::MAX };
        if writes.insert(version, Write { operation, known }).is_some() {
            findings.anomaly("unreadable", format!("{operation}: a version is written once"), [operation.start]);
        }
    }
    let reads: Vec<_> = operations
        .iter()
        .copied()
        .filter(|op| op.f == "read" && op.is_acknowledged())
        .map(|op| (op, blocks(op)))
        .collect();
    // What one read saw as a whole is there for all that begin after it; but on the writer's own mount it is seen before it is there.
    for (read, blocks) in &reads {
        if let [Some(version)] = versions(blocks).iter().collect::<Vec<_>>()[..]
            && let Some(write) = writes.get_mut(version)
            && is_elsewhere(read, write.operation)
        {
            write.known = write.known.min(read.end);
        }
    }
    if reads.is_empty() {
        findings.unknown(format!("file {file} was never read"));
    }
    let check =
        |(read, blocks): &(&Operation, Vec<Versions>)| u64::from(check_read(file, read, blocks, &writes, findings));
    reads.iter().map(check).sum()
}

fn is_elsewhere(read: &Operation, write: &Operation) -> bool {
    let mount = |operation: &Operation| operation.input.get("mount").cloned();
    mount(read).is_none() || mount(read) != mount(write)
}

fn never_shows(write: &Operation) -> bool {
    write.ending == Ending::Fail || write.errno().is_some()
}

type Versions = BTreeSet<Option<String>>;

/// Of each block its version, or those that it had parts of.
fn blocks(read: &Operation) -> Vec<Versions> {
    let blocks = read.output().and_then(|output| output.get("versions")).and_then(Value::as_array);
    let version = |value: &Value| if value.is_null() { None } else { Some(label(value)) };
    let block = |value: &Value| match value {
        Value::Array(several) => several.iter().map(version).collect(),
        one => [version(one)].into(),
    };
    blocks.into_iter().flatten().map(block).collect()
}

fn versions(blocks: &[Versions]) -> Versions {
    blocks.iter().flatten().cloned().collect()
}

/// Whether it saw two versions, as it may.
fn check_read(file: &str, read: &Operation, blocks: &[Versions], writes: &Writes<'_>, findings: &mut Findings) -> bool {
    let versions = versions(blocks);
    let known = writes.values().filter(|write| write.known < read.start);
    let newest = known.max_by_key(|write| write.operation.start);
    for version in &versions {
        let write = version.as_ref().map(|version| writes.get(version));
        let told = version.as_deref().unwrap_or("nothing");
        match write {
            Some(Some(Write { operation, .. })) if never_shows(operation) || read.is_before(operation) => {
                let text = format!("file {file}: the read #{} saw {told}, of {operation}", read.start);
                findings.anomaly("phantom", text, [operation.start, read.start]);
            }
            Some(None) => {
                let text = format!("file {file}: the read #{} saw {told}, which nobody wrote", read.start);
                findings.anomaly("phantom", text, [read.start]);
                continue;
            }
            Some(Some(_)) | None => {}
        }
        let Some(newest) = newest else { continue };
        // A block that nobody wrote is older than every write.
        let over = write.flatten().map_or(0, |write| write.operation.end);
        if over < newest.operation.start || (version.is_none() && over == 0) {
            let newest = newest.operation;
            let text =
                format!("file {file}: the read #{} saw {told}, although {newest} was there before it", read.start);
            findings.anomaly("stale", text, [newest.start, read.start]);
        }
    }
    let is_beside = |write: &Write<'_>| write.operation.start < read.end && write.operation.end > read.start;
    let has_beside = |versions: &Versions, counts: &dyn Fn(&Operation) -> bool| {
        let mut of = versions.iter().flatten().filter_map(|version| writes.get(version));
        of.any(|write| is_beside(write) && counts(write.operation))
    };
    let mut torn = |versions: &Versions, what: &str| {
        let told: Vec<_> = versions.iter().map(|version| version.as_deref().unwrap_or("nothing")).collect();
        let text = format!("file {file}: the read #{} saw {} {what}", read.start, told.join(" and "));
        findings.anomaly("torn", text, [read.start]);
    };
    let is_mixed = versions.len() > 1 && has_beside(&versions, &|_| true);
    if versions.len() > 1 && !is_mixed {
        torn(&versions, "with no write beside it");
    }
    let is_here = |write: &Operation| !is_elsewhere(read, write);
    for block in blocks.iter().filter(|block| block.len() > 1 && !has_beside(block, &is_here)) {
        torn(block, "in one block, with no write beside it on its mount");
    }
    is_mixed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;

    fn write(build: &mut Build, version: u64) {
        build.run(1, "write", json!({"file": "f", "version": version}), json!({}));
    }

    fn read(build: &mut Build, versions: Value) {
        build.run(2, "read", json!({"file": "f"}), json!({"versions": versions}));
    }

    fn kinds(build: &Build) -> Vec<String> {
        CloseToOpen.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    #[test]
    fn a_read_sees_what_was_closed_last() {
        let mut build = Build::default();
        read(&mut build, json!([null, null]));
        write(&mut build, 1);
        write(&mut build, 2);
        let before = build.clone();
        read(&mut build, json!([2, 2]));
        assert!(CloseToOpen.check(&build.history()).is_valid());
        for (versions, kind) in [(json!([1, 1]), "stale"), (json!([null, null]), "stale"), (json!([9, 9]), "phantom")] {
            let mut bad = before.clone();
            read(&mut bad, versions);
            assert_eq!(kinds(&bad), [kind]);
        }
        let mut torn = before;
        torn.invoke(3, "write", json!({"file": "f", "version": 3}));
        torn.ok(3, json!({}));
        read(&mut torn, json!([3, 2]));
        assert_eq!(kinds(&torn), ["stale", "torn"]);
    }

    #[test]
    fn beside_a_write_a_read_sees_either_or_both() {
        for versions in [json!([1, 1]), json!([2, 2]), json!([2, 1])] {
            let mut build = Build::default();
            write(&mut build, 1);
            build.invoke(3, "write", json!({"file": "f", "version": 2}));
            read(&mut build, versions);
            build.ok(3, json!({}));
            assert!(CloseToOpen.check(&build.history()).is_valid());
        }
        let mut other = Build::default();
        write(&mut other, 1);
        other.invoke(3, "write", json!({"file": "f", "version": 2}));
        read(&mut other, json!([null, 2]));
        assert_eq!(kinds(&other), ["stale"]);
    }

    #[test]
    fn a_block_has_parts_of_two_versions_only_beside_a_write_on_the_same_mount() {
        let write = |version: u64| json!({"file": "f", "version": version, "mount": 1});
        // Where no write is beside it at all, the file is torn, too.
        for (reads_on, done_before, expected) in [(1, false, 0), (2, false, 1), (1, true, 2)] {
            let mut build = Build::default();
            build.run(1, "write", write(1), json!({}));
            build.invoke(1, "write", write(2));
            if done_before {
                build.ok(1, json!({}));
                build.invoke(1, "write", write(3));
            }
            build.run(2, "read", json!({"file": "f", "mount": reads_on}), json!({"versions": [[1, 2], 2]}));
            build.ok(1, json!({}));
            let torn = kinds(&build).iter().filter(|kind| *kind == "torn").count();
            assert_eq!(torn, expected, "read on {reads_on}");
        }
    }

    #[test]
    fn what_the_writers_own_mount_sees_before_the_close_is_not_there_for_others_yet() {
        for (reads_on, expected) in [(1, 0), (2, 1)] {
            let mut build = Build::default();
            build.run(1, "write", json!({"file": "f", "version": 1, "mount": 1}), json!({}));
            build.invoke(1, "write", json!({"file": "f", "version": 2, "mount": 1}));
            build.run(2, "read", json!({"file": "f", "mount": reads_on}), json!({"versions": [2]}));
            build.run(3, "read", json!({"file": "f", "mount": 3}), json!({"versions": [1]}));
            build.ok(1, json!({}));
            assert_eq!(CloseToOpen.check(&build.history()).anomalies_count, expected, "read on {reads_on}");
        }
    }

    #[test]
    fn an_unknown_write_that_was_seen_stays_and_a_failed_one_never_shows() {
        let mut build = Build::default();
        write(&mut build, 1);
        build.invoke(3, "write", json!({"file": "f", "version": 2}));
        build.info(3, "killed");
        read(&mut build, json!([1]));
        read(&mut build, json!([2]));
        assert!(CloseToOpen.check(&build.history()).is_valid());
        read(&mut build, json!([1]));
        assert_eq!(kinds(&build), ["stale"]);
        let mut failed = Build::default();
        failed.invoke(3, "write", json!({"file": "f", "version": 2}));
        failed.fail(3);
        read(&mut failed, json!([2]));
        assert_eq!(kinds(&failed), ["phantom"]);
    }

    #[test]
    fn a_file_that_was_never_read_proves_nothing() {
        let mut build = Build::default();
        write(&mut build, 1);
        assert!(matches!(CloseToOpen.check(&build.history()).outcome, Outcome::Unknown(_)));
    }
}
