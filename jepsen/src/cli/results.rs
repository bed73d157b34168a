//! results: a table of many runs, from their histories. Called by `cli`.

use super::check::load;
use crate::checker::suite::checkers;
use crate::checker::{Outcome, Verdict};
use crate::history::History;
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Results {
    /// Where `matrix` or `run` left their histories
    #[arg(default_value = "target/jepsen")]
    pub dir: PathBuf,
}

/// Whose pauses are those of an application on a mount.
const ON_A_MOUNT: &str = "set";

#[derive(Debug, Default)]
struct Fault {
    count: u64,
    pauses_ms: Vec<u64>,
    recoveries_ms: Vec<u64>,
}

#[derive(Debug, Default)]
struct Workload {
    runs: u64,
    operations: u64,
    violations: u64,
    unknowns: u64,
}

#[derive(Debug, Default)]
struct Sum {
    seconds: f64,
    workloads: BTreeMap<String, Workload>,
    faults: BTreeMap<String, Fault>,
}

impl Sum {
    fn add(&mut self, history: &History, verdicts: &[Verdict]) {
        let name = history.about("workload").unwrap_or("?");
        let of = self.workloads.entry(name.to_owned()).or_default();
        of.runs += 1;
        of.operations += history.events.iter().filter(|event| event.kind.name() == "invoke").count() as u64;
        of.violations += verdicts.iter().map(|verdict| verdict.anomalies_count as u64).sum::<u64>();
        of.unknowns += verdicts.iter().filter(|verdict| matches!(verdict.outcome, Outcome::Unknown(_))).count() as u64;
        if name == ON_A_MOUNT {
            self.seconds += history.events.last().map_or(0, |event| event.time) as f64 / 1e9;
            verdicts.iter().filter(|verdict| verdict.checker == "availability").for_each(|seen| self.pauses(seen));
        }
    }

    fn pauses(&mut self, availability: &Verdict) {
        for (name, figures) in availability.figures.as_object().into_iter().flatten() {
            let number =
                |of: &str, what: &str| figures.get(of).and_then(|spread| spread.get(what)).and_then(Value::as_u64);
            let Some(recovery) = number("recovery_ms", "max") else { continue };
            let fault = self.faults.entry(name.clone()).or_default();
            fault.count += figures.get("count").and_then(Value::as_u64).unwrap_or(0);
            fault.pauses_ms.extend(number("pause_ms", "max"));
            fault.recoveries_ms.push(recovery);
        }
    }

    fn table(&self) -> String {
        let mut text = format!("{:.0} s of clients at work.\n\n", self.seconds);
        text += "| workload | runs | operations | violations | unknown |\n|---|---|---|---|---|\n";
        for (name, Workload { runs, operations, violations, unknowns }) in &self.workloads {
            text += &format!("| {name} | {runs} | {operations} | {violations} | {unknowns} |\n");
        }
        text += "\n| fault | times | pause at an application on a mount, ms: p50, max | after it was healed, ms: max |\n|---|---|---|---|\n";
        for (name, fault) in &self.faults {
            let mut pauses = fault.pauses_ms.clone();
            pauses.sort_unstable();
            let (half, most) = (pauses.get(pauses.len() / 2).unwrap_or(&0), pauses.last().unwrap_or(&0));
            let recovery = fault.recoveries_ms.iter().max().unwrap_or(&0);
            text += &format!("| {name} | {} | {half}, {most} | {recovery} |\n", fault.count);
        }
        text
    }
}

/// All histories below a directory.
fn histories(dir: &Path) -> Vec<PathBuf> {
    let mut files = holdfast_tests::files::files_below(dir);
    files.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    files.sort();
    files
}

impl Results {
    /// # Errors
    /// A file that is no history.
    pub fn run(&self) -> Result<u8, String> {
        let mut sum = Sum::default();
        for path in histories(&self.dir) {
            let history = load(&path)?;
            let verdicts: Vec<_> = checkers(history.about("workload").unwrap_or("?"), &history)?
                .iter()
                .map(|checker| checker.check(&history))
                .collect();
            sum.add(&history, &verdicts);
        }
        print!("{}", sum.table());
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::suite::checkers;
    use crate::history::build::Build;
    use serde_json::json;

    #[test]
    fn runs_are_summed_by_workload_and_fault() {
        let mut build = Build::default();
        build.run(1, "add", json!({"set": "d", "element": "a"}), json!({}));
        build.fault("kill-leader", 1, true);
        build.heal(1);
        build.run(1, "read", json!({"set": "d"}), json!({"elements": []}));
        let mut history = build.history();
        history.meta.insert("workload".into(), json!("set"));
        let verdicts: Vec<_> =
            checkers("set", &history).expect("known").iter().map(|checker| checker.check(&history)).collect();
        let mut sum = Sum::default();
        sum.add(&history, &verdicts);
        sum.add(&history, &verdicts);
        let table = sum.table();
        assert!(table.contains("| set | 2 | 8 | 2 | 0 |"), "{table}");
        assert!(table.contains("| kill-leader | 2 |"), "{table}");
    }
}
