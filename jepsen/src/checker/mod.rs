//! Checkers: each judges one promise by a history alone. `suite` says which belong to which workload. Pure. Called by `cli` and
//! at the end of a run.

use crate::history::{History, Operation};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

pub mod append;
pub mod availability;
pub mod close_to_open;
pub mod conservation;
pub mod exactly_once;
pub mod faults;
pub mod linearizable;
pub mod lock;
pub mod looked;
pub mod manifest;
pub mod occurrence;
pub mod replay;
mod search;
pub mod set_full;
pub mod suite;
#[cfg(test)]
mod test_random;
pub mod unlinked;

/// Anomalies that are told in words; the rest is counted.
pub const ANOMALIES_TOLD_MAX: usize = 50;

/// One promise's judge.
pub trait Checker: Send + Sync {
    fn name(&self) -> &str;

    fn check(&self, history: &History) -> Verdict;
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Anomaly {
    /// A short name of its kind, such as `lost` or `stale`.
    pub kind: String,
    /// What is wrong, for a reader who has not seen the history.
    pub text: String,
    /// The events that show it, by index.
    pub events: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", content = "because", rename_all = "lowercase")]
pub enum Outcome {
    Valid,
    Invalid(Vec<Anomaly>),
    /// Nobody can tell, for this reason. Never a pass.
    Unknown(String),
}

/// What a checker has to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub checker: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Operations that were looked at: by name, by result (`ok`, an errno, `fail`, `info`).
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
    /// Anomalies, with those that are not told.
    pub anomalies_count: usize,
    pub notes: Vec<String>,
    /// Measurements, for tables.
    pub figures: Value,
}

impl Verdict {
    pub fn is_valid(&self) -> bool {
        self.outcome == Outcome::Valid
    }

    pub fn anomalies(&self) -> &[Anomaly] {
        match &self.outcome {
            Outcome::Invalid(anomalies) => anomalies,
            Outcome::Valid | Outcome::Unknown(_) => &[],
        }
    }

    /// Operations that were looked at.
    pub fn looked_at(&self) -> u64 {
        self.counts.values().flat_map(BTreeMap::values).sum()
    }
}

/// What a checker finds on its way; becomes its verdict.
#[derive(Debug, Default)]
pub struct Findings {
    anomalies: Vec<Anomaly>,
    anomalies_count: usize,
    unknown: Option<String>,
    counts: BTreeMap<String, BTreeMap<String, u64>>,
    notes: Vec<String>,
    pub figures: Value,
}

impl Findings {
    pub fn look_at(&mut self, operation: &Operation) {
        self.count(&operation.f, operation.result());
    }

    pub fn count(&mut self, f: &str, result: &str) {
        *self.counts.entry(f.into()).or_default().entry(result.into()).or_default() += 1;
    }

    pub fn anomaly(&mut self, kind: &str, text: impl Into<String>, events: impl Into<Vec<u64>>) {
        self.anomalies_count += 1;
        if self.anomalies.len() < ANOMALIES_TOLD_MAX {
            self.anomalies.push(Anomaly { kind: kind.into(), text: text.into(), events: events.into() });
        }
    }

    /// Keeps the run from passing; the first reason is told, and an anomaly outweighs it.
    pub fn unknown(&mut self, reason: impl Into<String>) {
        self.unknown.get_or_insert_with(|| reason.into());
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// One that saw nothing has not passed: what failed, or has no known ending, shows nothing.
    pub fn verdict(mut self, checker: &str) -> Verdict {
        let mut results = self.counts.values().flat_map(BTreeMap::keys);
        if !results.any(|result| !matches!(result.as_str(), "fail" | "info")) {
            self.unknown("there was nothing to check");
        }
        let outcome = match self.unknown {
            _ if self.anomalies_count > 0 => Outcome::Invalid(self.anomalies),
            Some(reason) => Outcome::Unknown(reason),
            None => Outcome::Valid,
        };
        let Findings { counts, anomalies_count, notes, figures, .. } = self;
        Verdict { checker: checker.into(), outcome, counts, anomalies_count, notes, figures }
    }
}

/// A checker's frame: its operations, or the verdict on a history that is none.
pub fn judge(checker: &str, history: &History, check: impl FnOnce(&[Operation], &mut Findings)) -> Verdict {
    let mut findings = Findings::default();
    match history.operations() {
        Ok(operations) => check(&operations, &mut findings),
        Err(malformed) => {
            for broken in malformed {
                findings.anomaly("malformed", broken.what, [broken.index]);
            }
        }
    }
    findings.verdict(checker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;
    use serde_json::json;

    #[test]
    fn nothing_to_check_and_not_knowing_are_no_pass() {
        assert!(matches!(Findings::default().verdict("x").outcome, Outcome::Unknown(_)));
        let mut failed = Findings::default();
        failed.count("read", "info");
        failed.count("write", "fail");
        assert_eq!(failed.verdict("x").outcome, Outcome::Unknown("there was nothing to check".into()));
        let mut unsure = Findings::default();
        unsure.count("read", "ok");
        unsure.unknown("too long");
        unsure.unknown("too wide");
        assert_eq!(unsure.verdict("x").outcome, Outcome::Unknown("too long".into()));
        let mut wrong = Findings::default();
        wrong.unknown("too long");
        for _ in 0..60 {
            wrong.anomaly("lost", "a", [1]);
        }
        let verdict = wrong.verdict("x");
        assert_eq!((verdict.anomalies().len(), verdict.anomalies_count), (50, 60));
    }

    #[test]
    fn a_history_that_is_none_is_invalid() {
        let mut build = Build::default();
        build.invoke(1, "a", json!(1));
        build.invoke(1, "a", json!(1));
        let verdict = judge("x", &build.history(), |_, findings| findings.count("a", "ok"));
        assert_eq!(verdict.anomalies()[0].kind, "malformed");
    }
}
