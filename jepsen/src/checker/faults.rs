//! Faults: each one that was ordered was brought about, was seen to bite, and was healed. A run whose fault never bit shows nothing.
//! Called by `suite`.

use super::occurrence::occurrences;
use super::{Checker, Findings, Verdict};
use crate::history::History;
use serde_json::json;
use std::collections::BTreeMap;

pub struct Faults;

impl Checker for Faults {
    fn name(&self) -> &str {
        "faults"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut findings = Findings::default();
        let mut bites: BTreeMap<String, [u64; 2]> = BTreeMap::new();
        for one in occurrences(history) {
            let has_bitten = one.bit == Some(true);
            findings.count(&one.fault, if has_bitten { "bit" } else { "never bit" });
            let [bit, all] = bites.entry(one.fault.clone()).or_default();
            (*bit, *all) = (*bit + u64::from(has_bitten), *all + 1);
            let name = format!("{} #{}", one.fault, one.event);
            match (&one.error, one.bit) {
                (Some(error), _) => findings.anomaly("failed", format!("{name} failed: {error}"), [one.event]),
                (None, Some(true)) => {}
                (None, _) => {
                    let evidence = if one.evidence.is_empty() { "nothing".into() } else { one.evidence.join("; ") };
                    let text = format!("{name} never bit; what was seen: {evidence}");
                    findings.anomaly("never-bit", text, [one.event]);
                }
            }
            if one.end_ns.is_none() && one.error.is_none() {
                findings.anomaly("never-healed", format!("{name} was not healed"), [one.event]);
            }
        }
        findings.figures =
            bites.into_iter().map(|(fault, [bit, all])| (fault, json!({"bit": bit, "injected": all}))).collect();
        findings.verdict(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;
    use crate::history::{Kind, Process};
    use serde_json::Value;

    fn kinds(build: &Build) -> Vec<String> {
        Faults.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    #[test]
    fn a_fault_bites_and_is_healed() {
        let mut build = Build::default();
        build.fault("kill", 1, true);
        assert_eq!(kinds(&build), ["never-healed"]);
        build.heal(1);
        let verdict = Faults.check(&build.history());
        assert!(verdict.is_valid());
        assert_eq!(verdict.figures, json!({"kill": {"bit": 1, "injected": 1}}));
        build.fault("loss", 2, false);
        build.heal(2);
        assert_eq!(kinds(&build), ["never-bit"]);
    }

    #[test]
    fn a_fault_of_which_nobody_says_that_it_bit_has_not() {
        let mut build = Build::default();
        build.add(Process::Nemesis, Kind::Invoke, "kill", json!({"id": 1}));
        build.heal(1);
        assert_eq!(kinds(&build), ["never-bit"]);
        let mut failed = Build::default();
        failed.add(Process::Nemesis, Kind::Invoke, "kill", json!({"id": 1}));
        failed.add(Process::Nemesis, Kind::Fail, "kill", json!({"id": 1})).error = Some("no leader".into());
        assert_eq!(kinds(&failed), ["failed"]);
        assert!(matches!(Faults.check(&History::default()).outcome, Outcome::Unknown(_)));
        let mut odd = Build::default();
        odd.add(Process::Nemesis, Kind::Info, "note", Value::Null);
        assert!(matches!(Faults.check(&odd.history()).outcome, Outcome::Unknown(_)));
    }
}
