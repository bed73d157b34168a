//! results: what many runs came to, as tables for RESULTS.md. Called by `cli`.

use super::check::load;
use crate::checker::availability::{Availability, ranks};
use crate::checker::occurrence::occurrences;
use crate::checker::suite::{RECOVERY_MS_MAX, judge};
use crate::checker::{Outcome, Verdict};
use crate::history::{History, Kind, Process};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct Results {
    /// Where the runs wrote their histories
    #[arg(default_value = "target/jepsen")]
    pub dir: PathBuf,
}

/// Whose pauses are those of an application on a mount.
const ON_A_MOUNT: &str = "set";
/// In place of the names of faults that came together.
const TOGETHER: &str = "several at once";

#[derive(Debug, Default)]
struct Fault {
    count: usize,
    bit: usize,
    pauses_ms: Vec<u64>,
    recoveries_ms: Vec<u64>,
}

#[derive(Debug, Default)]
struct Workload {
    runs: u64,
    operations: usize,
    violations: usize,
    unknowns: usize,
}

/// All histories of one command.
#[derive(Debug, Default)]
struct Run {
    operations: usize,
    faults: usize,
    not_valid: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Sum {
    seconds: f64,
    /// From the beginning of a fault to the end of its healing.
    fault_seconds: f64,
    workloads: BTreeMap<String, Workload>,
    faults: BTreeMap<String, Fault>,
    runs: BTreeMap<String, Run>,
}

/// p50, p99 and the longest.
fn spread(samples: &[u64]) -> String {
    ranks(samples.to_vec()).map(|rank| rank.unwrap_or(0).to_string()).join(", ")
}

impl Sum {
    fn add(&mut self, history: &History, verdicts: &[Verdict]) {
        let name = history.about("workload").unwrap_or("?");
        let is_asked = |event: &&crate::history::Event| event.kind == Kind::Invoke && event.process != Process::Nemesis;
        let operations = history.events.iter().filter(is_asked).count();
        let of = self.workloads.entry(name.to_owned()).or_default();
        of.runs += 1;
        of.operations += operations;
        // A fault that never bit fails its run, and breaks no promise.
        let promises = verdicts.iter().filter(|verdict| verdict.checker != "faults");
        of.violations += promises.map(|verdict| verdict.anomalies_count).sum::<usize>();
        of.unknowns += verdicts.iter().filter(|verdict| matches!(verdict.outcome, Outcome::Unknown(_))).count();
        let run = self.runs.entry(history.about("command").unwrap_or("?").to_owned()).or_default();
        run.operations += operations;
        let failed = verdicts.iter().filter(|verdict| !verdict.is_valid());
        run.not_valid.extend(failed.map(|verdict| format!("{name}: {}", verdict.checker)));
        if name == ON_A_MOUNT {
            run.faults = occurrences(history).len();
            self.seconds += history.events.last().map_or(0, |event| event.time) as f64 / 1e9;
            self.add_faults(history);
        }
    }

    fn add_faults(&mut self, history: &History) {
        let row = |fault: &str| if fault.contains('+') { TOGETHER.to_owned() } else { fault.to_owned() };
        for one in occurrences(history) {
            let fault = self.faults.entry(row(&one.fault)).or_default();
            fault.count += 1;
            fault.bit += usize::from(one.bit == Some(true));
            self.fault_seconds += one.end_ns.map_or(0.0, |end| end.saturating_sub(one.start_ns) as f64 / 1e9);
        }
        for (name, samples) in (Availability { recovery_ms_max: RECOVERY_MS_MAX }).measure(history) {
            let fault = self.faults.entry(row(&name)).or_default();
            fault.pauses_ms.extend(samples.pauses_ms);
            fault.recoveries_ms.extend(samples.recoveries_ms);
        }
    }

    fn table(&self) -> String {
        let operations: usize = self.workloads.values().map(|workload| workload.operations).sum();
        let (minutes, of_faults) = (self.seconds / 60.0, self.fault_seconds / 60.0);
        let mut text = format!(
            "{operations} operations in {minutes:.0} minutes of clients at work, {of_faults:.0} of them with a fault.\n\n"
        );
        text += "| workload | runs | operations | violations | unknown |\n|---|---|---|---|---|\n";
        for (name, Workload { runs, operations, violations, unknowns }) in &self.workloads {
            text += &format!("| {name} | {runs} | {operations} | {violations} | {unknowns} |\n");
        }
        text += "\n| fault | times | of these bit | pause at an application on a mount, ms: p50, p99, max | served after it was healed, ms: p50, p99, max |\n|---|---|---|---|---|\n";
        for (name, Fault { count, bit, pauses_ms, recoveries_ms }) in &self.faults {
            text += &format!("| {name} | {count} | {bit} | {} | {} |\n", spread(pauses_ms), spread(recoveries_ms));
        }
        text += "\n| run | operations | faults | not valid |\n|---|---|---|---|\n";
        for (command, Run { operations, faults, not_valid }) in &self.runs {
            let not_valid = not_valid.iter().cloned().collect::<Vec<_>>().join("; ");
            text += &format!("| `{command}` | {operations} | {faults} | {not_valid} |\n");
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
            sum.add(&history, &judge(history.about("workload").unwrap_or("?"), &history)?);
        }
        print!("{}", sum.table());
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let verdicts = judge("set", &history).expect("known");
        let mut sum = Sum::default();
        sum.add(&history, &verdicts);
        sum.add(&history, &verdicts);
        let table = sum.table();
        assert!(table.contains("| set | 2 | 4 | 2 | 0 |"), "{table}");
        assert!(table.contains("| kill-leader | 2 | 2 |"), "{table}");
    }
}
