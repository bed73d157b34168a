//! Looked: what was looked at once, after the run, and noted in the history's meta data: the replicas' states (`states`), and the volume
//! (`fsck`). Called by `suite`.

use super::{Checker, Findings, Verdict};
use crate::history::History;

/// What is noted where nothing was wrong.
pub const SOUND: &str = "sound";
/// The keys of the meta data.
pub const ALL: [&str; 2] = ["states", "fsck"];

pub struct Looked(pub &'static str);

impl Checker for Looked {
    fn name(&self) -> &str {
        self.0
    }

    fn check(&self, history: &History) -> Verdict {
        let mut findings = Findings::default();
        match history.about(self.0) {
            None => findings.unknown("nobody looked"),
            Some(SOUND) => findings.count(self.0, SOUND),
            Some(wrong) => findings.anomaly("unsound", wrong, []),
        }
        findings.verdict(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;

    #[test]
    fn what_was_noted_is_the_verdict() {
        let mut history = History::default();
        assert!(matches!(Looked("fsck").check(&history).outcome, Outcome::Unknown(_)));
        history.meta.insert("fsck".into(), SOUND.into());
        assert!(Looked("fsck").check(&history).is_valid());
        history.meta.insert("fsck".into(), "an object is missing".into());
        let verdict = Looked("fsck").check(&history);
        assert!(!verdict.is_valid() && verdict.anomalies()[0].text.contains("missing"));
    }
}
