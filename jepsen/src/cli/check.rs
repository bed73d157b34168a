//! check: reads a history in either form, and says what its workload's checkers find. Called by `cli`.

use crate::checker::suite::judge;
use crate::checker::{Outcome, Verdict};
use crate::history::History;
use crate::report;
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Check {
    /// JSON lines or EDN
    pub history: PathBuf,
    /// Whose checkers to use, commas between; the history's own where it says so
    #[arg(long)]
    pub workload: Option<String>,
    /// Verdicts as JSON
    #[arg(long)]
    pub json: bool,
    /// Also write the report of the run here
    #[arg(long)]
    pub html: Option<PathBuf>,
}

const VALID: u8 = 0;
const INVALID: u8 = 1;
const UNKNOWN: u8 = 2;

/// # Errors
/// The file cannot be read, or is not a history.
pub fn load(path: &Path) -> Result<History, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let text = String::from_utf8(bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    History::parse(&text).map_err(|damaged| format!("{}: {damaged}", path.display()))
}

/// Of several verdicts the worst: any anomaly, then anything unknown.
pub fn exit_code(verdicts: &[Verdict]) -> u8 {
    let any = |wanted: fn(&Outcome) -> bool| verdicts.iter().any(|verdict| wanted(&verdict.outcome));
    match () {
        () if any(|outcome| matches!(outcome, Outcome::Invalid(_))) => INVALID,
        () if any(|outcome| matches!(outcome, Outcome::Unknown(_))) || verdicts.is_empty() => UNKNOWN,
        () => VALID,
    }
}

/// For a terminal.
pub fn tell(verdict: &Verdict) -> String {
    let mut text = match &verdict.outcome {
        Outcome::Valid => format!("valid    {} ({} operations)\n", verdict.checker, verdict.looked_at()),
        Outcome::Unknown(reason) => format!("UNKNOWN  {}: {reason}\n", verdict.checker),
        Outcome::Invalid(_) => format!("INVALID  {}: {} anomalies\n", verdict.checker, verdict.anomalies_count),
    };
    for anomaly in verdict.anomalies() {
        text += &format!("         {}: {}\n", anomaly.kind, anomaly.text);
    }
    for note in &verdict.notes {
        text += &format!("         {note}\n");
    }
    text
}

impl Check {
    /// # Errors
    /// There is nothing to judge.
    pub fn run(&self) -> Result<u8, String> {
        let history = load(&self.history)?;
        let own = history.about("workload").map(str::to_owned);
        let workload = self.workload.clone().or(own).ok_or("the history names no workload; give --workload")?;
        let verdicts = judge(&workload, &history)?;
        if self.json {
            let text = serde_json::to_string_pretty(&verdicts).map_err(|error| format!("write JSON: {error}"))?;
            println!("{text}");
        } else {
            verdicts.iter().for_each(|verdict| print!("{}", tell(verdict)));
        }
        if let Some(path) = &self.html {
            let page = report::html(&history, &verdicts);
            std::fs::write(path, page).map_err(|error| format!("write {}: {error}", path.display()))?;
        }
        Ok(exit_code(&verdicts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Findings;

    fn verdict(anomaly: bool, unknown: bool) -> Verdict {
        let mut findings = Findings::default();
        findings.count("read", "ok");
        if anomaly {
            findings.anomaly("lost", "it is gone", []);
        }
        if unknown {
            findings.unknown("too long");
        }
        findings.verdict("x")
    }

    #[test]
    fn the_worst_verdict_is_the_exit_code() {
        let (good, bad, unsure) = (verdict(false, false), verdict(true, false), verdict(false, true));
        assert_eq!(exit_code(std::slice::from_ref(&good)), VALID);
        assert_eq!(exit_code(&[good.clone(), unsure.clone()]), UNKNOWN);
        assert_eq!(exit_code(&[unsure, bad.clone(), good]), INVALID);
        assert_eq!(exit_code(&[]), UNKNOWN);
        assert!(tell(&bad).starts_with("INVALID  x: 1 anomalies\n         lost: it is gone\n"));
    }
}
