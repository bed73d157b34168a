//! Exactly once: what was acknowledged happened once, though its reply was lost and it was sent again; what nobody knows happened at most once.
//! `incr` {"counter", "by"}, `count` {"counter"} to {"value"}. And operations with `"once": true`, such as making a name that nobody else
//! makes: they can be refused only if they were done before. Called by `suite`.

use super::linearizable::partitions;
use super::{Checker, Findings, Verdict, judge};
use crate::history::{Ending, History, Operation};
use serde_json::Value;

pub struct ExactlyOnce;

impl Checker for ExactlyOnce {
    fn name(&self) -> &str {
        "exactly-once"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            for once in operations.iter().filter(|op| op.input.get("once") == Some(&Value::Bool(true))) {
                findings.look_at(once);
                if let Some(errno) = once.errno() {
                    let text = format!("{once}: it can be refused with {errno} only if it was done twice");
                    findings.anomaly("done-twice", text, [once.start]);
                }
            }
            for (counter, operations) in partitions(operations, "counter") {
                operations.iter().for_each(|operation| findings.look_at(operation));
                check_counter(&counter, &operations, findings);
            }
        })
    }
}

fn by(incr: &Operation) -> i64 {
    incr.input.get("by").and_then(Value::as_i64).unwrap_or(1)
}

/// A count is at least what was acknowledged before it, and at most what may have happened by its end.
fn check_counter(counter: &str, operations: &[&Operation], findings: &mut Findings) {
    let incrs: Vec<_> = operations.iter().filter(|op| op.f == "incr" && op.ending != Ending::Fail).collect();
    let counts: Vec<_> = operations.iter().filter(|op| op.f == "count" && op.is_acknowledged()).collect();
    for count in &counts {
        let Some(value) = count.output().and_then(|output| output.get("value")).and_then(Value::as_i64) else {
            findings.anomaly("unreadable", format!("{count} has no value"), [count.start]);
            continue;
        };
        let (mut least, mut most) = (0, 0);
        for incr in incrs.iter().filter(|incr| incr.errno().is_none() && !count.is_before(incr)) {
            let by = by(incr);
            let certain = incr.is_acknowledged() && incr.is_before(count);
            least += if certain { by } else { by.min(0) };
            most += if certain { by } else { by.max(0) };
        }
        if value < least || value > most {
            let kind = if value < least { "lost" } else { "done-twice" };
            let text = format!("counter {counter}: {count}, and it can only be {least} to {most}");
            findings.anomaly(kind, text, [count.start]);
        }
    }
    let last = counts.iter().map(|count| count.start).max().unwrap_or_default();
    if incrs.iter().any(|incr| incr.is_acknowledged() && incr.end > last) {
        findings.unknown(format!("counter {counter} was not read after its last increment"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;
    use serde_json::json;

    fn incr(build: &mut Build) {
        build.run(1, "incr", json!({"counter": "c", "by": 1}), json!({}));
    }

    fn count(build: &mut Build, value: i64) {
        build.run(2, "count", json!({"counter": "c"}), json!({"value": value}));
    }

    fn kinds(build: &Build) -> Vec<String> {
        ExactlyOnce.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    #[test]
    fn a_counter_has_what_was_acknowledged_and_at_most_what_is_unknown() {
        let mut build = Build::default();
        incr(&mut build);
        incr(&mut build);
        build.invoke(3, "incr", json!({"counter": "c"}));
        build.info(3, "no reply");
        build.invoke(4, "incr", json!({"counter": "c"}));
        build.fail(4);
        for (value, expected) in [(2, None), (3, None), (1, Some("lost")), (4, Some("done-twice"))] {
            let mut build = build.clone();
            count(&mut build, value);
            assert_eq!(kinds(&build).first().map(String::as_str), expected, "{value}");
        }
        assert!(matches!(ExactlyOnce.check(&build.history()).outcome, Outcome::Unknown(_)));
    }

    #[test]
    fn what_nobody_else_does_is_never_refused() {
        let mut build = Build::default();
        build.run(1, "create", json!({"path": "own-1", "once": true}), json!({}));
        assert!(ExactlyOnce.check(&build.history()).is_valid());
        build.run(1, "create", json!({"path": "own-2", "once": true}), json!({"errno": "EEXIST"}));
        assert_eq!(kinds(&build), ["done-twice"]);
    }
}
