//! Unlinked: a file that is open stays, whole, though its last name is gone. `hold` {"file", "checksum"} is its unlink; `read` {"file"} to
//! {"checksum"} is through the descriptor. Called by `suite`.

use super::linearizable::partitions;
use super::{Checker, Findings, Verdict, judge};
use crate::history::{History, Operation};
use serde_json::json;

pub struct Unlinked;

impl Checker for Unlinked {
    fn name(&self) -> &str {
        "unlinked"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            let (mut read, mut longest_ms) = (0_u64, 0);
            for (file, operations) in partitions(operations, "file") {
                operations.iter().for_each(|operation| findings.look_at(operation));
                let Some(hold) = operations.iter().find(|op| op.f == "hold" && op.is_acknowledged()) else { continue };
                let reads =
                    operations.iter().filter(|op| op.f == "read" && op.output().is_some() && hold.is_before(op));
                for one in reads {
                    read += 1;
                    longest_ms = longest_ms.max(one.start_ns.saturating_sub(hold.end_ns) / 1_000_000);
                    check_read(&file, hold, one, findings);
                }
            }
            if read == 0 {
                findings.unknown("no unlinked file was read");
            }
            findings.figures = json!({"reads": read, "longest_ms": longest_ms});
        })
    }
}

fn check_read(file: &str, hold: &Operation, read: &Operation, findings: &mut Findings) {
    let checksum = |value: Option<&serde_json::Value>| value.and_then(|value| value.get("checksum")).cloned();
    let kind = match read.errno() {
        Some(_) => "freed",
        None if checksum(read.output()) != checksum(Some(&hold.input)) => "different",
        None => return,
    };
    findings.anomaly(kind, format!("file {file}: it was open at {hold}, and then {read}"), [hold.start, read.start]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;
    use serde_json::Value;

    fn held() -> Build {
        let mut build = Build::default();
        build.run(1, "hold", json!({"file": "f", "checksum": "a"}), json!({}));
        build
    }

    fn read(build: &mut Build, output: Value) {
        build.run(1, "read", json!({"file": "f"}), output);
    }

    #[test]
    fn what_is_open_is_read_whole_until_it_is_closed() {
        for (output, expected) in [
            (json!({"checksum": "a"}), None),
            (json!({"checksum": "b"}), Some("different")),
            (json!({"errno": "ESTALE"}), Some("freed")),
            (json!({"errno": "EIO"}), Some("freed")),
        ] {
            let mut build = held();
            read(&mut build, json!({"checksum": "a"}));
            build.pause_ms(2_000);
            read(&mut build, output);
            let verdict = Unlinked.check(&build.history());
            assert_eq!(verdict.anomalies().first().map(|anomaly| anomaly.kind.as_str()), expected);
            assert_eq!(verdict.is_valid(), expected.is_none());
            assert_eq!(verdict.figures, json!({"reads": 2, "longest_ms": 2003}));
        }
    }

    #[test]
    fn what_was_never_read_or_perhaps_never_unlinked_proves_nothing() {
        assert!(matches!(Unlinked.check(&held().history()).outcome, Outcome::Unknown(_)));
        let mut lost = held();
        lost.invoke(1, "read", json!({"file": "f"}));
        lost.info(1, "the mount was killed");
        assert!(matches!(Unlinked.check(&lost.history()).outcome, Outcome::Unknown(_)));
        let mut unsure = Build::default();
        unsure.invoke(1, "hold", json!({"file": "f", "checksum": "a"}));
        unsure.info(1, "no reply");
        unsure.run(2, "read", json!({"file": "f"}), json!({"errno": "ENOENT"}));
        assert!(matches!(Unlinked.check(&unsure.history()).outcome, Outcome::Unknown(_)));
    }
}
