//! Manifest: what fsync acknowledged is read back, cold, after whatever happened. `fsync` {"file", "checksum"} is the file and its directory;
//! `write` {"file", "checksum"} changes it without; `read-back` {"file"} to {"checksum"}. A run in which nothing was fsynced has failed.
//! Called by `suite`.

use super::linearizable::partitions;
use super::{Checker, Findings, Verdict, judge};
use crate::history::{History, Operation};
use serde_json::json;

pub struct Manifest;

impl Checker for Manifest {
    fn name(&self) -> &str {
        "manifest"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            let (mut fsynced, mut never_read) = (0, 0);
            for (file, operations) in partitions(operations, "file") {
                operations.iter().for_each(|operation| findings.look_at(operation));
                let acknowledged = operations.iter().filter(|op| op.f == "fsync" && op.is_acknowledged());
                let Some(last) = acknowledged.max_by_key(|op| op.end) else { continue };
                fsynced += 1;
                let reads: Vec<_> = operations.iter().filter(|op| op.f == "read-back" && last.is_before(op)).collect();
                let answered: Vec<_> = reads.iter().filter(|op| op.output().is_some()).collect();
                never_read += usize::from(answered.is_empty());
                answered.iter().for_each(|read| check_read(&file, last, (&operations, read), findings));
            }
            if fsynced == 0 {
                findings.anomaly("empty", "nothing was fsynced", []);
            }
            if never_read > 0 {
                findings.unknown(format!("{never_read} files were not read back"));
            }
            findings.figures = json!({"fsynced": fsynced});
        })
    }
}

fn check_read(file: &str, last: &Operation, (operations, read): (&[&Operation], &Operation), findings: &mut Findings) {
    if let Some(errno) = read.errno() {
        let kind = if errno == "ENOENT" { "lost" } else { "unreadable" };
        let text = format!("file {file}: {last} was acknowledged, and {read}");
        return findings.anomaly(kind, text, [last.start, read.start]);
    }
    // What was begun later, or at the same time, may be there instead.
    let later = operations.iter().filter(|op| matches!(op.f.as_str(), "fsync" | "write") && !op.is_before(last));
    let found = read.output().and_then(|output| output.get("checksum"));
    if !later.filter_map(|op| op.input.get("checksum")).any(|checksum| Some(checksum) == found) {
        let text = format!("file {file}: {last} was acknowledged, and {read}");
        findings.anomaly("different", text, [last.start, read.start]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;
    use serde_json::Value;

    fn fsynced() -> Build {
        let mut build = Build::default();
        build.run(1, "fsync", json!({"file": "f", "checksum": "a"}), json!({}));
        build.run(1, "fsync", json!({"file": "f", "checksum": "b"}), json!({}));
        build
    }

    fn read(build: &mut Build, output: Value) {
        build.run(2, "read-back", json!({"file": "f"}), output);
    }

    fn kinds(build: &Build) -> Vec<String> {
        Manifest.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    #[test]
    fn what_was_fsynced_last_is_read_back() {
        for (output, expected) in [
            (json!({"checksum": "b"}), None),
            (json!({"checksum": "a"}), Some("different")),
            (json!({"errno": "ENOENT"}), Some("lost")),
            (json!({"errno": "EIO"}), Some("unreadable")),
        ] {
            let mut build = fsynced();
            read(&mut build, output);
            let verdict = Manifest.check(&build.history());
            assert_eq!(verdict.is_valid(), expected.is_none());
            assert_eq!(kinds(&build).first().map(String::as_str), expected);
        }
    }

    #[test]
    fn what_came_after_it_may_be_there_instead() {
        let mut build = fsynced();
        build.invoke(1, "fsync", json!({"file": "f", "checksum": "c"}));
        build.info(1, "power loss");
        for checksum in ["b", "c"] {
            let mut build = build.clone();
            read(&mut build, json!({"checksum": checksum}));
            assert!(Manifest.check(&build.history()).is_valid());
        }
        read(&mut build, json!({"checksum": "a"}));
        assert_eq!(kinds(&build), ["different"]);
    }

    #[test]
    fn nothing_fsynced_fails_and_nothing_read_back_is_unknown() {
        let mut empty = Build::default();
        empty.invoke(1, "fsync", json!({"file": "f", "checksum": "a"}));
        empty.info(1, "power loss");
        assert_eq!(kinds(&empty), ["empty"]);
        assert!(matches!(Manifest.check(&fsynced().history()).outcome, Outcome::Unknown(_)));
    }
}
