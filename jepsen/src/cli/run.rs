//! run: a run from the command line, with its report. Called by `cli`.

use super::check::{exit_code, tell};
use super::plant::TRAPS;
use crate::history::jsonl;
use crate::run::{self, Judged, Plan};
use crate::{nemesis, report, workload};
use clap::Args;
use holdfast_proto::faults::Bug;
use holdfast_tests::process;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    after_help = "Needs root, ip(8), nft(8) and mkfs.ext4. Example:\n  jepsen run --workload tree,set --nemesis kill-leader,power-all --time 120"
)]
pub struct Run {
    /// What the clients do, commas between (see `jepsen list`); `all`
    #[arg(long, value_delimiter = ',', required = true)]
    pub workload: Vec<String>,
    /// What happens to the cluster meanwhile, commas between; `all`, `none`
    #[arg(long, value_delimiter = ',', default_value = "none")]
    pub nemesis: Vec<String>,
    /// Seconds of faults
    #[arg(long, default_value_t = 60)]
    pub time: u64,
    /// Random without it, and said
    #[arg(long)]
    pub seed: Option<u64>,
    #[arg(long, default_value_t = 3)]
    pub nodes: u64,
    /// Clients, each in a network namespace of its own
    #[arg(long, default_value_t = 4)]
    pub clients: u64,
    /// How many of them also have a mount
    #[arg(long, default_value_t = 2)]
    pub mounts: u64,
    /// A bug that all processes have (see `jepsen list`): a checker must find it
    #[arg(long)]
    pub planted: Option<String>,
    /// How many faults come together, of different kinds
    #[arg(long, default_value_t = 1)]
    pub at_once: usize,
    /// Where histories and reports go
    #[arg(long, default_value = "target/jepsen")]
    pub out: PathBuf,
}

impl Run {
    /// # Errors
    /// A name that nobody knows, or a file that cannot be written.
    pub fn run(&self) -> Result<u8, String> {
        let named = |name: &String| Bug::named(name).ok_or_else(|| format!("there is no bug {name:?} to plant"));
        let plan = Plan {
            // A run without a fault is one; without a workload it is none.
            workloads: meant(&self.workload, workload::NAMES.iter().map(|(name, _)| *name)),
            nemeses: meant(&without_none(&self.nemesis), nemesis::ALL.iter().map(|kind| kind.name)),
            time: Duration::from_secs(self.time),
            seed: self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
            nodes: self.nodes,
            clients: self.clients,
            mounts: self.mounts,
            planted: self.planted.as_ref().map(named).transpose()?,
            at_once: self.at_once,
        };
        println!("{}", plan.command());
        process::end_in_order();
        let judged = run::run(&plan, &|step| println!("  {step}"))?;
        let mut worst = 0;
        for one in &judged {
            worst = worst.max(self.write(&plan, one)?);
        }
        Ok(worst)
    }

    fn write(&self, plan: &Plan, judged: &Judged) -> Result<u8, String> {
        let name = judged.history.about("workload").unwrap_or("run");
        let path = self.out.join(format!("{name}-{}", plan.seed));
        let write = |path: &Path, text: String| {
            std::fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
        };
        std::fs::create_dir_all(&self.out).map_err(|error| format!("make {}: {error}", self.out.display()))?;
        write(&path.with_extension("jsonl"), jsonl::write(&judged.history))?;
        write(&path.with_extension("html"), report::html(&judged.history, &judged.verdicts))?;
        println!("{name}: {}", path.with_extension("html").display());
        judged.verdicts.iter().for_each(|verdict| print!("{}", tell(verdict)));
        Ok(exit_code(&judged.verdicts))
    }
}

/// The names that were given, or those that `all` stands for.
fn meant<'a>(given: &[String], all: impl Iterator<Item = &'a str>) -> Vec<String> {
    match given {
        [one] if one == "all" => all.map(str::to_owned).collect(),
        names => names.to_vec(),
    }
}

fn without_none(names: &[String]) -> Vec<String> {
    names.iter().filter(|name| *name != "none").cloned().collect()
}

/// What there is.
pub fn list() -> u8 {
    println!("workloads");
    workload::NAMES.iter().for_each(|(name, what)| println!("  {name:18} {what}"));
    println!("nemeses");
    nemesis::ALL.iter().for_each(|kind| println!("  {:18} {}", kind.name, kind.what));
    println!("bugs to plant");
    TRAPS.iter().for_each(|trap| println!("  {:18} {}", trap.bug.name(), trap.what));
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stands_for_names_and_none_for_no_fault() {
        let names = |given: &[&str]| given.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        let of = |given: &[&str]| meant(&without_none(&names(given)), ["a", "b"].into_iter());
        assert_eq!(of(&["all"]), ["a", "b"]);
        assert_eq!(of(&["none"]), names(&[]));
        assert_eq!(of(&["b"]), ["b"]);
    }
}
